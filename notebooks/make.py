"""Make the notebooks: `NN_name.py`, the source that people review -> `NN_name.ipynb`, executed, with outputs.

    python notebooks/make.py            all notebooks
    python notebooks/make.py 03         those whose name starts with 03
    python notebooks/make.py --check    make nothing; say what is wrong with the pairs, exit 1 if anything is
    python notebooks/make.py --shake    make nothing; run them as if another processor rounded; say what is printed otherwise

The same source gives the same file as far as the outputs allow: cell ids come from the position, times and
versions are left out, and so is widget state, of no use without its kernel: a widget leaves its picture.
"""

from __future__ import annotations

import argparse
import base64
import difflib
import io
import os
import re
import resource
import sys
import tempfile
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from PIL import Image

HERE = Path(__file__).resolve().parent
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
ROOTS = "home|root|Users|tmp|work|usr|var|opt|mnt|private"
MACHINE_PATH = re.compile(rf"(?<![\w.:/])/(?:{ROOTS})/\S+|[A-Z]:\\\\?Users\\")
WARNING = re.compile(r"\b\w*Warning\b:|^WARNING\b|\[WARNING\]", re.M)
# Before a notebook's first line: every shipped weight changes by about a hundred thousandth, far more than processors differ
# by, and training does without bfloat16, as where the processor has none.
SHAKE = """
import torch
import osprey_nb.segment

torch.cpu._is_avx512_bf16_supported = lambda: False


def shaken(load):
    def loaded(*arguments, **options):
        model, generator = load(*arguments, **options), torch.Generator().manual_seed(0)
        module = getattr(getattr(model, "predictor", None), "model", model)
        for weight in module.parameters() if isinstance(module, torch.nn.Module) else ():
            weight.data *= 1 + 1e-5 * torch.randn(weight.shape, generator=generator)
        return model

    return loaded


osprey_nb.Osprey.from_pretrained = shaken(osprey_nb.Osprey.from_pretrained)
osprey_nb.segment.load_segmenter = shaken(osprey_nb.segment.load_segmenter)
"""


def sources(prefixes: list[str] | None = None) -> list[Path]:
    """The notebooks' sources, in the order of the course."""
    every = sorted(HERE.glob("[0-9][0-9]_*.py"))
    found = [path for path in every if not prefixes or path.stem.startswith(tuple(prefixes))]
    if not found:
        names = ", ".join(path.stem for path in every)
        raise SystemExit(f"no notebook starts with {' or '.join(prefixes)}; there are {names}")
    return found


def read_source(source: Path) -> nbformat.NotebookNode:
    """The notebook of a source, without outputs; ids and metadata depend on nothing but the source."""
    notebook = jupytext.read(source)
    for index, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{index:03d}"
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python", "file_extension": ".py", "mimetype": "text/x-python"},
        }
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def execute(
    notebook: nbformat.NotebookNode, folder: Path = HERE, seconds: int = 600
) -> nbformat.NotebookNode:
    """Run every cell in a fresh kernel, in `folder`. A cell that raises, raises here, with its source."""
    # No history, no start-up files of a user, no network, no progress bars, no colour codes in the outputs.
    with tempfile.TemporaryDirectory() as home:
        quiet = {"IPYTHONDIR": home, "TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1", "NO_COLOR": "1"}
        client = NotebookClient(
            notebook,
            timeout=seconds,
            kernel_name="python3",
            record_timing=False,
            resources={"metadata": {"path": str(folder)}},
        )
        client.execute(env=os.environ | quiet)
    return notebook


def slim(png: str) -> str:
    """A base64 PNG in a palette of 256 colours: a third of the bytes, and a history that stays small."""
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    small = io.BytesIO()
    picture.save(small, "PNG", optimize=True)
    return base64.b64encode(small.getvalue()).decode()


