"""Records to batches (docs/osprey.md, section 2; notebook 06).

    records, shuffled ──► workers: Record to sample, last turns left out until it fits ──► a pool, sorted by length ──► batches
                               └─ what cannot be used: passed over, counted, named

Only answers carry loss. A sample is cut between turns, so a region's `<mask><pos>` is whole or not there, and one turn at
least is left. Batches hold samples of like length, which leaves little padding, on the right.
`ahead` makes any batches in processes of their own, while the model computes.
"""

from __future__ import annotations

import io
import itertools
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ..prompt import PromptTooLong
from .record import Record

POOL = 8  # batches that are sorted together
TOKENS = 8  # batches of records have a length that is a multiple of it: a CPU's kernels are made anew for every other length


@dataclass
class Report:
    """What became of the records: how many samples, how many of them shortened, and why the others were dropped."""

    samples: int = 0
    shortened: int = 0
    dropped: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{self.samples:,} samples, {self.shortened:,} of them shortened, {len(self.dropped):,} dropped"]
        lines += [f"  {name}: {why}" for name, why in list(self.dropped.items())[:10]]
        return "\n".join(lines + ["  …"] * (len(self.dropped) > 10))


def fitted(record: Record, processor, limit: int | None = None, features: Callable | None = None) -> dict:
    """A record as a sample of `processor.record` of at most `limit` tokens, those of the image included.

    Turns are left out from the end until it fits. Raises ValueError when nothing is said, or when the first turn alone is
    too long.
    """
    if not record.turns:
        raise ValueError("nothing is said of the image")
    for kept in range(len(record.turns), 0, -1):
        shorter = record if kept == len(record.turns) else record.with_turns(record.turns[:kept])
        try:
            return processor.record(shorter, features, limit=limit) | {"shortened": shorter is not record}
        except PromptTooLong as error:
            reason = error
    raise ValueError(f"its first turn alone is too long: {reason}")


