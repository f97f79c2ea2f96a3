"""From annotations to instruction data, the way Osprey-724K was made (docs/osprey.md, section 4; notebook 06).

    COCO annotations, captions, ──► Facts of an image ──► a teacher writes ──► filters ──► the five Osprey-724K files
    parts, attributes                                     (data/teachers.py)

Positive and negative questions are made by rule whoever teaches: as many Yes as No, and No only where it is certain.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from ..masks import area, box_of, to_masks
from .index import Rows, open_rows
from .phrases import article, pick, shuffled
from .readers import ONE_WORD
from .record import REGION

FILES = (
    "osprey_short_form", "osprey_conversation", "osprey_detail_description", "osprey_part_level",
    "osprey_lvis_positive_negative",
)  # fmt: skip
YES_NO = "Please answer yes or no."
MOST = 4  # regions of an image in a record
SMALLEST = 0.002  # of the picture: what is smaller is not asked about
#: What an answer about regions must not speak of: it has been read off the annotations, not seen.
GIVES_AWAY = re.compile(r"\b(bounding box(es)?|coordinates?|captions?|annotat\w+|segmentations?|masks?)\b|\d\.\d", re.I)


@dataclass(frozen=True)
class Thing:
    """A region and what is known of it: `box` is (x0, y0, x1, y1) from 0 to 1, `share` its part of the picture's pixels."""

    category: str
    group: str
    annotation: dict
    box: tuple[float, float, float, float]
    share: float
    attributes: tuple[str, ...] = ()
    caption: str = ""
    part: str = ""

    @property
    def centre(self) -> tuple[float, float]:
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2


@dataclass(frozen=True)
class Facts:
    """One image: its things and captions, and the categories of all its annotations, crowds included."""

    image: dict
    things: list[Thing]
    captions: list[str] = field(default_factory=list)
    present: frozenset[str] = frozenset()


@dataclass
class Curated:
    """How many records each file got, and what the filters took."""

    records: Counter = field(default_factory=Counter)
    filtered: Counter = field(default_factory=Counter)

    def __str__(self) -> str:
        lines = [f"{name:32}{self.records[name]:>8,} records" for name in FILES]
        return "\n".join(lines + [f"{count:,} answers left out: {why}" for why, count in self.filtered.most_common()])


def read_facts(row: dict, rows: Rows, captions: list[str] = ()) -> Facts:
    """What an image's row of a COCO index says. Things that are crowds, tiny, or have no usable mask are left out."""
    image = row["image"]
    size = int(image["height"]), int(image["width"])
    things, present = [], set()
    for annotation in row["annotations"]:
        name, group = rows.categories[annotation["category_id"]], rows.supercategories[annotation["category_id"]]
        category, _, part = name.partition(":")
        present.add(category)
        if annotation.get("iscrowd"):
            continue
        try:
            mask = to_masks([annotation["segmentation"]], size)[0]
        except (ValueError, TypeError):
            continue
        share = area(mask) / (size[0] * size[1])
        if share < SMALLEST:
            continue
        x0, y0, x1, y1 = box_of(mask)
        box = (x0 / size[1], y0 / size[0], x1 / size[1], y1 / size[0])
        attributes = tuple(word for word in annotation.get("attributes", ()) if isinstance(word, str))
        things.append(Thing(category, group, annotation, box, share, attributes, annotation.get("caption", ""), part))
    return Facts(image, things, list(captions), frozenset(present))


def curate(
    annotations: str | Path, out: str | Path, teacher, captions: str | Path | None = None, seed: int = 0,
    limit: int | None = None, progress: bool = True,
) -> Curated:
    """Write the five files to the folder `out`, which must not hold them yet.

    `teacher.write(kind, facts, things, rng)` gives (question, answer) pairs about `<region1>` …, in the order of `things`;
    `kind` is one of `FILES` but the last. The same seed and a teacher that always says the same give the same files. Raises
    FileExistsError, and ValueError for annotations that are not in the COCO format.
    """  # fmt: skip
    out = Path(out)
    if there := [name for name in FILES if (out / f"{name}.json").exists()]:
        raise FileExistsError(f"{out} already holds {there[0]}.json. Give another folder: nothing is overwritten.")
    rows = open_rows(annotations, progress)
    if not rows.categories:
        raise ValueError(f"{annotations} has no categories; curation needs annotations in the COCO format")
    said = _captions(captions, progress)
    groups = defaultdict(set)
    for number, category in rows.categories.items():
        groups[rows.supercategories[number]].add(category.partition(":")[0])
    result, files = Curated(), {name: [] for name in FILES}
    seen: set[str] = set()
    for index in tqdm(range(len(rows))[:limit], desc="curating", unit="image", disable=not progress):
        row = rows[index]
        facts = read_facts(row, rows, said.get(row["image"]["id"], ()))
        for name in FILES:
            rng = np.random.default_rng([seed, index, FILES.index(name)])
            if record := _record(name, facts, teacher, groups, rng, result, seen):
                files[name].append(record)
                result.records[name] += 1
    out.mkdir(parents=True, exist_ok=True)
    for name, records in files.items():
        text = "[\n" + ",\n".join(json.dumps(record, ensure_ascii=False) for record in records) + "\n]\n"
        (out / f"{name}.part").write_text(text, encoding="utf-8")
    for name in FILES:
        os.replace(out / f"{name}.part", out / f"{name}.json")
    return result


