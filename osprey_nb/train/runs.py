"""What is written down of a run, and runs compared (notebook 07): `osprey-nb runs PATH …`.

    facts, files ──> run.json
    run folders ──► find_runs ──► Run: run.json, log.jsonl ─┬─ table ────────> one line for each run
                                                            ├─ differences ──> the settings that are not the same in all
                                                            └─ plot ─────────> a PNG with the smoothed losses
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
import transformers
from torch import nn

from ..data.mixture import Mixture
from ..diagrams import runs_figure
from ..diagrams.training import calm
from ..doctor import processor_name
from ..viz import to_png
from .checkpoints import sha256

RECORD, LOG = "run.json", "log.jsonl"
NEEDED = {"stage": str, "step": int, "loss": float | int, "lr": float | int}  # of a line of the log
RESULTS = ("date", "minutes", "stages", "steps", "before", "after", "dropped")  # of run.json; the rest are settings
SHOWN = ("seed", "commit", "machine.device", "machine.cores", "command")  # in columns of their own; a command repeats the rest
DIFFERENCES = 5  # in a line of the table
NOTHING = "–"


@dataclass
class Run:
    """A run folder. `record` is what run.json holds, `entries` the lines of log.jsonl; `problem` says why it holds nothing."""

    name: str
    folder: Path
    record: dict = field(default_factory=dict)
    entries: list[dict] = field(default_factory=list)
    problem: str = ""

    @property
    def steps(self) -> int | None:
        """Optimizer steps of all stages, as run.json says or else the log; None when neither does."""
        stages = [stage["steps"] for stage in _stages(self.record).values() if "steps" in stage]
        last = {entry["stage"]: entry["step"] for entry in self.entries}
        return sum(stages) or self.record.get("steps") or sum(last.values()) or None

    @property
    def minutes(self) -> float | None:
        """Minutes of the run, as run.json says or else the log; None when neither does (an old log)."""
        last = {entry["stage"]: entry["seconds"] for entry in self.entries if "seconds" in entry}
        return self.record.get("minutes") or sum(last.values()) / 60 or None

    @property
    def loss(self) -> float | None:
        """The smoothed loss where the log ends, or else the last that run.json knows."""
        if self.entries:
            stage = self.entries[-1]["stage"]
            return float(calm([entry["loss"] for entry in self.entries if entry["stage"] == stage])[-1])
        return next((stage.get("last_loss") for stage in reversed(_stages(self.record).values())), None)


def facts(parts: Mapping[str, nn.Module], seed: int, command: str) -> dict:
    """What somebody needs to repeat a run, whatever was trained: command, code, machine, versions, sizes of its parts."""
    try:
        describe = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
        commit = subprocess.run(describe, cwd=Path(__file__).parent, capture_output=True, text=True).stdout.strip()
    except OSError:
        commit = ""
    on_gpu = any(weight.is_cuda for part in parts.values() for weight in part.parameters())
    device = torch.cuda.get_device_name() if on_gpu else processor_name()
    return {
        "command": command, "date": time.strftime("%Y-%m-%d"), "commit": commit or None, "seed": seed,
        "machine": {
            "device": device, "cores": os.cpu_count(), "system": platform.system(), "python": platform.python_version(),
        },
        "torch": torch.__version__, "transformers": transformers.__version__,
        "parameters": {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()},
    }  # fmt: skip


def files(records: Mixture) -> dict[str, str]:
    """The fingerprint of each annotation file, and of which rows are taken of all."""
    prints = {str(reader.file): fingerprint(reader.file) for reader in records.readers}
    return prints | {"rows": hashlib.sha256(records.entries.tobytes()).hexdigest()[:16]}


def fingerprint(path: Path) -> str:
    """The first 16 letters of a file's SHA-256."""
    return sha256(path)[:16]


def find_runs(paths: Iterable[str | Path]) -> list[Run]:
    """The runs at `paths`, each a run folder or a folder of run folders, in order and each once.

    A run folder holds run.json, log.jsonl or both; with the log alone it is still going, or was stopped. What is wrong with a
    run.json is said in `Run.problem`. Raises FileNotFoundError that names a path with no run.
    """
    folders: dict[Path, None] = {}
    for path in map(Path, paths):
        found = [path] if _is_run(path) else sorted(filter(_is_run, path.iterdir())) if path.is_dir() else []
        if not found:
            raise FileNotFoundError(f"no run at {path}: neither it nor a folder in it holds {RECORD} or {LOG}")
        folders |= dict.fromkeys(folder.resolve() for folder in found)
    return [_read(folder, name) for folder, name in zip(folders, _names(list(folders)), strict=True)]


