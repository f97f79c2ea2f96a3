"""`osprey-nb check, curate`: look at data, and make it."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from .shared import read_records


def check(arguments: argparse.Namespace) -> int:
    from ..data.check import check, contact_sheet, fix

    data = arguments.data
    for path in (arguments.fix, arguments.sheet):
        if path is not None and path.resolve() == data.resolve():
            raise ValueError(f"{path} is the input; give another name, the input is never changed")
    if arguments.fix is not None and arguments.fix.exists():
        raise FileExistsError(f"{arguments.fix} exists already. Give another name: nothing is overwritten.")
    if arguments.fix and (arguments.limit is not None or arguments.fraction is not None):
        raise ValueError("--fix needs every row; leave out --limit and --fraction")
    mixture = read_records(data, arguments.images, arguments.format, arguments.limit, arguments.fraction, arguments.seed,
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


def curate(arguments: argparse.Namespace) -> int:
    from ..data.curate import curate
    from ..data.teachers import Endpoint, Model, Rules, cost, local_model

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
