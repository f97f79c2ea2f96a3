"""osprey_nb.train.runs and the figures of osprey_nb.diagrams.training."""

import io
import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from osprey_nb import diagrams
from osprey_nb.diagrams.training import calm
from osprey_nb.train.runs import differences, find_runs, plot, table


def entry(stage: str, step: int, loss: float, **more) -> dict:
    return {"stage": stage, "step": step, "loss": loss, "lr": 1e-3, **more}


def line(stage: str, step: int, loss: float, **more) -> str:
    return json.dumps(entry(stage, step, loss, **more)) + "\n"


RECORD = {
    "command": "osprey-nb train tiny", "date": "2026-11-25", "commit": "7731904ba4df5dd2380c9796be29612842eadd9b-dirty",
    "seed": 0,
    "machine": {"device": "AMD EPYC", "cores": 2}, "config": {"llm": {"layers": 4}, "levels": [1, 2]}, "minutes": 69.58,
    "stages": {"stage 0": {"steps": 1200, "last_loss": 0.1}, "stage 1": {"steps": 34, "last_loss": 0.75}},
}  # fmt: skip


def write(folder, record=None, log=None):
    folder.mkdir(parents=True)
    if record is not None:
        (folder / "run.json").write_text(record if isinstance(record, str) else json.dumps(record), encoding="utf-8")
    if log is not None:
        (folder / "log.jsonl").write_text(log, encoding="utf-8")
    return folder


def cells(text: str, name: str) -> str:
    (found,) = [row for row in text.splitlines() if row.startswith(name)]
    return found


def test_runs_are_found_in_order_and_each_once(tmp_path):
    write(tmp_path / "many" / "b", RECORD)
    write(tmp_path / "many" / "a", log=line("only", 1, 2.0))
    write(tmp_path / "many" / "no run")
    (tmp_path / "many" / "notes.txt").write_text("hello")
    single = write(tmp_path / "single", RECORD)
    runs = find_runs([single, tmp_path / "many", str(single)])
    assert [run.name for run in runs] == ["single", "a", "b"]
    write(tmp_path / "other" / "b", RECORD)
    names = [run.name for run in find_runs([tmp_path / "many", tmp_path / "other"])]
    assert names == ["a", "many/b", "other/b"]  # two folders of one name are told apart
    for nothing in (tmp_path / "many" / "no run", tmp_path / "not there"):
        with pytest.raises(FileNotFoundError, match=nothing.name):
            find_runs([single, nothing])


def test_a_finished_run_in_the_table(tmp_path):
    (run,) = find_runs([write(tmp_path / "done", RECORD)])
    row = cells(table([run]), "done")
    assert row.split() == ["done", "2026-11-25", "AMD", "EPYC,", "2", "cores", "0", "1,234", "69.6", "0.75", "7731904-dirty"]


def test_a_fine_tuned_run(tmp_path):
    record = {"date": "2026-11-24", "seed": 3, "minutes": 2.5, "steps": 77, "records": {"training": 8}, "before": {}}
    (run,) = find_runs([write(tmp_path / "mine", record, line("fine-tuning", 76, 3.0) + line("fine-tuning", 77, 1.0))])
    assert (run.steps, run.minutes) == (77, 2.5)
    assert run.loss == pytest.approx((0.5 * 3 + 1) / 1.5)  # a short stage is smoothed over two steps
    assert "–" in cells(table([run]), "mine")  # no machine is known


def test_a_run_that_was_killed(tmp_path):
    log = line("one", 1, 4.0, seconds=30.0) + line("one", 2, 3.0, seconds=60.0) + line("two", 1, 2.0, seconds=60.0)
    log += '7\n{"stage": "two", "step": 2, "loss": null}\n{"stage": "two", "step": 2, "lo'
    (run,) = find_runs([write(tmp_path / "going", log=log)])
    assert [e["loss"] for e in run.entries] == [4, 3, 2]
    assert (run.steps, run.minutes, run.loss) == (3, 2.0, 2.0)
    assert "still going, or stopped" in cells(table([run]), "going")
    (old,) = find_runs([write(tmp_path / "old", log=line("one", 1, 4.0))])
    assert old.minutes is None and old.steps == 1