def _captions(path, progress: bool) -> dict[int, list[str]]:
    if path is None:
        return {}
    rows = open_rows(path, progress)
    return {row["image"]["id"]: [a["caption"].strip() for a in row["annotations"]] for row in rows}


def _record(name, facts: Facts, teacher, groups, rng, result: Curated, seen: set[str]) -> dict | None:
    wants_parts = name == "osprey_part_level"
    things = [thing for thing in facts.things if name == "osprey_short_form" or bool(thing.part) == wants_parts]
    things = shuffled(rng, things)[:MOST]
    if not things or (name == "osprey_conversation" and len(things) < 2):
        return None
    if name == "osprey_lvis_positive_negative":
        turns = yes_or_no(facts, things, groups, rng)
    else:
        turns = list(kept(teacher.write(name, facts, things, rng), things, name, result, seen, str(facts.image["file_name"])))
    if not turns:
        return None
    named = REGION.findall(" ".join(text for turn in turns for text in turn))
    things = things[: max(map(int, named), default=1)]  # of the others nothing is said
    entry = {
        "file_name": facts.image["file_name"], "height": facts.image["height"], "width": facts.image["width"],
        "annotation": [{key: thing.annotation[key] for key in ("bbox", "area", "segmentation") if key in thing.annotation}
                       for thing in things],
    }  # fmt: skip
    if name == "osprey_detail_description":
        texts = _by_region(turns, len(things))
        whole = len(texts) == len(things)  # the file has one text for each region, and no place for a gap
        return {**entry, "description": [f"<region{n}>: {text}" for n, text in texts.items()]} if whole else None
    if name in ("osprey_short_form", "osprey_part_level"):
        turns = [(f"{question} {ONE_WORD}", answer) for question, answer in turns]
    conversation = [{"from": who, "value": text} for turn in turns for who, text in zip(("human", "gpt"), turn, strict=True)]
    return {**entry, "conversations": conversation}


def _by_region(turns, count: int) -> dict[int, str]:
    found = {}
    for question, answer in turns:
        for n in REGION.findall(question):
            found.setdefault(int(n), answer)
    return {n: found[n] for n in range(1, count + 1) if n in found}


def yes_or_no(facts: Facts, things: list[Thing], groups: dict[str, set[str]], rng) -> list[tuple[str, str]]:
    """Of each thing one claim that is true and one that is not, in random order.

    The false one names a category that no annotation of the image has and, where categories have groups, of another group:
    what is labelled a *cup* may pass for a *bowl*, hardly for a *horse*. With nothing certain to say there is no pair at all.
    """
    turns = []
    for number, thing in enumerate(things, 1):
        others = [words for group, words in groups.items() if group != thing.group or not group]
        false = sorted(set().union(*others) - facts.present - {thing.category}) if others else []
        false = [word for word in false if not _alike(word, thing.category)]
        if not false:
            continue
        for word, answer in shuffled(rng, [(thing.category, "Yes"), (pick(rng, false), "No")]):
            turns.append((f"Is the object in <region{number}> {article(word)}? {YES_NO}", answer))
    return turns


def _alike(one: str, other: str) -> bool:
    """`dog` and `hot dog` share a word; nobody should have to say which is meant."""
    return bool(set(re.findall(r"\w+", one.lower())) & set(re.findall(r"\w+", other.lower())))


def kept(turns, things, name: str, result: Curated, seen: set[str], image: str) -> Iterator[tuple[str, str]]:
    """The filters: what gives its source away, names a region that there isn't, is empty, or was said before."""
    for question, answer in turns:
        numbers = {int(n) for n in REGION.findall(question + answer)}
        key = f"{image}|{name}|{' '.join(re.findall(r'[a-z0-9]+', f'{question} {answer}'.lower()))}"
        if not question.strip() or not answer.strip():
            result.filtered["empty"] += 1
        elif numbers - set(range(1, len(things) + 1)):
            result.filtered["names a region that there isn't"] += 1
        elif GIVES_AWAY.search(answer):
            result.filtered["speaks of boxes, captions or annotations"] += 1
        elif key in seen:
            result.filtered["said before"] += 1
        else:
            seen.add(key)
            yield question.strip(), answer.strip()
