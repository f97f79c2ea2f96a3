"""Checkpoints that survive a kill: a folder is whole, or it is not there (notebook 07).

    write into `unfinished/` ─► SHA-256 of each file ─► all on disk ─► renamed to `step-…` ─► the oldest go
                                                                           │
    resume: the newest whose files are what they were ◄─────────────────────┘
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import warnings
from collections.abc import Callable
from pathlib import Path

STATE, SUMS = "state.json", "sums.json"


class Checkpoints:
    """The checkpoints of one run, in `folder`; the newest `keep` are kept, one is due every `seconds`.

    `frozen` weights are left out where the model to resume with is loaded from elsewhere anyway.
    """

    def __init__(self, folder: str | Path, keep: int = 2, seconds: float = 120, frozen: bool = True):
        self.folder, self.keep, self.seconds, self.frozen = Path(folder), keep, seconds, frozen
        self._last = time.monotonic()

    @property
    def due(self) -> bool:
        return time.monotonic() - self._last >= self.seconds

    def save(
        self, write: Callable[[Path], None], state: dict, first: bool = True, wait: Callable[[], object] = lambda: None
    ) -> None:
        """`write(folder)` puts the files there; `state` goes beside them as JSON. Nothing older is touched before it is whole.

        Of several processes all call it, `first` is true in one of them, and `wait` waits for all. Raises OSError when it can't
        be written (a full disk, say); what was there before is still there.
        """
        unfinished = self.folder / "unfinished"
        try:
            if first:
                shutil.rmtree(unfinished, ignore_errors=True)
                unfinished.mkdir(parents=True)
            wait()
            write(unfinished)
            wait()
            if not first:
                return
            (unfinished / STATE).write_text(json.dumps(state), encoding="utf-8")
            files = sorted(path for path in unfinished.rglob("*") if path.is_file())
            sums = {path.relative_to(unfinished).as_posix(): sha256(path) for path in files}
            (unfinished / SUMS).write_text(json.dumps(sums), encoding="utf-8")
            for path in [*files, unfinished / SUMS, unfinished]:
                flush(path)
            done = self.folder / f"step-{1 + max(map(number, self.all()), default=0):08d}"
            os.rename(unfinished, done)
            flush(self.folder)
        except OSError as error:
            shutil.rmtree(unfinished, ignore_errors=True)
            kept = self.all()
            rest = f"{kept[-1]} is intact." if kept else "There was none before it."
            raise OSError(error.errno, f"no checkpoint could be written to {self.folder} ({error.strerror}). {rest}") from error
        for old in self.all()[: -self.keep]:
            shutil.rmtree(old, ignore_errors=True)
        self._last = time.monotonic()

    def newest(self) -> tuple[Path, dict] | None:
        """The newest checkpoint that is whole, and its state; None if there is none. A damaged one is named in a warning."""
        for path in reversed(self.all()):
            if wrong := damage(path):
                warnings.warn(f"{path} is damaged ({wrong}); the one before it is used", stacklevel=2)
                continue
            return path, json.loads((path / STATE).read_text(encoding="utf-8"))
        return None

    def to_resume(self, settings: dict) -> tuple[Path, dict]:
        """The newest checkpoint and its state, of a run with these `settings` (kept in the state under that name).

        Raises FileNotFoundError when there is none, and ValueError that lists how the settings differ.
        """
        newest = self.newest()
        if newest is None:
            raise FileNotFoundError(f"there is no checkpoint in {self.folder} to resume from; start without --resume")
        there = newest[1]["settings"]
        if differ := [key for key in settings if settings[key] != there.get(key)]:
            shown = "; ".join(f"{key} was {str(there.get(key))[:60]}, is {str(settings[key])[:60]}" for key in differ)
            raise ValueError(f"{newest[0]} is of another run: {shown}. Resume with what it was, or give another --out.")
        return newest

    def all(self) -> list[Path]:
        """All checkpoints, oldest first."""
        return sorted(self.folder.glob("step-*"), key=number)


def number(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def damage(path: Path) -> str:
    """What is wrong with a checkpoint, or ""."""
    try:
        sums = json.loads((path / SUMS).read_text(encoding="utf-8"))
        return next((f"{name} is not what was written" for name, wanted in sums.items() if sha256(path / name) != wanted), "")
    except (OSError, ValueError) as error:
        return str(error)


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file)


def _digest(file) -> str:  # Python 3.10
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def flush(path: Path) -> None:
    """Wait until a file, or a folder's list of files, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
