"""`osprey-nb doctor`: what this machine has, which weights are at hand, and what would be slow here.

libraries ─┐
machine   ─┼─ examine ──> Finding(subject, text, fine) ──> a line each; what is wrong is marked
weights   ─┘
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

HERE = Path(__file__).parent
GB = 1e9
# 7 billion weights and the tower, at 4 and 2 bytes, and what a sequence of 2048 needs beside them.
PAPER_FLOAT32, PAPER_BF16 = 32 * GB, 17 * GB


@dataclass(frozen=True)
class Finding:
    """One line of the report. `fine` is False for what keeps a part of the project from working."""

    subject: str
    text: str
    fine: bool = True


def examine(runs: Path = Path("runs")) -> list[Finding]:
    """Everything worth knowing, libraries first. `runs` is where trained and fetched models are looked for."""
    return [*libraries(), *machine(), *weights(runs), *slow()]


def libraries() -> list[Finding]:
    """Python, this package and what it needs, each version held against the range in pyproject.toml."""
    from packaging.requirements import Requirement

    found = [Finding("python", platform.python_version()), Finding("osprey_nb", version("osprey-nb"))]
    for line in requires("osprey-nb") or []:
        need = Requirement(line)
        if need.marker and not need.marker.evaluate({"extra": ""}):
            continue
        try:
            have = version(need.name)
        except PackageNotFoundError:
            found.append(Finding(need.name, f"missing; pip install '{need.name}{need.specifier}'", fine=False))
            continue
        fits = need.specifier.contains(have, prereleases=True)
        found.append(Finding(need.name, have if fits else f"{have}, but {need.specifier} is needed", fine=fits))
    return found


def machine() -> list[Finding]:
    """Cores, memory, accelerators, and the programs that only the tests need."""
    import torch

    memory = _memory()
    found = [
        Finding("cpu", f"{processor_name()}, {os.cpu_count()} cores"),
        Finding("memory", f"{memory / GB:.0f} GB" if memory else "unknown"),
    ]
    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        found.append(Finding(f"cuda:{index}", f"{card.name}, {card.total_memory / GB:.0f} GB"))
    if not torch.cuda.is_available():
        found.append(Finding("gpu", "no CUDA device; everything runs on the CPU"))
    for program, use in (("chromium", "browser tests"), ("node", "tests of the canvas's geometry")):
        path = shutil.which(program)
        found.append(Finding(program, "found" if path else f"not found; only the {use} need it"))
    return found


def weights(runs: Path) -> list[Finding]:
    """The shipped tiny model, models under `runs`, and the published parts in the hub's cache."""
    from huggingface_hub import try_to_load_from_cache

    from .checkpoint import RELEASES

    shipped = HERE / "weights" / "tiny"
    found = []
    for folder in [shipped, *sorted(path.parent for path in runs.glob("*/config.json"))]:
        name = "tiny (shipped)" if folder == shipped else str(folder)
        files = [*folder.glob("*.safetensors"), *folder.glob("*.bin")]
        if not files or not (folder / "config.json").exists():
            found.append(Finding(name, "missing; make it with: osprey-nb train tiny", fine=False))
            continue
        size = sum(file.stat().st_size for file in files) / 1e6
        record = folder / "run.json"
        run = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
        trained = f", trained {run['minutes']:g} minutes on {run['date']}" if {"minutes", "date"} <= set(run) else ""
        found.append(Finding(name, f"{size:.1f} MB{trained}"))
    for name, parts in RELEASES.items():
        cached = [repo for repo, _ in parts if isinstance(try_to_load_from_cache(repo, "config.json"), str)]
        if cached:
            found.append(Finding(name, f"in the hub's cache: {', '.join(cached)}"))
    return found


def slow() -> list[Finding]:
    """What would take long or not fit at all, with the sizes of the published model."""
    import torch

    cards = [torch.cuda.get_device_properties(i).total_memory for i in range(torch.cuda.device_count())]
    memory = _memory()
    found = []
    if not cards:
        found.append(Finding("train tiny", "takes its whole budget (25 minutes) here; a GPU does more steps in it"))
    if max(cards, default=0) >= PAPER_BF16:
        found.append(Finding("osprey-7b", "fits the GPU in bfloat16"))
    elif memory and memory < PAPER_FLOAT32:
        found.append(Finding("osprey-7b", f"needs {PAPER_FLOAT32 / GB:.0f} GB on a CPU (float32): too little memory"))
    else:
        found.append(Finding("osprey-7b", "only on the CPU, minutes for a sentence"))
    if (os.cpu_count() or 1) < 4:
        found.append(Finding("notebooks", "with under 4 cores: some 20 minutes for all of them"))
    return found


def format_findings(findings: list[Finding]) -> str:
    """The report as text, what is wrong marked with an exclamation mark."""
    width = max(len(finding.subject) for finding in findings)
    return "\n".join(f"{' ' if f.fine else '!'} {f.subject:{width}}  {f.text}" for f in findings)


def processor_name() -> str:
    """The name of the CPU, as its maker writes it where the system tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _memory() -> int | None:
    """Bytes of main memory; None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