@pytest.mark.parametrize("broken", ['{"seed": 0,', "[1, 2]", ""])
def test_a_broken_record_is_named(tmp_path, broken):
    runs = find_runs([write(tmp_path / "broken", broken, line("one", 1, 4.0)), write(tmp_path / "whole", RECORD)])
    assert "run.json can't be read" in cells(table(runs), "broken")
    assert runs[0].loss == 4.0 and differences(runs) == {}


def test_only_what_differs(tmp_path):
    other = json.loads(json.dumps(RECORD)) | {"seed": 1, "date": "2026-12-01", "minutes": 3, "extra": "x\n\x1b[31my"}
    other["config"]["llm"]["layers"] = 8
    folders = [write(tmp_path / "a", RECORD), write(tmp_path / "b", other), write(tmp_path / "c", log=line("one", 1, 1.0))]
    runs = find_runs(folders)
    found = differences(runs)
    assert found == {"seed": [0, 1, None], "config.llm.layers": [4, 8, None], "extra": [None, other["extra"], None]}
    text = table(runs)
    assert cells(text, "a").endswith("config.llm.layers 4")  # the seed has its column
    assert cells(text, "b").endswith("config.llm.layers 8, extra x [31my")  # nothing that a terminal obeys
    assert differences(runs[:1]) == {}


def test_many_differences_are_counted(tmp_path):
    records = [{"only here": 1} | {f"k{i}": value for i in range(9)} for value in (0, 1)]
    del records[1]["only here"]
    runs = find_runs([write(tmp_path / f"run {i}", record) for i, record in enumerate(records)])
    assert cells(table(runs), "run 0").endswith("k0 0, k1 0, k2 0, k3 0, k4 0, 5 more")  # first what both have


def test_plot_writes_a_png(tmp_path):
    log = "".join(line("one", i, 1 / i) for i in range(1, 50))
    runs = find_runs([write(tmp_path / r"a $\frac{", log=log), write(tmp_path / "b", RECORD)])
    plot(runs, tmp_path / "runs.png")
    assert Image.open(tmp_path / "runs.png").format == "PNG"
    with pytest.raises(ValueError, match="no run has an entry"):
        plot(runs[1:], tmp_path / "none.png")


# --- the figures


def training(*stages: tuple[str, int], every: int = 10) -> list[dict]:
    return [
        entry(
            name, i, 2.0 + np.cos(i), seconds=0.5 * i, samples=8 * i, waited=0.1 * i, spent=i / count,
            norms={"llm": 1.0 * i, "projector": 2.0} if i % every == 1 else {},
        )
        for name, count in stages
        for i in range(1, count + 1)
    ]  # fmt: skip


def test_smoothed_is_a_mean_from_the_first_value_on():
    assert diagrams.smoothed([5.0] * 40) == pytest.approx([5.0] * 40)
    values = np.random.default_rng(0).normal(size=30)
    weights = 0.95 ** np.arange(30)[::-1]
    assert diagrams.smoothed(values)[-1] == pytest.approx(weights @ values / weights.sum())
    np.testing.assert_array_equal(diagrams.smoothed(values, decay=0), values)
    assert len(diagrams.smoothed([])) == 0
    with pytest.raises(ValueError, match="below 1"):
        diagrams.smoothed(values, decay=1)


def test_stages_stand_one_after_another():
    figure = diagrams.training_figure(training(("first", 30), (r"second $\frac{", 20)))
    figure.savefig(io.BytesIO())
    loss, norms, rate = figure.axes
    x, y = loss.lines[0].get_xdata(), loss.lines[0].get_ydata()
    assert np.isnan(y[30]) and x[29] == 30 and x[31] == 31 and x[-1] == 50  # broken between them, counted on
    np.testing.assert_allclose(loss.lines[1].get_ydata()[:30], calm(y[:30]))
    assert [text.get_text() for text in figure.texts] == ["first", r"second $\frac{"]
    assert norms.get_yscale() == "log" and [text.get_text() for text in norms.get_legend().get_texts()] == ["projector", "llm"]
    (llm,) = [line for line in norms.lines if line.get_label() == "llm"]
    np.testing.assert_array_equal(llm.get_xdata(), [1, 11, 21, np.nan, 31, 41])
    np.testing.assert_array_equal(llm.get_ydata(), [1, 11, 21, np.nan, 1, 11])
    assert rate.get_xlabel() == "step" and rate.lines[0].get_ydata()[0] == 1e-3


