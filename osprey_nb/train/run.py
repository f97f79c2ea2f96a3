"""One stage on records of files: `osprey-nb train stage2`, `osprey-nb finetune` (notebook 07; docs/osprey.md, section 3).

    model, stage, records ─► what learns ─► batches, in lanes ─► fit ─► whole weights ─► folder: model, run.json, log.jsonl,
                                                  ▲                                                 tensorboard/
                         the frozen encoder's cache, if one is wanted
"""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from accelerate import PartialState
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from ..data.collate import Report, batches
from ..data.mixture import Mixture
from ..model import Osprey
from .cache import FeatureCache, pictures
from .checkpoints import Checkpoints
from .lora import in_4_bits, merge
from .machines import halve_frozen, shared_out
from .runs import RECORD, facts, files
from .stages import Stage, begin, osprey_loss, summary
from .trainer import Budget, Fitted, Objective, fit
from .watch import watchers


@dataclass(frozen=True)
class How:
    """How a stage is run on a machine.

    accumulate               a step's batch comes in so many pieces, one after another: less memory, the same step
    limit                    tokens of a sample, the image's included; last turns are left out until it fits
    workers                  processes that load data
    lora, four_bit           the LLM learns through adapters of this rank; its weights stand in 4 bits below them
    frozen_bf16              what does not learn is rounded to bf16: half its memory, no cast at each step
    gradient_checkpointing   the LLM's layers are computed twice instead of kept: far less memory, a third more time
    ema                      the mean of the weights over the last steps is saved, 0.999 say
    cache                    folder for the frozen encoder's features
    strict                   stop at the first record that cannot be used
    """

    accumulate: int = 1
    limit: int | None = None
    workers: int = 0
    lora: int | None = None
    four_bit: bool = False
    frozen_bf16: bool = False
    gradient_checkpointing: bool = False
    ema: float | None = None
    cache: Path | None = None
    strict: bool = False

    def __post_init__(self):
        if self.accumulate < 1:
            raise ValueError(f"accumulate is {self.accumulate}; it must be 1 or more")
        if self.four_bit and self.lora is None:
            raise ValueError("weights in 4 bits cannot learn; give lora a rank, too")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"ema is {self.ema}; it must be above 0 and below 1")


def train_stage(
    model: Osprey, stage: Stage, records: Mixture, out: str | Path, how: How | None = None, seed: int = 0, command: str = "",
    resume: bool = False, checkpoint_seconds: float = 600, progress: bool = True,
) -> dict:
    """Train a stage for its epochs (or minutes) and save the model to `out`. Returns what run.json holds.

    `model` is what the stage before has left. Started by `accelerate launch`, every process calls it. Raises ValueError when
    the records are none, when a batch can't be shared out evenly and for a resume with other settings; FileExistsError when
    `out` already holds a model; FileNotFoundError when there is nothing to resume.
    """  # fmt: skip
    how, out = how or How(), Path(out)
    refuse_a_model(out)
    if not len(records):
        raise ValueError("there are no records to learn from")
    if (stage.epochs is None) == (stage.minutes is None):
        raise ValueError(f"{stage.name} lasts for epochs or for minutes; give one of them")
    settings = {"stage": repr(stage), "how": repr(how), "seed": seed, "data": files(records)}
    checkpoints = Checkpoints(out / "checkpoints", keep=2, seconds=checkpoint_seconds, frozen=False)
    at, _ = checkpoints.to_resume(settings) if resume else (None, {})
    if stage.epochs is not None:
        budget = Budget(steps=stage.epochs * math.ceil(math.ceil(len(records) / lanes(how)) / per_lane(stage, how)))
    else:
        budget = Budget(seconds=60 * stage.minutes)
    torch.manual_seed(seed + PartialState().process_index)
    done, report = learn(model, stage, records, budget, out, how, seed, checkpoints, at, {"settings": settings}, progress)
    result = facts(model.parts, seed, command) | {
        "config": json.loads(model.config.to_json_string()),
        "stage": stage.name, "trains": dict(stage.trains), "batch_size": stage.batch_size, "records": len(records),
        "how": {name: value for name, value in vars(how).items() if name != "cache"}, "data": settings["data"],
        "processes": PartialState().num_processes, "minutes": round(done.seconds / 60, 2), "steps": len(done.losses),
        "last_loss": round(sum(done.losses[-20:]) / len(done.losses[-20:]), 4), "dropped": report.dropped,
    }  # fmt: skip
    finish(out, result, checkpoints)
    return result


