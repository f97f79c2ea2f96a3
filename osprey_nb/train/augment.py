"""Masks as people draw them: too wide, too narrow, half a scribble. Exact masks alone would teach a model to fear a brush."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

ROUGH = 0.3


def roughen(masks: Tensor, rng: np.random.Generator) -> Tensor:
    """R×h×w bool, some of them grown, shrunk or replaced by a broad scribble over the region. None becomes empty."""
    masks = masks.clone()
    for i in range(len(masks)):
        if rng.random() >= ROUGH:
            continue
        ways = (_grow, _shrink, _scribble)
        rough = ways[rng.integers(len(ways))](masks[i], rng)
        if rough.any():
            masks[i] = rough
    return masks


def _grow(mask: Tensor, rng: np.random.Generator) -> Tensor:
    return _widened(mask, int(rng.integers(1, 4)))


def _shrink(mask: Tensor, rng: np.random.Generator) -> Tensor:
    return ~_grow(~mask, rng)


def _scribble(mask: Tensor, rng: np.random.Generator) -> Tensor:
    """A brush line through a few points of the region, as wide as a quarter of the region's side."""
    inside = mask.nonzero()
    points = inside[rng.integers(len(inside), size=int(rng.integers(2, 6)))].float()
    steps = torch.linspace(0, 1, 24)[:, None]
    line = torch.cat([a + (b - a) * steps for a, b in zip(points[:-1], points[1:], strict=True)]).round().long()
    drawn = torch.zeros_like(mask)
    drawn[line[:, 0], line[:, 1]] = True
    return _widened(drawn, max(1, round(float(mask.sum()) ** 0.5 / 8)))


def _widened(mask: Tensor, radius: int) -> Tensor:
    """Every pixel grows to a square of 2·radius + 1: rows first, then columns."""
    rows = F.max_pool2d(mask[None].float(), (2 * radius + 1, 1), 1, (radius, 0))
    return F.max_pool2d(rows, (1, 2 * radius + 1), 1, (0, radius))[0].bool()
