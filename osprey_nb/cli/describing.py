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
    from ..everything import clicked, described
    from ..images import load_image
    from ..masks import to_masks
    from ..segment import load_segmenter

    if arguments.everything:
        return _describe_everything(arguments)
    if not arguments.regions:
        raise ValueError(
            "no region given; point with --mask M.png, --box x0,y0,x1,y1, --polygon x,y,x,y,… or --point x,y, or take "
            "--everything"
        )
    if arguments.png or arguments.out:
        raise ValueError("--png and --out go with --everything")
    # All is checked before the model is loaded, which takes longer.
    image = load_image(arguments.image)
    shapes = [region for form, region in arguments.regions if form != "point"]
    points = [region for form, region in arguments.regions if form == "point"]
    masks = to_masks(shapes, size=(image.height, image.width)) if shapes else []
    clicks = iter(())
    if points:
        segmenter = load_segmenter(arguments.segmenter)
        segmenter.set_image(image)
        clicks = iter([clicked(segmenter, point) for point in points])
    session = _model(arguments).read(image)
    detail = "detailed" if arguments.detail else "short"
    answers = iter(session.describe(masks, detail) if shapes else ())
    for number, (form, _) in enumerate(arguments.regions, start=1):
        if form == "point":
            found = described(session, next(clicks), segmenter.name, detail)
            result, text = found.to_json(), "".join(f"\n  {line}" for line in str(found).splitlines())
        else:
            text = next(answers)
            result = {"text": text}
        if arguments.json:
            print(json.dumps({"region": number, "input": form} | result, ensure_ascii=False))
        else:
            print(f"region {number} ({form}): {text}")
    return 0


def _describe_everything(arguments: argparse.Namespace) -> int:
    from ..everything import describe_everything, describe_folder
    from ..images import load_image
    from ..segment import load_segmenter

    if arguments.regions:
        raise ValueError("--everything finds its own regions; leave out --mask, --box, --polygon and --point")
    detail = "detailed" if arguments.detail else "short"
    folder = arguments.image.is_dir()
    alone, of_folders = ("--png", "--json"), ("--out",)
    for option in alone if folder else of_folders:
        if getattr(arguments, option.lstrip("-")):
            raise ValueError(f"{option} is for {'one picture' if folder else 'a folder of pictures'}")
    image = None if folder else load_image(arguments.image)
    segmenter = load_segmenter(arguments.segmenter)
    print(f"note: regions by {segmenter.name}", file=sys.stderr)
    model = _model(arguments)
    if folder:
        out = arguments.out or arguments.image.resolve().with_suffix(".jsonl")
        counts = describe_folder(arguments.image, out, model, segmenter, detail)
        print(f"wrote {out}: " + ", ".join(f"{counts[key]:,} {key}" for key in ("described", "broken", "there before")))
        return 0
    found = describe_everything(image, model, segmenter, detail)
    print(json.dumps(found.to_json(), ensure_ascii=False) if arguments.json else _table(found.rows(), found.lines()))
    if arguments.png:
        found.figure(arguments.image.name).savefig(arguments.png)
        print(f"wrote {arguments.png}", file=sys.stderr)
    return 0


def _table(rows: list[dict], lines: list[str]) -> str:
    head = f"{'region':>6}  {'score':>5}  {'area':>7}  text"
    return "\n".join(
        [head, *(f"{x['number']:>6}  {x['score']:>5.2f}  {x['area']:>7,}  {line}" for x, line in zip(rows, lines, strict=True))]
    )


def _model(arguments: argparse.Namespace):
    """The model, with a word on what it knows."""
    model = load_model(arguments.model)
    if model.config.trained_on:
        print(f"note: this model was trained on {model.config.trained_on}", file=sys.stderr)
    return model


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
