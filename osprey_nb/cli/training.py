"""`osprey-nb train, finetune, eval, runs`: make models, and measure them."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from dataclasses import replace

from .shared import load_model, quiet, read_records


def train_tiny(arguments: argparse.Namespace) -> int:
    from ..train.tiny import train_tiny

    quiet()
    names = ("minutes", "seed", "device", "start", "resume", "compile")
    train_tiny(out=arguments.out, **{name: getattr(arguments, name) for name in names})
    print(f"wrote {arguments.out}; measure it with: osprey-nb eval {arguments.out}")
    return 0


def train_sam(arguments: argparse.Namespace) -> int:
    from ..train.sam import train_sam

    names = ("minutes", "out", "seed", "device", "start")
    train_sam(**{name: getattr(arguments, name) for name in names})
    print(f"wrote {arguments.out}; measure it with: osprey-nb eval-sam {arguments.out / 'model.safetensors'}")
    return 0


def train_stage(arguments: argparse.Namespace) -> int:
    from accelerate import PartialState

    from ..train.run import How, refuse_a_model, train_stage
    from ..train.stages import PAPER

    refuse_a_model(arguments.out)  # what can be refused is refused before anything is loaded
    how = How(
        arguments.accumulate, arguments.tokens, arguments.workers, arguments.lora, arguments.four_bit,
        arguments.frozen_bf16, arguments.gradient_checkpointing, arguments.ema, arguments.cache, arguments.strict,
    )  # fmt: skip
    stage = PAPER[int(arguments.stage.removeprefix("stage")) - 1]
    given: dict = {"mixture": str(arguments.data)}
    if arguments.batch_size is not None:
        given["batch_size"] = arguments.batch_size
    if arguments.lr is not None:
        given["trains"] = dict.fromkeys(stage.trains, arguments.lr)
    if arguments.epochs is not None or arguments.minutes is not None:
        given |= {"epochs": arguments.epochs, "minutes": arguments.minutes}
    stage = replace(stage, **given)
    main = PartialState().is_main_process
    data = read_records(
        arguments.data, arguments.images, arguments.format, arguments.limit, arguments.fraction, arguments.seed, progress=main
    )
    quiet()
    result = train_stage(
        load_model(arguments.base), stage, data, arguments.out, how, arguments.seed, command_line(), arguments.resume,
        progress=main,
    )  # fmt: skip
    if main:
        print(f"wrote {arguments.out}: {result['steps']:,} steps in {result['minutes']:g} minutes, loss {result['last_loss']}")
        if result["dropped"]:
            print(f"{len(result['dropped']):,} records could not be used; run.json names them, osprey-nb check says more")
    return 0


def finetune(arguments: argparse.Namespace) -> int:
    from ..train.finetune import finetune, format_result
    from ..train.run import refuse_a_model

    refuse_a_model(arguments.out)  # said before anything is loaded
    data = read_records(
        arguments.data, arguments.images, arguments.format, arguments.limit, arguments.fraction, arguments.seed
    )
    quiet()
    names = ("minutes", "held_out", "seed", "lr", "batch_size", "strict", "resume")
    options = {name: getattr(arguments, name) for name in names}
    result = finetune(
        load_model(arguments.base), data, arguments.out, limit=arguments.tokens, command=command_line(), **options
    )
    print(f"{format_result(result)}\n\nwrote {arguments.out}; try: osprey-nb describe IMAGE --box … --model {arguments.out}")
    return 0


def runs(arguments: argparse.Namespace) -> int:
    from ..train.runs import find_runs, plot, table

    found = find_runs(arguments.paths)
    if arguments.json:
        for run in found:
            facts = {"name": run.name, "steps": run.steps, "minutes": run.minutes, "loss": run.loss, "problem": run.problem}
            print(json.dumps(facts | {"record": run.record}, ensure_ascii=False))
    else:
        print(table(found))
    if arguments.plot:
        plot(found, arguments.plot)
        print(f"wrote {arguments.plot}", file=sys.stderr)
    return 0


def evaluate(arguments: argparse.Namespace) -> int:
    from ..evaluate.controls import controls
    from ..evaluate.metrics import format_table
    from ..evaluate.synthetic import evaluate as measure

    model, few = load_model(arguments.model), max(2, arguments.scenes // 2)
    table = measure(model, seed=arguments.seed, scenes=arguments.scenes)
    exchanged = controls(model, seed=arguments.seed, scenes=few) if arguments.controls else {}
    _show_table(arguments, table, "right", {"controls": exchanged} if exchanged else {})
    if exchanged and not arguments.json:
        print(f"\nOne kind of token exchanged at a time, {few} of the scenes\n{format_table(exchanged, 'so')}")
    return 0


def evaluate_sam(arguments: argparse.Namespace) -> int:
    from ..evaluate.segmenting import evaluate_segmenter
    from ..segment import load_segmenter

    return _show_table(arguments, evaluate_segmenter(load_segmenter(arguments.model), arguments.seed, arguments.scenes), "IoU")


def _show_table(arguments: argparse.Namespace, table: dict[str, dict], measure: str, more: dict | None = None) -> int:
    from ..evaluate.metrics import format_table

    if arguments.json:
        of = {name: getattr(arguments, name) for name in ("model", "seed", "scenes")}
        print(json.dumps({**of, "table": table, **(more or {})}))
    else:
        print(f"{arguments.model}, {arguments.scenes} fresh scenes, seed {arguments.seed}\n{format_table(table, measure)}")
    return 0


def command_line() -> str:
    """What was typed."""
    return shlex.join(["osprey-nb", *sys.argv[1:]])
