"""`osprey-nb eval-sam`: how good are the masks of clicks and boxes? (notebook 09)

Fresh scenes of the eval split at 256 px, never trained on. A click is at the place furthest inside, as in the SAM paper, and
further clicks at the place furthest inside the largest mistake; they are `local`: what they aren't connected with stays. All
figures are IoU with the drawn mask.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from tqdm.auto import tqdm

from ..data.scenes import Scene, make_scene
from ..masks import box_of
from ..segment import ClassicSegmenter, SamSegmenter
from ..tiny_sam import TINY_SIDE
from .metrics import interval

#: What the shipped tiny SAM has to reach.
GOALS = {
    "object, one click": 0.85, "object, box": 0.92, "part, best of three": 0.90, "its object, another of the three": 0.90,
}  # fmt: skip
CLICKS = ("one click", "two clicks", "three clicks")


def evaluate_segmenter(
    segmenter: SamSegmenter | ClassicSegmenter, seed: int = 0, scenes: int = 60, progress: bool = True
) -> dict[str, dict]:
    """Mean IoU with 95 % bootstrap intervals (scenes resampled): `{metric: {value, low, high, n, goal}}`.

    `seed` picks the scenes, as in `synthetic.evaluate`. Raises ValueError for fewer than 2 scenes.
    """
    if scenes < 2:
        raise ValueError(f"scenes is {scenes}; an interval needs at least 2.")
    found: dict[str, list[list[float]]] = {}
    for number in tqdm(range(seed * 10**6, seed * 10**6 + scenes), desc="scenes", unit="scene", disable=not progress):
        for metric, values in one_scene(segmenter, make_scene(number, TINY_SIDE, "eval", "train")).items():
            found.setdefault(metric, []).append(values)
    rng = np.random.default_rng(0)
    goals = {name: {"goal": goal} for name, goal in GOALS.items()}
    return {metric: interval(values, rng) | goals.get(metric, {}) for metric, values in found.items()}


def one_scene(segmenter: SamSegmenter | ClassicSegmenter, scene: Scene) -> dict[str, list[float]]:
    """The IoU of each object and each part of a scene."""
    segmenter.set_image(scene.image)
    found: dict[str, list[float]] = {f"object, {name}": [] for name in CLICKS}
    found |= {"object, box": [], "part, box": [], "part, best of three": [], "its object, another of the three": []}
    for thing in scene.objects:
        whole = thing.mask
        for name, value in zip(CLICKS, clicked(segmenter, whole), strict=True):
            found[f"object, {name}"].append(value)
        found["object, box"].append(iou(segmenter.predict(box=box_of(whole)).masks[0], whole))
        for part in thing.parts:
            found["part, box"].append(iou(segmenter.predict(box=box_of(part.mask)).masks[0], part.mask))
            three = segmenter.predict([innermost(part.mask)]).masks
            as_part = [iou(mask, part.mask) for mask in three]
            best = int(np.argmax(as_part))
            found["part, best of three"].append(as_part[best])
            found["its object, another of the three"].append(max(iou(mask, whole) for i, mask in enumerate(three) if i != best))
    return found


def clicked(segmenter: SamSegmenter | ClassicSegmenter, target: np.ndarray) -> list[float]:
    """IoU after one, two and three clicks: the largest of the first three masks, then what the further clicks make of it."""
    points, labels = [innermost(target)], [1]
    answer = segmenter.predict(points, labels)
    mask, logits = answer.masks[-1], None if answer.logits is None else answer.logits[-1]
    values = [iou(mask, target)]
    for _ in CLICKS[1:]:
        if (mask != target).any():
            missing, surplus = target & ~mask, mask & ~target
            worse = max((missing, surplus), key=lambda wrong: ndimage.distance_transform_edt(wrong).max())
            points, labels = [*points, innermost(worse)], [*labels, int(worse is missing)]
            answer = segmenter.predict(points, labels, mask_input=logits, local=logits is not None)
            mask, logits = answer.masks[-1], None if answer.logits is None else answer.logits[-1]
        values.append(iou(mask, target))
    return values


def innermost(mask: np.ndarray) -> tuple[float, float]:
    """The middle of the pixel that is furthest from the outside of a mask, as x, y. The picture's edge is outside, too."""
    distance = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(distance.argmax(), mask.shape)
    return x + 0.5, y + 0.5


def iou(mask: np.ndarray, target: np.ndarray) -> float:
    return float((mask & target).sum() / max((mask | target).sum(), 1))
