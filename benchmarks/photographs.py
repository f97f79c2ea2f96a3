"""Fine-tune tiny on a few real photographs, and see what it learns: `python benchmarks/photographs.py FOLDER`.

FOLDER holds `instances.json` in the COCO format and `images/`. A sixth of the pictures is held out. Every region is asked for
its category, before and after; an answer is right when it is the category's name. From eighty photographs a model of four
million weights that has only seen drawings **memorises**: what counts is the held-out line.
"""

from __future__ import annotations

import argparse
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import torch
from bench import RESULTS, machine, write
from tqdm import tqdm

from osprey_nb import Osprey
from osprey_nb.data.check import everything
from osprey_nb.data.collate import Report, batches
from osprey_nb.data.mixture import Mixture
from osprey_nb.data.readers import CATEGORY, Instances
from osprey_nb.evaluate.metrics import interval
from osprey_nb.train.stages import osprey_loss
from osprey_nb.train.trainer import Budget, Objective, fit, freeze
from osprey_nb.train.watch import Bar

HELD_OUT = 0.17  # of the pictures: 16 of 96


def accuracy(model: Osprey, reader: Instances, rows: list[int], seed: int, name: str) -> dict:
    """Share of regions whose category is named, its 95 % bootstrap interval over pictures, and the share of the commonest."""
    right, truth = [], []
    for row in tqdm(rows, desc=name, unit="picture"):
        record = everything(reader, row)
        if not record.turns:
            continue
        names = [answer for _, answer in record.turns]
        said = model.describe(record.image, record.masks, prompt=CATEGORY[0].replace("{}", "<region1>"))
        right.append([a.strip(" .").lower() == b.lower() for a, b in zip(said, names, strict=True)])
        truth += names
    share = interval(right, np.random.default_rng(seed))
    commonest, times = Counter(truth).most_common(1)[0]
    return {
        "regions": share["n"], "right": round(share["value"], 4),
        "low": round(share["low"], 4), "high": round(share["high"], 4),
        "always": commonest, "right_by_always": round(times / len(truth), 4),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    seed = arguments.seed
    reader = Instances(arguments.folder / "instances.json", arguments.folder / "images", seed=seed)
    order = np.random.default_rng(seed).permutation(len(reader)).tolist()
    held_out = sorted(order[: round(HELD_OUT * len(order))])
    training = sorted(order[len(held_out) :])
    model = Osprey.from_pretrained("tiny")

    def both(when: str) -> dict:
        model.eval()
        return {
            "training": accuracy(model, reader, training, seed, f"{when}, training"),
            "held out": accuracy(model, reader, held_out, seed, f"{when}, held out"),
        }

    result = {"machine": machine("cpu"), "seed": seed, "minutes": arguments.minutes, "before": both("before")}
    records, report = Mixture([reader], np.array([[0, row] for row in training])), Report()

    source = partial(batches, records, model.processor, 4, 0, 512, report=report, epochs=None)
    torch.manual_seed(seed)
    freeze(model, [model])
    budget = Budget(seconds=60 * arguments.minutes)
    losses = fit(Objective(model, osprey_loss), source, 5e-4, budget, "fine-tuning on photographs", [Bar()]).losses
    result |= {"after": both("after"), "steps": len(losses), "last_loss": round(float(np.mean(losses[-20:])), 3)}
    print(f"\n{'':22}{'regions':>8}{'right':>8}  95 % interval")
    for when in ("before", "after"):
        for split, row in result[when].items():
            print(f"{when + ', ' + split:22}{row['regions']:>8}{row['right']:>8.1%}  {row['low']:.1%} – {row['high']:.1%}")
    for split, row in result["after"].items():
        print(f"always {row['always']!r}, {split}: {row['right_by_always']:.1%}")
    print(f"{len(losses)} steps; {str(report).splitlines()[0]}")
    print(f"wrote {write(result, 'photographs-').relative_to(RESULTS.parents[1])}")


if __name__ == "__main__":
    main()
