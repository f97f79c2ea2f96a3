"""Scenes for training, rendered by all cores (data/scenes.py draws them)."""

from __future__ import annotations

import multiprocessing
import os
from functools import partial

from tqdm.auto import tqdm

from ..data.scenes import Scene, make_scene


def render_scenes(seeds: range, progress: bool = True, size: int = 128) -> list[Scene]:
    """The training scenes of these seeds at `size` pixels a side, in order."""
    bar = tqdm(total=len(seeds), desc="drawing scenes", unit="scene", disable=not progress)
    scenes = []
    with bar, multiprocessing.get_context("fork").Pool(os.cpu_count()) as pool:
        for scene in pool.imap(partial(make_scene, size=size), seeds, chunksize=32):
            scenes.append(scene)
            bar.update()
    return scenes
