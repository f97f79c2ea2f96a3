"""Several sources as one set of records: what a mixture file says (docs/osprey.md, section 3; notebook 06).

    sources:
      - {format: coco, file: coco/instances_train2017.json, images: coco/train2017}
      - {format: vcr, file: vcr/train.jsonl, images: vcr/images, weight: 0.5, limit: 20000}

`weight` is how often an epoch takes a record: 1 once (the default), 2 twice, 0.5 every second one. `limit` takes at most so
many records of a source. `questions` are phrasings of your own, with {} for the region. What is left out depends on the seed
alone, and is the same on every machine.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

from .readers import FORMATS, Reader
from .record import Record

SHIPPED = Path(__file__).parent / "mixtures"
KEYS = {"format", "file", "images", "weight", "limit", "questions"}


class Mixture(Sequence):
    """`mixture[i]` is a Record. `entries` is N×2: the source and the row of each."""

    def __init__(self, readers: Sequence[Reader], entries: np.ndarray):
        self.readers = list(readers)
        self.entries = entries

    @classmethod
    def load(cls, path: str | Path, root: str | Path | None = None, seed: int = 0, progress: bool = True) -> Mixture:
        """Read a mixture file, or a shipped one by its name: `stage1`, `stage2`, `stage3`.

        Paths in it begin at `root`, or else at the file's folder. Raises ValueError for what it does not understand and for
        weights that leave nothing, FileNotFoundError for missing files, before anything is indexed.
        """
        path = SHIPPED / f"{path}.yaml" if str(path) in shipped() else Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"no mixture file at {path}; shipped are {', '.join(shipped())}")
        root = path.parent if root is None else Path(root)
        sources = _checked(path, root)
        readers, entries = [], []
        for number, source in enumerate(sources):
            options = {"questions": source["questions"]} if "questions" in source else {}
            images = root / source["images"] if "images" in source else (root / source["file"]).parent
            reader = FORMATS[source["format"]](root / source["file"], images, seed=seed, progress=progress, **options)
            rows = _picked(len(reader), source.get("limit", len(reader)), seed, number)
            whole, part = divmod(float(source.get("weight", 1)), 1)
            rows = np.concatenate([np.tile(rows, int(whole)), _picked(len(rows), round(part * len(rows)), seed, number, rows)])
            readers.append(reader)
            entries.append(np.stack([np.full(len(rows), number), rows], axis=1))
        return cls(readers, np.concatenate(entries).astype(np.int64))

    @classmethod
    def of(cls, reader: Reader) -> Mixture:
        """Every row of one reader, once."""
        return cls([reader], np.stack([np.zeros(len(reader), np.int64), np.arange(len(reader))], axis=1))

    def rows(self, number: int) -> np.ndarray:
        """The rows that are taken of source `number` (from 0), each once, in order."""
        return np.unique(self.entries[self.entries[:, 0] == number, 1])

    def subset(self, limit: int | None = None, fraction: float | None = None, seed: int = 0) -> Mixture:
        """A part of it, the same share of every source: `limit` records, or a `fraction` of all."""
        if (limit is None) == (fraction is None):
            raise ValueError("give a limit or a fraction, one of them")
        if fraction is not None and not 0 < fraction <= 1:
            raise ValueError(f"fraction is {fraction}; it must be above 0 and at most 1")
        if limit is not None and limit < 1:
            raise ValueError(f"limit is {limit}; it must be 1 or more")
        total = len(self)
        wanted = min(limit, total) if limit is not None else max(1, round(fraction * total))
        sizes = np.bincount(self.entries[:, 0], minlength=len(self.readers))
        shares = wanted * sizes / max(total, 1)
        counts = np.floor(shares).astype(int)
        counts[np.argsort(counts - shares, kind="stable")[: wanted - counts.sum()]] += 1  # largest remainders
        kept = []
        for number, count in enumerate(counts):
            mine = self.entries[self.entries[:, 0] == number]
            kept.append(mine[_picked(len(mine), count, seed, number)])
        return Mixture(self.readers, np.concatenate(kept))

    def with_seed(self, seed: int) -> Mixture:
        """The same rows, with regions and phrasings drawn anew.

        One seed an epoch: with one for all of them a model learns the order of the answers by heart.
        """
        readers = [copy.copy(reader) for reader in self.readers]
        for reader in readers:
            reader.seed = seed
        return Mixture(readers, self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Record:
        source, row = self.entries[index].tolist()
        return self.readers[source][row]


def shipped() -> list[str]:
    """Names of the mixtures of the paper's three stages."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def _picked(total: int, count: int, seed: int, number: int, rows: np.ndarray | None = None) -> np.ndarray:
    """`count` of the rows, in their order, chosen by the seed."""
    chosen = np.arange(total)
    if count < total:
        chosen = np.sort(np.random.default_rng([seed, number]).permutation(total)[:count])
    return chosen if rows is None else rows[chosen]


def _checked(path: Path, root: Path) -> list[dict]:
    """The sources of a file, once everything in it is known to make sense."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML: {error}") from error
    sources = content.get("sources") if isinstance(content, dict) else None
    if not isinstance(sources, list) or not sources or not all(isinstance(source, dict) for source in sources):
        raise ValueError(f"{path} has no list of `sources`; see osprey_nb/data/mixtures for examples")
    for number, source in enumerate(sources, 1):
        where = f"{path}, source {number}"
        if unknown := set(source) - KEYS:
            raise ValueError(f"{where}: unknown {', '.join(sorted(unknown))}; known are {', '.join(sorted(KEYS))}")
        if source.get("format") not in FORMATS:
            raise ValueError(f"{where}: format is {source.get('format')!r}; known are {', '.join(FORMATS)}")
        if not source.get("file") or ("images" not in source and source["format"] != "own"):
            raise ValueError(f"{where}: give `file` and `images`")
        weight, limit = source.get("weight", 1), source.get("limit", 1)
        if not isinstance(weight, (int, float)) or isinstance(weight, bool) or not 0 <= weight < float("inf"):
            raise ValueError(f"{where}: weight is {weight!r}; it must be a number, 0 or more")
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
            raise ValueError(f"{where}: limit is {limit!r}; it must be a whole number, 1 or more")
    sources = [source for source in sources if source.get("weight", 1) > 0]
    if not sources:
        raise ValueError(f"{path}: all weights are 0, so nothing is left; give one source a weight above 0")
    missing = [root / source[key] for source in sources for key in ("file", "images") if key in source]
    missing = [str(place) for place in missing if not place.exists()]
    if missing:
        raise FileNotFoundError(f"{path} names what is not there: {', '.join(missing)}. Paths begin at {root}.")
    return sources
