"""`make gpu`: what only a CUDA device can show. Skips nothing; fails at the first thing that is wrong.

    parity      the published layout reproduces both golden files on the device, in float32
    training    one step of every stage of the tiny recipe, in bf16
    describe    the tiny model in bf16 answers for several regions, and as it does in float32

    paper       the published shape with random weights: time of a step, tokens a second, share of the device's matrix
                multiplication rate, and peak memory, of stage 2 and of stage 3 by LoRA
    shape       64 regions by the published shape, all at once and one by one, beside the limits of the card (answers.py)
    tiny        from nothing in less than three minutes, and how often it names the object under a mask

Then the times of `make bench` are taken there. `python benchmarks/gpu.py tiny paper` takes these two anew. Each result goes to
results/<device>.json as soon as it is there.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from itertools import repeat
from pathlib import Path

import numpy as np
import torch
from answers import describing, matmul_rate, shape
from bench import WARM_STEPS, Meter, machine, path_of, rates, shaped_batch, show, training, write
from torch.utils.flop_counter import FlopCounterMode
from transformers.utils import logging

from osprey_nb import Osprey, load_published
from osprey_nb.config import OspreyConfig
from osprey_nb.data.language import parse_phrase
from osprey_nb.data.scenes import make_scene
from osprey_nb.evaluate.synthetic import evaluate
from osprey_nb.train import stages
from osprey_nb.train.machines import fast_bf16, halve_frozen
from osprey_nb.train.stages import PAPER, TINY, begin, osprey_loss
from osprey_nb.train.tiny import train_tiny
from osprey_nb.train.trainer import Budget, Objective, fit

TESTS = Path(__file__).resolve().parents[1] / "tests"
GAP = 1e-3  # a GPU sums in another order than the CPU that made the golden files
AGREE = 0.9  # share of regions whose object must be called the same in bf16
RANK = 64
TINY_MINUTES, MOST_SECONDS, LEAST_KIND = 2.6, 180, 0.9


def parity(device: str) -> dict[str, float]:
    """Largest absolute difference of each golden file's logits and region tokens."""
    sys.path.insert(0, str(TESTS))
    from test_published import DATA, golden_config, golden_tensor

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    layout = json.loads((DATA / "state_dict_layout.json").read_text(encoding="utf-8"))
    weights = {key: golden_tensor(key, shape) for key, (shape, dtype) in layout.items() if dtype == "float32"}
    model = load_published(weights, golden_config()).eval().to(device)
    gaps = {}
    for name in ("one_region", "many_regions"):
        golden = np.load(DATA / f"{name}.npz")
        images = torch.from_numpy(golden["images"]).to(device)
        masks = [torch.from_numpy(golden[f"masks_{i}"]) for i in range(len(images))]
        ids, attention, labels = (torch.from_numpy(golden[k]).to(device) for k in ("input_ids", "attention_mask", "labels_in"))
        with torch.no_grad():
            features = model.encoder(images)
            mask_tokens, spatial_tokens = model.mask_extractor(features, masks)
            output = model(images, masks, ids, attention, labels)
        real = torch.from_numpy(golden["embeds_mask"]).bool()
        pairs = [(output.logits.cpu()[real], torch.from_numpy(golden["logits"])[real])]
        for i, (ours, spatial) in enumerate(zip(mask_tokens, spatial_tokens, strict=True)):
            pairs.append((ours.cpu(), torch.from_numpy(golden[f"mask_tokens_{i}"])))
            pairs.append((spatial.cpu(), torch.from_numpy(golden[f"spatial_tokens_{i}"])))
        gaps[name] = max(float((ours - theirs).abs().max()) for ours, theirs in pairs)
        if not gaps[name] < GAP:
            raise SystemExit(f"parity: {name} differs by {gaps[name]:.2e}, more than {GAP}")
    return gaps


