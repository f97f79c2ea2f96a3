"""An endless supply of scenes for training, rendered by all cores (data/scenes.py draws them)."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator

from tqdm.auto import tqdm

from ..data.scenes import Scene, make_scene


def render_scenes(seeds: range, split: str = "train", compositions: str = "train", progress: bool = True) -> list[Scene]:
    """The scenes of these seeds at 128 px, in order, rendered in parallel."""
    return list(_stream(seeds, split, compositions, progress))


def _stream(seeds: range, split: str, compositions: str, progress: bool) -> Iterator[Scene]:
    jobs = [(seed, 128, split, compositions) for seed in seeds]
    bar = tqdm(total=len(jobs), desc="drawing scenes", unit="scene", disable=not progress)
    with bar, multiprocessing.get_context("fork").Pool(os.cpu_count()) as pool:
        for scene in pool.imap(_one, jobs, chunksize=32):
            bar.update()
            yield scene


def _one(job: tuple) -> Scene:
    return make_scene(*job)
