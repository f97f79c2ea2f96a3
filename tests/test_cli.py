"""The console script: what goes in, what comes out, and one clear line for every mistake. Answers are not judged here."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import osprey_nb
import osprey_nb.everything
from osprey_nb import cli, doctor
from osprey_nb.cli import describing
from osprey_nb.data.scenes import make_scene
from osprey_nb.train import machines
from osprey_nb.train.language import train_tokenizer
from osprey_nb.train.machines import fast_bf16

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small model with random weights, saved as a person would."""
    torch.manual_seed(0)
    config = osprey_nb.OspreyConfig.preset("tiny")
    config.vision_config.dims, config.vision_config.depths = (8, 16, 24, 32), (1, 1, 1, 1)
    model = osprey_nb.Osprey(config).eval()
    scenes = [make_scene(i) for i in range(20)]
    model.processor = osprey_nb.OspreyProcessor(config, train_tokenizer(scenes, config.text_config.vocab_size, 0))
    path = tmp_path_factory.mktemp("model")
    model.save_pretrained(path)
    return path


@pytest.fixture
def picture(tmp_path):
    """A scene as a PNG, and the mask of its first object."""
    scene = make_scene(7, split="eval")
    Image.fromarray(scene.image).save(tmp_path / "scene.png")
    Image.fromarray(scene.objects[0].mask).save(tmp_path / "mask.png")
    return tmp_path


def fails(capsys, *argv) -> str:
    """The one line that a mistake prints."""
    assert cli.main([str(word) for word in argv]) == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.count("\n") == 1 and "Traceback" not in output.err
    return output.err


def test_describe_keeps_the_order_of_the_command_line(folder, picture, capsys):
    regions = ["--box", "0,0,60,60", "--mask", picture / "mask.png", "--polygon", "70,70,120,70,120,120", "--box", "9,9,99,99"]
    argv = ["describe", picture / "scene.png", *regions, "--model", folder, "--json"]
    assert cli.main([str(word) for word in argv]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["region"] for line in lines] == [1, 2, 3, 4]
    assert [line["input"] for line in lines] == ["box", "mask", "polygon", "box"]

    model = osprey_nb.Osprey.from_pretrained(folder)
    mask = np.asarray(Image.open(picture / "mask.png"))
    expected = model.describe(picture / "scene.png", [(0, 0, 60, 60), mask, [[70, 70, 120, 70, 120, 120]], (9, 9, 99, 99)])
    assert [line["text"] for line in lines] == expected


def test_describe_in_words_and_in_detail(folder, picture, capsys):
    argv = ["describe", str(picture / "scene.png"), "--box", "0,0,60,60", "--model", str(folder)]
    model = osprey_nb.Osprey.from_pretrained(folder)
    for detail, extra in (("short", []), ("detailed", ["--detail"])):
        assert cli.main(argv + extra) == 0
        (expected,) = model.describe(picture / "scene.png", [(0, 0, 60, 60)], detail=detail)
        assert capsys.readouterr().out.strip() == f"region 1 (box): {expected}".strip()


