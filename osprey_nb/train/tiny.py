"""`osprey-nb train tiny`: from nothing to a model that names what is under a mask (notebook 07).

    scenes ─► stage 0: encoder by contrast, tokenizer, LM ─► stage 1 ─► stage 2 ─► stage 3 ─► folder with config,
                                                                             safetensors, tokenizer, run.json, log.jsonl
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from ..config import OspreyConfig
from ..data.collate import TOKENS
from ..data.scenes import Scene, make_scene
from ..familiar import LEAST, fit_familiar
from ..model import WEIGHTS, Osprey
from ..processor import OspreyProcessor
from .augment import roughen
from .bridge import STEPS, bridge
from .checkpoints import Checkpoints
from .contrast import RegionCLIP, region_batches
from .language import draw_record, drawn_batches, train_tokenizer
from .lessons import HALF_GROWN, Lessons, lesson_batches
from .machines import compile_layers, needs_a_compiler
from .runs import RECORD, facts
from .stages import EYES_MINUTES, LESSONS_MINUTES, TINY, Stage, begin, osprey_loss, summary
from .trainer import Budget, Objective, fit, freeze
from .watch import watchers
from .world import render_scenes

RECIPE_MINUTES = 25
SCENES_PER_MINUTE, MOST_SCENES = 240, 24_000  # of a core; drawing them takes a tenth of the time
MOST_TOLD = 6000  # scenes for lessons
#: The scenes of the lessons hold every pair of kind and colour, as words do; no picture of them is ever looked at.
ALL_PAIRS = partial(make_scene, compositions="all")
FAMILIAR_SCENES = 2000  # enough for what pictures have in common
LESSONS_RATE = 2e-3
WORD_STD = 0.1  # at 0.02 the sum of words at a region drowns in what the layers add, and the LM takes far longer to find it
REST_MINUTES = {"cpu": 5, "cuda": 1}  # the bridge, and saving
LEAST_SHARE = 0.02  # of the recipe's minutes: below this some stage would not make a step


@dataclass(frozen=True)
class Phase:
    """A part of the run, `minutes` of a budget of 25.

    `begin(resumed)` freezes what does not learn; objective and lr are for `fit`. A resumed part has its weights already.
    """

    name: str
    minutes: float
    begin: Callable[[bool], tuple[nn.Module, float | list[dict]]]
    batches: Callable[[int], Iterator]
    weight_decay: float = 0.0


def train_tiny(
    minutes: float = RECIPE_MINUTES,
    out: str | Path = "runs/tiny",
    seed: int = 0,
    device: str | None = None,
    steps: int | None = None,
    start: str | Path | None = None,
    resume: bool = False,
    compile: bool = False,
    checkpoint_seconds: float = 120,
    progress: bool = True,
) -> Osprey:
    """Train the tiny preset from nothing and save it to `out`, in `minutes` of wall time (drawing the scenes included).

    `start` is a tiny model to go on from, a folder or "tiny", which is shipped: its encoder learns on, its LM goes through the
    longer half of the lessons again, and the three stages follow.
    `steps` replaces the clock by that many steps in every phase: the same weights every time, for tests. `compile` makes faster
    code of the LLM's layers first, which takes half a minute and a C++ compiler. Checkpoints stand in `out/checkpoints` until
    the end; `resume` goes on from the newest. Raises ValueError for a budget that is too short, for a start from another model
    and for a resume with other settings, FileExistsError when `out` already holds a model, FileNotFoundError for nothing to
    resume or to start from.
    """
    started = time.perf_counter()
    out = Path(out)
    if minutes < 1 and steps is None:
        raise ValueError(f"minutes is {minutes}; the four stages need at least 1.")
    if seed < 0:
        raise ValueError(f"seed is {seed}; it must be 0 or above.")
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    torch.zeros(1, device=device)  # a device that is not there is refused before anything is drawn
    if device.index is not None:
        torch.cuda.set_device(device)
    if (out / "model.safetensors").exists():
        raise FileExistsError(f"{out} already holds a model. Give another folder with --out, or remove it.")
    checkpoints, log = Checkpoints(out / "checkpoints", seconds=checkpoint_seconds), out / "log.jsonl"
    if compile:
        needs_a_compiler(device)
    config = OspreyConfig.preset("tiny")
    settings = {
        "seed": seed, "minutes": minutes, "steps": steps, "stages": repr(TINY), "config": config.to_json_string(),
        "compile": compile, "start": start and str(start),
    }
    at, state = checkpoints.to_resume(settings) if resume else (None, {})
    if not resume:
        shutil.rmtree(checkpoints.folder, ignore_errors=True)
        log.unlink(missing_ok=True)
    torch.manual_seed(seed)
    model = Osprey(config) if start is None else grown(start, config)
    out.mkdir(parents=True, exist_ok=True)

    count = 64 if steps else min(int(SCENES_PER_MINUTE * os.cpu_count() * minutes), MOST_SCENES)
    scenes = render_scenes(range(count), progress=progress)
    told = render_scenes(range(min(count, MOST_TOLD)), progress, ALL_PAIRS)
    gc.freeze()  # millions of objects that stay: the collector need not look at them, nor a forked process copy them
    if start is None:
        tokenizer = train_tokenizer(scenes[:2000], config.text_config.vocab_size, seed)
        model.processor = OspreyProcessor(config, tokenizer)
        torch.nn.init.normal_(model.get_input_embeddings().weight, std=WORD_STD)
    model.to(device, memory_format=torch.channels_last)
    if compile:
        compile_layers(model.llm)
    phases = list(recipe(model, scenes, told, seed, steps, start is not None))

    spent_minutes = (time.perf_counter() - started) / 60
    share = state.get("share", (minutes - spent_minutes - REST_MINUTES[device.type]) / sum(phase.minutes for phase in phases))
    if steps is None and share < LEAST_SHARE:
        raise ValueError(f"Drawing the scenes took {spent_minutes:.1f} minutes: too few of {minutes:g} are left.")
    command = f"osprey-nb train tiny --minutes {minutes:g} --seed {seed}"
    command += f" --start {start}" * (start is not None) + " --compile" * compile
    record = state.get("record") or facts(model.parts, seed, command) | {
        "config": json.loads(model.config.to_json_string()),
        "budget_minutes": minutes, "scenes": len(scenes), "data": {"scenes": look_of(scenes)},
        "start": start and provenance(start), "stages": {},
    }  # fmt: skip
    first = next((i for i, phase in enumerate(phases) if phase.name == state.get("phase")), 0)
    for phase in phases[first:]:
        budget = Budget(steps=steps) if steps else Budget(seconds=60 * phase.minutes * share)
        objective, lr = phase.begin(at is not None)
        if progress:
            tqdm.write(f"{phase.name}\n{summary(model)}")
        done = fit(
            objective, phase.batches, lr, budget, phase.name, watchers(out, progress), phase.weight_decay,
            checkpoints=checkpoints, resume=at, notes={"settings": settings, "share": share, "record": record},
        )  # fmt: skip
        at = None
        if isinstance(objective, Lessons):
            record["lessons"] = objective.levels()
        record["stages"][phase.name] = {
            "steps": len(done.losses), "minutes": round(done.seconds / 60, 2),
            "first_loss": round(done.losses[0], 4), "last_loss": round(float(np.mean(done.losses[-20:])), 4),
        }

    model.requires_grad_(True).eval().to("cpu", memory_format=torch.contiguous_format)
    trained = sum(stage["minutes"] for stage in record["stages"].values())
    record["minutes"] = round(max(trained, (time.perf_counter() - started) / 60), 2)  # a resumed run has more behind it
    model.half().save_pretrained(out)
    (out / RECORD).write_text(json.dumps(record, indent=1) + "\n")
    shutil.rmtree(checkpoints.folder)
    model = Osprey.from_pretrained(out)
    if count >= LEAST:
        fit_familiar(model, [scene.image for scene in scenes[:FAMILIAR_SCENES]]).save(out)
    return model


def grown(start: str | Path, config: OspreyConfig) -> Osprey:
    """A tiny model to go on from. Raises ValueError for any other model."""
    model = Osprey.from_pretrained(start)
    shapes = [{name: x.shape for name, x in each.state_dict().items()} for each in (model, Osprey(config))]
    if shapes[0] != shapes[1] or model.processor is None:
        raise ValueError(f"{start} holds no tiny model; this trains tiny. Leave out --start to begin from nothing.")
    return model


def provenance(start: str | Path) -> dict:
    """How the model came to be that a run goes on from, and the one before it."""
    record = (WEIGHTS / "tiny" if start == "tiny" else Path(start)) / RECORD
    found = json.loads(record.read_text()) if record.exists() else {}
    return {key: found.get(key) for key in ("command", "date", "commit", "minutes", "start")}


def recipe(
    model: Osprey, scenes: list[Scene], told: list[Scene], seed: int, steps: int | None = None, started: bool = False
) -> Iterator[Phase]:
    """The phases of tiny's training, in order: stage 0 in two, then the paper's three stages.

    `told` are the scenes that lessons tell of and never show. A model that is `started` goes on with lessons that are
    half grown.
    """
    processor, vision = model.processor, model.config.vision_config
    clip, lessons = RegionCLIP(model).to(model.device), Lessons(model).to(model.device)
    if started:
        lessons.level.fill_(HALF_GROWN)

    def look(resumed: bool) -> tuple[nn.Module, float]:
        model.requires_grad_(False)
        freeze(clip, [clip])
        return clip, 6e-3

    def read(resumed: bool) -> tuple[nn.Module, float]:
        freeze(model, [model.llm])
        return lessons, LESSONS_RATE

    def see(stage: Stage, resumed: bool) -> tuple[nn.Module, list[dict]]:
        if stage is TINY[0] and not resumed:
            bridge(model, scenes, seed, steps or STEPS)
        return Objective(model, osprey_loss), begin(model, stage)

    wide = 2 if model.device.type == "cuda" else 1  # a GPU takes so many times the batch in the same time
    eyes = partial(region_batches, scenes, 16 * wide, seed, vision.mean, vision.std)
    yield Phase("stage 0: encoder by contrast", EYES_MINUTES, look, eyes, weight_decay=0.05)
    texts = partial(lesson_batches, told, processor, seed, times=wide)
    yield Phase("stage 0: lessons", LESSONS_MINUTES, read, texts)
    for stage in TINY:
        batches = partial(record_batches, scenes, replace(stage, batch_size=stage.batch_size * wide), processor, seed)
        yield Phase(stage.name, stage.minutes, partial(see, stage), batches)


def record_batches(
    scenes: list[Scene], stage: Stage, processor: OspreyProcessor, seed: int, start: int = 0, lane: int = 0, lanes: int = 1,
    features: Callable | None = None,
) -> Iterator[dict]:
    """Endless batches of records drawn from the stage's mixture, a third of their masks roughened, from step `start` on."""

    def draw(rng: np.random.Generator) -> dict:
        sample = processor.record(draw_record(scenes, stage.mixture, rng)[1], features)
        return {**sample, "masks": roughen(sample["masks"], rng)}

    def together(samples: list[dict]) -> dict:
        return processor.collate(samples, TOKENS) | {"ids": [sample["id"] for sample in samples]}

    return drawn_batches(draw, together, stage.batch_size, seed, start, lane, lanes)


def look_of(scenes: list[Scene]) -> str:
    """The fingerprint of all pictures."""
    digest = hashlib.sha256()
    for scene in scenes:
        digest.update(scene.image.tobytes())
    return digest.hexdigest()[:16]
