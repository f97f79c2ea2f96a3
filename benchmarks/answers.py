"""Answers about regions: all of a picture at once, against the usual way; part of `make bench` and `make gpu`.

describe    k regions of one picture by the tiny model. Naive: each region by itself, as released systems do it: encode the
            picture, read the whole sequence, write by transformers' `generate`. Together: `model.describe`, one reading. Later:
            of a picture that was read already. First: until the first piece of text, there.
shape       the same for a shape with random weights (answers of a fixed length), and how long each part takes beside what
            the machine needs at least for its arithmetic (FLOPs, at the rate of one large matrix product) and for its memory
            (weights and keys and values that are read, at the rate of one large copy)
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from osprey_nb import Osprey, OspreyProcessor
from osprey_nb.config import OspreyConfig
from osprey_nb.data.scenes import make_scene
from osprey_nb.generate import NEW_TOKENS
from osprey_nb.prompt import SHORT

REGIONS = (1, 8, 32, 64)
REPEATS = 5
SOME = 4  # regions of a shape that are measured by themselves; the rest would take as long each
WORDS = 16  # tokens of an answer of a shape


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def seconds(work: Callable[[], object], repeats: int | None = None) -> float:
    """Median time of `work`, after one run that does not count."""
    return statistics.median([timed(work) for _ in range((repeats or REPEATS) + 1)][1:])


def in_turn(long: Callable[[], object], *short: Callable[[], object]) -> list[float]:
    """Median times. The long work and, as often as there are rounds, the short ones take turns: a slow moment of the machine
    meets all. The first round does not count."""
    times = [[] for _ in range(len(short) + 1)]
    for turn in range(REPEATS + 1):
        for work, taken in zip((long, *short), times, strict=True):
            some = [timed(work) for _ in range(1 if work is long else REPEATS)]
            taken += some if turn else []
    return [statistics.median(taken) for taken in times]


def regions_of(count: int, seed: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """A drawn picture and `count` masks of its objects and their parts; the same ones again when there are no more."""
    scene = make_scene(seed, 256, "eval")
    masks = np.stack([x.mask for thing in scene.objects for x in (thing, *thing.parts)])
    return scene.image, masks[np.arange(count) % len(masks)]


def by_itself(model: Osprey, image, mask, new: int) -> str:
    """The usual way: everything anew for this region."""
    batch = model.processor(image, [mask], [(SHORT, None)], inline=True)
    inputs = batch["images"].to(model.device), [x.to(model.device) for x in batch["masks"]], batch["input_ids"].to(model.device)
    tokenizer = model.processor.tokenizer
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    with torch.inference_mode():
        ids = model.generate(
            *inputs, max_new_tokens=new, do_sample=False, pad_token_id=pad, eos_token_id=tokenizer.eos_token_id
        )  # fmt: skip
    return tokenizer.decode(ids[0], skip_special_tokens=True).strip()


def describing(model: Osprey, device: str) -> list[dict]:
    """Seconds for k regions, together and each by itself; the answers are compared, too."""
    model.to(device).eval()
    rows, new = [], NEW_TOKENS["short"]
    for count in REGIONS:
        image, masks = regions_of(count)
        session = model.read(image)

        def first_piece(session=session, masks=masks):
            pieces = session.describe(masks, stream=True)
            next(pieces)
            pieces.close()

        def naive(image=image, masks=masks):
            return [by_itself(model, image, mask, new) for mask in masks]

        def at_once(image=image, masks=masks):
            return model.describe(image, masks)

        def again(session=session, masks=masks):
            return session.describe(masks)

        same = sum(a == b for a, b in zip(at_once(), naive(), strict=True))
        alone, together, later, first = in_turn(naive, at_once, again, first_piece)
        rows.append({
            "regions": count, "naive_s": round(alone, 4), "together_s": round(together, 4), "later_s": round(later, 4),
            "first_s": round(first, 4), "times_faster": round(alone / together, 2),
            "later_times_faster": round(alone / later, 2), "same_answers": f"{same}/{count}",
        })  # fmt: skip
    return rows


def matmul_rate(device: str, dtype: torch.dtype, side: int) -> float:
    """FLOP/s of one large matrix product: what the device can do at best."""
    linear = torch.nn.Linear(side, side, bias=False, device=device, dtype=dtype)
    rows = torch.randn(side, side, device=device, dtype=dtype)
    with torch.inference_mode():
        return 2 * side**3 / seconds(lambda: linear(rows), 20)


def copy_rate(device: str, gib: float) -> float:
    """Bytes/s of one large copy, read and written."""
    source = torch.ones(int(gib * 2**28), device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() * 4 / seconds(lambda: target.copy_(source), 10)


def shape(name: str, device: str, regions: int, config: OspreyConfig | None = None, side: int = 2048, gib: float = 0.5) -> dict:
    """`regions` regions by a preset's shape (or `config`), random weights: bf16 on a GPU, float32 on a CPU."""
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    config = config or OspreyConfig.preset(name)
    tokenizer = Osprey.from_pretrained("tiny").processor.tokenizer
    config.image_token_id, config.mask_token_id, config.pos_token_id = 3, 4, 5  # the tokenizer's
    tokenizer.eos_token_id = config.text_config.vocab_size - 1  # random weights do not end: all answers are of one length
    torch.manual_seed(0)
    with torch.device(device):
        model = Osprey(config).to(dtype).eval()
    model.processor = OspreyProcessor(config, tokenizer)
    image, masks = regions_of(regions)
    session = model.read(image)

    def ask(new: int) -> Callable[[], object]:
        return lambda: session.describe(masks, max_new_tokens=new)

    some = seconds(lambda: [by_itself(model, image, mask, WORDS) for mask in masks[:SOME]], 1)
    naive = some / min(SOME, regions) * regions
    together = seconds(lambda: model.describe(image, masks, max_new_tokens=WORDS), 3)
    read, one, all_words = seconds(lambda: model.read(image), 3), seconds(ask(1), 3), seconds(ask(WORDS), 3)
    weights = sum(x.numel() for x in model.parameters()) * dtype.itemsize
    words = sum(x.numel() for x in model.llm.parameters()) * dtype.itemsize
    kept = sum(layer.keys.numel() + layer.values.numel() for layer in session._cache.layers) * dtype.itemsize
    flops = [flops_of(work) for work in (lambda: model.read(image), ask(1), ask(2))]
    arithmetic, memory = matmul_rate(device, dtype, side), copy_rate(device, gib)
    parts = [
        part("the picture: encoder, prefill", read, flops[0], weights, arithmetic, memory),
        part(f"{regions} questions: prefill", one, flops[1], words + kept, arithmetic, memory),
        part("a word of each answer", (all_words - one) / (WORDS - 1), flops[2] - flops[1], words + kept, arithmetic, memory),
    ]
    return {
        "shape": name, "dtype": str(dtype).removeprefix("torch."), "regions": regions, "words": WORDS,
        "naive_s": round(naive, 3), "naive_measured_on": min(SOME, regions), "together_s": round(together, 3),
        "times_faster": round(naive / together, 2), "later_s": round(all_words, 3), "parts": parts,
        "matmul_tflops": round(arithmetic / 1e12, 3), "copy_gb_per_s": round(memory / 1e9, 1),
    }  # fmt: skip


