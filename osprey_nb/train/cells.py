"""What covers each cell of `res4`: the truth that image tokens are taught to tell (notebook 07).

    labels H×W ─► blocks of 16×16 pixels ─► the object that covers most of a block, or −1: background
"""

from __future__ import annotations

import numpy as np

from ..data.graph import UNIT
from ..data.scenes import Scene

LEAST = 0.3  # of a cell's area; less of all objects together is background


def cell_owners(scene: Scene, side: int) -> np.ndarray:
    """side² integers, row by row: the index of the object that covers most of each cell, −1 where hardly anything does."""
    step = scene.labels.shape[0] // side
    owner = np.array([index for index, _ in scene.segments]) + 1
    blocks = owner[scene.labels].reshape(side, step, side, step).swapaxes(1, 2).reshape(side * side, step * step)
    counts = np.stack([(blocks == index).sum(1) for index in range(1, len(scene.objects) + 1)], axis=1)
    return np.where(counts.sum(1) > LEAST * step**2, counts.argmax(1), -1)


def centres(scene: Scene) -> np.ndarray:
    """objects×2 float32: the middle of each object, x and y as shares of the picture."""
    return np.array([(obj.spec.x, obj.spec.y) for obj in scene.objects], np.float32) / UNIT
