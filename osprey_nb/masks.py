"""Anything a person can point with, as binary masks (docs/osprey.md, section 4; drawn by hand in notebook 01).

    bool or 0/1 or 0/255 array · PNG · COCO polygons · RLE · box · brush stroke ── to_masks ──> R×H×W bool
                                                       R×H×W bool ── to_rle, to_polygons, box_of, area

Coordinates are in pixels, x to the right and y down, and pixel (0, 0) covers the square from 0 to 1: a box
(0, 0, W, H) is the whole picture. Regions are counted from 1, as `<region1>` is in a question.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from numbers import Real
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco

FORMS = (
    "an H×W bool array, a PNG (path or PIL image), COCO polygons [[x, y, x, y, …], …], "
    "an RLE dict {'size', 'counts'}, or a box (x0, y0, x1, y1)"
)
MOST_PIXELS = 178_956_970  # more PIL refuses to open, if it is not told otherwise


class EmptyMaskError(ValueError):
    """No pixel is marked."""


class MaskOutsideError(ValueError):
    """A box or a polygon leaves the picture."""


class MaskSizeError(ValueError):
    """The mask has not the size of its picture."""


def to_masks(masks, size: tuple[int, int], may_be_none: bool = False) -> np.ndarray:
    """R×H×W bool, one mask a region, in the order given. `size` is the image's (H, W).

    `masks` is a list of regions, each in any of these forms (they may be mixed), or just one region:

    - an array of bool, or integers 0/1 or 0/255, of shape H×W; R×H×W is R regions; or its `tolist()`
    - a path or a PIL image: white (255, or 1) is the region
    - COCO polygons: a list of flat lists [[x, y, x, y, …], …], together one region
    - a COCO RLE dict, compressed or not; or a whole COCO annotation with its `segmentation`
    - a box: four numbers (x0, y0, x1, y1), its corners

    With `may_be_none`, None or an empty list gives 0×H×W.
    Raises TypeError or ValueError, which name the region, for an empty mask, another size, dtype or values,
    NaN, a box or a polygon that leaves the image or is no box or polygon, a list that may be a mask or boxes or a polygon,
    and for no region at all.
    """
    height, width = _fits(size, "the image")
    regions = _split(masks, (height, width))
    if len(regions) == 0 and not may_be_none:
        raise ValueError(f"got no masks; point at one region at least, with {FORMS}")
    out = np.zeros((len(regions), height, width), dtype=bool)
    for index, region in enumerate(regions):
        name = f"region {index + 1}"
        mask = _one(region, name, (height, width))
        if mask.shape != (height, width):
            raise MaskSizeError(
                f"the mask of {name} is {mask.shape[0]}×{mask.shape[1]} (height × width) but the image is "
                f"{height}×{width}; make it from the same picture, after its EXIF rotation"
            )
        if not mask.any():
            raise EmptyMaskError(f"the mask of {name} is empty; mark one pixel at least, or leave the region out")
        out[index] = mask
    return out


def stroke_mask(points: Sequence[tuple[float, float]], radius: float, size: tuple[int, int]) -> np.ndarray:
    """H×W bool: what a round brush of `radius` pixels paints along `points` (x, y); one point is a dot."""
    path = np.asarray(points, dtype=float)
    if path.ndim != 2 or path.shape[1] != 2 or len(path) == 0 or not np.isfinite(path).all():
        raise ValueError(f"got a stroke of shape {path.shape}; expected points [(x, y), …], one at least")
    if not (np.isfinite(radius) and radius > 0):
        raise ValueError(f"got a brush radius of {radius}; expected a positive number of pixels")
    mask = np.zeros(size, dtype=bool)
    starts, ends = (path[:-1], path[1:]) if len(path) > 1 else (path, path)
    for start, end in zip(starts, ends, strict=True):
        # Only the pixels around this piece of the path can be painted by it.
        x0, y0 = np.maximum(np.floor(np.minimum(start, end) - radius), 0).astype(int)
        x1, y1 = np.maximum(np.ceil(np.maximum(start, end) + radius), 0).astype(int)
        window = mask[y0:y1, x0:x1]
        rows, columns = np.indices(window.shape)
        centre = np.stack([columns + x0 + 0.5, rows + y0 + 0.5], axis=-1)
        step = end - start
        along = np.clip((centre - start) @ step / max(step @ step, 1e-12), 0, 1)
        window |= ((centre - start - along[..., None] * step) ** 2).sum(-1) <= radius**2
    return mask


def to_rle(mask: np.ndarray, compressed: bool = True) -> dict:
    """COCO's run-length encoding, ready for JSON: {'size': [H, W], 'counts': str, or list if not compressed}.

    Runs go down the columns, and the first run counts zeros.
    """
    mask = _binary(mask, "the mask")
    if compressed:
        rle = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
        return {"size": list(mask.shape), "counts": rle["counts"].decode("ascii")}
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat, prepend=False))
    counts = np.diff(np.concatenate([[0], edges, [flat.size]]))
    return {"size": list(mask.shape), "counts": counts.tolist()}


def from_rle(rle: dict, name: str = "the mask") -> np.ndarray:
    """H×W bool from a COCO RLE dict, compressed or not."""
    if not {"size", "counts"} <= set(rle):
        raise ValueError(f"{name} is a dict with {sorted(rle)}; an RLE has 'size' and 'counts'")
    height, width = _fits(rle["size"], name)
    counts = rle["counts"]
    if isinstance(counts, (str, bytes)):
        counts = _unpack(counts.encode("ascii") if isinstance(counts, str) else counts, name)
    counts = np.asarray(counts, dtype=None if len(counts) else int)
    if counts.dtype.kind not in "iu" or counts.ndim != 1 or (counts < 0).any():
        raise ValueError(f"{name} has RLE counts that are no list of run lengths")
    # pycocotools decodes runs that are too few into whatever was in memory, so they are counted here.
    if counts.sum() != height * width:
        raise ValueError(
            f"{name} has RLE counts for {counts.sum()} pixels, but its size {height}×{width} has "
            f"{height * width}; the RLE is cut short or belongs to another picture"
        )
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape((height, width), order="F")


def _fits(size: Sequence[float], name: str) -> tuple[int, int]:
    """(H, W), where a picture can be that large: what is larger is refused before memory runs out."""
    height, width = (int(side) for side in size)
    if height < 0 or width < 0 or height * width > MOST_PIXELS:
        raise ValueError(f"{name} is {height:,}×{width:,} pixels; no picture is")
    return height, width


def to_polygons(mask: np.ndarray) -> list[list[float]]:
    """COCO polygons along the pixels' edges; drawn again by pycocotools they give exactly this mask.

    COCO's polygons add up and cannot subtract, so a piece with a hole is cut in two through the hole.
    """
    from scipy import ndimage

    pieces, polygons = [_binary(mask, "the mask")], []
    while pieces:
        labels, count = ndimage.label(pieces.pop())
        for number in range(1, count + 1):
            piece = labels == number
            holes = ndimage.binary_fill_holes(piece) & ~piece
            if holes.any():
                left = np.arange(piece.shape[1]) <= np.flatnonzero(holes.any(axis=0))[0]
                pieces += [piece & left, piece & ~left]
            else:
                polygons.append(_outline(piece))
    return polygons


def box_of(mask: np.ndarray) -> tuple[int, int, int, int]:
    """The smallest box (x0, y0, x1, y1) around a mask; as a region it covers the mask."""
    mask = _binary(mask, "the mask")
    if not mask.any():
        raise ValueError("the mask is empty, so no box is around it")
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def area(mask: np.ndarray) -> int:
    """The number of pixels in a mask."""
    return int(_binary(mask, "the mask").sum())


# --- one region, of any form --------------------------------------------------------------------------------


def _split(masks, size: tuple[int, int]) -> Sequence:
    """The list of regions in what was given, which may be a single region."""
    if masks is None:
        return []
    if isinstance(masks, (dict, str, os.PathLike, Image.Image)) or _is_numbers(masks):
        return [masks]
    if _is_rows(masks, "the mask", size) or _is_polygons(masks):
        return [masks]
    if hasattr(masks, "__array__"):
        array = np.asarray(masks)
        if array.ndim not in (2, 3):
            raise ValueError(f"got a mask array of shape {array.shape}; expected H×W or R×H×W")
        return array if array.ndim == 3 else [array]
    if isinstance(masks, Sequence):
        return masks
    raise TypeError(f"got {type(masks).__name__} for the masks; expected a list of regions, each {FORMS}")


def _one(region, name: str, size: tuple[int, int]) -> np.ndarray:
    if isinstance(region, (str, os.PathLike)):
        return _from_file(Path(region), name)
    if isinstance(region, Image.Image):
        return _from_picture(region, name)
    if isinstance(region, dict):
        return (
            _one(region["segmentation"], name, size) if "segmentation" in region else from_rle(region, name)
        )
    if _is_numbers(region):
        return _from_box(region, name, size)
    if hasattr(region, "__array__") or _is_rows(region, name, size):
        return _binary(region, name)
    if isinstance(region, Sequence) and len(region) and all(_is_numbers(part) for part in region):
        return _from_polygons(region, name, size)
    raise TypeError(f"got {type(region).__name__} for {name}; expected {FORMS}")


def _binary(array, name: str) -> np.ndarray:
    array = np.asarray(array)
    if array.ndim != 2:
        raise ValueError(f"got an array of shape {array.shape} for {name}; expected H×W")
    if array.dtype == bool:
        return array
    if array.dtype.kind not in "iu":
        found = " with NaN in it" if array.dtype.kind == "f" and np.isnan(array).any() else ""
        raise TypeError(
            f"the mask of {name} has dtype {array.dtype}{found}; expected bool, or integers 0/1 or 0/255 "
            f"(from probabilities: p > 0.5)"
        )
    values = set(np.unique(array).tolist())
    if not (values <= {0, 1} or values <= {0, 255}):
        shown = ", ".join(map(str, sorted(values)[:6])) + (", …" if len(values) > 6 else "")
        raise ValueError(
            f"the mask of {name} has the values {shown}; expected 0/1 or 0/255 "
            f"(one object of a label map: labels == number)"
        )
    return array > 0


def _from_file(path: Path, name: str) -> np.ndarray:
    if not path.is_file():
        raise FileNotFoundError(f"no mask of {name} at {path}; give the path of a PNG on this machine")
    try:
        with Image.open(path, formats=("PNG", "BMP", "GIF", "TIFF", "PPM")) as picture:
            picture.load()
    except Exception as error:  # a damaged file can make a decoder raise nearly anything
        raise ValueError(
            f"the mask of {name}, {path}, is no PNG or is damaged ({error}); JPEG is not read, as it blurs"
        ) from error
    return _from_picture(picture, name)


def _from_picture(picture: Image.Image, name: str) -> np.ndarray:
    if picture.mode not in ("1", "L", "P"):
        raise ValueError(
            f'the mask of {name} is a picture of mode {picture.mode}; save it as grey: .convert("L")'
        )
    return _binary(picture, name)


def _from_box(box: Sequence[float], name: str, size: tuple[int, int]) -> np.ndarray:
    height, width = size
    if len(box) != 4:
        raise ValueError(
            f"{name} is a list of {len(box)} numbers; a box has four (x0, y0, x1, y1), and a polygon is "
            f"a list of flat lists: [[x, y, x, y, …]]"
        )
    x0, y0, x1, y1 = (float(value) for value in box)
    if not np.isfinite([x0, y0, x1, y1]).all():
        raise ValueError(f"the box of {name} is {tuple(box)}; expected four finite numbers")
    if x1 <= x0 or y1 <= y0:
        raise ValueError(
            f"the box of {name}, {tuple(box)}, ends before it begins; expected corners x0 < x1 and y0 < y1 "
            f"(from COCO's x, y, width, height: x1 = x + width)"
        )
    if x0 < 0 or y0 < 0 or x1 > width or y1 > height:
        raise MaskOutsideError(
            f"the box of {name}, {tuple(box)}, leaves the image, which is {width} wide and {height} high; "
            f"clip it to the image"
        )
    rows, columns = np.arange(height) + 0.5, np.arange(width) + 0.5
    return np.outer((rows >= y0) & (rows < y1), (columns >= x0) & (columns < x1))


def _from_polygons(polygons: Sequence[Sequence[float]], name: str, size: tuple[int, int]) -> np.ndarray:
    height, width = size
    flat = [[float(value) for value in polygon] for polygon in polygons]
    for polygon in flat:
        points = np.asarray(polygon)
        if len(points) < 6 or len(points) % 2:
            raise ValueError(
                f"a polygon of {name} has {len(points)} numbers; expected x, y, … of three points or more"
            )
        if not np.isfinite(points).all():
            raise ValueError(f"a polygon of {name} has NaN or infinity in it; expected numbers")
        # One pixel of grace, as annotators' tools round; pycocotools clips it.
        x, y = points[::2], points[1::2]
        if min(x.min(), y.min()) < -1 or x.max() > width + 1 or y.max() > height + 1:
            raise MaskOutsideError(
                f"a polygon of {name} reaches from ({x.min():g}, {y.min():g}) to ({x.max():g}, {y.max():g}) "
                f"and leaves the image, {width} wide and {height} high; was it drawn on another size?"
            )
    return from_rle(coco.merge(coco.frPyObjects(flat, height, width)))


# --- geometry and text of the codecs ------------------------------------------------------------------------


def _is_numbers(value) -> bool:
    """A flat list of numbers: a box, or one polygon of a COCO list."""
    if isinstance(value, np.ndarray):
        return value.ndim == 1 and value.dtype.kind in "iuf"
    return isinstance(value, (list, tuple)) and len(value) > 0 and all(isinstance(v, Real) for v in value)


def _is_rows(value, name: str, size: tuple[int, int]) -> bool:
    """A mask as H lists of W values. Raises ValueError for what may as well be boxes or a polygon."""
    if not isinstance(value, (list, tuple)) or not all(map(_is_numbers, value)) or len(set(map(len, value))) != 1:
        return False
    rows = np.asarray(value)
    (height, width), whole = rows.shape, rows.dtype.kind in "iu"
    if rows.dtype == bool:
        return True
    values, fits = set(np.unique(rows).tolist()), (height, width) == size
    two = values <= {0, 1} or values <= {0, 255}
    if (height == 1 or width == 4) and not (fits and 255 in values):
        if fits and two and whole:
            raise ValueError(
                f"{name} is a list of {height} × {width} numbers, which may be a mask, boxes or a polygon; "
                f"give a mask as an array: np.array(mask)"
            )
        return False
    if fits:
        return whole or two or 0 <= rows.min() and rows.max() <= 1
    return two and width > 10  # ten coordinates lead around a square, and more of its corners are no polygon


def _is_polygons(value) -> bool:
    """COCO's list of flat lists is one region; lists of four numbers are boxes, a region each."""
    return (
        isinstance(value, (list, tuple))
        and len(value) > 0
        and all(_is_numbers(part) and len(part) > 4 for part in value)
    )