def clean(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Leave out what is stale or private once the kernel is gone: widget state and views, times, versions."""
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = nbformat.from_dict(
        {"name": "python", "file_extension": ".py", "mimetype": "text/x-python"}
    )
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type != "code":
            continue
        kept = []
        for output in cell.outputs:
            data = output.get("data", {})
            if WIDGET_VIEW in data:
                pictures = {kind: value for kind, value in data.items() if kind.startswith("image/")}
                if not pictures:
                    continue
                output["data"], output["metadata"] = nbformat.from_dict(pictures), nbformat.from_dict({})
            elif "image/png" in data:  # the words beside a picture are only the name of its class
                data.pop("text/plain", None)
            if "image/png" in output.get("data", {}):
                output["data"]["image/png"] = slim(output["data"]["image/png"])
            kept.append(output)
        cell.outputs = kept
    return notebook


def make(source: Path) -> Path:
    """Make one notebook beside its source; returns the path of the `.ipynb`."""
    target = source.with_suffix(".ipynb")
    notebook = clean(execute(read_source(source)))
    nbformat.validate(notebook)
    nbformat.write(notebook, target)
    return target


def output_texts(cell: nbformat.NotebookNode) -> list[str]:
    """All text that a reader of this cell's outputs would see."""
    texts = []
    for output in cell.get("outputs", []):
        texts.append(output.get("text", ""))
        data = sorted(output.get("data", {}).items())
        texts += [value for kind, value in data if isinstance(value, str) and "image/" not in kind]
    return texts


def problems(source: Path) -> list[str]:
    """What is wrong with a pair, one sentence each; an empty list when all is well."""
    target = source.with_suffix(".ipynb")
    if not target.exists():
        return [f"{target.name} does not exist: run `make notebooks`"]
    ours, theirs = read_source(source), nbformat.read(target, as_version=4)
    found = []
    same = [(c.cell_type, c.source, c.metadata.get("tags", [])) for c in ours.cells]
    if same != [(c.cell_type, c.source, c.metadata.get("tags", [])) for c in theirs.cells]:
        found.append(f"{source.name} and {target.name} differ: change the .py, then run `make notebooks`")
    if "widgets" in theirs.metadata:
        found.append(f"{target.name} holds widget state, stale without its kernel")
    expected = 1
    for index, cell in enumerate(theirs.cells):
        if cell.cell_type != "code":
            continue
        where = f"{target.name}, cell {index}"
        if cell.execution_count != expected:
            found.append(
                f"{where}: not executed in order: its count is {cell.execution_count}, not {expected}"
            )
        expected += 1
        for output in cell.outputs:
            if output.output_type == "error":
                found.append(f"{where}: holds an error, {output.ename}")
            if output.get("name") == "stderr":
                found.append(f"{where}: holds text of stderr: {output.text[:80]!r}")
            if WIDGET_VIEW in output.get("data", {}):
                found.append(f"{where}: holds a widget view, empty without its kernel")
        for text in output_texts(cell):
            for pattern, what in ((MACHINE_PATH, "a path of one machine"), (WARNING, "a warning")):
                if match := pattern.search(text):
                    found.append(f"{where}: shows {what}: {match[0][:80]!r}")
    return found


def hanging_on_rounding(source: Path) -> list[str]:
    """What a notebook prints otherwise than its pair shows once it is shaken, line by line: − as shown, + as printed now."""
    notebook = read_source(source)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    first.source = SHAKE + first.source
    with tempfile.TemporaryDirectory() as folder:
        clean(execute(notebook, Path(folder)))
    pairs = zip(nbformat.read(source.with_suffix(".ipynb"), as_version=4).cells, notebook.cells, strict=True)
    found = []
    for index, (shown, now) in enumerate(pairs):
        before, after = ("".join(output_texts(cell)).splitlines() for cell in (shown, now))
        lines = [line for line in difflib.ndiff(before, after) if line[0] in "-+"]
        found += [f"{source.name}, cell {index}: {line}" for line in lines]
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="how the names start, for instance 03 (default: all)")
    parser.add_argument("--check", action="store_true", help="make nothing, say what is wrong with the pairs")
    parser.add_argument("--shake", action="store_true", help="make nothing, say what hangs on how a processor rounds")
    options = parser.parse_args(arguments)
    failed = False
    for source in sources(options.names):
        if options.shake:
            found = hanging_on_rounding(source)
            failed = failed or bool(found)
            print("\n".join([f"{source.stem}: {'other words' if found else 'the same words'}", *found]), flush=True)
            continue
        if not options.check:
            begin = time.perf_counter()
            make(source)
            seconds = time.perf_counter() - begin
            # The largest kernel so far: make one notebook alone to measure it.
            kilobyte = 1024 if sys.platform == "darwin" else 1
            memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / kilobyte / 1024
            print(f"{source.stem}.ipynb: {seconds:.0f} s, {memory:.0f} MB at most", flush=True)
        for problem in problems(source):
            failed = True
            print(problem, file=sys.stderr)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
