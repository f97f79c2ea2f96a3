"""Label maps in files: what is drawn leaves as COCO JSON or PNG, and comes back the same.

    labels H×W uint8, 0 nothing, 1 … 9 a region      names: number → text
    *.json   COCO: one picture, an annotation a region, its mask as RLE; `id` is the number, `name` the name
    *.png    the label map itself, in the regions' colours
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..images import MAX_PIXELS
from ..masks import box_of, to_masks, to_rle
from ..viz import REGION_COLOURS

MAX_REGIONS = 9


def coco_of(labels: np.ndarray, names: Mapping[int, str] | None = None, file_name: str = "") -> dict:
    """COCO's form of a label map, ready for `json.dumps`. A region without a name is called "region N"."""
    height, width = labels.shape
    numbers = [number for number in np.unique(labels).tolist() if number]
    called = {number: (names or {}).get(number) or f"region {number}" for number in numbers}
    categories = {name: i for i, name in enumerate(dict.fromkeys(called.values()), start=1)}
    annotations = []
    for number in numbers:
        mask = labels == number
        x0, y0, x1, y1 = box_of(mask)
        annotations.append({
            "id": number, "image_id": 1, "category_id": categories[called[number]], "name": called[number], "iscrowd": 0,
            "segmentation": to_rle(mask), "area": int(mask.sum()), "bbox": [x0, y0, x1 - x0, y1 - y0],
        })  # fmt: skip
    return {
        "images": [{"id": 1, "file_name": file_name, "width": width, "height": height}],
        "categories": [{"id": i, "name": name} for name, i in categories.items()],
        "annotations": annotations,
    }


def png_of(labels: np.ndarray) -> bytes:
    """A PNG whose values are the labels, shown in the colours of the regions."""
    picture = Image.fromarray(labels, mode="P")
    colours = ["#000000", *REGION_COLOURS[:MAX_REGIONS]]
    picture.putpalette([int(colour[i : i + 2], 16) for colour in colours for i in (1, 3, 5)])
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def read_labels(source: str | Path | bytes, size: tuple[int, int]) -> tuple[np.ndarray, dict[int, str]]:
    """The label map (H×W uint8) and the names in a COCO JSON or PNG, a path or its bytes.

    A PNG holds labels 0 to 9, or is one mask of 0 and 255. Raises ValueError for what does not fit a picture of `size` (H, W),
    holds more than 9 regions, or is neither; FileNotFoundError for no such file.
    """
    if not isinstance(source, bytes):
        path = Path(source)
        if not path.is_file():
            raise FileNotFoundError(f"no file at {path}; give a COCO JSON or a PNG")
        source = path.read_bytes()
    if source[:4] == b"\x89PNG":
        return _from_png(source, size), {}
    try:
        data = json.loads(source)
    except ValueError:
        raise ValueError("this is neither a PNG nor JSON; give a label map as PNG, or annotations as COCO JSON") from None
    return _from_coco(data, size)


def _from_png(source: bytes, size: tuple[int, int]) -> np.ndarray:
    try:
        picture = Image.open(io.BytesIO(source), formats=["PNG"])
        _fits((picture.height, picture.width), size)
        values = np.asarray(picture)
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"the PNG cannot be read: {error}") from error
    if values.ndim == 3:  # as a browser writes it: grey in three channels, and opaque
        grey = values[..., 0]
        if not (values[..., :3] == grey[..., None]).all():
            raise ValueError("the PNG is a coloured picture; its values must be labels, 0 to 9")
        values = grey
    values = values.astype(np.int64)
    if set(np.unique(values).tolist()) <= {0, 255}:
        values = values // 255
    if values.max() > MAX_REGIONS:
        raise ValueError(f"the PNG holds the value {values.max()}; labels go from 0 to {MAX_REGIONS}, or a mask has 0 and 255")
    return values.astype(np.uint8)


def _from_coco(data, size: tuple[int, int]) -> tuple[np.ndarray, dict[int, str]]:
    try:
        images, annotations = data["images"], data["annotations"]
        categories = {category["id"]: category["name"] for category in data.get("categories", [])}
        if len(images) != 1:
            raise ValueError(f"the file is about {len(images)} pictures; keep the annotations of this one")
        _fits((images[0]["height"], images[0]["width"]), size)
        if len(annotations) > MAX_REGIONS:
            raise ValueError(f"the file has {len(annotations)} annotations; {MAX_REGIONS} regions can be shown, so keep some")
        numbers = [annotation.get("id") for annotation in annotations]
        if sorted(set(numbers) & set(range(1, MAX_REGIONS + 1))) != sorted(numbers):
            numbers = range(1, len(annotations) + 1)
        labels, names = np.zeros(size, np.uint8), {}
        for number, annotation in zip(numbers, annotations, strict=True):
            labels[to_masks([annotation["segmentation"]], size)[0]] = number
            name = annotation.get("name") or categories.get(annotation.get("category_id"), "")
            if name and name != f"region {number}":
                names[number] = str(name)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the JSON is not COCO's: {type(error).__name__} {error}") from error
    return labels, names


def _fits(found: tuple[int, int], size: tuple[int, int]) -> None:
    if found[0] * found[1] > MAX_PIXELS or tuple(found) != tuple(size):
        raise ValueError(f"the file is for a picture of {found[1]}×{found[0]} pixels; this one has {size[1]}×{size[0]}")
