"""All that a segmenter finds in a picture, described in one reading of it (notebook 09; docs/osprey.md, section 4).

    image ─► segmenter ─► masks, each once ─► a forest: what lies in what ─┐
      └────► Osprey reads it, once ─► an answer for each mask, side by side ┴► Described: text, table, figure, JSON

    describe_everything   a grid of clicks            describe_click    one click: sub-part ⊂ part ⊂ whole
    describe_folder       everything, of many pictures, a JSON line each
"""

from __future__ import annotations

import html
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from .generate import ImageSession
from .images import load_image
from .masks import box_of, to_rle
from .model import Osprey
from .segment import Candidates, ClassicSegmenter, SamSegmenter, distinct, load_segmenter, tree_of
from .viz import overlay


@dataclass
class Described:
    """N regions of a picture that a segmenter found, and what a model says of each.

    `masks` N×H×W bool, `scores` N (how good the segmenter holds a mask to be), `texts` N, and `parents`: the number of the
    region that a region lies in, counted from 0, or None. What lies in a region follows it, large to small.
    """

    image: Image.Image
    masks: np.ndarray
    scores: np.ndarray
    texts: list[str]
    parents: list[int | None]
    segmenter: str

    def __str__(self) -> str:
        """A line for each region, below the one that it lies in: a small tree."""
        return "\n".join(self.lines()) or "nothing was found"

    def depths(self) -> list[int]:
        """In how many regions each lies."""
        depths: list[int] = []
        for parent in self.parents:
            depths.append(0 if parent is None else depths[parent] + 1)
        return depths

    def lines(self) -> list[str]:
        """The texts, moved to the right by how deep they lie."""
        pairs = zip(self.texts, self.depths(), strict=True)
        return [("   " * (depth - 1) + "└─ " if depth else "") + text for text, depth in pairs]

    def figure(self, title: str | None = None):
        """The picture with all regions numbered and outlined, and the tree of texts beside it."""
        return overlay(self.image, list(self.masks), self.lines(), title)

    def rows(self) -> list[dict]:
        """A row for each region: number (from 1), text, score, area (pixels), box (x, y, width, height), inside (a number)."""
        rows = []
        for i, (mask, score, text, parent) in enumerate(zip(self.masks, self.scores, self.texts, self.parents, strict=True)):
            x0, y0, x1, y1 = box_of(mask)
            rows.append({
                "number": i + 1, "text": text, "score": round(float(score), 3), "area": int(mask.sum()),
                "bbox": [x0, y0, x1 - x0, y1 - y0], "inside": None if parent is None else parent + 1,
            })  # fmt: skip
        return rows

    def to_json(self) -> dict:
        """Ready for `json.dumps`: size, segmenter, and `regions`: the rows, with masks in COCO's RLE under `segmentation`."""
        regions = [row | {"segmentation": to_rle(mask)} for row, mask in zip(self.rows(), self.masks, strict=True)]
        return {"width": self.image.width, "height": self.image.height, "segmenter": self.segmenter, "regions": regions}

    def _repr_html_(self) -> str:
        columns = ("number", "text", "score", "area", "inside")
        head = "".join(f"<th>{name}</th>" for name in columns)
        cells = [["" if row[name] is None else html.escape(str(row[name])) for name in columns] for row in self.rows()]
        body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in cells)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def describe_everything(
    image, model: Osprey | None = None, segmenter: SamSegmenter | ClassicSegmenter | None = None, detail: str = "short"
) -> Described:
    """Find everything in a picture and describe it. `image`: PIL, H×W×3 uint8, or path; tiny and tiny SAM by default."""
    session, segmenter = _ready(image, model, segmenter)
    return described(session, segmenter.everything(), segmenter.name, detail)


def describe_click(
    image, point: Sequence[float], model: Osprey | None = None, segmenter: SamSegmenter | ClassicSegmenter | None = None,
    detail: str = "short",
) -> Described:
    """Describe what lies under `point` (x, y in pixels): up to three regions, one in the other, as a click may mean a part.

    Raises ValueError for a point outside the picture. Where nothing stands out, there are no regions.
    """
    session, segmenter = _ready(image, model, segmenter)
    return described(session, clicked(segmenter, point), segmenter.name, detail)


