"""`osprey-nb finetune`: a folder of pictures, masks and texts changes what the model says of them."""

import json
import os
import re
import signal

import numpy as np
import pytest
import torch
from PIL import Image

import osprey_nb.train.run as module
from osprey_nb import Osprey
from osprey_nb.cli import main
from osprey_nb.data.mixture import Mixture
from osprey_nb.data.readers import OwnFolder
from osprey_nb.train.finetune import finetune, measure, plain
from osprey_nb.train.trainer import Budget

NAMES = {(220, 40, 40): "a zorp", (40, 60, 220): "a mirk"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Squares on grey: red ones are zorps, blue ones are mirks; no such word was ever trained."""
    folder = tmp_path_factory.mktemp("mine")
    lines = ["image,mask,text"]
    for n in range(10):
        colour = list(NAMES)[n % 2]
        picture, mask = np.full((64, 64, 3), 120, np.uint8), np.zeros((64, 64), np.uint8)
        side = slice(8 + 2 * n, 34 + 2 * n)
        picture[side, 10:40], mask[side, 10:40] = colour, 255
        Image.fromarray(picture).save(folder / f"{n}.png")
        Image.fromarray(mask).save(folder / f"{n}_mask.png")
        lines.append(f"{n}.png,{n}_mask.png,{NAMES[colour]}")
    (folder / "texts.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def tiny_copy():
    return Osprey.from_pretrained("tiny")


@pytest.fixture
def few_steps(monkeypatch):
    """A budget in steps: as long on a slow machine as on a fast one."""
    monkeypatch.setattr("osprey_nb.train.finetune.Budget", lambda seconds: Budget(steps=round(seconds)))


def test_it_learns_new_words_and_says_so(folder, tmp_path, capsys, few_steps):
    arguments = ["finetune", str(folder / "texts.csv"), "--minutes", "1", "--lr", "2e-3"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    result = json.loads((tmp_path / "out" / "run.json").read_text())
    assert result["records"] == {"training": 8, "held out": 2} and result["steps"] == 60 and not result["dropped"]
    before, after = (result[when]["held out"] for when in ("before", "after"))
    assert before["same"]["value"] == 0 and after["same"]["value"] == 1 and after["loss"] < before["loss"] / 5
    assert {example["said"] for example in after["examples"]} <= {"a zorp", "a mirk"}
    assert "fine-tuning, 8 records" in printed
    assert re.search(r"encoder +1,222,240  frozen", printed)
    assert "after, held out" in printed and "100.0%" in printed and "true    a " in printed
    model = Osprey.from_pretrained(tmp_path / "out")
    red = Image.new("RGB", (64, 64), (220, 40, 40))
    assert model.describe(red, [(5, 5, 60, 60)], prompt="What is in <region1>? Using a short phrase.") == ["a zorp"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 2
    assert "already holds a model" in capsys.readouterr().err


def test_bad_input_is_refused_before_the_work(folder, tmp_path, tiny, capsys):
    records = Mixture.of(OwnFolder(folder / "texts.csv"))
    for wrong, message in (
        ({"held_out": 0}, "held_out is 0"), ({"minutes": 0}, "minutes is 0"),
        ({"records": Mixture(records.readers, records.entries[:1])}, "there are 1 records"),
    ):
        with pytest.raises(ValueError, match=message):
            finetune(tiny, out=tmp_path, **{"records": records, **wrong})
    assert main(["finetune", str(folder / "none.csv")]) == 2 and "nothing at" in capsys.readouterr().err
    assert main(["finetune", str(folder / "texts.csv"), "--limit", "1", "--out", str(tmp_path / "x")]) == 2
    assert "there are 1 records" in capsys.readouterr().err and not (tmp_path / "x").exists()


def test_a_broken_picture_is_passed_over_and_counted(folder, tmp_path, capsys, few_steps):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "3.png").write_bytes((tmp_path / "3.png").read_bytes()[:80])
    (tmp_path / "4_mask.png").unlink()
    arguments = ["finetune", str(tmp_path / "texts.csv"), "--minutes", "0.05", "--out"]
    assert main([*arguments, str(tmp_path / "out")]) == 0
    assert "could not be used" in capsys.readouterr().out
    assert main([*arguments, str(tmp_path / "strict"), "--strict"]) == 2


def test_it_goes_on_after_ctrl_c(folder, tmp_path, capsys, few_steps, monkeypatch):
    steps, loss = [], module.osprey_loss

    def counted(model, batch):
        steps.append(torch.is_grad_enabled())  # only while it learns
        if sum(steps) == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return loss(model, batch)

    arguments = ["finetune", str(folder / "texts.csv"), "--minutes", "0.2", "--out", str(tmp_path)]
    assert main([*arguments, "--resume"]) == 2 and "no checkpoint" in capsys.readouterr().err
    monkeypatch.setattr(module, "osprey_loss", counted)
    assert main(arguments) == 130 and "--resume goes on" in capsys.readouterr().err
    monkeypatch.setattr(module, "osprey_loss", loss)
    assert main([*arguments, "--lr", "1e-4", "--resume"]) == 2 and "lr was 0.0005, is 0.0001" in capsys.readouterr().err
    assert main([*arguments, "--resume"]) == 0
    assert json.loads((tmp_path / "run.json").read_text())["steps"] == 12
    assert not (tmp_path / "checkpoints").exists() and len((tmp_path / "log.jsonl").read_text().splitlines()) == 12


def test_a_row_that_is_taken_twice_is_learnt_or_held_out_not_both(folder, tmp_path, tiny_copy, few_steps, monkeypatch):
    records = Mixture.of(OwnFolder(folder / "texts.csv"))
    seen, batches = [], module.batches
    monkeypatch.setattr(module, "batches", lambda training, *rest, **options: seen.append(training) or batches(
        training, *rest, **options))
    twice = Mixture(records.readers, np.concatenate([records.entries, records.entries]))
    result = finetune(tiny_copy, twice, tmp_path, minutes=0.02, progress=False)
    assert result["records"] == {"training": 8, "held out": 2}
    assert len(seen[0]) == 16 and len(np.unique(seen[0].entries, axis=0)) == 8


def test_measure_asks_about_single_regions_only(folder, tiny):
    (record, *_) = Mixture.of(OwnFolder(folder / "texts.csv"))
    two = record.with_turns([*record.turns, ("Is it new?", "no")])
    result = measure(tiny, [record, two], seed=0)
    assert result["same"]["n"] == 2 and len(result["examples"]) == 2 and result["loss"] > 0
    assert plain(" A  zorp. ") == "a zorp"
