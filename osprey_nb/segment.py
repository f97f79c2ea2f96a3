"""A click, a box, or nothing at all → masks: SAM behind three calls (notebook 09; docs/osprey.md, section 4).

    image ───────► set_image ──► ViT ─► image embedding, once a picture
    click or box ► predict ────► prompt encoder ─► mask decoder ─► three nested masks and their scores
    nothing ─────► everything ─► a grid of clicks ─► masks, each of them once

`tiny` is segment_anything's own modules at a small size, trained on our drawings (train/sam.py). `vit_b`, `vit_l` and `vit_h`
are the released ones. `classic` has learnt nothing: superpixels, merged by colour; for a photograph without a checkpoint.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from segment_anything import SamAutomaticMaskGenerator, SamPredictor, sam_model_registry
from segment_anything.modeling import Sam
from skimage import color, graph, segmentation

from .files import fetch_file, read_tensors
from .images import load_image
from .masks import to_masks
from .tiny_sam import TINY_SIDE, TINY_WIDTH, build_tiny

TINY_NAME = "tiny SAM (trained on synthetic drawings only)"
LEVELS = ("sub-part", "part", "whole")  # what the three masks of a click are, small to large
TINY_WEIGHTS = Path(__file__).parent / "weights" / "sam_tiny"
#: variant → file, bytes, SHA-256, width of the ViT. As released by the authors of Segment Anything.
RELEASED = {
    "vit_b": ("sam_vit_b_01ec64.pth", 375_042_383, "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912", 768),
    "vit_l": ("sam_vit_l_0b3195.pth", 1_249_524_607, "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622", 1024),
    "vit_h": ("sam_vit_h_4b8939.pth", 2_564_550_879, "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e", 1280),
}
URL = "https://dl.fbaipublicfiles.com/segment_anything/"
LEAST, TINY_LEAST = (0.88, 0.95), (0.75, 0.75)  # score and stability of what `everything` keeps: SAM's own, and of tiny
DUPLICATE = 0.85  # IoU from which two masks of `everything` are one
SMALLEST = 0.001  # share of the picture; `everything` drops what is smaller
THRESHOLDS = (12, 26, 48)  # distances in Lab up to which `classic` merges superpixels, level by level


class Candidates(NamedTuple):
    """Masks N×H×W bool, and how good each of them is held to be, N numbers from 0 to 1.

    `logits` N×h×w, before they are enlarged, refine a further `predict` (as `mask_input`); `classic` has none.
    """

    masks: np.ndarray
    scores: np.ndarray
    logits: np.ndarray | None = None


def load_segmenter(name: str | Path = "tiny", device: str | torch.device | None = None) -> SamSegmenter | ClassicSegmenter:
    """`"tiny"` (shipped), `"vit_b"`, `"vit_l"`, `"vit_h"` (fetched at the first call), `"classic"`, or a file of SAM weights.

    Raises FileNotFoundError for no such file, ValueError for one that is damaged or of no known SAM, ConnectionError when a
    release cannot be fetched.
    """
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if name == "classic":
        return ClassicSegmenter()
    if name == "tiny":
        path, label = TINY_WEIGHTS / "model.safetensors", TINY_NAME
        if not path.exists():
            raise FileNotFoundError("The shipped weights of tiny SAM are missing. Train them: osprey-nb train sam")
    elif name in RELEASED:
        file, size, digest, _ = RELEASED[name]
        path, label = fetch_file(URL + file, size, digest, "sam"), f"SAM {name}"
    else:
        path, label = Path(name), f"SAM {Path(name).name}"
    return SamSegmenter(sam_of(read_tensors(path), path.name).to(device), label)


def sam_of(tensors: Mapping[str, torch.Tensor], name: str = "the weights") -> Sam:
    """The SAM that these weights fit; its variant is known from their shapes."""
    width = tensors["image_encoder.pos_embed"].shape[-1] if "image_encoder.pos_embed" in tensors else None
    builders = {TINY_WIDTH: build_tiny} | {row[3]: sam_model_registry[variant] for variant, row in RELEASED.items()}
    if width not in builders:
        known = ", ".join(("tiny", *RELEASED))
        raise ValueError(f"{name} holds no SAM that is known here ({known}); its ViT has width {width}.")
    sam = builders[width]()
    try:
        sam.load_state_dict({key: value.float() for key, value in tensors.items()})
    except RuntimeError as error:
        first = textwrap.shorten(str(error).partition("\n")[2], 200)
        raise ValueError(f"{name} does not fit the SAM of its width ({first}). Is it a file of the first SAM?") from error
    return sam.eval()


class SamSegmenter:
    """`SamPredictor` and `SamAutomaticMaskGenerator` of one SAM."""

    def __init__(self, sam: Sam, name: str):
        self.name, self.predictor = name, SamPredictor(sam)
        self.size: tuple[int, int] | None = None

    def set_image(self, image) -> None:
        """Read a picture (PIL, H×W×3 uint8, or path): once for all that is asked about it."""
        self.image = np.asarray(load_image(image))
        self.predictor.set_image(self.image)
        self.size = self.image.shape[:2]

    def predict(
        self, points: Sequence | None = None, labels: Sequence | None = None, box: Sequence | None = None,
        mask_input: np.ndarray | None = None, several: bool | None = None, local: bool = False,
    ) -> Candidates:
        """Masks for clicks, a box, or both.

        `points` N×2 in pixels (x, y), `labels` N, 1 for what belongs to the region and 0 for what does not (all 1 if left
        out); `box` x0, y0, x1, y1. `several`: three masks, small to large, as one click may mean a part or the whole; by
        default for one click alone. `mask_input` h×w are the logits of an earlier answer that this one goes on from; SAM then
        draws all of it anew. With `local` only what the last click is connected with changes (FocalClick, Chen et al. 2022).
        Raises ValueError before any work for points outside the picture, a box without area, or nothing to go by.
        """
        points, labels, box = checked_prompt(points, labels, box, self.size)
        if local and (mask_input is None or not len(points)):
            raise ValueError("local says that a click changes a mask: give points, and the mask's logits as mask_input.")
        if several is None:
            several = box is None and len(points) == 1 and mask_input is None
        masks, scores, logits = self.predictor.predict(
            points - 0.5 if len(points) else None,  # SAM counts from the middle of the first pixel
            labels if len(points) else None,
            None if box is None else box - 0.5,
            None if mask_input is None else mask_input[None],
            multimask_output=several,
        )
        if local:
            masks, logits = self._around(points[-1], logits, mask_input)
        order = np.argsort(masks.sum((1, 2)), kind="stable")
        return Candidates(masks[order], np.clip(scores[order], 0, 1), logits[order])

    def _around(self, click: np.ndarray, logits: np.ndarray, before: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Masks and logits that are new where the click is, and where what changed is connected with it; the rest as before."""
        sam, side = self.predictor.model, logits.shape[-1]
        x, y = self.predictor.transform.apply_coords(click[None].copy(), self.size)[0] * side / sam.image_encoder.img_size
        here = np.zeros(logits.shape[1:], bool)
        here[max(int(y) - 1, 0) : int(y) + 2, max(int(x) - 1, 0) : int(x) + 2] = True
        merged = []
        for new in logits:
            pieces, _ = ndimage.label(here | ((new > 0) != (before > 0)), np.ones((3, 3)))
            changed = ndimage.binary_dilation(pieces == pieces[here][0], np.ones((3, 3)))
            merged.append(np.where(changed, new, before))
        logits = np.stack(merged)
        large = sam.postprocess_masks(torch.from_numpy(logits)[None], self.predictor.input_size, self.size)[0]
        return (large > sam.mask_threshold).numpy(), logits

    def everything(self, points_per_side: int = 16) -> Candidates:
        """All masks that a grid of clicks finds, best first, each of them once."""
        _needs_image(self.size)
        score, stability = TINY_LEAST if self.predictor.model.image_encoder.img_size == TINY_SIDE else LEAST
        generator = SamAutomaticMaskGenerator(
            self.predictor.model, points_per_side, pred_iou_thresh=score, stability_score_thresh=stability,
            box_nms_thresh=0.95,  # a wheel and its bicycle may have one box; what is the same is told by the masks below
        )  # fmt: skip
        found = generator.generate(self.image)
        found.sort(key=lambda entry: -entry["predicted_iou"])
        masks = np.array([entry["segmentation"] for entry in found], bool).reshape(-1, *self.size)
        return distinct(Candidates(masks, np.array([entry["predicted_iou"] for entry in found], np.float32)))


