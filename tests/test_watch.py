"""Watchers write what they are told, where others can read it: JSON lines, TensorBoard's files, an offline W&B run."""

import json

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from osprey_nb.train import watch
from osprey_nb.train.trainer import Budget, Objective, fit
from osprey_nb.train.watch import Bar, Board, Log, WeightsAndBiases, watchers


def run(watching, steps=12, name="stage 2: masks"):
    torch.manual_seed(0)
    model = torch.nn.ModuleDict({"projector": torch.nn.Linear(4, 4), "llm": torch.nn.Linear(4, 1)})
    objective = Objective(model, lambda model, batch: model["llm"](model["projector"](batch)).square().mean())
    batches = lambda start: iter([torch.full((8, 4), 1.0 + n) for n in range(start, steps + 1)])  # noqa: E731
    return fit(objective, batches, 1e-2, Budget(steps=steps), name, watching).losses


def test_an_entry_tells_the_step_the_time_and_the_parts(tmp_path):
    losses = run([Log(tmp_path / "log.jsonl")])
    entries = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries] == list(range(1, 13))
    assert [entry["loss"] for entry in entries] == pytest.approx(losses, rel=1e-4)
    assert [entry["samples"] for entry in entries] == [8 * n for n in range(1, 13)]
    assert all(0 <= entry["waited"] <= entry["seconds"] for entry in entries)
    assert [set(entry["norms"]) for entry in entries if entry.get("norms")] == [{"projector", "llm"}] * 2


def test_norms_are_those_of_the_gradient_before_it_is_clipped(tmp_path):
    class Keep(Log):
        def step(self, entry):
            kept.append(entry)

    kept = []
    run([Keep(tmp_path / "x")], steps=1)
    torch.manual_seed(0)
    projector, llm = torch.nn.Linear(4, 4), torch.nn.Linear(4, 1)
    llm(projector(torch.ones(8, 4))).square().mean().backward()
    for name, part in (("projector", projector), ("llm", llm)):
        norm = float(torch.cat([p.grad.flatten() for p in part.parameters()]).norm())
        assert kept[0]["norms"][name] == pytest.approx(norm, rel=2e-2)  # bf16 where the machine has it


def test_tensorboard_reads_the_curves(tmp_path):
    losses = run([Board(tmp_path / "tensorboard")])
    (folder,) = (tmp_path / "tensorboard").iterdir()
    assert folder.name == "stage-2--masks"
    events = EventAccumulator(str(folder))
    events.Reload()
    assert [event.value for event in events.Scalars("loss")] == pytest.approx(losses, rel=1e-5)
    assert {"lr", "samples_per_s", "norm/llm", "norm/projector"} <= set(events.Tags()["scalars"])


def test_weights_and_biases_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    assert any(isinstance(watcher, WeightsAndBiases) for watcher in watchers(tmp_path))
    run([WeightsAndBiases(tmp_path)], steps=2)
    assert list((tmp_path / "wandb").glob("offline-run-*/run-*.wandb"))


def test_nobody_is_logged_in_nothing_is_sent(tmp_path, monkeypatch):
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    assert [type(watcher) for watcher in watchers(tmp_path)] == [Log, Board, Bar]
    assert [type(watcher) for watcher in watchers(tmp_path, progress=False)] == [Log, Board]
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password secret")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert watch.weights_and_biases()
    monkeypatch.setattr(watch, "find_spec", lambda name: None)
    assert not watch.weights_and_biases()


def test_watchers_are_closed_when_a_run_fails(tmp_path):
    log = Log(tmp_path / "log.jsonl")
    with pytest.raises(StopIteration):
        fit(
            Objective(torch.nn.Linear(1, 1), lambda layer, batch: layer(batch).sum()), lambda start: iter([]), 1e-3,
            Budget(steps=1), "none", [log],
        )  # fmt: skip
    assert log.file.closed