def clicked(segmenter: SamSegmenter | ClassicSegmenter, point: Sequence[float]) -> Candidates:
    """What a click may mean, each mask once, better ones first."""
    found = segmenter.predict([point])
    order = np.argsort(-found.scores, kind="stable")
    return distinct(Candidates(found.masks[order], found.scores[order]), smallest=0)


def described(session: ImageSession, found: Candidates, segmenter: str, detail: str = "short") -> Described:
    """The tree of these masks, with the answers of a picture that was read already."""
    order, parents = _as_tree(found.masks)
    masks = found.masks[order]
    texts = session.describe(masks, detail) if order else []
    return Described(session.image, masks, found.scores[order], texts, parents, segmenter)


def describe_folder(
    folder: str | Path, out: str | Path, model: Osprey | None = None, segmenter: SamSegmenter | ClassicSegmenter | None = None,
    detail: str = "short", progress: bool = True,
) -> Counter:
    """Describe everything in all pictures of a folder and of those in it: a JSON line each, added to the file `out`.

    A line has the picture's path within the folder under `image`, and what `Described.to_json` gives, or `error` for a file
    that cannot be read. Pictures that have a line are passed over: called again, it goes on. Returns how many were
    "described", "broken", and "there before". Raises ValueError for a folder without pictures, or for a file `out` that was
    made with another model, segmenter or detail.
    """
    folder, out = Path(folder), Path(out)
    suffixes = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix.lower() in suffixes)
    if not names:
        raise ValueError(f"There are no pictures in {folder}.")
    model, segmenter = model or Osprey.from_pretrained("tiny"), segmenter or load_segmenter()
    how = {"model": Path(model.name_or_path).name, "segmenter": segmenter.name, "detail": detail}
    done = _lines_of(out, how)
    counts = Counter({"there before": len(done.intersection(names))})
    bar = tqdm([name for name in names if name not in done], desc="pictures", unit="picture", disable=not progress)
    with open(out, "a", encoding="utf-8") as file:
        for name in bar:
            try:
                image = load_image(folder / name)
            except (ValueError, OSError) as error:
                result, kind = {"error": " ".join(str(error).split())}, "broken"
                bar.write(f"{name}: {result['error']}")
            else:
                result, kind = describe_everything(image, model, segmenter, detail).to_json(), "described"
            counts[kind] += 1
            file.write(json.dumps({"image": name} | result | how, ensure_ascii=False) + "\n")
            file.flush()
    return counts


def _lines_of(out: Path, how: dict) -> set[str]:
    """The pictures that have a line in `out`. A last line that was cut off is taken away."""
    if not out.exists():
        return set()
    text = out.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    cut, start = text[len(whole) :], b'{"image": '
    try:
        if cut[: len(start)] != start[: len(cut)]:
            raise ValueError
        lines = [json.loads(line) for line in whole.splitlines()]
        names = {line["image"] for line in lines}
        others = [line for line in lines if any(line[key] != value for key, value in how.items())]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{out} holds something else than described pictures; give another file.") from error
    if others:
        made = ", ".join(f"{key} {others[0][key]}" for key in how)
        raise ValueError(f"{out} was made with {made}; give another file, or the same settings.")
    if whole != text:
        out.write_bytes(whole)
    return names


def _ready(image, model, segmenter) -> tuple[ImageSession, SamSegmenter | ClassicSegmenter]:
    session = ImageSession(model or Osprey.from_pretrained("tiny"), image)
    segmenter = segmenter or load_segmenter()
    segmenter.set_image(session.image)
    return session, segmenter


def _as_tree(masks: np.ndarray) -> tuple[list[int], list[int | None]]:
    """An order in which what lies in a mask follows it, large to small, and the parents in that order."""
    parents = tree_of(masks)
    areas = masks.sum((1, 2))
    order: list[int] = []

    def add(parent: int | None) -> None:
        for i in sorted((i for i, other in enumerate(parents) if other == parent), key=lambda i: -areas[i]):
            order.append(i)
            add(i)

    add(None)
    places = {i: place for place, i in enumerate(order)}
    return order, [None if parents[i] is None else places[parents[i]] for i in order]