def batches(
    records: Sequence[Record], processor, size: int, seed: int = 0, limit: int | None = None, workers: int = 0,
    strict: bool = False, report: Report | None = None, epochs: int | None = 1, start: int = 0, lane: int = 0, lanes: int = 1,
    features: Callable | None = None,
) -> Iterator[dict]:
    """Right-padded batches of `size` for `Osprey.forward`, in an order that the seed gives; `epochs=None` never ends.

    An epoch has ⌈records / size⌉ batches, and step n is the same wherever one starts: `start` passes over those before it.
    `lanes` such streams, numbered from 0, share out the records of an epoch. `features` is `processor.record`'s. A `Mixture` is
    drawn anew for each epoch (`with_seed`). A record that cannot be read, or is too long for `limit` tokens, is
    passed over and noted in `report`, so some batches are smaller; with `strict` it raises ValueError, and so do the records of
    eight batches in a row of which none can be used. Raises RuntimeError when a worker process dies.
    """  # fmt: skip
    report = Report() if report is None else report
    mine = -(-len(records) // lanes)  # the lanes are of one length: some records stand in two of them
    first, skipped = divmod(start, -(-mine // size) or 1)
    pool, skipped = divmod(skipped, POOL)
    for epoch in itertools.count(first) if epochs is None else range(first, epochs):
        drawn = records.with_seed(seed + epoch) if hasattr(records, "with_seed") else records
        order = np.resize(np.random.default_rng([seed, epoch]).permutation(len(records)), mine * lanes)[lane::lanes]
        order = order[pool * POOL * size :].tolist()
        samples = partial(fitted, processor=processor, limit=limit, features=features)
        loader = DataLoader(
            _Samples(drawn, samples), batch_size=None, sampler=order, num_workers=workers, generator=torch.Generator(),
            worker_init_fn=_end_with_parent,
        )  # fmt: skip
        samples = _alive(loader)
        for begin in range(0, len(order), POOL * size):
            count = min(POOL * size, len(order) - begin)
            usable = [sample for sample in itertools.islice(samples, count) if not _dropped(sample, strict, report)]
            if not usable:
                raise ValueError(f"None of {count:,} records{' in a row' * (count < len(records))} can be used.\n{report}")
            cut = like_length(usable, -(-count // size), np.random.default_rng([seed, epoch, pool]))
            for batch in cut[skipped:]:
                yield processor.collate(batch, TOKENS) | {"ids": [sample["id"] for sample in batch]}
            pool, skipped = pool + 1, 0
        pool = 0


def like_length(samples: Sequence[dict], count: int, rng: np.random.Generator) -> list[list[dict]]:
    """Samples, sorted by their tokens and cut into `count` lists: little padding in each. The lists are in random order.

    When there are fewer samples than lists, some stand in more than one.
    """
    ordered = sorted(samples, key=lambda sample: len(sample["input_ids"]))
    cut = np.array_split(np.arange(max(len(ordered), count)) % len(ordered), count)
    return [[ordered[k] for k in cut[i]] for i in rng.permutation(count)]


def _dropped(sample: dict, strict: bool, report: Report) -> bool:
    if "dropped" not in sample:
        report.samples += 1
        report.shortened += sample.pop("shortened")
        return False
    if strict:
        raise ValueError(f"{sample['name']}: {sample['dropped']}")
    report.dropped[sample["name"]] = sample["dropped"]
    return True


class _Samples(Dataset):
    def __init__(self, records: Sequence[Record], sample: Callable[[Record], dict]):
        self.records, self.sample = records, sample

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict:
        name = f"record {index}"
        try:
            record = self.records[index]
            name = record.id
            return self.sample(record)
        except (ValueError, TypeError, OSError) as error:
            return {"name": name, "dropped": str(error)}


class _Made(Dataset):
    def __init__(self, make: Callable[[int], list]):
        self.make = make

    def __getitem__(self, number: int) -> bytes:
        """As bytes through the pipe: the loader would pass every tensor on its own, which takes longer than making it."""
        file = io.BytesIO()
        torch.save(self.make(number), file)
        return file.getvalue()


def ahead(make: Callable[[int], list], start: int = 0, each: int = 1) -> Iterator:
    """The items of make(0), make(1), … from item `start` on, made by processes of their own, some ahead; never ends.

    `make` gives lists of `each` items, always the same for a number. Beside a GPU several processes work, beside a CPU that
    trains only one. Raises RuntimeError if one dies. Where a process cannot be forked safely (Windows, macOS) the items are
    made when they are asked for.
    """
    numbers = itertools.count(start // each)
    if sys.platform != "linux" or multiprocessing.current_process().daemon:
        lists = map(make, numbers)
    else:
        # a generator of its own: the loader draws a number, and a resumed run must find torch's as they were
        loader = DataLoader(
            _Made(make), batch_size=None, sampler=numbers, num_workers=_workers(), multiprocessing_context="fork",
            generator=torch.Generator(), worker_init_fn=_end_with_parent,
        )  # fmt: skip
        # of a process of ours, so that what is loaded may be anything
        lists = (torch.load(io.BytesIO(made), weights_only=False) for made in _alive(loader))
    return itertools.islice(itertools.chain.from_iterable(lists), start % each, None)


def _workers() -> int:
    if not torch.cuda.is_available():
        return 1
    return max(1, min(8, os.cpu_count() // (2 * int(os.environ.get("LOCAL_WORLD_SIZE", 1)))))


def _end_with_parent(_) -> None:
    """In a worker: end when the training process was killed. With a full pipe it would wait for ever for a reader."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _alive(loader: DataLoader) -> Iterator[dict]:
    try:
        yield from loader
    except RuntimeError as error:
        if "exited unexpectedly" in str(error):
            raise RuntimeError(
                f"A process that loads data has died ({error}). Most often memory has run out: use fewer workers, smaller "
                "batches or smaller pictures. Nothing that was saved is lost."
            ) from error
        raise
