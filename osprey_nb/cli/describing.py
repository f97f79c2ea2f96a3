"""`osprey-nb lab, demo, describe, fetch, doctor`: use what there is."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from .shared import ROOT, load_model


def lab(arguments: argparse.Namespace) -> int:
    notebook = ROOT / "notebooks" / "00_first_look.ipynb"
    if not notebook.exists():
        raise FileNotFoundError(
            "the notebooks are not in the installed package; run this in a clone of the repository: make lab"
        )
    # A token is JupyterLab's default; 127.0.0.1 keeps it to this machine. The printed link leads to the notebook, too.
    place = [f"--ServerApp.root_dir={ROOT}", f"--LabApp.default_url=/lab/tree/{notebook.relative_to(ROOT).as_posix()}"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # in a container, most often; JupyterLab alone would refuse
        print("osprey-nb: you are root, so what a notebook runs may do anything on this machine", file=sys.stderr)
        place.append("--allow-root")
    command = ["-m", "jupyterlab", "--ip=127.0.0.1", *place]
    return subprocess.call([sys.executable, *command, *arguments.jupyter])


def demo(arguments: argparse.Namespace) -> int:
    from .. import viz

    name, image, masks, drawn = _demo_picture(arguments.number)
    model = load_model(arguments.model)
    short = model.describe(image, masks)
    detailed = model.describe(image, masks, detail="detailed")
    print(f"{name}, {len(masks)} regions")
    for number, (phrase, sentence, truth) in enumerate(zip(short, detailed, drawn, strict=True), start=1):
        print(f"\nregion {number}: {phrase}\n          {sentence}\n          (drawn there: {truth})")
    regions = dict(enumerate(masks, start=1))
    answers = {n: {"short": a, "detailed": b} for n, a, b in zip(regions, short, detailed, strict=True)}
    viz.answers_figure(image, regions, answers, title=name).savefig(arguments.out)
    print(f"\nwrote {arguments.out}")
    if model.config.trained_on:
        print(f"(this model was trained on {model.config.trained_on})")
    return 0


def _demo_picture(number: int):
    """Name, picture (path or H×W×3), R×H×W masks and the names of what is drawn there.

    In a clone it is a picture of data_samples; elsewhere the same scene is drawn again.
    """
    import numpy as np

    from ..data.samples import SIDE, make_scene
    from ..masks import to_masks

    samples = ROOT / "data_samples"
    if not samples.is_dir():
        scene = make_scene(number, SIDE, "eval", "all")
        return f"scene {number}", scene.image, np.stack([x.mask for x in scene.objects]), [x.kind for x in scene.objects]
    coco = json.loads((samples / "instances.json").read_text(encoding="utf-8"))
    if not 0 <= number < len(coco["images"]):
        raise ValueError(f"no picture {number}; data_samples has 0 to {len(coco['images']) - 1}")
    entry = coco["images"][number]
    regions = [x for x in coco["annotations"] if x["image_id"] == entry["id"]]
    names = {category["id"]: category["name"] for category in coco["categories"]}
    masks = to_masks(regions, size=(entry["height"], entry["width"]))
    return entry["file_name"], samples / "images" / entry["file_name"], masks, [names[x["category_id"]] for x in regions]


def describe(arguments: argparse.Namespace) -> int:
    from ..images import load_image
    from ..masks import to_masks

    if not arguments.regions:
        raise ValueError("no region given; point with --mask M.png, --box x0,y0,x1,y1 or --polygon x,y,x,y,…")
    # Both are checked before the model is loaded, which takes longer.
    image = load_image(arguments.image)
    masks = to_masks([region for _, region in arguments.regions], size=(image.height, image.width))
    model = load_model(arguments.model)
    if model.config.trained_on:
        print(f"note: this model was trained on {model.config.trained_on}", file=sys.stderr)
    answers = model.describe(image, masks, detail="detailed" if arguments.detail else "short")
    for number, ((form, _), text) in enumerate(zip(arguments.regions, answers, strict=True), start=1):
        if arguments.json:
            print(json.dumps({"region": number, "input": form, "text": text}, ensure_ascii=False))
        else:
            print(f"region {number} ({form}): {text}")
    return 0


def fetch(arguments: argparse.Namespace) -> int:
    from ..checkpoint import fetch as download

    out = arguments.out or Path("runs") / arguments.name
    download(arguments.name, out)
    print(f"wrote {out}; use it with: osprey-nb describe IMAGE --box … --model {out}")
    return 0


def doctor(arguments: argparse.Namespace) -> int:
    from ..doctor import examine, format_findings

    findings = examine()
    print(format_findings(findings))
    return 0 if all(finding.fine for finding in findings) else 1