def part(name: str, spent: float, flops: float, moved: float, arithmetic: float, memory: float) -> dict:
    """A part's time beside the least that its arithmetic and its memory need."""
    needs = {"arithmetic_s": flops / arithmetic, "memory_s": moved / memory}
    return {
        "part": name, "seconds": round(spent, 5), **{key: round(value, 5) for key, value in needs.items()},
        "gflop": round(flops / 1e9, 2), "mb": round(moved / 1e6, 1), "of_limit": round(max(needs.values()) / spent, 3),
    }  # fmt: skip


def flops_of(work: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def show(result: dict) -> None:
    """`describe` and `shape` as tables, where they were taken."""
    for name, table in (("describe", _describe_table), ("shape", _shape_table)):
        if name in result:
            table(result[name])


def _describe_table(rows: list[dict]) -> None:
    columns = f"{'naive':>11}{'together':>11}{'faster':>9}{'later':>11}{'faster':>9}{'first':>9}{'same answers':>15}"
    print(f"\n{'describe, tiny':16}{columns}")
    for row in rows:
        naive, together, later, first = (f"{1000 * row[key]:.0f} ms" for key in ("naive_s", "together_s", "later_s", "first_s"))
        faster, later_faster = f"{row['times_faster']:.1f}×", f"{row['later_times_faster']:.1f}×"
        name = f"{row['regions']} region" + "s" * (row["regions"] > 1)
        print(f"{name:16}{naive:>11}{together:>11}{faster:>9}{later:>11}{later_faster:>9}{first:>9}{row['same_answers']:>15}")


def _shape_table(row: dict) -> None:
    print(
        f"\n{row['regions']} regions by the shape of {row['shape']}, {row['dtype']}, {row['words']} words each: "
        f"together {row['together_s']:.2f} s, naive {row['naive_s']:.2f} s (from {row['naive_measured_on']} regions), "
        f"{row['times_faster']:.1f}×"
    )
    print(f"{'':34}{'took':>12}{'arithmetic':>13}{'memory':>12}{'of the limit':>14}")
    for x in row["parts"]:
        took, arithmetic, memory = (f"{1000 * x[key]:.1f} ms" for key in ("seconds", "arithmetic_s", "memory_s"))
        print(f"{x['part']:34}{took:>12}{arithmetic:>13}{memory:>12}{x['of_limit']:>14.0%}")
