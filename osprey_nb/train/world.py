"""Scenes for training, rendered by all cores (data/scenes.py draws them)."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from typing import TypeVar

from tqdm.auto import tqdm

from ..data.scenes import make_scene

T = TypeVar("T")


def render_scenes(seeds: range, progress: bool = True, make: Callable[[int], T] = make_scene) -> list[T]:
    """What `make` makes of these seeds, in order: their training scenes at 128 px."""
    bar = tqdm(total=len(seeds), desc="drawing scenes", unit="scene", disable=not progress)
    scenes = []
    with bar, multiprocessing.get_context("fork").Pool(os.cpu_count()) as pool:
        for scene in pool.imap(make, seeds, chunksize=32):
            scenes.append(scene)
            bar.update()
    return scenes
