"""The console script `osprey-nb`.

    lab        JupyterLab on the first notebook
    studio     draw, click and ask in a browser, without a notebook
    demo       describe the objects of a shipped picture, write demo.png
    describe   describe regions of your own picture, or everything in it; or in a folder of pictures
    train      train the tiny model or tiny SAM from nothing, or a stage of the paper on your data
    finetune   train a model further on your own pictures, masks and texts
    runs       compare runs
    eval       measure a model on fresh scenes
    eval-sam   measure the masks of clicks and boxes on fresh scenes
    check      what is wrong with annotations, masks and pictures
    curate     make instruction data from annotations
    fetch      download the published weights
    doctor     what this machine has, and what would be slow

Every mistake ends with one line that says what to do, and exit status 2.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .data import check, curate
from .describing import demo, describe, doctor, fetch, lab
from .studio import studio
from .training import evaluate, evaluate_sam, finetune, runs, train_sam, train_stage, train_tiny


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    parser = _parser()
    arguments, others = parser.parse_known_args(argv)
    if others and arguments.run is not lab:
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    arguments.jupyter = others
    try:
        return arguments.run(arguments)
    except (ValueError, TypeError, OSError, ArithmeticError, MemoryError, RuntimeError, ImportError) as error:
        print(f"osprey-nb: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stopped:
        print(f"osprey-nb: {stopped or 'stopped'}", file=sys.stderr)
        return 130


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers with commas between, as in 10,20,90,80") from None


class _Region(argparse.Action):
    """Collects --mask, --box, --polygon and --point in the order of the command line."""

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

    def takes_records(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--images", type=Path, help="the folder of the pictures (default: the file's); of a mixture, its root")
        sub.add_argument("--format", help="osprey, coco, refcoco … (default: told by the file)")
        sub.add_argument("--limit", type=int, help="take so many records only, of every source its share")
        sub.add_argument("--fraction", type=float, help="take this part of the records only, from 0 to 1")
        sub.add_argument("--seed", type=int, default=0)

    command("lab", lab, "open JupyterLab on the first notebook; other arguments, as --no-browser, go to JupyterLab")

    sub = command("studio", studio, "draw on a picture and ask, in a browser, on this machine only")
    sub.add_argument("image", nargs="?", type=Path, help="a picture (default: a drawing)")
    sub.add_argument("--segmenter", default="tiny", help="tiny, vit_b, vit_l, vit_h, classic, or a file of SAM weights")
    sub.add_argument("--port", type=int, help="default: a free one")
    sub.add_argument("--no-browser", action="store_true", help="print the address only")
    takes_model(sub)

    sub = command("demo", demo, "describe the objects of a shipped picture and write an annotated PNG")
    sub.add_argument(
        "number", nargs="?", type=int, default=32,
        help="which picture of data_samples (default: 32, of which tiny says nothing false)",
    )  # fmt: skip
    sub.add_argument("--out", type=Path, default=Path("demo.png"), help="the PNG (default: demo.png)")
    takes_model(sub)

    sub = command("describe", describe, "describe regions of a picture, in the order in which you point at them")
    sub.add_argument("image", type=Path, help="a picture; with --everything also a folder of pictures")
    sub.add_argument("--mask", dest="regions", action=_Region, default=[], metavar="M.png", help="white is the region")
    sub.add_argument("--box", dest="regions", action=_Region, type=_numbers, metavar="x0,y0,x1,y1", help="in pixels")
    sub.add_argument("--polygon", dest="regions", action=_Region, type=_numbers, metavar="x,y,x,y,…", help="its corners")
    sub.add_argument("--point", dest="regions", action=_Region, type=_numbers, metavar="x,y", help="a click: the "
                     "part under it, and the whole")  # fmt: skip
    sub.add_argument("--everything", action="store_true", help="all that the segmenter finds")
    sub.add_argument("--segmenter", default="tiny", help="for --point and --everything: tiny (default), vit_b, vit_l, vit_h, "
                     "classic, or a file of SAM weights")  # fmt: skip
    sub.add_argument("--png", type=Path, help="with --everything: write the picture with all regions")
    sub.add_argument("--out", type=Path, help="of a folder: the file, a JSON line a picture (default: FOLDER.jsonl); goes on "
                     "where it stopped")  # fmt: skip
    sub.add_argument("--detail", action="store_true", help="a detailed description instead of a short one")
    sub.add_argument("--json", action="store_true", help="one JSON object a line")
    takes_model(sub)

    def trains_tiny(sub: argparse.ArgumentParser, run, minutes: int, out: str) -> None:
        sub.set_defaults(run=run)
        sub.add_argument("--minutes", type=float, default=minutes, help=f"the budget (default: {minutes})")
        sub.add_argument("--out", type=Path, default=Path(out), help=f"the folder (default: {out})")
        sub.add_argument("--seed", type=int, default=0)
        sub.add_argument("--device", help="cpu, cuda, cuda:1 … (default: a GPU if there is one)")

    text = "train the tiny model or tiny SAM from nothing, or a stage of the paper"
    trains = commands.add_parser("train", help=text, allow_abbrev=False)
    trains = trains.add_subparsers(title="what", required=True, metavar="WHAT")
    sub = trains.add_parser("sam", help="tiny SAM, on drawn scenes", allow_abbrev=False)
    trains_tiny(sub, train_sam, 90, "runs/sam")
    sub.add_argument("--start", type=Path, metavar="FOLDER", help="go on from the weights of an earlier run")
    sub = trains.add_parser("tiny", help="the tiny model, from nothing, on drawn scenes", allow_abbrev=False)
    trains_tiny(sub, train_tiny, 25, "runs/tiny")
    sub.add_argument("--start", metavar="FOLDER", help="go on from a trained tiny model: a folder, or tiny, which is shipped")
    sub.add_argument("--compile", action="store_true", help="make faster code first: half a minute, needs a C++ compiler")
    sub.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in --out, with the same settings")
    for stage, text in (
        ("stage1", "image-text alignment: the projector learns"), ("stage2", "mask-text alignment: the mask extractor learns"),
        ("stage3", "end to end: projector, mask extractor and LLM learn"),
    ):  # fmt: skip
        sub = trains.add_parser(stage, help=f"{text}, on your data", description=text, allow_abbrev=False)
        sub.set_defaults(run=train_stage, stage=stage)
        sub.add_argument("data", type=Path, nargs="?", default=Path(stage),
                         help=f"a mixture file (.yaml), an annotation file, or {stage}, the paper's (default)")  # fmt: skip
        takes_records(sub)
        sub.add_argument("--from", dest="base", required=True, help="the folder of a model, tiny, or paper or small: "
                         "new ones on downloaded CLIP and LLM weights")  # fmt: skip
        sub.add_argument("--out", type=Path, required=True, help="the folder of the run")
        sub.add_argument("--epochs", type=int, help="default: the paper's")
        sub.add_argument("--minutes", type=float, help="a budget of time instead")
        sub.add_argument("--batch-size", type=int, help="samples of a step, of all processes together (default: the paper's)")
        sub.add_argument("--accumulate", type=int, default=1, help="compute a step's batch in so many pieces: less memory")
        sub.add_argument("--lr", type=float, help="the highest learning rate (default: the paper's)")
        sub.add_argument("--tokens", type=int, default=2048, help="bound a sample to so many tokens, the image's included")
        sub.add_argument("--lora", type=int, metavar="RANK", help="the LLM learns through adapters of this rank (needs peft)")
        sub.add_argument("--four-bit", action="store_true", help="with --lora: the LLM in 4 bits (needs bitsandbytes)")
        sub.add_argument("--frozen-bf16", action="store_true", help="round what does not learn to bf16: half its memory")
        sub.add_argument("--gradient-checkpointing", action="store_true", help="far less memory for a third more time")
        sub.add_argument("--ema", type=float, metavar="DECAY", help="save the mean of the last weights, 0.999 say")
        sub.add_argument("--cache", type=Path, metavar="FOLDER", help="keep the frozen encoder's features there")
        sub.add_argument("--workers", type=int, default=2, help="processes that load data (default: 2)")
        sub.add_argument("--strict", action="store_true", help="stop at the first record that cannot be used")
        sub.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in --out, same settings")

    sub = command("finetune", finetune, "train a model further on your own pictures, masks and texts")
    sub.add_argument("data", type=Path, help="an annotation file, the table of your own folder, or a mixture file (.yaml)")
    sub.add_argument("--from", dest="base", default="tiny", help="tiny (shipped) or the folder of a model (default: tiny)")
    sub.add_argument("--out", type=Path, default=Path("runs/finetuned"), help="the folder (default: runs/finetuned)")
    takes_records(sub)
    sub.add_argument("--minutes", type=float, default=5, help="the budget (default: 5)")
    sub.add_argument("--held-out", type=float, default=0.2, help="share of the records to ask about only (default: 0.2)")
    sub.add_argument("--lr", type=float, default=5e-4, help="the highest learning rate (default: 5e-4)")
    sub.add_argument("--batch-size", type=int, default=4)
    sub.add_argument("--tokens", type=int, help="bound a sample to so many tokens, the image's included")
    sub.add_argument("--strict", action="store_true", help="stop at the first record that cannot be used")
    sub.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in --out, with the same settings")

    sub = command("runs", runs, "compare runs: a table of settings and losses, and their curves")
    sub.add_argument("paths", nargs="*", type=Path, default=[Path("runs")], help="run folders, or folders of them")
    sub.add_argument("--plot", type=Path, metavar="PNG", help="draw the losses, smoothed")
    sub.add_argument("--json", action="store_true", help="one JSON object for each run")

    def takes_scenes(sub: argparse.ArgumentParser, scenes: int) -> None:
        sub.add_argument("--seed", type=int, default=0, help="which scenes (default: 0)")
        sub.add_argument("--scenes", type=int, default=scenes, help=f"how many (default: {scenes})")
        sub.add_argument("--json", action="store_true", help="one JSON object")

    sub = command("eval", evaluate, "measure a model on scenes it was never trained on")
    sub.add_argument("model", help="tiny (shipped) or the folder of a model")
    takes_scenes(sub, 500)
    sub.add_argument("--no-controls", dest="controls", action="store_false", help="leave out which token carries what")

    sub = command("eval-sam", evaluate_sam, "measure the masks of clicks and boxes on scenes that were never trained on")
    sub.add_argument("model", nargs="?", default="tiny", help="tiny (default), vit_b, vit_l, vit_h, classic, or a file")
    takes_scenes(sub, 60)

    sub = command("check", check, "look for faults in data: annotations, masks, pictures; status 1 if there are errors")
    sub.add_argument("data", type=Path, help="an annotation file, the table of your own folder, or a mixture file (.yaml)")
    takes_records(sub)
    sub.add_argument("--sheet", type=Path, metavar="PNG", help="draw a contact sheet of random records")
    sub.add_argument("--fix", type=Path, metavar="OUT", help="write a copy without what has errors; the input stays as it is")
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
