"""The sample files of `data_samples/`: the field's formats, filled with drawn scenes.

    python -m osprey_nb.data.samples --out data_samples

    images/scene_000.jpg …                64 scenes of the eval split
    llava_captions.json                   image captions (LLaVA, stage 1)
    instances.json                        COCO instances (stage 2); masks as compressed RLE
    osprey_short_form.json …              the five Osprey-724K files (stage 3)
    photographs.json                      hand-made regions over photographs that scikit-image ships

The three ways to write a mask all occur, so that a reader can be tried on each: compressed RLE in most files,
uncompressed RLE in `osprey_part_level.json`, polygons in `osprey_lvis_positive_negative.json`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from osprey_nb.data.kinds import KINDS
from osprey_nb.data.language import (
    caption,
    conversation,
    detailed,
    part_level,
    positive_negative,
    short_form,
)
from osprey_nb.data.photographs import load_photograph, photographs
from osprey_nb.data.record import Record
from osprey_nb.data.scenes import Scene, make_scene
from osprey_nb.masks import area, box_of, to_polygons, to_rle

SCENES = 64
SIDE = 384
GROUPS = {  # COCO's supercategories
    "animal": ("bird", "butterfly", "cat", "fish", "snail"),
    "plant": ("flower", "mushroom", "tree"),
    "vehicle": ("bicycle", "boat", "car", "rocket", "train"),
}
_GROUP_OF = {kind: group for group, kinds in GROUPS.items() for kind in kinds}
CATEGORIES = [
    {"id": i, "name": kind, "supercategory": _GROUP_OF.get(kind, "object")} for i, kind in enumerate(KINDS, start=1)
]
_CATEGORY_ID = {category["name"]: category["id"] for category in CATEGORIES}
_SEGMENTATION = {
    "osprey_part_level": lambda mask: to_rle(mask, compressed=False),
    "osprey_lvis_positive_negative": to_polygons,
}


def _annotation(mask: np.ndarray, segmentation=to_rle) -> dict:
    """A mask in COCO's words; the box is [x, y, width, height]."""
    x0, y0, x1, y1 = box_of(mask)
    return {"segmentation": segmentation(mask), "bbox": [x0, y0, x1 - x0, y1 - y0], "area": area(mask)}


def _conversations(record: Record, first: str = "") -> list[dict]:
    turns = []
    for question, answer in record.turns:
        turns += [{"from": "human", "value": first + question}, {"from": "gpt", "value": answer}]
        first = ""
    return turns


def osprey_entry(record: Record, file_name: str) -> dict:
    """One record of an Osprey-724K file; detail records have `description` in place of `conversations`."""
    segmentation = _SEGMENTATION.get(record.source, to_rle)
    height, width = record.masks.shape[1:]
    entry = {
        "file_name": file_name,
        "height": height,
        "width": width,
        "annotation": [_annotation(mask, segmentation) for mask in record.masks],
    }
    if record.source == "osprey_detail_description":
        entry["description"] = [f"<region{i}>: {answer}" for i, (_, answer) in enumerate(record.turns, start=1)]
    else:
        entry["conversations"] = _conversations(record)
    return entry


def make_sample(index: int) -> tuple[Scene, dict[str, list[dict]]]:
    """Scene number `index`, and what each file says of it."""
    scene, rng = make_scene(index, SIDE, "eval", "all"), np.random.default_rng(index)
    file_name = f"scene_{index:03}.jpg"
    told = caption(scene, rng)
    entries = {
        "llava_captions": [{"id": f"{index:03}", "image": file_name, "conversations": _conversations(told, "<image>\n")}],
        "instances": [
            {"image_id": index + 1, "category_id": _CATEGORY_ID[obj.kind], "iscrowd": 0, **_annotation(obj.mask)}
            for obj in scene.objects
        ],
    }
    for make in (short_form, conversation, detailed, part_level, positive_negative):
        record = make(scene, rng)
        entries[record.source] = [osprey_entry(record, file_name)]
    return scene, entries


def photograph_entry(name: str) -> dict:
    """The regions of one photograph; the picture itself is `skimage.data.<name>()`."""
    photo = load_photograph(name)
    height, width = photo.image.shape[:2]
    regions = [
        {"name": region.name, "short": region.short, "detailed": region.detailed, **_annotation(mask)}
        for region, mask in zip(photo.regions, photo.masks, strict=True)
    ]
    source = f"skimage.data.{name}"
    return {
        "name": name, "source": source, "licence": photo.licence, "height": height, "width": width, "annotation": regions,
    }  # fmt: skip


def write_samples(out: Path, scenes: int = SCENES) -> None:
    """Write all the files under `out`, about the first `scenes` scenes; the README beside them is written by hand."""
    (out / "images").mkdir(parents=True, exist_ok=True)
    files: dict[str, list[dict]] = {}
    for index in range(scenes):
        scene, entries = make_sample(index)
        Image.fromarray(scene.image).save(out / "images" / f"scene_{index:03}.jpg", quality=90)
        for name, found in entries.items():
            files.setdefault(name, []).extend(found)
    annotations = [{"id": i, **annotation} for i, annotation in enumerate(files.pop("instances"), start=1)]
    images = [{"id": i + 1, "file_name": f"scene_{i:03}.jpg", "height": SIDE, "width": SIDE} for i in range(scenes)]
    contents: dict[str, object] = dict(files)
    contents["instances"] = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    contents["photographs"] = [photograph_entry(name) for name in photographs()]
    for name, content in contents.items():
        if isinstance(content, list):  # one record a line, so that a person can read and compare it
            text = "[\n" + ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in content) + "\n]\n"
        else:
            text = json.dumps(content, ensure_ascii=False) + "\n"
        (out / f"{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the sample files.")
    parser.add_argument("--out", type=Path, default=Path("data_samples"))
    write_samples(parser.parse_args().out)
