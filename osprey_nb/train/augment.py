"""Masks as people draw them: too wide, too narrow, half a scribble. Exact masks alone would teach a model to fear a brush."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

ROUGH = 0.3


def roughen(masks: Tensor, rng: np.random.Generator) -> Tensor:
    """R×h×w bool, some of them grown, shrunk or replaced by a broad scribble over the region. None becomes empty."""
    masks = masks.numpy().copy()
    for i in range(len(masks)):
        if rng.random() >= ROUGH:
            continue
        ways = (_grow, _shrink, _scribble)
        rough = ways[rng.integers(len(ways))](masks[i], rng)
        if rough.any():
            masks[i] = rough
    return torch.from_numpy(masks)


def _grow(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return _widened(mask, int(rng.integers(1, 4)))


def _shrink(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return ~_grow(~mask, rng)


def _scribble(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A brush line through a few points of the region, as wide as a quarter of the region's side."""
    inside = np.argwhere(mask)
    points = inside[rng.integers(len(inside), size=int(rng.integers(2, 6)))].astype(np.float32)
    steps = np.linspace(0, 1, 24, dtype=np.float32)[:, None]
    line = np.concatenate([a + (b - a) * steps for a, b in zip(points[:-1], points[1:], strict=True)])
    rows, columns = line.round().astype(int).T
    drawn = np.zeros_like(mask)
    drawn[rows, columns] = True
    return _widened(drawn, max(1, round(mask.sum() ** 0.5 / 8)))


def _widened(mask: np.ndarray, radius: int) -> np.ndarray:
    """Every pixel grows to a square of 2·radius + 1: rows first, then columns."""
    for _ in range(2):
        grown = mask.copy()
        for step in range(1, radius + 1):
            grown[step:] |= mask[:-step]
            grown[:-step] |= mask[step:]
        mask = grown.T
    return mask