def _unpack(text: bytes, name: str) -> list[int]:
    """The run lengths in a compressed RLE: 5 bits a character, each run a difference to the last but one."""
    counts, value, shift = [], 0, 0
    for byte in text:
        bits = byte - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError(
                f"{name} has RLE counts with a character that no RLE has; was it cut or re-encoded?"
            )
        value |= (bits & 31) << shift
        shift += 5
        if bits < 32:  # the last character of this run; its highest bit is the sign
            value -= (bits & 16) << (shift - 4)
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value, shift = 0, 0
    if shift:
        raise ValueError(f"{name} has RLE counts that end in the middle of a number; the RLE is cut short")
    return counts


def _outline(piece: np.ndarray) -> list[float]:
    """The corners of one connected piece without holes, walked with the piece on the right."""
    padded = np.pad(piece, 1)
    inside = padded[1:-1, 1:-1]
    edges = {}  # corner -> where the pixel edges that begin there lead
    for neighbour, start, end in (
        (padded[:-2, 1:-1], (0, 0), (1, 0)),  # nothing above: walk right along the top
        (padded[1:-1, 2:], (1, 0), (1, 1)),
        (padded[2:, 1:-1], (1, 1), (0, 1)),
        (padded[1:-1, :-2], (0, 1), (0, 0)),
    ):
        for y, x in np.argwhere(inside & ~neighbour).tolist():
            edges.setdefault((x + start[0], y + start[1]), []).append((x + end[0], y + end[1]))
    first = min(edges, key=lambda corner: (corner[1], corner[0]))
    corners, here, heading = [], first, (0, -1)
    while True:
        # Two edges leave a corner where two pixels touch; the sharper right turn stays on the same pixel.
        x, y = here
        right = (x - heading[1], y + heading[0])
        there = right if right in edges[here] else edges[here][-1]
        edges[here].remove(there)
        turn = (there[0] - x, there[1] - y)
        if turn != heading:
            corners += [float(x), float(y)]
        here, heading = there, turn
        if here == first:
            return corners
