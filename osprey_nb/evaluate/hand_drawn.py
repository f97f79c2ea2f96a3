"""Masks as a hand draws them, made from an exact one. Lengths are in pixels of a picture of 256."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt
from skimage.morphology import convex_hull_image

from ..masks import box_of, stroke_mask, to_masks
from .segmenting import innermost

SIDE = 256  # of the pictures that are drawn on
GROWN, SHRUNK, AROUND = 6, 5, 4
BRUSH, DOT = 24, 16  # across


def hand_drawn(mask: np.ndarray) -> dict[str, np.ndarray]:
    """An H×W bool mask in seven forms, by name. One that leaves nothing (a thin mask, shrunk) is left out."""
    forms = {
        "exact": mask,
        "box": to_masks(box_of(mask), mask.shape)[0],
        "grown": grown(mask, GROWN),
        "shrunk": distance_transform_edt(mask) > SHRUNK,
        "lasso": grown(convex_hull_image(mask), AROUND),
        "brush": brushed(mask, BRUSH / 2),
        "dot": stroke_mask([innermost(mask)], DOT / 2, mask.shape),
    }
    return {name: form for name, form in forms.items() if form.any()}


def grown(mask: np.ndarray, radius: float) -> np.ndarray:
    """What is at most `radius` pixels away from the mask: its corners become round."""
    return distance_transform_edt(~mask) <= radius


def brushed(mask: np.ndarray, radius: float) -> np.ndarray:
    """A straight stroke through the mask's middle along its longer axis, from end to end."""
    points = np.argwhere(mask)[:, ::-1] + 0.5  # x, y
    middle = points.mean(0)
    axis = np.linalg.eigh(np.cov(points.T, bias=True))[1][:, -1]
    along = (points - middle) @ axis
    low, high = min(along.min() + radius, 0), max(along.max() - radius, 0)
    return stroke_mask([middle + low * axis, middle + high * axis], radius, mask.shape)
