"""`make bench`: how fast the tiny model trains and describes here, against the naive way. Writes results/<machine>.json.

training    one step of each stage, forward and backward: samples a second
describe    k regions of one picture in one call (the picture is read once, the regions side by side)
            against the naive way: one call a region, each of which reads the picture again
index       a file of 200 000 Osprey records (sample records again and again): indexed, opened again, and read at random,
            against json.load; seconds and peak memory of a process of its own, above that of its imports
"""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers.utils import logging

from osprey_nb import Osprey
from osprey_nb.data.scenes import make_scene
from osprey_nb.doctor import processor_name
from osprey_nb.train.stages import TINY, begin
from osprey_nb.train.tiny import osprey_loss, record_batches
from osprey_nb.train.trainer import fast_bf16

RESULTS = Path(__file__).parent / "results"
REGIONS = (1, 4, 16)
REPEATS = 5
STEPS = 8
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


def seconds(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """Median time of `work`, after one run that does not count."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def training(model: Osprey, device: str) -> dict[str, dict]:
    """Samples a second of each stage of the tiny recipe, batches made beforehand."""
    scenes = [make_scene(i) for i in range(64)]
    model.to(device)
    table = {}
    for stage in TINY:
        optimizer = torch.optim.AdamW(begin(model, stage), lr=1e-5)
        source = record_batches(scenes, stage, model.processor, seed=0)
        batches = [next(source) for _ in range(STEPS)]

        def epoch(batches=batches, optimizer=optimizer):
            for batch in batches:
                with torch.autocast(device, torch.bfloat16, enabled=fast_bf16(torch.device(device))):
                    loss = osprey_loss(model, batch)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

        spent = seconds(epoch, repeats=3)
        table[stage.name] = {"samples_per_s": round(STEPS * stage.batch_size / spent, 1), "batch": stage.batch_size}
    model.requires_grad_(True).eval()
    return table


def describing(model: Osprey, device: str) -> list[dict]:
    """Seconds for k regions, in one call and one call each; the answers are compared, too."""
    model.to(device).eval()
    scene = make_scene(7, split="eval", size=256)
    parts = [part.mask for thing in scene.objects for part in thing.parts]
    masks = np.stack([*(thing.mask for thing in scene.objects), *parts])
    rows = []
    for count in REGIONS:
        chosen = masks[np.arange(count) % len(masks)]
        together = model.describe(scene.image, chosen)
        apart = [model.describe(scene.image, [mask])[0] for mask in chosen]
        one_call = seconds(lambda chosen=chosen: model.describe(scene.image, chosen))
        naive = seconds(lambda chosen=chosen: [model.describe(scene.image, [mask]) for mask in chosen])
        same = sum(a == b for a, b in zip(together, apart, strict=True))
        rows.append({
            "regions": count, "one_call_s": round(one_call, 4), "naive_s": round(naive, 4),
            "times_faster": round(naive / one_call, 2), "same_answers": f"{same}/{count}",
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


def write(result: dict, kind: str = "") -> Path:
    """Keep a result under its kind and the name of its device."""
    RESULTS.mkdir(exist_ok=True)
    name = re.sub(r"[^a-z0-9]+", "-", result["machine"]["device"].lower()).strip("-")
    path = RESULTS / f"{kind}{name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return path


def show(result: dict) -> None:
    facts = result["machine"]
    print(f"{facts['device']}, {facts['threads']} threads, torch {facts['torch']}, {facts['date']}\n")
    print(f"{'training':34}{'samples/s':>10}{'batch':>7}")
    for name, row in result["training"].items():
        print(f"{name:34}{row['samples_per_s']:>10.1f}{row['batch']:>7}")
    print(f"\n{'describe':10}{'one call':>12}{'naive':>12}{'faster':>9}{'same answers':>15}")
    for row in result["describe"]:
        times = f"{1000 * row['one_call_s']:>9.0f} ms{1000 * row['naive_s']:>9.0f} ms{row['times_faster']:>8.1f}×"
        print(f"{row['regions']:<10}{times}{row['same_answers']:>15}")


    print(f"\n{'index':36}{'seconds':>9}{'peak MiB':>10}   ({RECORDS:,} records, {result['index'][0]['file_mb']} MB)")
    for row in result["index"]:
        print(f"{row['way']:36}{row['seconds']:>9.3f}{row['peak_mib']:>10}")


def main() -> None:
    logging.disable_progress_bar()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    result = {
        "machine": machine(device),
        "describe": describing(Osprey.from_pretrained("tiny"), device),
        "training": training(Osprey.from_pretrained("tiny"), device),
        "index": indexing(),
    }
    show(result)
    print(f"\nwrote {write(result).relative_to(RESULTS.parents[1])}")


if __name__ == "__main__":
    main()