def test_old_logs_one_step_and_none_are_drawn():
    old = [{key: e[key] for key in ("stage", "step", "loss", "lr")} for e in training(("first", 5))]
    assert [axes.get_title(loc="left") for axes in diagrams.training_figure(old).axes] == ["loss", "learning rate"]
    zero = [entry("a", 1, 0.0)]
    for entries in ([], old[:1], zero, training(("a", 1), ("b", 1))):
        diagrams.training_figure(entries).savefig(io.BytesIO())
    alone = diagrams.training_figure(training(("a", 1))).axes[0].lines[1]
    assert alone.get_marker() == "."  # a line through one point cannot be seen


def test_a_long_run_is_thinned_and_loses_no_peak():
    entries = training(("first", 15_000), ("second", 5_000))
    entries[7777]["loss"], entries[12345]["loss"] = 50.0, 0.01
    figure = diagrams.training_figure(entries)
    for axes in figure.axes:
        assert max(len(line.get_xdata()) for line in axes.lines) < 3000
    raw = figure.axes[0].lines[0]
    values = dict(zip(raw.get_xdata(), raw.get_ydata(), strict=True))
    assert values[7778] == 50.0 and values[12346] == 0.01 and 20_000 in values
    assert np.isnan(raw.get_ydata()).sum() == 1


def test_many_short_stages_keep_their_names_on_the_sheet():
    figure = diagrams.training_figure(training(*[(f"stage {i}: a name of some length", 12) for i in range(6)]))
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.texts]
    assert len(boxes) == 6
    for i, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])


def test_runs_figure():
    runs = {f"run {i}": training(("first", 20 + i), ("second", 10)) for i in range(10)}
    (axes,) = diagrams.runs_figure(runs | {"empty": []}).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(runs)
    curves = [line for line in axes.lines if not line.get_label().startswith("_")]
    assert max(Counter((line.get_color(), str(line.get_linestyle())) for line in curves).values()) == 1
    np.testing.assert_allclose(curves[0].get_ydata()[:20], calm([e["loss"] for e in runs["run 0"][:20]]))
    dots = axes.lines[1]
    np.testing.assert_array_equal(dots.get_xdata(), [1, 21])
    with pytest.raises(ValueError, match="at least one run"):
        diagrams.runs_figure({"empty": []})


def test_rates_look_back_twenty_seconds():
    slow = [entry("a", i, 1.0, seconds=10.0 * i, samples=i, waited=10.0 * i, spent=0.001 * i) for i in range(1, 6)]
    fast = [
        entry("a", 5 + i, 1.0, seconds=50 + i, samples=5 + 4 * i, waited=50 + 0.25 * i, spent=0.005 + 0.01 * i)
        for i in range(1, 31)
    ]
    now = diagrams.rates(slow + fast)
    assert now["samples_per_s"] == pytest.approx(4) and now["waiting"] == pytest.approx(0.25)
    assert now["seconds_left"] == pytest.approx((1 - 0.305) / 0.01)


def test_rates_of_the_present_stage_a_first_step_and_a_resume():
    first = entry("b", 1, 1.0, seconds=2.0, samples=8, waited=1.0, spent=0.5)
    now = diagrams.rates([*training(("a", 30)), first])
    assert now == {"samples_per_s": 4.0, "waiting": 0.5, "seconds_left": 2.0}
    unknown = {"samples_per_s": None, "waiting": None, "seconds_left": None}
    resumed = [entry("b", i, 1.0, seconds=100.0 + i, samples=8 * (i - 50), waited=0.0, spent=i / 100) for i in (51, 52)]
    assert diagrams.rates(resumed[:1]) == unknown  # samples count from the resume, seconds from the beginning
    assert diagrams.rates(resumed)["samples_per_s"] == pytest.approx(8)
    assert diagrams.rates([]) == diagrams.rates([entry("a", 1, 1.0)]) == unknown
    done = entry("b", 1, 1.0, seconds=2.0, samples=8, waited=1.0, spent=1.01)
    assert diagrams.rates([done])["seconds_left"] == 0