class ClassicSegmenter:
    """Nothing learnt: SLIC superpixels, merged while their mean colours are alike, at three distances one inside the other."""

    name = "superpixels merged by colour (nothing is learnt)"

    def __init__(self):
        self.size: tuple[int, int] | None = None

    def set_image(self, image) -> None:
        image = np.asarray(load_image(image))
        fine = segmentation.slic(image, n_segments=400, compactness=8, start_label=0)
        lab = color.rgb2lab(image)
        self.levels = []
        for threshold in THRESHOLDS:
            if fine.any():  # a graph of one segment has no edge, and so no node
                fine = graph.cut_threshold(fine, graph.rag_mean_color(lab, fine), threshold)
            self.levels.append(fine)
        self.size = image.shape[:2]

    def predict(
        self, points: Sequence | None = None, labels: Sequence | None = None, box: Sequence | None = None,
        mask_input: np.ndarray | None = None, several: bool | None = None, local: bool = False,
    ) -> Candidates:
        """As `SamSegmenter.predict`. A box takes the segment whose own box is most like it. All scores are 0.5, and no mask is
        gone on from: all clicks are looked at anew."""
        points, labels, box = checked_prompt(points, labels, box, self.size)
        if several is None:
            several = box is None and len(points) == 1
        if box is not None:
            masks = max(self._segments(), key=lambda mask: _box_iou(mask, box))[None]
        else:
            masks = np.stack([self._clicked(level, points, labels) for level in self.levels])
        if not several and len(masks) > 1:
            masks = masks[1:2]
        return Candidates(masks, np.full(len(masks), 0.5, np.float32))

    def everything(self) -> Candidates:
        """The segments of all three levels, large ones first."""
        _needs_image(self.size)
        masks = np.stack(sorted(self._segments(), key=lambda mask: -mask.sum()))
        return distinct(Candidates(masks, np.full(len(masks), 0.5, np.float32)))

    def _segments(self) -> list[np.ndarray]:
        return [level == i for level in self.levels for i in np.unique(level)]

    def _clicked(self, level: np.ndarray, points: np.ndarray, labels: np.ndarray) -> np.ndarray:
        x, y = np.clip(points.astype(int), 0, np.array(self.size[::-1]) - 1).T
        mask = np.isin(level, level[y, x][labels == 1])
        return mask & ~np.isin(self.levels[0], self.levels[0][y, x][labels == 0])