def a_step_of_each_stage(device: str) -> dict[str, float]:
    """Loss of the one step of each stage."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "tiny"
        train_tiny(out=out, steps=1, seed=0, device=device, progress=False)
        stages = json.loads((out / "run.json").read_text(encoding="utf-8"))["stages"]
    losses = {name: stage["first_loss"] for name, stage in stages.items()}
    if not {stage.name for stage in TINY} <= set(losses) or not np.isfinite(list(losses.values())).all():
        raise SystemExit(f"training: expected a finite loss of every stage, got {losses}")
    return losses


def bf16_answers(device: str) -> dict:
    """The same questions in float32 and in bf16."""
    said = {}
    for dtype in (torch.float32, torch.bfloat16):
        model = Osprey.from_pretrained("tiny", dtype=dtype).eval().to(device)
        said[dtype] = []
        for seed in range(20):
            scene = make_scene(seed, split="eval")
            said[dtype] += model.describe(scene.image, [thing.mask for thing in scene.objects])
    kinds = [[parse_phrase(text)["kind"] for text in texts] for texts in said.values()]
    share = float(np.mean([a == b for a, b in zip(*kinds, strict=True)]))
    if not all(said[torch.bfloat16]) or share < AGREE:
        raise SystemExit(f"bf16: {share:.0%} of the objects are called as in float32; expected {AGREE:.0%}")
    return {"regions": len(said[torch.bfloat16]), "as_in_float32": round(share, 3), "example": said[torch.bfloat16][0]}


def paper_steps(device: str, config: OspreyConfig | None = None, steps: int = 20, side: int = 8192) -> list[dict]:
    """Stages 2 and 3 on the published shape (or `config`), random weights, four samples a step, through `fit`."""
    rate, rows = matmul_rate(device, torch.bfloat16, side), []
    for way, stage, options in (
        ("stage 2, gradients everywhere", PAPER[1], {"whole": True}),
        ("stage 2", PAPER[1], {}),
        (f"stage 3, LoRA {RANK}", PAPER[2], {"lora": RANK}),
        (f"stage 3, LoRA {RANK}, gradient checkpointing", PAPER[2], {"lora": RANK, "checkpointing": True}),
    ):
        rows.append({"way": way} | paper_step(device, config or OspreyConfig.preset("paper"), stage, rate, steps, **options))
        print(rows[-1], flush=True)
    return rows


def paper_step(
    device: str, config: OspreyConfig, stage: stages.Stage, rate: float, steps: int, lora: int | None = None,
    whole: bool = False, checkpointing: bool = False,
) -> dict:
    """A step's time and what it takes; {"fits": False} where memory runs out.

    `model_tflops` are of the model, counted once: not what gradient checkpointing does again. `of_matmul` is their rate, as a
    share of that of a bare matrix product.
    """  # fmt: skip
    torch.manual_seed(0)
    with torch.device(device):
        model = Osprey(config)
    batch = shaped_batch(model, stage.batch_size, regions=4, words=90 if lora is None else 300)
    groups = begin(model, stage, lora)
    if fast_bf16(torch.device(device)):
        halve_frozen(model)
    usual, objective, meter = stages.fixed_tokens, Objective(model, osprey_loss), Meter()
    if whole:
        stages.fixed_tokens = lambda *_: 0
    try:
        with FlopCounterMode(display=False) as counter, torch.autocast(device, torch.bfloat16):
            objective(batch).backward()
        model.zero_grad()
        if checkpointing:
            model.llm.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        budget = Budget(steps=WARM_STEPS + steps)
        losses = fit(objective, lambda start: repeat(batch), groups, budget, stage.name, [meter]).losses
    except (MemoryError, torch.OutOfMemoryError):
        return {"fits": False}
    finally:
        stages.fixed_tokens = usual
    spent = stage.batch_size / rates(meter.counts())["samples_per_s"]
    length = batch["input_ids"].shape[1] + config.num_image_tokens - 1
    flops = counter.get_total_flops()
    return {
        "step_s": round(spent, 4), "tokens_per_s": round(stage.batch_size * length / spent), "tokens": length,
        "samples": stage.batch_size, "model_tflops": round(flops / 1e12, 4), "of_matmul": round(flops / spent / rate, 3),
        "matmul_tflops": round(rate / 1e12, 1), "learning": sum(x.numel() for group in groups for x in group["params"]),
        "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 1) if device == "cuda" else None,
        "losses": [round(losses[0], 3), round(losses[-1], 3)],
    }  # fmt: skip


def tiny_from_nothing(device: str, minutes: float = TINY_MINUTES, steps: int | None = None, scenes: int = 60) -> dict:
    """`osprey-nb train tiny` by the clock, everything included, then the measures of `osprey-nb eval`."""
    with tempfile.TemporaryDirectory() as folder:
        out, start = Path(folder) / "tiny", time.perf_counter()
        model = train_tiny(minutes, out, seed=0, device=device, steps=steps, progress=False)
        spent = time.perf_counter() - start
        record = json.loads((out / "run.json").read_text(encoding="utf-8"))
        last = {entry["stage"]: entry for entry in map(json.loads, (out / "log.jsonl").read_text().splitlines())}
    parts = {name: {key: stage[key] for key in ("steps", "minutes")} for name, stage in record["stages"].items()}
    for name, part in parts.items():
        part["waiting"] = round(last[name]["waited"] / last[name]["seconds"], 3)
    table = evaluate(model.to(device), seed=0, scenes=scenes, progress=False)
    return {"seconds": round(spent, 1), "scenes": record["scenes"], "stages": parts, "eval_scenes": scenes, "table": table}


SECTIONS = {
    "parity": parity, "stages": a_step_of_each_stage, "bf16": bf16_answers, "paper": paper_steps, "tiny": tiny_from_nothing,
    "describe": lambda device: describing(Osprey.from_pretrained("tiny"), device), "training": training,
    "shape": lambda device: shape("paper", device, regions=64, side=8192, gib=4),
}  # fmt: skip


def check(device: str, sections: list[str]) -> None:
    """Every check in turn, or those that are named; each result is printed and kept."""
    result = {"machine": machine(device)}
    if sections and path_of(result).exists():
        result = json.loads(path_of(result).read_text(encoding="utf-8")) | result
    for name in sections or SECTIONS:
        result[name] = SECTIONS[name](device)
        print(f"{name}: {result[name]}", flush=True)
        write(result)
    kind = result["tiny"]["table"]["kind"]["value"]
    if result["tiny"]["seconds"] > MOST_SECONDS or kind < LEAST_KIND:
        raise SystemExit(f"tiny: {result['tiny']['seconds']} s, and the kind of {kind:.1%} of the objects")
    show(result)
    print(f"\nwrote results/{path_of(result).name}")


def main() -> None:
    if not torch.cuda.is_available():
        raise SystemExit("make gpu needs a CUDA device, and torch sees none here; `make test` covers the rest on a CPU")
    logging.disable_progress_bar()
    check("cuda", sys.argv[1:])


if __name__ == "__main__":
    main()
