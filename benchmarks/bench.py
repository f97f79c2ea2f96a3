"""`make bench`: how fast the tiny model trains and describes here, against the naive way. Writes results/<machine>.json.

training    each stage of the tiny recipe: samples a second, and the share of time spent waiting for data; a plain loop
            against ours, then with the frozen encoder's features cached, then with the LLM's layers compiled; all of them in
            turn, twice, so that a slow minute of the machine meets each
cached      a step of a `small`-shaped model: from pictures, and from cached features
describe    regions of a picture, all at once and one by one, and `small`-shaped: see answers.py
studio      from the end of a stroke to the first word and to the whole answer, in Python: what a browser sends, what it is sent
index       a file of 200 000 Osprey records (sample records again and again): indexed, opened again, and read at random,
            against json.load; seconds and peak memory of a process of its own, above that of its imports
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import answers
import numpy as np
import torch
import transformers
from answers import seconds
from transformers.utils import logging

from osprey_nb import Osprey
from osprey_nb.config import OspreyConfig
from osprey_nb.data.scenes import make_scene
from osprey_nb.doctor import processor_name
from osprey_nb.train.augment import roughen
from osprey_nb.train.cache import FeatureCache
from osprey_nb.train.language import draw_record
from osprey_nb.train.machines import compile_layers, fast_bf16
from osprey_nb.train.stages import PAPER, TINY, Stage, begin, osprey_loss
from osprey_nb.train.tiny import record_batches
from osprey_nb.train.trainer import Budget, Objective, fit

RESULTS = Path(__file__).parent / "results"
WARM_STEPS = 24  # kernels are made, and the memory that a loader shares with its parent is copied
ROUNDS = 2  # of training, each way after the other
RECORDS = 200_000
OPEN = "from osprey_nb.data.index import open_rows; rows = open_rows(sys.argv[1], progress=False)"
WAYS = {  # each in a process of its own
    "json.load": "import json; rows = json.load(open(sys.argv[1]))",
    "index, first time": OPEN,
    "index, later": OPEN,
    "index, later, 1000 rows at random": f"{OPEN}; [rows[random.randrange(len(rows))] for _ in range(1000)]",
}
MEASURED = """
import random, re, sys, time
import numpy, platformdirs, pyarrow, tqdm.auto, osprey_nb.data.index, ijson
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
before, start = peak(), time.perf_counter()
{work}
assert len(rows) == int(sys.argv[2])
print(time.perf_counter() - start, peak() - before)
"""


def machine(device: str) -> dict:
    """What a number has to be read with."""
    card = torch.cuda.get_device_name() if device == "cuda" else None
    return {
        "device": card or processor_name(), "cores": os.cpu_count(), "threads": torch.get_num_threads(),
        "python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }  # fmt: skip


class Meter:
    """A watcher that keeps the entries."""

    def begin(self, name: str, done: int) -> None:
        self.entries = []

    def step(self, entry: dict) -> None:
        self.entries.append(entry)

    def end(self) -> None:
        pass

    def counts(self) -> np.ndarray:
        """Samples, seconds and seconds of waiting, without the first steps."""
        first, last = self.entries[WARM_STEPS - 1], self.entries[-1]
        return np.array([last[key] - first[key] for key in ("samples", "seconds", "waited")])


def rates(counts: np.ndarray) -> dict:
    """Samples a second and the share of waiting."""
    samples, seconds, waited = counts.tolist()
    return {"samples_per_s": round(samples / seconds, 1), "waiting": round(waited / seconds, 4)}


def plain_loop(model: Osprey, stage: Stage, scenes: list, steps: int, seed: int = 0) -> np.ndarray:
    """What one writes first: float32, records as they come, made when needed, padded to the longest, logits everywhere.

    Returns `Meter.counts`, and so does `our_loop`.
    """
    optimizer = torch.optim.AdamW(begin(model, stage), lr=1e-5, weight_decay=0.0)
    rng, waited, device = np.random.default_rng(seed), 0.0, model.device
    for step in range(WARM_STEPS + steps):
        if step == WARM_STEPS:
            start, waited = time.perf_counter(), 0.0
        asked = time.perf_counter()
        samples = [model.processor.record(draw_record(scenes, stage.mixture, rng)[1]) for _ in range(stage.batch_size)]
        for sample in samples:
            sample["masks"] = roughen(sample["masks"], rng)
        batch = model.processor.collate(samples)
        waited += time.perf_counter() - asked
        batch = {key: value.to(device) if torch.is_tensor(value) else value for key, value in batch.items()}
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()
    return np.array([steps * stage.batch_size, time.perf_counter() - start, waited])


def our_loop(
    model: Osprey, stage: Stage, scenes: list, steps: int, seed: int = 0, features: FeatureCache | None = None
) -> np.ndarray:
    meter, source = Meter(), partial(record_batches, scenes, stage, model.processor, seed, features=features)
    fit(Objective(model, osprey_loss), source, begin(model, stage), Budget(steps=WARM_STEPS + steps), stage.name, [meter])
    return meter.counts()


def training(device: str, steps: int = 48) -> list[dict]:
    """Samples a second of each stage of the tiny recipe: the plain loop, then ours, one thing added after another."""
    scenes, rows = [make_scene(i) for i in range(256)], []
    with tempfile.TemporaryDirectory() as folder:
        for stage in TINY:
            plain = Osprey.from_pretrained("tiny").to(device)
            cache = FeatureCache(plain, folder)
            start = time.perf_counter()
            built = cache.add([scene.image for scene in scenes], progress=False)
            seconds = time.perf_counter() - start
            if built:
                size = round(cache.size(built) / 1e6, 1)
                rows.append({"stage": "cache", "way": "built", "samples_per_s": round(built / seconds, 1), "mb": size})
            ours, compiled = (
                Osprey.from_pretrained("tiny").to(device, memory_format=torch.channels_last) for _ in range(2)
            )
            compile_layers(compiled.llm)
            ways = {
                "plain loop": partial(plain_loop, plain),
                "fit": partial(our_loop, ours),
                "+ cache": partial(our_loop, ours, features=cache),
                "+ compiled": partial(our_loop, compiled, features=cache),
            }
            counts = dict.fromkeys(ways, np.zeros(3))
            for seed in range(ROUNDS):
                counts = {way: counts[way] + loop(stage, scenes, steps, seed) for way, loop in ways.items()}
            for way, found in counts.items():
                rows.append({"stage": stage.name, "way": way, **rates(found)})
                if way != "plain loop":
                    first = rows_of(rows, stage.name, "plain loop")["samples_per_s"]
                    rows[-1]["times_faster"] = round(rows[-1]["samples_per_s"] / first, 2)
    return rows


def rows_of(rows: list[dict], stage: str, way: str) -> dict:
    return next(row for row in rows if (row["stage"], row["way"]) == (stage, way))


def shaped_batch(model: Osprey, size: int, regions: int, words: int) -> dict:
    """A batch of random numbers of the right shape: `regions` and `words` of text a sample, a third of them answers."""
    config, generator = model.config, torch.Generator().manual_seed(0)
    side = config.vision_config.image_size
    pairs = torch.tensor([config.mask_token_id, config.pos_token_id]).repeat(regions)
    text = torch.randint(6, 1000, (size, words), generator=generator)
    start = torch.tensor([[1, config.image_token_id]]).expand(size, -1)
    ids = torch.cat([start, pairs.expand(size, -1), text], dim=1)
    labels = torch.full_like(ids, -100)
    labels[:, -(words // 3) :] = ids[:, -(words // 3) :]
    masks = [torch.zeros(regions, side, side, dtype=torch.bool) for _ in range(size)]
    for row in masks:
        for i in range(regions):
            row[i, i * side // regions : (i + 1) * side // regions, : side // 2] = True
    return {"images": torch.randn(size, 3, side, side, generator=generator), "masks": masks, "input_ids": ids, "labels": labels}


def cached_steps(device: str) -> list[dict]:
    """`small`-shaped, random weights: seconds of a step of each paper stage, from pictures and from cached features."""
    torch.manual_seed(0)
    model = Osprey(OspreyConfig.preset("small")).to(device)
    batch, rows = shaped_batch(model, size=2, regions=4, words=90), []
    with torch.inference_mode():
        features = [level.half().cpu() for level in model.encoder(batch["images"].to(device))]
    cached = {key: value for key, value in batch.items() if key != "images"}
    cached["features"] = [level.clone() for level in features]  # no inference tensors
    for stage in PAPER:
        optimizer = torch.optim.AdamW(begin(model, stage), lr=1e-6, fused=True)

        def step(inputs: dict, optimizer: torch.optim.Optimizer = optimizer) -> None:
            with torch.autocast(device, torch.bfloat16, enabled=fast_bf16(torch.device(device))):
                loss = osprey_loss(model, inputs)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        plain, quick = (seconds(partial(step, inputs), repeats=3) for inputs in (batch, cached))
        rows.append({
            "stage": stage.name, "pictures_s": round(plain, 3), "cached_s": round(quick, 3),
            "times_faster": round(plain / quick, 2), "kb_a_picture": 2 * sum(x[0].numel() for x in features) // 1000,
        })  # fmt: skip
    return rows


def indexing() -> list[dict]:
    """Seconds and peak MiB of opening a large annotation file."""
    sample = Path(__file__).parents[1] / "data_samples" / "osprey_short_form.json"
    lines = [json.dumps(entry) for entry in json.loads(sample.read_text(encoding="utf-8"))]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.json"
        with open(path, "w", encoding="utf-8") as file:
            file.write("[" + ",\n".join(lines[i % len(lines)] for i in range(RECORDS)) + "]")
        for name, work in WAYS.items():
            command = [sys.executable, "-c", MEASURED.format(work=work), str(path), str(RECORDS)]
            cache = {**os.environ, "OSPREY_NB_CACHE": folder}
            done = subprocess.run(command, env=cache, capture_output=True, text=True, check=True)
            spent, peak = map(float, done.stdout.split())
            rows.append({"way": name, "seconds": round(spent, 3), "peak_mib": round(peak), "records": RECORDS,
                         "file_mb": round(path.stat().st_size / 1e6)})  # fmt: skip
    return rows


def path_of(result: dict, kind: str = "") -> Path:
    """Results lie under their kind and the name of their device."""
    name = re.sub(r"[^a-z0-9]+", "-", result["machine"]["device"].lower()).strip("-")
    return RESULTS / f"{kind}{name}.json"


def strokes(model: Osprey, size: int = 512) -> dict[str, float]:
    """Median and longest time of the strokes around every object and part of a picture, one after another, in seconds."""
    from osprey_nb.widgets.canvas import encode_runs  # here, as gpu.py runs on servers without widgets
    from osprey_nb.widgets.studio import Studio

    scene = make_scene(3, size, "eval")
    studio, began, first, whole = Studio(model, scene.image), 0.0, [], []

    def shown(change) -> None:
        if len(first) == len(whole) and any(card["short"] for card in change["new"]["regions"]):
            first.append(time.perf_counter() - began)

    studio.wait()
    studio.observe(shown, "_panel")
    masks = [x.mask for thing in scene.objects for x in (thing, *thing.parts)]
    for stroke, mask in enumerate(masks, start=1):
        drawing = {"seq": stroke, "runs": encode_runs(mask.astype(np.uint8))}
        began = time.perf_counter()
        studio.set_state({"_drawing": drawing})
        studio.wait()
        whole.append(time.perf_counter() - began)
    times = {"first_word": first[1:], "whole_answer": whole[1:]}  # the first one warms up
    return {"strokes": len(whole) - 1} | {
        f"{name}_{kind}_s": round(float(take(values)), 4)
        for name, values in times.items() for kind, take in (("median", np.median), ("longest", max))
    }  # fmt: skip


def write(result: dict, kind: str = "") -> Path:
    RESULTS.mkdir(exist_ok=True)
    path = path_of(result, kind)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return path


def show(result: dict) -> None:
    facts = result["machine"]
    print(f"{facts['device']}, {facts['threads']} threads, torch {facts['torch']}, {facts['date']}\n")
    print(f"{'training':34}{'':14}{'samples/s':>10}{'waiting':>9}{'faster':>9}")
    for row in result["training"]:
        waiting = f"{row['waiting']:>9.1%}" if "waiting" in row else f"{'':9}"
        faster = f"{row['times_faster']:>8.2f}×" if "times_faster" in row else ""
        print(f"{row['stage']:34}{row['way']:14}{row['samples_per_s']:>10.1f}{waiting}{faster}")
    print(f"\n{'a step of a small-shaped model':34}{'pictures':>11}{'cached':>10}{'faster':>9}")
    for row in result.get("cached", []):
        print(f"{row['stage']:34}{row['pictures_s']:>9.2f} s{row['cached_s']:>8.2f} s{row['times_faster']:>8.2f}×")
    answers.show(result)
    if "studio" in result:
        row = result["studio"]
        print(f"\n{'studio, ' + str(row['strokes']) + ' strokes':34}{'median':>11}{'longest':>11}")
        for name in ("first_word", "whole_answer"):
            median, longest = (f"{1000 * row[f'{name}_{kind}_s']:.0f} ms" for kind in ("median", "longest"))
            print(f"{name.replace('_', ' '):34}{median:>11}{longest:>11}")
    if "index" not in result:
        return
    print(f"\n{'index':36}{'seconds':>9}{'peak MiB':>10}   ({RECORDS:,} records, {result['index'][0]['file_mb']} MB)")
    for row in result["index"]:
        print(f"{row['way']:36}{row['seconds']:>9.3f}{row['peak_mib']:>10}")


def main() -> None:
    logging.disable_progress_bar()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    result = {
        "machine": machine(device),
        "describe": answers.describing(Osprey.from_pretrained("tiny"), device),
        "shape": answers.shape("small", device, regions=64),
        "studio": strokes(Osprey.from_pretrained("tiny")),
        "training": training(device),
        "cached": cached_steps(device),
        "index": indexing(),
    }
    show(result)
    print(f"\nwrote {write(result).relative_to(RESULTS.parents[1])}")


if __name__ == "__main__":
    main()