def checked_prompt(points, labels, box, size: tuple[int, int] | None) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Points N×2, labels N and the box as arrays. Raises ValueError for what no picture of this size (H, W) can answer."""
    _needs_image(size)
    height, width = size
    points = np.zeros((0, 2), np.float32) if points is None else np.asarray(points, np.float32)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"points have shape {points.shape}; give a list of (x, y).")
    labels = np.ones(len(points), int) if labels is None else np.asarray(labels)
    if labels.shape != (len(points),) or not np.isin(labels, (0, 1)).all():
        raise ValueError(f"labels are {labels.tolist()} for {len(points)} points; give 1 (inside) or 0 (outside) for each.")
    for x, y in points:
        if not (0 <= x <= width and 0 <= y <= height):  # also when it is no number
            raise ValueError(f"The point ({x:g}, {y:g}) lies outside the picture, which is {width}×{height}.")
    if box is not None:
        to_masks([tuple(box)], size)  # its errors name what is wrong
        box = np.asarray(box, np.float32)
    elif not (labels == 1).any():
        raise ValueError("Nothing to go by: give at least one point with label 1, or a box.")
    return points, labels, box


def distinct(found: Candidates, smallest: float = SMALLEST, duplicate: float = DUPLICATE) -> Candidates:
    """Without masks that are empty or smaller than `smallest` of the picture, nearly fill it, or are much like one before."""
    flat = found.masks.reshape(len(found.masks), found.masks[0].size if len(found.masks) else 0)
    areas = flat.sum(1)
    kept: list[int] = []
    for i in np.flatnonzero((areas > 0) & (areas >= smallest * flat.shape[1]) & (areas < 0.95 * flat.shape[1])):
        shared = flat[kept] @ flat[i].astype(np.float32) if kept else np.zeros(0)
        if (shared < duplicate * (areas[kept] + areas[i] - shared)).all():
            kept.append(i)
    return Candidates(found.masks[kept], found.scores[kept])


def tree_of(masks: np.ndarray, inside: float = 0.9) -> list[int | None]:
    """For each of N×H×W masks the smallest larger one that holds at least `inside` of it, or None: a forest of parts."""
    flat = masks.reshape(len(masks), masks.shape[1] * masks.shape[2]).astype(np.float32)
    areas = flat.sum(1)
    shared = flat @ flat.T
    parents: list[int | None] = []
    for i in range(len(masks)):
        holds = [j for j in range(len(masks)) if areas[j] > areas[i] / inside and shared[i, j] >= inside * areas[i]]
        parents.append(min(holds, key=lambda j: areas[j], default=None))
    return parents


def _needs_image(size) -> None:
    if size is None:
        raise ValueError("No picture yet: call set_image first.")


def _box_iou(mask: np.ndarray, box: np.ndarray) -> float:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    own = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    low, high = np.maximum(own[:2], box[:2]), np.minimum(own[2:], box[2:])
    shared = np.clip(high - low, 0, None).prod()
    return shared / ((own[2:] - own[:2]).prod() + (box[2:] - box[:2]).prod() - shared)
