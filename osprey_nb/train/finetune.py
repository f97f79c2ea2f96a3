"""`osprey-nb finetune`: your own pictures, masks and texts, in minutes (notebook 07).

    records ─► split by row ─────┬─► training ─► projector, mask extractor and LLM learn; the encoder stays as it is
                                 └─► held out ─► asked before and after: loss of the true answer, and the same words or not
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ..data.collate import fitted
from ..data.mixture import Mixture
from ..data.record import REGION
from ..evaluate.metrics import interval
from ..model import Osprey
from .checkpoints import Checkpoints
from .run import How, finish, learn, refuse_a_model
from .runs import facts, files
from .stages import Stage, osprey_loss
from .trainer import Budget

ASKED = 40  # records of each split that are asked about; more would take longer than the training
EXAMPLES = 6
LEARNING_RATE = 5e-4


def finetune(
    model: Osprey, records: Mixture, out: str | Path, minutes: float = 5, held_out: float = 0.2, seed: int = 0,
    lr: float = LEARNING_RATE, batch_size: int = 4, limit: int | None = None, strict: bool = False, resume: bool = False,
    command: str = "", progress: bool = True,
) -> dict:
    """Train the projector, the mask extractor and the LLM on `records`, and save to `out`. Returns what `run.json` holds.

    A `held_out` share of the records is never trained on. `limit` bounds the tokens of a sample. `resume` goes on from the
    newest checkpoint in `out`. Raises ValueError for records that are too few or of which none can be used, and for a resume
    with other settings, FileExistsError when `out` already holds a model, FileNotFoundError when there is nothing to resume.
    """  # fmt: skip
    out = Path(out)
    refuse_a_model(out)
    if not 0 < held_out < 1:
        raise ValueError(f"held_out is {held_out}; it is a share, above 0 and below 1")
    if minutes <= 0:
        raise ValueError(f"minutes is {minutes}; it must be above 0")
    rows, which = np.unique(records.entries, axis=0, return_inverse=True)  # a weight above 1 takes a row more than once
    if len(rows) < 2:
        raise ValueError(f"there are {len(rows)} records; one to learn from and one to be asked about are the least")
    order = np.random.default_rng(seed).permutation(len(rows))
    count = min(max(1, round(held_out * len(order))), len(order) - 1)
    splits = {"training": np.sort(order[count:]), "held out": np.sort(order[:count])}
    training = Mixture(records.readers, records.entries[np.isin(which.ravel(), splits["training"])])
    asked = {name: Mixture(records.readers, rows[chosen[:ASKED]]) for name, chosen in splits.items()}
    settings = {
        "minutes": minutes, "held_out": held_out, "seed": seed, "lr": lr, "batch_size": batch_size, "limit": limit,
        "files": [str(reader.file) for reader in records.readers], "records": len(records),
    }  # fmt: skip
    checkpoints = Checkpoints(out / "checkpoints", keep=1)
    at, state = checkpoints.to_resume(settings) if resume else (None, {})

    def ask() -> dict:
        model.eval()
        return {name: measure(model, chosen, seed) for name, chosen in asked.items()}

    before = state.get("before") or ask()
    stage = Stage("fine-tuning", dict.fromkeys(("projector", "mask_extractor", "llm"), lr), "", batch_size, minutes=minutes)
    torch.manual_seed(seed)
    done, report = learn(
        model, stage, training, Budget(seconds=60 * minutes), out, How(limit=limit, strict=strict), seed, checkpoints, at,
        {"settings": settings, "before": before}, progress,
    )  # fmt: skip
    result = facts(model.parts, seed, command) | {
        "config": json.loads(model.config.to_json_string()),
        "data": files(records), "minutes": round(done.seconds / 60, 2), "steps": len(done.losses),
        "records": {name: len(chosen) for name, chosen in splits.items()}, "dropped": report.dropped,
        "before": before, "after": ask(),
    }  # fmt: skip
    finish(out, result, checkpoints)
    return result


def measure(model: Osprey, records: Sequence, seed: int) -> dict:
    """Of records: the mean loss of the true answers, how many answers about single regions are word for word the true ones
    (95 % interval, pictures resampled), and a few of them. Records that cannot be used are left out.
    """
    losses, same, examples = [], [], []
    for index in range(len(records)):
        try:
            record = records[index]
            sample = fitted(record, model.processor)
        except (ValueError, TypeError, OSError):
            continue
        sample.pop("shortened")
        with torch.inference_mode():
            losses.append(float(osprey_loss(model, model.processor.collate([sample]))))
        right = []
        for question, answer in record.turns:
            named = REGION.findall(question)
            if len(named) != 1 or REGION.search(answer):
                continue
            if record.inline:  # asked the way it is trained: the region where its name stands, or all of them announced
                mask, prompt = record.masks[int(named[0]) - 1], REGION.sub("<region1>", question)
                said = model.describe(record.image, [mask], prompt=prompt, max_new_tokens=64)[0]
            else:
                asked = [{"role": "user", "content": question}]
                said = model.chat(record.image, record.masks, asked, max_new_tokens=64)
            right.append(plain(said) == plain(answer))
            examples.append({"question": question, "true": answer, "said": said})
        same.append(right)
    result = {"loss": float(np.mean(losses)) if losses else None, "examples": examples[:EXAMPLES]}
    rng = np.random.default_rng(seed)
    return result | ({"same": interval(same, rng)} if any(same) else {})


def plain(text: str) -> str:
    """Small letters, single spaces, no full stop at the end."""
    return " ".join(text.lower().split()).rstrip(".")


def format_result(result: dict) -> str:
    """Before and after as text: the measures, then what was said of held-out regions."""
    lines = [f"{'':22}{'loss':>8}{'word for word':>15}  95 % interval"]
    for when in ("before", "after"):
        for split, row in result[when].items():
            shown = f"{row['loss']:>8.2f}" if row["loss"] is not None else f"{'–':>8}"
            if "same" in row:
                same = row["same"]
                shown += f"{same['value']:>15.1%}  {same['low']:.1%} – {same['high']:.1%} of {same['n']}"
            lines.append(f"{when + ', ' + split:22}{shown}")
    pairs = zip(result["before"]["held out"]["examples"], result["after"]["held out"]["examples"], strict=True)
    for old, new in pairs:
        lines += ["", f"{new['question']}", f"  true    {new['true']}", f"  before  {old['said']}", f"  after   {new['said']}"]
    if result["dropped"]:
        lines += ["", f"{len(result['dropped'])} records could not be used; run.json names them, and osprey-nb check says more"]
    return "\n".join(lines)
