"""`osprey-nb train tiny`: from nothing to a model that names what is under a mask (notebook 07).

    scenes ─► stage 0: encoder by contrast, tokenizer, LM ─► stage 1 ─► stage 2 ─► stage 3 ─► folder with config,
                                                                             safetensors, tokenizer, run.json, log.jsonl
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import transformers

from ..config import OspreyConfig
from ..data.scenes import Scene
from ..doctor import processor_name
from ..model import Osprey
from ..processor import OspreyProcessor
from .augment import roughen
from .bridge import bridge
from .contrast import RegionCLIP, region_batches
from .language import batches_of_like_length, draw_records, text_batches, text_loss, train_tokenizer
from .stages import EYES_MINUTES, LESSONS, LESSONS_MINUTES, TINY, WORDS_MINUTES, Stage
from .trainer import Budget, fit, freeze
from .world import render_scenes

RECIPE_MINUTES = 25
SCENES_PER_MINUTE, MOST_SCENES = 480, 24_000
BRIDGE_SCENES = 1500
WORD_STD = 0.1  # at 0.02 the sum of words at a region drowns in what the layers add, and the LM takes far longer to find it
REST_MINUTES = 0.8  # the bridge, and saving
LEAST_SHARE = 0.02  # of the recipe's minutes: below this some stage would not make a step


def train_tiny(
    minutes: float = RECIPE_MINUTES,
    out: str | Path = "runs/tiny",
    seed: int = 0,
    device: str | None = None,
    steps: int | None = None,
    progress: bool = True,
) -> Osprey:
    """Train the tiny preset from nothing and save it to `out`, in `minutes` of wall time (drawing the scenes included).

    `steps` replaces the clock by that many steps in every stage: the same weights every time, for tests. Raises ValueError for
    a budget that is too short and FileExistsError when `out` already holds a model.
    """
    started = time.perf_counter()
    out = Path(out)
    if minutes < 1 and steps is None:
        raise ValueError(f"minutes is {minutes}; the four stages need at least 1.")
    if seed < 0:
        raise ValueError(f"seed is {seed}; it must be 0 or above.")
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    torch.zeros(1, device=device)  # a device that is not there is refused before anything is drawn
    if (out / "model.safetensors").exists():
        raise FileExistsError(f"{out} already holds a model. Give another folder with --out, or remove it.")
    out.mkdir(parents=True, exist_ok=True)
    log = out / "log.jsonl"
    log.unlink(missing_ok=True)
    torch.manual_seed(seed)

    scenes = render_scenes(range(64 if steps else min(int(SCENES_PER_MINUTE * minutes), MOST_SCENES)), progress=progress)
    config = OspreyConfig.preset("tiny")
    model = Osprey(config)
    tokenizer = train_tokenizer(scenes[:2000], config.text_config.vocab_size, seed)
    model.processor = OspreyProcessor(config, tokenizer)
    torch.nn.init.normal_(model.get_input_embeddings().weight, std=WORD_STD)
    model.to(device, memory_format=torch.channels_last)

    spent_minutes = (time.perf_counter() - started) / 60
    all_stages = EYES_MINUTES + LESSONS_MINUTES + WORDS_MINUTES + sum(stage.minutes for stage in TINY)
    share = (minutes - spent_minutes - REST_MINUTES) / all_stages
    if steps is None and share < LEAST_SHARE:
        raise ValueError(f"Drawing the scenes took {spent_minutes:.1f} minutes: too few of {minutes:g} are left.")
    record = run_record(seed, minutes, device, len(scenes), model)

    def run(name: str, stage_minutes: float, **kwargs) -> None:
        budget = Budget(steps=steps) if steps else Budget(seconds=60 * stage_minutes * share)
        begun = time.perf_counter()
        losses = fit(budget=budget, name=name, log=log, progress=progress, **kwargs)
        record["stages"][name] = {
            "steps": len(losses), "minutes": round((time.perf_counter() - begun) / 60, 2),
            "first_loss": round(losses[0], 4), "last_loss": round(float(np.mean(losses[-20:])), 4),
        }

    clip = RegionCLIP(model).to(device)
    vision = config.vision_config
    run(
        "stage 0: encoder by contrast", EYES_MINUTES, parameters=freeze(clip, [clip]), loss_of=clip, lr=6e-3, weight_decay=0.05,
        batches=region_batches(scenes, 16, seed, vision.mean, vision.std),
    )
    talk = {"parameters": freeze(model, [model.llm]), "loss_of": lambda batch: text_loss(model, batch)}
    lessons = text_batches(scenes, LESSONS, model.processor, 12, seed, limit=1)
    run("stage 0: lessons", LESSONS_MINUTES, **talk, lr=1.5e-3, batches=lessons)
    conversations = text_batches(scenes, TINY[-1].mixture, model.processor, 8, seed)
    run("stage 0: language", WORDS_MINUTES, **talk, lr=1e-3, batches=conversations)
    bridge(model, scenes[:BRIDGE_SCENES], seed)
    for stage in TINY:
        run(
            stage.name, stage.minutes, parameters=freeze(model, [model.parts[part] for part in stage.trains]), lr=stage.lr,
            loss_of=lambda batch: osprey_loss(model, batch), batches=record_batches(scenes, stage, model.processor, seed),
        )

    model.requires_grad_(True).eval().to("cpu", memory_format=torch.contiguous_format)
    record["minutes"] = round((time.perf_counter() - started) / 60, 2)
    model.half().save_pretrained(out)
    (out / "run.json").write_text(json.dumps(record, indent=1) + "\n")
    return Osprey.from_pretrained(out)


def osprey_loss(model: Osprey, batch: dict) -> torch.Tensor:
    """Loss of one collated batch. The frozen encoder runs without a graph; padding on the right needs no attention mask."""
    device = model.device
    with torch.no_grad():
        features = model.encoder(batch["images"].to(device))
    return model(
        masks=batch["masks"], features=features,
        **{key: batch[key].to(device) for key in ("input_ids", "labels")},
    ).loss


def record_batches(scenes: list[Scene], stage: Stage, processor: OspreyProcessor, seed: int) -> Iterator[dict]:
    """Endless batches of records drawn from the stage's mixture, a third of their masks roughened."""
    rng = np.random.default_rng(seed)
    drawn = (processor.record(record) for _, record in draw_records(scenes, stage.mixture, seed))
    for samples in batches_of_like_length(drawn, stage.batch_size, seed):
        for sample in samples:
            sample["masks"] = roughen(sample["masks"], rng)
        yield processor.collate(samples)


def run_record(seed: int, minutes: float, device: torch.device, scenes: int, model: Osprey) -> dict:
    """What somebody needs to repeat a run."""
    try:
        describe = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
        commit = subprocess.run(describe, cwd=Path(__file__).parent, capture_output=True, text=True).stdout.strip()
    except OSError:
        commit = ""
    return {
        "command": f"osprey-nb train tiny --minutes {minutes:g} --seed {seed}",
        "date": time.strftime("%Y-%m-%d"), "commit": commit or None, "seed": seed, "budget_minutes": minutes,
        "machine": {
            "device": torch.cuda.get_device_name() if device.type == "cuda" else processor_name(), "cores": os.cpu_count(),
            "system": platform.system(), "python": platform.python_version(),
        },
        "torch": torch.__version__, "transformers": transformers.__version__, "scenes": scenes,
        "parameters": {name: sum(p.numel() for p in part.parameters()) for name, part in model.parts.items()},
        "stages": {},
    }
