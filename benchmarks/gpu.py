"""`make gpu`: what only a CUDA device can show. Skips nothing; fails at the first thing that is wrong.

    parity      the published layout reproduces both golden files on the device, in float32
    training    one step of every stage of the tiny recipe, in bf16
    describe    the tiny model in bf16 answers for several regions, and as it does in float32

Then the times of `make bench` are taken there. Everything goes to results/<device>.json.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from bench import describing, machine, show, training, write
from transformers.utils import logging

from osprey_nb import Osprey, load_published
from osprey_nb.data.language import parse_phrase
from osprey_nb.data.scenes import make_scene
from osprey_nb.train.stages import TINY
from osprey_nb.train.tiny import train_tiny

TESTS = Path(__file__).resolve().parents[1] / "tests"
GAP = 1e-3  # a GPU sums in another order than the CPU that made the golden files
AGREE = 0.9  # share of regions whose object must be called the same in bf16


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


def check(device: str) -> dict:
    """Every check in turn, with a word on each."""
    result = {"machine": machine(device)}
    for name, run in (("parity", parity), ("stages", a_step_of_each_stage), ("bf16", bf16_answers)):
        result[name] = run(device)
        print(f"{name}: {result[name]}")
    result["describe"] = describing(Osprey.from_pretrained("tiny"), device)
    result["training"] = training(Osprey.from_pretrained("tiny"), device)
    return result


def main() -> None:
    if not torch.cuda.is_available():
        raise SystemExit("make gpu needs a CUDA device, and torch sees none here; `make test` covers the rest on a CPU")
    logging.disable_progress_bar()
    result = check("cuda")
    show(result)
    print(f"\nwrote results/{write(result).name}")


if __name__ == "__main__":
    main()