def test_describe_a_point_and_everything(folder, picture, capsys):
    scene, model = picture / "scene.png", ["--model", str(folder)]
    argv = ["describe", str(scene), "--box", "0,0,60,60", "--point", "64,64", "--segmenter", "classic", *model]
    assert cli.main([*argv, "--json"]) == 0
    box, point = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    classic = osprey_nb.segment.load_segmenter("classic")
    loaded = osprey_nb.Osprey.from_pretrained(folder)
    expected = osprey_nb.everything.describe_click(scene, (64, 64), loaded, classic)
    assert box["text"] == loaded.describe(scene, [(0, 0, 60, 60)])[0] and point["input"] == "point"
    assert point["regions"] == expected.to_json()["regions"] and expected.texts
    assert cli.main(argv) == 0
    assert str(expected).splitlines()[-1] in capsys.readouterr().out

    argv = ["describe", str(scene), "--everything", "--segmenter", "classic", *model, "--png", str(picture / "all.png")]
    assert cli.main(argv) == 0
    table = capsys.readouterr().out.splitlines()
    found = osprey_nb.describe_everything(scene, loaded, classic)
    assert all(line.endswith(text) for line, text in zip(table[1:], found.lines(), strict=True))
    assert Image.open(picture / "all.png").width > 300
    assert cli.main([*argv, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(found.to_json()))


def test_describe_a_folder(folder, picture, capsys, tmp_path):
    argv = ["describe", str(picture), "--everything", "--segmenter", "classic", "--model", str(folder)]
    out = tmp_path / "all.jsonl"
    assert cli.main([*argv, "--out", str(out)]) == 0
    assert "2 described, 0 broken, 0 there before" in capsys.readouterr().out
    assert [json.loads(line)["image"] for line in out.read_text().splitlines()] == ["mask.png", "scene.png"]
    assert cli.main([*argv, "--out", str(out)]) == 0
    assert "0 described, 0 broken, 2 there before" in capsys.readouterr().out
    assert "--png is for one picture" in fails(capsys, *argv, "--png", "a.png")
    assert "--out is for a folder" in fails(capsys, "describe", picture / "scene.png", "--everything", "--out", out)
    assert "go with --everything" in fails(capsys, "describe", picture / "scene.png", "--box", "0,0,9,9", "--png", "a.png")
    assert "finds its own regions" in fails(capsys, "describe", picture / "scene.png", "--everything", "--box", "0,0,9,9")
    assert "(900, 1) lies outside" in fails(capsys, "describe", picture / "scene.png", "--point", "900,1")


def test_eval_sam(capsys):
    assert cli.main(["eval-sam", "classic", "--scenes", "2", "--json"]) == 0
    table = json.loads(capsys.readouterr().out)["table"]
    assert table["object, box"]["n"] == table["object, one click"]["n"] > 3 and table["object, box"]["goal"] == 0.92
    assert cli.main(["eval-sam", "--scenes", "2"]) == 0
    assert "part, best of three" in capsys.readouterr().out
    assert "No weights at nothing.pth" in fails(capsys, "eval-sam", "nothing.pth")


def test_train_sam_refuses(capsys, tmp_path):
    assert "Give at least 1" in fails(capsys, "train", "sam", "--minutes", 0.1)
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert "already holds a model" in fails(capsys, "train", "sam", "--out", tmp_path)


def test_mistakes_of_describe(folder, picture, capsys):
    scene, box = picture / "scene.png", ("--box", "0,0,60,60")
    assert "no region given; point with --mask" in fails(capsys, "describe", scene)
    assert "no image at" in fails(capsys, "describe", picture / "nowhere.png", *box)
    assert "leaves the image" in fails(capsys, "describe", scene, "--box", "0,0,999,60")
    assert "region 2" in fails(capsys, "describe", scene, *box, "--box", "60,60,0,0")
    assert "no mask of region 1" in fails(capsys, "describe", scene, "--mask", "nowhere.png")
    assert "4 numbers" in fails(capsys, "describe", scene, "--polygon", "1,2,3,4")
    assert "no model in" in fails(capsys, "describe", scene, *box, "--model", picture)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "COMMAND"),
        (["describe", "x.png", "--box", "1,2,three,4"], "no list of numbers"),
        (["train", "huge"], "invalid choice: 'huge'"),
        (["eval", "tiny", "--seed", "x"], "invalid int"),
        (["describe", "x.png", "--bo", "1,2,3,4"], "unrecognized arguments: --bo"),
    ],
)
def test_a_command_line_that_cannot_be_read(argv, words, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(argv)
    assert end.value.code == 2 and words in capsys.readouterr().err


@pytest.mark.parametrize("in_a_clone", [True, False])
def test_demo(folder, tmp_path, capsys, monkeypatch, in_a_clone):
    if not in_a_clone:
        monkeypatch.setattr(describing, "ROOT", tmp_path)
    out = tmp_path / "demo.png"
    assert cli.main(["demo", "3", "--out", str(out), "--model", str(folder)]) == 0
    printed = capsys.readouterr().out
    scene = make_scene(3, 384, "eval", "all")
    for number, thing in enumerate(scene.objects, start=1):
        assert f"region {number}: " in printed and f"drawn there: {thing.kind}" in printed
    assert "synthetic drawings only" in printed
    assert np.asarray(Image.open(out).convert("RGB")).std() > 20


def test_demo_of_a_picture_that_is_not_there(folder, capsys):
    assert "no picture 4000; data_samples has 0 to" in fails(capsys, "demo", "4000", "--model", folder)


def test_eval_prints_a_table_or_json(folder, capsys):
    argv = ["eval", str(folder), "--seed", "5", "--scenes", "2"]
    assert cli.main([*argv, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["seed"] == 5 and result["scenes"] == 2 and 0 <= result["table"]["kind"]["value"] <= 1
    assert 0 <= result["controls"]["mask token exchanged: kind follows"]["value"] <= 1
    assert cli.main(argv) == 0
    table = capsys.readouterr().out
    assert "2 fresh scenes, seed 5" in table and "colour" in table and "95 % interval" in table
    assert "One kind of token exchanged at a time" in table and "spatial token zero" in table
    assert cli.main([*argv, "--no-controls"]) == 0
    assert "exchanged" not in capsys.readouterr().out


def test_train_passes_its_options_on(monkeypatch, tmp_path, capsys):
    import osprey_nb.train.tiny as tiny

    calls = []
    monkeypatch.setattr(tiny, "train_tiny", lambda **options: calls.append(options))
    argv = ["train", "tiny", "--minutes", "3", "--out", str(tmp_path), "--seed", "4", "--device", "cpu"]
    assert cli.main(argv) == 0
    options = {"minutes": 3.0, "out": tmp_path, "seed": 4, "device": "cpu", "start": None, "resume": False, "compile": False}
    assert calls == [options]
    assert f"osprey-nb eval {tmp_path}" in capsys.readouterr().out


def test_train_refuses_a_folder_in_use_and_a_short_budget(folder, tmp_path, capsys):
    assert "already holds a model" in fails(capsys, "train", "tiny", "--out", folder)
    assert "minutes is 0.1" in fails(capsys, "train", "tiny", "--minutes", "0.1", "--out", tmp_path)


def test_fetch(monkeypatch, tmp_path, capsys):
    from osprey_nb import checkpoint

    assert "Unknown release 'osprey-8b'. Known: osprey-7b" in fails(capsys, "fetch", "osprey-8b")
    calls = []
    monkeypatch.setattr(checkpoint, "fetch", lambda name, out: calls.append((name, out)))
    assert cli.main(["fetch", "osprey-7b", "--out", str(tmp_path)]) == 0
    assert calls == [("osprey-7b", tmp_path)] and f"--model {tmp_path}" in capsys.readouterr().out


def test_lab_opens_the_first_notebook_on_this_machine_only(monkeypatch, tmp_path, capsys):
    calls = []
    monkeypatch.setattr(describing.subprocess, "call", lambda command: calls.append(command) or 0)
    assert cli.main(["lab", "--no-browser"]) == 0
    command = calls[0]
    assert command[:3] == [sys.executable, "-m", "jupyterlab"] and command[-1] == "--no-browser"
    assert "--ip=127.0.0.1" in command and any(word.endswith("=/lab/tree/notebooks/00_first_look.ipynb") for word in command)
    assert not any("token" in word for word in command)
    for user, wanted in ((0, True), (1000, False)):  # JupyterLab refuses root unless told; in a container one is root
        monkeypatch.setattr(describing.os, "geteuid", lambda user=user: user)
        capsys.readouterr()
        cli.main(["lab"])
        assert ("--allow-root" in calls[-1]) == wanted == ("you are root" in capsys.readouterr().err)

    monkeypatch.setattr(describing, "ROOT", tmp_path)
    assert "make lab" in fails(capsys, "lab")


def test_doctor_reports_what_is_there_and_what_is_not(folder, tmp_path, monkeypatch, capsys):
    runs = tmp_path / "runs"
    runs.mkdir()
    (runs / "mine").symlink_to(folder)
    found = {finding.subject: finding for finding in doctor.examine(runs)}
    assert found["torch"].text == torch.__version__.split("+")[0] and found["torch"].fine
    assert found[str(runs / "mine")].text.endswith("MB") and found[str(runs / "mine")].fine
    assert {"cpu", "memory", "osprey-7b", "tiny (shipped)"} <= set(found)

    monkeypatch.setattr(doctor, "requires", lambda name: ["numpy>=99", "no-such-library>=1"])
    monkeypatch.setattr(doctor, "HERE", tmp_path)
    assert cli.main(["doctor"]) == 1
    printed = capsys.readouterr().out
    assert "but >=99 is needed" in printed and "no-such-library" in printed
    assert "missing; make it with: osprey-nb train tiny" in printed


def test_the_installed_script(picture):
    command = [sys.executable, "-m", "osprey_nb.cli", "describe", str(picture / "scene.png"), "--box", "9,9,1,1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("osprey-nb: the box of region 1") and done.stderr.count("\n") == 1


def test_a_stage_of_the_paper_on_own_records(folder, tmp_path, capsys):
    data = ["osprey_short_form.json", "--images", "images"]
    data = [str(ROOT / "data_samples" / data[0]), "--images", str(ROOT / "data_samples" / data[2])]
    base = ["train", "stage2", *data, "--from", str(folder), "--batch-size", "4", "--limit", "8", "--workers", "0"]
    out, half = tmp_path / "two", ["--frozen-bf16"] * fast_bf16(torch.device("cpu"))
    assert cli.main([*base, "--out", str(out), "--accumulate", "2", "--cache", str(tmp_path / "cache"), "--ema", "0.5"]) == 0
    printed = capsys.readouterr()
    assert "wrote" in printed.out and "4 steps" in printed.out and "mask_extractor" in printed.out
    assert "8 pictures" in printed.err + printed.out and list((tmp_path / "cache").glob("*/features.f16"))
    record = json.loads((out / "run.json").read_text())
    assert record["steps"] == 4 and record["records"] == 8 and record["trains"] == {"mask_extractor": 2e-5}  # 2 epochs
    assert record["how"]["accumulate"] == 2 and len(record["data"]) == 2 and record["config"]["vision_config"]
    assert not (out / "checkpoints").exists() and list((out / "tensorboard").rglob("events*"))
    before, after = (osprey_nb.Osprey.from_pretrained(path).state_dict() for path in (folder, out))
    assert {key.split(".")[0] for key in before if not torch.equal(before[key], after[key])} == {"mask_extractor"}

    three = tmp_path / "three"
    lora = ["train", "stage3", *data, "--from", str(out), "--batch-size", "4", "--limit", "8", "--epochs", "1", "--lr", "1e-3",
            "--lora", "4", "--four-bit", "--gradient-checkpointing", "--workers", "0", "--out", str(three), *half]  # fmt: skip
    assert cli.main(lora) == 0
    assert osprey_nb.Osprey.from_pretrained(three).llm.model.layers[0].mlp.up_proj.weight.dtype == torch.float32
    capsys.readouterr()
    assert cli.main(["runs", str(tmp_path), "--plot", str(tmp_path / "runs.png")]) == 0
    table = capsys.readouterr().out
    assert "two" in table and "three" in table and Image.open(tmp_path / "runs.png").format == "PNG"
    assert cli.main(["runs", str(tmp_path), "--json"]) == 0
    assert {json.loads(line)["name"] for line in capsys.readouterr().out.splitlines()} == {"two", "three"}


def test_what_a_stage_cannot_be_run_with(folder, tmp_path, capsys, monkeypatch):
    data = [str(ROOT / "data_samples" / "osprey_short_form.json"), "--images", str(ROOT / "data_samples" / "images")]
    base = ["--from", folder, "--out", tmp_path / "x"]
    for more, message in (
        (["--batch-size", "3", "--accumulate", "2"], "a batch of 3 can't be shared out"),
        (["--four-bit"], "give lora a rank"), (["--ema", "1"], "ema is 1.0"), (["--accumulate", "0"], "accumulate is 0"),
        (["--lora", "4"], "does not train the LLM"), (["--resume"], "no checkpoint"), (["--limit", "0"], "limit is 0"),
        (["--epochs", "1", "--minutes", "1"], "give one of them"), (["--gradient-checkpointing"], "does not train the LLM"),
    ):  # fmt: skip
        assert message in fails(capsys, "train", "stage2", *data, *base, *more), more
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(machines, "fast_bf16", lambda device: False)
        assert "multiplies bf16" in fails(capsys, "train", "stage2", *data, *base, "--frozen-bf16")
        elsewhere.setenv("ACCELERATE_USE_FSDP", "true")
        assert "LoRA has no use for FSDP" in fails(capsys, "train", "stage3", *data, *base, "--lora", "4")
    assert not list(tmp_path.rglob("model.safetensors"))
    assert "names what is not there" in fails(capsys, "train", "stage2", "--images", tmp_path, *base)
    assert "already holds a model" in fails(capsys, "train", "stage2", *data, "--from", folder, "--out", folder)
    assert "no run at" in fails(capsys, "runs", tmp_path / "none")
