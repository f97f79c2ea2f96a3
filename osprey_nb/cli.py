"""The console script `osprey-nb`.

    lab        JupyterLab on the first notebook
    demo       describe the objects of a shipped picture, write demo.png
    describe   describe regions of your own picture
    train      train the tiny model from nothing
    finetune   train a model further on your own pictures, masks and texts
    eval       measure a model on fresh scenes
    check      what is wrong with annotations, masks and pictures
    curate     make instruction data from annotations
    fetch      download the published weights
    doctor     what this machine has, and what would be slow

Every mistake ends with one line that says what to do, and exit status 2.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    parser = _parser()
    arguments, others = parser.parse_known_args(argv)
    if others and arguments.run is not lab:
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    arguments.jupyter = others
    try:
        return arguments.run(arguments)
    except (ValueError, TypeError, OSError, ArithmeticError, MemoryError, RuntimeError) as error:
        print(f"osprey-nb: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stopped:
        print(f"osprey-nb: {stopped or 'stopped'}", file=sys.stderr)
        return 130


# --- the commands -------------------------------------------------------------------------------------------


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


def describe(arguments: argparse.Namespace) -> int:
    from .images import load_image
    from .masks import to_masks

    if not arguments.regions:
        raise ValueError("no region given; point with --mask M.png, --box x0,y0,x1,y1 or --polygon x,y,x,y,…")
    # Both are checked before the model is loaded, which takes longer.
    image = load_image(arguments.image)
    masks = to_masks([region for _, region in arguments.regions], size=(image.height, image.width))
    model = _load(arguments.model)
    if model.config.trained_on:
        print(f"note: this model was trained on {model.config.trained_on}", file=sys.stderr)
    answers = model.describe(image, masks, detail="detailed" if arguments.detail else "short")
    for number, ((form, _), text) in enumerate(zip(arguments.regions, answers, strict=True), start=1):
        if arguments.json:
            print(json.dumps({"region": number, "input": form, "text": text}, ensure_ascii=False))
        else:
            print(f"region {number} ({form}): {text}")
    return 0


def demo(arguments: argparse.Namespace) -> int:
    from . import viz

    name, image, masks, drawn = _demo_picture(arguments.number)
    model = _load(arguments.model)
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


def train(arguments: argparse.Namespace) -> int:
    from .train.tiny import train_tiny

    _quiet()
    settings = {"minutes": arguments.minutes, "seed": arguments.seed, "device": arguments.device, "resume": arguments.resume}
    train_tiny(out=arguments.out, **settings)
    print(f"wrote {arguments.out}; measure it with: osprey-nb eval {arguments.out}")
    return 0


def finetune(arguments: argparse.Namespace) -> int:
    from .train.finetune import finetune, format_result

    records = _records(arguments.data, arguments.images, arguments.format, arguments.limit, arguments.fraction, arguments.seed)
    if (arguments.out / "model.safetensors").exists():  # said before the model is loaded
        raise FileExistsError(f"{arguments.out} already holds a model. Give another folder with --out, or remove it.")
    _quiet()
    names = ("minutes", "held_out", "seed", "lr", "batch_size", "strict", "resume")
    options = {name: getattr(arguments, name) for name in names}
    result = finetune(_load(arguments.base), records, arguments.out, limit=arguments.tokens, **options)
    print(f"{format_result(result)}\n\nwrote {arguments.out}; try: osprey-nb describe IMAGE --box … --model {arguments.out}")
    return 0


def evaluate(arguments: argparse.Namespace) -> int:
    from .evaluate.synthetic import evaluate as measure
    from .evaluate.synthetic import format_table

    table = measure(_load(arguments.model), seed=arguments.seed, scenes=arguments.scenes)
    if arguments.json:
        print(json.dumps({"model": arguments.model, "seed": arguments.seed, "scenes": arguments.scenes, "table": table}))
    else:
        print(f"{arguments.model}, {arguments.scenes} fresh scenes, seed {arguments.seed}\n{format_table(table)}")
    return 0


def check(arguments: argparse.Namespace) -> int:
    from .data.check import check, contact_sheet, fix

    data = arguments.data
    for path in (arguments.fix, arguments.sheet):
        if path is not None and path.resolve() == data.resolve():
            raise ValueError(f"{path} is the input; give another name, the input is never changed")
    if arguments.fix is not None and arguments.fix.exists():
        raise FileExistsError(f"{arguments.fix} exists already. Give another name: nothing is overwritten.")
    if arguments.fix and (arguments.limit is not None or arguments.fraction is not None):
        raise ValueError("--fix needs every row; leave out --limit and --fraction")
    mixture = _records(data, arguments.images, arguments.format, arguments.limit, arguments.fraction, arguments.seed,
                       progress=not arguments.json, salvage=True)  # fmt: skip
    if len(mixture.readers) > 1 and (arguments.fix or arguments.sheet):
        raise ValueError("--fix and --sheet take one annotation file, not a mixture")
    errors = 0
    for number, reader in enumerate(mixture.readers):
        found = check(reader, mixture.rows(number), arguments.strict, progress=not arguments.json)
        errors += len(found.errors)
        if arguments.json:
            for finding in found.findings:
                print(json.dumps({"file": str(reader.file), "error": finding.error, **finding._asdict()}, ensure_ascii=False))
        else:
            print(found.table())
        if arguments.strict and errors:
            return 1
    if arguments.sheet:
        print(f"drew {contact_sheet(reader, arguments.sheet)} records in {arguments.sheet}", file=sys.stderr)
    if arguments.fix:
        dropped = fix(found, arguments.fix)
        print(f"wrote {arguments.fix} without {len(dropped):,} errors; what was dropped: "
              f"{arguments.fix.with_suffix('.dropped.json')}", file=sys.stderr)  # fmt: skip
    return 1 if errors else 0


def _records(data: Path, images, format, limit, fraction, seed: int, progress: bool = True, salvage: bool = False):
    """The records of an annotation file, of one's own folder or of a mixture, or a part of them."""
    from .data.mixture import Mixture, shipped
    from .data.readers import FORMATS, guess_format

    if data.suffix in (".yaml", ".yml") or str(data) in shipped():
        mixture = Mixture.load(data, images, progress=progress)
    else:
        if not data.exists():
            raise FileNotFoundError(f"nothing at {data}; give an annotation file, a mixture file, or {', '.join(shipped())}")
        format = format or guess_format(data)
        if format not in FORMATS:
            raise ValueError(f"format is {format!r}; known are {', '.join(FORMATS)}")
        mixture = Mixture.of(FORMATS[format](data, images or data.parent, progress=progress, salvage=salvage))
    return mixture if limit is None and fraction is None else mixture.subset(limit, fraction, seed)