def learn(
    model: Osprey, stage: Stage, records: Mixture, budget: Budget, out: Path, how: How, seed: int, checkpoints: Checkpoints,
    at: Path | None, notes: dict, progress: bool,
) -> tuple[Fitted, Report]:
    """The training itself: `model` learns and is saved to `out`. Returns what `fit` does, and what became of the records."""
    state, report, features = PartialState(), Report(), None
    progress = progress and state.is_main_process
    if how.lora is not None and shared_out():
        raise ValueError("LoRA has no use for FSDP or DeepSpeed: each GPU holds the frozen LLM; launch with configs/ddp.yaml")
    if how.gradient_checkpointing and "llm" not in stage.trains:
        raise ValueError(f"{stage.name} does not train the LLM; leave out gradient_checkpointing, it would do nothing")
    if how.cache is not None and "encoder" in stage.trains:
        raise ValueError(f"{stage.name} trains the encoder: its features change, and no cache can hold them")
    out.mkdir(parents=True, exist_ok=True)
    if how.cache is not None:
        with state.main_process_first():  # the others find everything there
            features = FeatureCache(model, how.cache)
            features.add(pictures(records), progress)
    if how.four_bit:
        in_4_bits(model.llm)
    groups = begin(model, stage, how.lora)
    if how.frozen_bf16:
        halve_frozen(model)
    if how.gradient_checkpointing:
        model.llm.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if progress:
        print(f"{stage.name}, {len(records):,} records\n{summary(model)}", flush=True)
    source = partial(
        batches, records, model.processor, per_lane(stage, how), seed, how.limit, how.workers, how.strict, report, None,
        features=features,
    )  # fmt: skip
    done = fit(
        Objective(model, osprey_loss), source, groups, budget, stage.name, watchers(out, progress), accumulate=how.accumulate,
        ema=how.ema, checkpoints=checkpoints, resume=at, notes=notes,
    )  # fmt: skip
    if how.gradient_checkpointing:
        model.llm.gradient_checkpointing_disable()
    save(model, done, out, merged=how.lora is not None)
    return done, report


def save(model: Osprey, done: Fitted, out: Path, merged: bool) -> None:
    """Write the model whole and in float32, adapters merged, in the first process."""
    if not PartialState().is_main_process:
        return
    if done.weights is not None:  # several processes hold a part of it each
        unset_hf_deepspeed_config()  # or transformers would share out this model, too, with processes that make none (ZeRO-3)
        whole = Osprey(model.config)
        whole.load_state_dict({name.removeprefix("model."): x for name, x in done.weights.items()}, strict=False)
        whole.tie_weights()
        whole.processor, model = model.processor, whole
    elif merged:
        merge(model.llm)
    model.requires_grad_(True).float().save_pretrained(out)


def finish(out: Path, result: dict, checkpoints: Checkpoints) -> None:
    """run.json, and no checkpoints any more."""
    if PartialState().is_main_process:
        (out / RECORD).write_text(json.dumps(result, indent=1, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
        shutil.rmtree(checkpoints.folder)
    PartialState().wait_for_everyone()


def refuse_a_model(out: Path) -> None:
    if (out / "model.safetensors").exists() or (out / "model.safetensors.index.json").exists():
        raise FileExistsError(f"{out} already holds a model. Give another folder with --out, or remove it.")


def lanes(how: How) -> int:
    """Into how many pieces a step's batch is cut."""
    return how.accumulate * PartialState().num_processes


def per_lane(stage: Stage, how: How) -> int:
    """The samples of a piece. Raises ValueError when they don't come out even."""
    size, rest = divmod(stage.batch_size, lanes(how))
    if rest or not size:
        raise ValueError(
            f"a batch of {stage.batch_size} can't be shared out to {PartialState().num_processes} processes × {how.accumulate} "
            "pieces; give a batch size that is a multiple of them"
        )
    return size