def differences(runs: Sequence[Run]) -> dict[str, list]:
    """The settings in which runs differ: their keys (`machine.cores`) → a value for each run, None where it has none.

    Settings are what run.json holds, without dates, minutes, steps and other results. Runs without a run.json do not count:
    nobody knows theirs.
    """
    flat = [_flat(run.record) for run in runs]
    keys = dict.fromkeys(key for settings in flat for key in settings)
    known = [settings for settings in flat if settings]
    differing = [key for key in keys if len({json.dumps(settings.get(key), sort_keys=True) for settings in known}) > 1]
    return {key: [settings.get(key) for settings in flat] for key in differing}


def table(runs: Sequence[Run]) -> str:
    """A line for each run: name, date, machine, seed, steps, minutes, last smoothed loss, commit, and what else differs."""
    known = [run.record for run in runs if run.record]

    def told_of_all(key: str) -> bool:  # what a run of an older release does not say at all is no setting that differs
        return "." not in key or all(key.split(".")[0] in record for record in known)

    differing = {key: values for key, values in differences(runs).items() if key not in SHOWN and told_of_all(key)}
    differing = dict(sorted(differing.items(), key=lambda item: item[1].count(None)))  # first what most runs have
    rows = [("run", "date", "machine", "seed", "steps", "minutes", "loss", "commit", "what differs")]
    for i, run in enumerate(runs):
        machine = run.record.get("machine")
        machine = machine if isinstance(machine, Mapping) else {}
        cores = f", {machine['cores']} cores" if "cores" in machine else ""
        own = {key: values[i] for key, values in differing.items() if values[i] is not None}
        told = [f"{key} {_cut(_one_line(value), 60)}" for key, value in own.items()][:DIFFERENCES]
        told += [f"{len(own) - DIFFERENCES} more"] * (len(own) > DIFFERENCES)
        number, _, dirty = str(run.record.get("commit") or "").partition("-")
        rows.append(
            (
                _one_line(run.name), _one_line(run.record.get("date")), _one_line(machine.get("device")) + cores,
                _one_line(run.record.get("seed")), f"{run.steps:,}" if run.steps else NOTHING,
                f"{run.minutes:.1f}" if run.minutes else NOTHING, f"{run.loss:.4g}" if run.loss is not None else NOTHING,
                number[:7] + ("-" + dirty if dirty else "") or NOTHING, _one_line(run.problem or ", ".join(told)),
            )
        )  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    right = {"seed", "steps", "minutes", "loss"}
    lines = [
        "  ".join(
            cell.rjust(width) if title in right else cell.ljust(width)
            for cell, width, title in zip(row, widths, rows[0], strict=True)
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def plot(runs: Sequence[Run], path: str | Path) -> None:
    """Write a PNG with the smoothed losses of the runs that have a log. Raises ValueError when none has, OSError when it can't
    be written."""
    Path(path).write_bytes(to_png(runs_figure({run.name: run.entries for run in runs})))


def _is_run(folder: Path) -> bool:
    return (folder / RECORD).is_file() or (folder / LOG).is_file()


def _names(folders: Sequence[Path]) -> list[str]:
    """The last part of each path; where two share it, as many parts as tell them apart."""
    ends = [["/".join(folder.parts[-n:]) for n in range(1, len(folder.parts) + 1)] for folder in folders]
    taken = [end for tails in ends for end in tails]
    return [next((end for end in tails if taken.count(end) == 1), tails[-1]) for tails in ends]


def _read(folder: Path, name: str) -> Run:
    run = Run(name, folder)
    if (folder / RECORD).is_file():
        try:
            record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
            if not isinstance(record, dict):
                raise ValueError(f"it holds a {type(record).__name__}, not an object")
            run.record = record
        except (OSError, ValueError) as error:
            run.problem = f"{RECORD} can't be read: {error}"
    else:
        run.problem = f"no {RECORD}: still going, or stopped"
    if (folder / LOG).is_file():
        for line in (folder / LOG).read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # the last line of a run that was killed
            if isinstance(entry, dict) and all(isinstance(entry.get(key), kind) for key, kind in NEEDED.items()):
                run.entries.append(entry)
    return run


def _stages(record: Mapping) -> dict[str, dict]:
    stages = record.get("stages")
    return {name: stage for name, stage in stages.items() if isinstance(stage, dict)} if isinstance(stages, dict) else {}


def _flat(record: Mapping, above: str = "") -> dict:
    """The settings of a record, nested keys joined by dots."""
    flat = {}
    for key, value in record.items():
        if above or key not in RESULTS:
            flat |= _flat(value, f"{above}{key}.") if isinstance(value, Mapping) and value else {above + key: value}
    return flat


def _one_line(value) -> str:
    """A value for a cell: no line breaks, and nothing that a terminal would obey."""
    if value is None:
        return NOTHING
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "".join(letter for letter in " ".join(text.split()) if letter.isprintable())


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