def curate(arguments: argparse.Namespace) -> int:
    from .data.curate import curate
    from .data.teachers import Endpoint, Model, Rules, cost, local_model

    kind, model = arguments.teacher, arguments.model
    prompts: list[str] = []
    if kind == "rules":
        teacher = Rules()
    elif kind.startswith("local:"):
        teacher = Model(local_model(kind.removeprefix("local:")))
    elif kind.startswith(("http://", "https://")):
        if not model:
            raise ValueError("--model is missing: the name by which the server knows its model")
        cache = Path(f"{arguments.out}.answers.jsonl")  # beside the folder: it outlives a run that was stopped
        teacher = Model(Endpoint(kind, model, cache, per_minute=arguments.per_minute))
    else:
        raise ValueError(f"teacher is {kind!r}; give rules, local:NAME (a transformers model) or a URL")
    options = {"captions": arguments.captions, "seed": arguments.seed, "limit": arguments.limit}
    if arguments.estimate:
        import tempfile

        asks = Model(lambda prompt: prompts.append(prompt) or "")
        with tempfile.TemporaryDirectory() as nowhere:
            curate(arguments.annotations, nowhere, asks, **options)
        price = cost(prompts, *arguments.estimate)
        print(f"{len(prompts):,} requests, about {price:.2f} in the currency of the prices. Nothing was asked or written.")
        return 0
    print(curate(arguments.annotations, arguments.out, teacher, **options))
    if getattr(teacher, "refused", 0):
        print(f"{teacher.refused:,} replies were no list of questions and answers, and were left out.", file=sys.stderr)
    return 0


