"""Who looks on while a model trains (notebook 07). A watcher has three methods, and `fit` calls them:

    begin(name, done)    a stage begins; `done` steps are behind it, above 0 in a resumed run
    step(entry)          a step is made: stage, step, loss, lr, seconds, samples, waited, spent, at times norms
    end()                the stage is over

`seconds` and `samples` count from the beginning of the stage; `waited` are the seconds of them in which no batch was ready;
`spent` is the share of the budget, 0 to 1; `norms` are the gradient's norms, part by part. The watcher for notebooks is
widgets/live.py.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, runtime_checkable

from tqdm.auto import tqdm

KEPT = ("stage", "step", "loss", "lr", "seconds", "samples", "waited", "norms")
NOT_A_CURVE = {"stage", "step", "norms"}


@runtime_checkable
class Watcher(Protocol):
    def begin(self, name: str, done: int) -> None: ...
    def step(self, entry: Mapping) -> None: ...
    def end(self) -> None: ...


def watchers(out: Path, progress: bool = True) -> list[Watcher]:
    """For a run in the folder `out`: log.jsonl and TensorBoard's files, a bar, Weights & Biases where somebody is logged in."""
    chosen: list[Watcher] = [Log(out / "log.jsonl"), Board(out / "tensorboard")]
    if progress:
        chosen.append(Bar())
    if weights_and_biases():
        chosen.append(WeightsAndBiases(out))
    return chosen


@contextmanager
def looking_on(watchers: Sequence[Watcher], name: str, done: int) -> Iterator[Callable[..., None]]:
    """All of them from `begin` to `end`, whatever happens between; calls with an entry's values go to each."""
    for watcher in watchers:
        watcher.begin(name, done)
    try:
        yield lambda **entry: [watcher.step(entry) for watcher in watchers]
    finally:
        for watcher in watchers:
            watcher.end()


class Log:
    """A line of JSON for every step."""

    def __init__(self, path: Path):
        self.path, self.file = path, None

    def begin(self, name: str, done: int) -> None:
        self._forget(name, done)
        self.file = open(self.path, "a", encoding="utf-8", buffering=1)

    def step(self, entry: Mapping) -> None:
        self.file.write(json.dumps({key: _short(entry[key]) for key in KEPT if key in entry}) + "\n")

    def end(self) -> None:
        self.file.close()

    def _forget(self, name: str, done: int) -> None:
        """Leave out what a resumed run will write again: this stage's lines after `done`."""
        if not self.path.exists():
            return
        kept = []
        for line in self.path.read_text(encoding="utf-8").splitlines(keepends=True):
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # the last line of a run that was killed
            if entry["stage"] != name or entry["step"] <= done:
                kept.append(line)
        self.path.write_text("".join(kept), encoding="utf-8")


class Bar:
    """A progress bar: share of the budget, loss, samples a second."""

    def begin(self, name: str, done: int) -> None:
        self.smooth = None
        self.bar = tqdm(total=100, desc=name, bar_format="{l_bar}{bar}| {elapsed}<{remaining}{postfix}")

    def step(self, entry: Mapping) -> None:
        loss = entry["loss"]
        self.smooth = loss if self.smooth is None else 0.95 * self.smooth + 0.05 * loss
        rate = entry["samples"] / max(entry["seconds"], 1e-9)
        self.bar.set_postfix_str(f"step {entry['step']} loss {self.smooth:.3f} {rate:.1f} samples/s", refresh=False)
        self.bar.update(round(100 * min(entry["spent"], 1)) - self.bar.n)

    def end(self) -> None:
        self.bar.close()


class Board:
    """TensorBoard: `tensorboard --logdir FOLDER` shows the curves of all runs below it."""

    def __init__(self, folder: Path):
        self.folder = folder

    def begin(self, name: str, done: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(self.folder / _slug(name)), purge_step=done + 1 if done else None)

    def step(self, entry: Mapping) -> None:
        for key, value in _curves(entry).items():
            self.writer.add_scalar(key, value, entry["step"])

    def end(self) -> None:
        self.writer.close()


class WeightsAndBiases:
    """A W&B run for each stage, those of one folder in one group. Nothing is sent unless somebody has logged in."""

    def __init__(self, out: Path):
        self.out = out

    def begin(self, name: str, done: int) -> None:
        import wandb

        options = {"group": self.out.name, "name": name, "dir": str(self.out), "config": {"resumed_at": done}}
        self.run = wandb.init(project="osprey_nb", **options)

    def step(self, entry: Mapping) -> None:
        self.run.log(_curves(entry), step=entry["step"])

    def end(self) -> None:
        self.run.finish()


def weights_and_biases() -> bool:
    """Is W&B installed, and is there somebody to log for: a key, or WANDB_MODE=offline?"""
    if find_spec("wandb") is None or os.environ.get("WANDB_MODE") == "disabled":
        return False
    if os.environ.get("WANDB_MODE") == "offline" or os.environ.get("WANDB_API_KEY"):
        return True
    netrc = Path(os.environ.get("NETRC", Path.home() / ".netrc"))
    return netrc.is_file() and "api.wandb.ai" in netrc.read_text(encoding="utf-8", errors="replace")


def _curves(entry: Mapping) -> dict[str, float]:
    curves = {key: value for key, value in entry.items() if key not in NOT_A_CURVE}
    curves["samples_per_s"] = entry["samples"] / max(entry["seconds"], 1e-9)
    return curves | {f"norm/{part}": value for part, value in entry.get("norms", {}).items()}


def _short(value):
    """Five digits are enough for a log."""
    if isinstance(value, dict):
        return {key: _short(number) for key, number in value.items()}
    return float(f"{value:.5g}") if isinstance(value, float) and math.isfinite(value) else value


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)
