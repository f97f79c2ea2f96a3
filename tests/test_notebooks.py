"""The notebooks run, agree with their sources, and read well without a kernel."""

import importlib.util
import re
import shutil
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

FOLDER = Path(__file__).parents[1] / "notebooks"
SOURCES = sorted(FOLDER.glob("[0-9][0-9]_*.py"))
SECONDS = 600  # for one cell; the slowest takes 40, more where other work goes on

spec = importlib.util.spec_from_file_location("make_notebooks", FOLDER / "make.py")
make = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make)

each = pytest.mark.parametrize("source", SOURCES, ids=[path.stem for path in SOURCES])


def printed(notebook) -> list[str]:
    """The text of every output, cell by cell; the numbers of a picture's bytes are no text."""
    return ["".join(make.output_texts(cell)) for cell in notebook.cells]


@each
def test_it_runs_from_its_source_and_prints_what_the_pair_shows(source, tmp_path):
    copy = shutil.copy(source, tmp_path)
    fresh = make.clean(make.execute(make.read_source(Path(copy)), folder=tmp_path, seconds=SECONDS))
    assert [p.name for p in tmp_path.iterdir()] == [source.name], "a notebook leaves no files behind"
    shown = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    assert printed(fresh) == printed(shown), "the outputs are old: run `make notebooks`"
    pictures = [len(re.findall("image/png", str(cell.get("outputs", "")))) for cell in fresh.cells]
    assert pictures == [len(re.findall("image/png", str(cell.get("outputs", "")))) for cell in shown.cells]


@each
def test_the_pair_agrees_and_is_clean(source):
    assert make.problems(source) == []


@each
def test_it_keeps_the_manners_of_the_course(source):
    text = "\n".join(cell.source for cell in jupytext.read(source).cells if cell.cell_type == "markdown")
    opening = text.split("\n## ")[0]
    for word in ("You will learn", "You need first", "Time", "Memory", "Measured", "2026-"):
        assert word in opening
    assert "Predict" in text and "changes a belief" in text and "on purpose" in text
    assert "static()" in source.read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert target.startswith("https://") or (FOLDER / target).exists(), f"a link to nowhere: {target}"
    for name in re.findall(r"`(osprey_nb/[\w/]+\.py)`", text):
        assert (FOLDER.parent / name).exists(), f"names a module that is not there: {name}"


@each
def test_shipped_checks_wait_for_the_reader(source):
    shown = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    verdicts = [printed(shown)[i] for i, cell in enumerate(shown.cells) if cell.source.startswith("check(")]
    assert verdicts and all("○" in verdict for verdict in verdicts)


def test_the_things_that_notebook_03_names_are_where_it_points():
    from osprey_nb.data.scenes import make_scene

    scene = make_scene(3, size=128, split="eval")
    at = {thing.kind: thing.mask for thing in scene.objects}
    assert at["clock"][62, 55] and at["snail"][92, 112]
    assert scene.objects[0].kind == "clock"


# --- the maker itself ------------------------------------------------------------------------------------


SMALL = """# %% [markdown]
# # Small

# %%
2 + 3

# %%
import ipywidgets
ipywidgets.IntSlider()

# %%
print("done")
"""


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    source = tmp_path_factory.mktemp("pair") / "90_small.py"
    source.write_text(SMALL)
    make.make(source)
    return source


def test_a_pair_is_made(pair):
    notebook = nbformat.read(pair.with_suffix(".ipynb"), as_version=4)
    assert [cell.id for cell in notebook.cells] == ["cell-000", "cell-001", "cell-002", "cell-003"]
    assert [printed(notebook)[i] for i in (1, 3)] == ["5", "done\n"]
    assert notebook.cells[2].outputs == [] and "widgets" not in notebook.metadata
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert make.problems(pair) == []


def test_making_twice_gives_the_same_bytes(pair):
    before = pair.with_suffix(".ipynb").read_bytes()
    make.make(pair)
    assert pair.with_suffix(".ipynb").read_bytes() == before


def spoil_source(n):
    n.cells[1].source = "2 + 4"


def spoil_order(n):
    n.cells[1].execution_count = 7


def spoil_error(n):
    n.cells[1].outputs = [nbformat.v4.new_output("error", ename="KeyError", evalue="x", traceback=[])]


def spoil_stderr(n):
    n.cells[1].outputs = [nbformat.v4.new_output("stream", name="stderr", text="Loading weights: 3 %")]


def spoil_warning(n):
    n.cells[1].outputs = [nbformat.v4.new_output("stream", name="stdout", text="x.py:3: FutureWarning: old")]


def spoil_path(n):
    n.cells[1].outputs = [nbformat.v4.new_output("stream", name="stdout", text="read /home/ann/data/x.png")]


def spoil_view(n):
    n.cells[1].outputs = [nbformat.v4.new_output("display_data", {make.WIDGET_VIEW: {"model_id": "1"}})]


def spoil_state(n):
    n.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {}}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_source, "differ"),
        (spoil_order, "not executed in order"),
        (spoil_error, "KeyError"),
        (spoil_stderr, "stderr"),
        (spoil_warning, "a warning"),
        (spoil_path, "path of one machine"),
        (spoil_view, "widget view"),
        (spoil_state, "widget state"),
    ],
)
def test_what_is_wrong_with_a_pair_is_named(pair, tmp_path, spoil, message):
    source = Path(shutil.copy(pair, tmp_path))
    notebook = nbformat.read(pair.with_suffix(".ipynb"), as_version=4)
    spoil(notebook)
    nbformat.write(notebook, source.with_suffix(".ipynb"))
    found = make.problems(source)
    assert len(found) == 1 and re.search(message, found[0]), found


def test_a_missing_pair_and_a_failing_cell_are_named(tmp_path):
    source = tmp_path / "91_broken.py"
    source.write_text("# %%\n1 / 0\n")
    assert "does not exist" in make.problems(source)[0]
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        make.make(source)
    assert not source.with_suffix(".ipynb").exists()


HANGS = """# %% [markdown]
# # On the last digit

# %%
from osprey_nb import Osprey
from osprey_nb.segment import load_segmenter

weights = Osprey.from_pretrained("tiny").projector.state_dict().values()
total = sum(weight.abs().sum() for weight in weights)
print(total > 10)

# %%
print([weight.flatten()[0].item() for weight in weights])

# %%
print(load_segmenter().predictor.model.mask_decoder.iou_token.weight[0, :4].tolist())
"""


def test_what_hangs_on_rounding_is_named(tmp_path, capsys, monkeypatch):
    source = tmp_path / "92_hangs.py"
    source.write_text(HANGS)
    make.make(source)
    monkeypatch.setattr(make, "HERE", tmp_path)
    assert make.main(["--shake"]) == 1
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == "92_hangs: other words"
    named = [re.match(r"92_hangs.py, cell (\d): ([-+])", line).groups() for line in lines]
    assert named == [("2", "-"), ("2", "+"), ("3", "-"), ("3", "+")]
    assert make.problems(source) == [], "the pair is as it was"


def test_the_command(capsys):
    with pytest.raises(SystemExit, match="no notebook starts with 77"):
        make.main(["77", "--check"])
    assert make.main(["03", "--check"]) == 0
    assert capsys.readouterr().out == ""