def fetch(arguments: argparse.Namespace) -> int:
    from .checkpoint import fetch as download

    out = arguments.out or Path("runs") / arguments.name
    download(arguments.name, out)
    print(f"wrote {out}; use it with: osprey-nb describe IMAGE --box … --model {out}")
    return 0


def doctor(arguments: argparse.Namespace) -> int:
    from .doctor import examine, format_findings

    findings = examine()
    print(format_findings(findings))
    return 0 if all(finding.fine for finding in findings) else 1


# --- what they share ----------------------------------------------------------------------------------------


def _quiet() -> None:
    """Only our own words on the terminal: no progress bars and notices of transformers."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _load(name: str):
    """`tiny`, a folder of ours, or a folder with the published files; on the GPU if there is one."""
    import torch

    from .checkpoint import load_published
    from .model import Osprey

    _quiet()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "tiny":
        model = Osprey.from_pretrained("tiny")
    else:
        config = Path(name) / "config.json"
        if not config.exists():
            raise FileNotFoundError(f"no model in {name} (no config.json); give tiny or a folder with a saved model")
        published = json.loads(config.read_text(encoding="utf-8")).get("model_type") == "osprey"
        half = torch.bfloat16 if device == "cuda" else torch.float32
        model = load_published(name, dtype=half) if published else Osprey.from_pretrained(Path(name))
    return model.eval().to(device)


def _demo_picture(number: int):
    """Name, picture (path or H×W×3), R×H×W masks and the names of what is drawn there.

    In a clone it is a picture of data_samples; elsewhere the same scene is drawn again.
    """
    import numpy as np

    from .data.samples import SIDE, make_scene
    from .masks import to_masks

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


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers with commas between, as in 10,20,90,80") from None


class _Region(argparse.Action):
    """Collects --mask, --box and --polygon in the order of the command line."""

    def __call__(self, parser, namespace, values, option_string=None):
        form = option_string.lstrip("-")
        namespace.regions = [*namespace.regions, (form, [values] if form == "polygon" else values)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="osprey-nb", description="Osprey: say what is under a mask.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, run, text: str) -> argparse.ArgumentParser:
        # An option must be written out, or --bo would lose its name in the output.
        sub = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        sub.set_defaults(run=run)
        return sub

    def takes_model(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--model", default="tiny", help="tiny (shipped) or the folder of a model")

    command("lab", lab, "open JupyterLab on the first notebook; other arguments, as --no-browser, go to JupyterLab")

    sub = command("demo", demo, "describe the objects of a shipped picture and write an annotated PNG")
    sub.add_argument("number", nargs="?", type=int, default=0, help="which picture of data_samples (default: 0)")
    sub.add_argument("--out", type=Path, default=Path("demo.png"), help="the PNG (default: demo.png)")
    takes_model(sub)

    sub = command("describe", describe, "describe regions of a picture, in the order in which you point at them")
    sub.add_argument("image", type=Path)
    sub.add_argument("--mask", dest="regions", action=_Region, default=[], metavar="M.png", help="white is the region")
    sub.add_argument("--box", dest="regions", action=_Region, type=_numbers, metavar="x0,y0,x1,y1", help="in pixels")
    sub.add_argument("--polygon", dest="regions", action=_Region, type=_numbers, metavar="x,y,x,y,…", help="its corners")
    sub.add_argument("--detail", action="store_true", help="a detailed description instead of a short one")
    sub.add_argument("--json", action="store_true", help="one JSON object a line")
    takes_model(sub)

    sub = command("train", train, "train a model from nothing")
    sub.add_argument("preset", choices=["tiny"])
    sub.add_argument("--minutes", type=float, default=25, help="the budget (default: 25)")
    sub.add_argument("--out", type=Path, default=Path("runs/tiny"), help="the folder (default: runs/tiny)")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--device", help="cpu, cuda, cuda:1 … (default: a GPU if there is one)")
    sub.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in --out, with the same settings")

    sub = command("finetune", finetune, "train a model further on your own pictures, masks and texts")
    sub.add_argument("data", type=Path, help="an annotation file, the table of your own folder, or a mixture file (.yaml)")
    sub.add_argument("--from", dest="base", default="tiny", help="tiny (shipped) or the folder of a model (default: tiny)")
    sub.add_argument("--out", type=Path, default=Path("runs/finetuned"), help="the folder (default: runs/finetuned)")
    sub.add_argument("--images", type=Path, help="the folder of the pictures (default: the file's); of a mixture, its root")
    sub.add_argument("--format", help="osprey, coco, refcoco … (default: told by the file)")
    sub.add_argument("--minutes", type=float, default=5, help="the budget (default: 5)")
    sub.add_argument("--held-out", type=float, default=0.2, help="share of the records to ask about only (default: 0.2)")
    sub.add_argument("--lr", type=float, default=5e-4, help="the highest learning rate (default: 5e-4)")
    sub.add_argument("--batch-size", type=int, default=4)
    sub.add_argument("--tokens", type=int, help="bound a sample to so many tokens, the image's included")
    sub.add_argument("--limit", type=int, help="take so many records only, of every source its share")
    sub.add_argument("--fraction", type=float, help="take this part of the records only, from 0 to 1")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--strict", action="store_true", help="stop at the first record that cannot be used")
    sub.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in --out, with the same settings")

    sub = command("eval", evaluate, "measure a model on scenes it was never trained on")
    sub.add_argument("model", help="tiny (shipped) or the folder of a model")
    sub.add_argument("--seed", type=int, default=0, help="which scenes (default: 0)")
    sub.add_argument("--scenes", type=int, default=500, help="how many (default: 500)")
    sub.add_argument("--json", action="store_true", help="one JSON object")

    sub = command("check", check, "look for faults in data: annotations, masks, pictures; status 1 if there are errors")
    sub.add_argument("data", type=Path, help="an annotation file, the table of your own folder, or a mixture file (.yaml)")
    sub.add_argument("--images", type=Path, help="the folder of the pictures (default: the file's); of a mixture, its root")
    sub.add_argument("--format", help="osprey, coco, refcoco … (default: told by the file)")
    sub.add_argument("--sheet", type=Path, metavar="PNG", help="draw a contact sheet of random records")
    sub.add_argument("--fix", type=Path, metavar="OUT", help="write a copy without what has errors; the input stays as it is")
    sub.add_argument("--limit", type=int, help="look at so many records only, of every source its share")
    sub.add_argument("--fraction", type=float, help="look at this part of the records only, from 0 to 1")
    sub.add_argument("--seed", type=int, default=0, help="which records --limit and --fraction take (default: 0)")
    sub.add_argument("--strict", action="store_true", help="stop at the first error")
    sub.add_argument("--json", action="store_true", help="one finding a line")

    sub = command("curate", curate, "make the five Osprey files from COCO annotations, as Osprey-724K was made")
    sub.add_argument("annotations", type=Path, help="instances in the COCO format")
    sub.add_argument("--out", type=Path, required=True, help="the folder of the five files")
    sub.add_argument("--captions", type=Path, help="captions in the COCO format")
    sub.add_argument("--teacher", default="rules", help="rules (default), local:NAME of a transformers model, or a URL (…/v1)")
    sub.add_argument("--model", help="the name of the model behind a URL; its key is read from OPENAI_API_KEY")
    sub.add_argument("--per-minute", type=float, default=60, help="requests to a URL, at most (default: 60)")
    sub.add_argument("--estimate", type=_numbers, metavar="IN,OUT", help="only say what it costs: prices per million tokens")
    sub.add_argument("--limit", type=int, help="so many images at most")
    sub.add_argument("--seed", type=int, default=0)

    sub = command("fetch", fetch, "download published weights from the hub; goes on where it stopped")
    sub.add_argument("name", help="osprey-7b, osprey-chat-7b or osprey-7b-stage2")
    sub.add_argument("--out", type=Path, help="the folder (default: runs/NAME)")

    command("doctor", doctor, "versions, device, memory, weights at hand, and what would be slow")
    return parser


if __name__ == "__main__":
    sys.exit(main())
