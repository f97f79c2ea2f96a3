"""benchmarks/: what `make bench` and `make gpu` measure is what they say, at a small size and on the CPU."""

import json
import sys
from pathlib import Path

import pytest
import torch

from osprey_nb import Osprey, OspreyConfig
from osprey_nb.data.scenes import make_scene
from osprey_nb.train.stages import TINY

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import answers  # noqa: E402
import bench  # noqa: E402
import gpu  # noqa: E402


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(bench, "WARM_STEPS", 1)
    monkeypatch.setattr(gpu, "WARM_STEPS", 1)
    monkeypatch.setattr(answers, "REPEATS", 1)
    monkeypatch.setattr(answers, "REGIONS", (1, 3))


def test_rates_leave_out_the_first_steps():
    meter = bench.Meter()
    meter.begin("stage", 0)
    for seconds, samples, waited in ((10.0, 8, 9.0), (11.0, 16, 9.0), (14.0, 24, 9.5)):
        meter.step({"seconds": seconds, "samples": samples, "waited": waited})
    assert bench.rates(meter.counts()) == {"samples_per_s": 4.0, "waiting": 0.125}


def test_the_plain_loop_trains_the_same_model():
    model = Osprey.from_pretrained("tiny")
    before = model.mask_extractor.feat_linear.weight.clone(), model.projector[0].weight.clone()
    samples, seconds, waited = bench.plain_loop(model, TINY[1], [make_scene(i) for i in range(4)], steps=1)
    assert samples == TINY[1].batch_size and 0 < waited < seconds
    assert not model.mask_extractor.feat_linear.weight.equal(before[0])
    assert model.projector[0].weight.equal(before[1])


def test_one_call_and_many_say_the_same():
    rows = answers.describing(Osprey.from_pretrained("tiny"), "cpu")
    assert [(row["regions"], row["same_answers"]) for row in rows] == [(1, "1/1"), (3, "3/3")]


def test_products_are_counted():
    linear, rows = torch.nn.Linear(96, 160), torch.randn(3, 200, 96)
    assert answers.flops_of(lambda: linear(rows)) == 2 * 600 * 96 * 160


def test_parts_of_a_shape_are_set_against_the_machine():
    config = OspreyConfig.preset("tiny")
    row = answers.shape("tiny", "cpu", 3, config, side=64, gib=0.01)
    picture, questions, word = row["parts"]
    llm = sum(x.numel() for x in Osprey(config).llm.parameters())
    embedded = config.text_config.vocab_size * config.text_config.hidden_size  # the head has the same weights
    expected = 2 * 3 * (llm - config.text_config.hidden_size * 9)  # a product with each weight, for three rows
    assert word["gflop"] == pytest.approx(expected / 1e9, abs=0.02) and llm > embedded
    assert picture["gflop"] > questions["gflop"] > word["gflop"] > 0
    assert picture["mb"] > questions["mb"] == word["mb"] > 4 * llm / 1e6
    assert row["naive_measured_on"] == 3 and row["words"] == answers.WORDS
    assert all(0 < x["of_limit"] and x["seconds"] > 0 for x in (picture, questions))  # a word's time is a difference


def test_committed_results_can_be_shown(capsys):
    paths = [path for path in bench.RESULTS.glob("*.json") if not path.name.startswith(("photographs-", "browser-"))]
    assert len(paths) > 1
    for path in paths:  # of a machine that is not at hand, too
        bench.show(json.loads(path.read_text(encoding="utf-8")))
    assert "describe, tiny" in capsys.readouterr().out


def test_results_lie_under_the_name_of_their_device(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "results")
    result = {"machine": {"device": "Some GPU (80 GB)"}}
    assert bench.write(result).name == "some-gpu-80-gb.json"
    assert json.loads(bench.path_of(result).read_text()) == result


def test_the_golden_files_are_reproduced():
    assert max(gpu.parity("cpu").values()) < 1e-4


def test_steps_of_a_shape_count_their_work():
    config = OspreyConfig.preset("tiny")
    config.vision_config.image_size = 256  # 256 tokens of an image: most of the sequence, as in the published shape
    rows = {row.pop("way"): row for row in gpu.paper_steps("cpu", config, steps=1, side=64)}
    whole, stage2, lora, checkpointing = rows.values()
    assert stage2["model_tflops"] < whole["model_tflops"], "tokens before the region need no gradient"
    assert stage2["losses"] == pytest.approx(whole["losses"], rel=0.02)
    assert lora["model_tflops"] == checkpointing["model_tflops"], "what is computed again counts once"
    assert stage2["learning"] == sum(x.numel() for x in Osprey(OspreyConfig.preset("tiny")).mask_extractor.parameters())
    for row in rows.values():
        assert row["tokens_per_s"] == pytest.approx(4 * row["tokens"] / row["step_s"], rel=0.01)
        assert row["peak_gib"] is None


def test_tiny_from_nothing_tells_what_each_stage_took():
    result = gpu.tiny_from_nothing("cpu", steps=1, scenes=2)
    assert {stage.name for stage in TINY} <= set(result["stages"])
    assert all(part["steps"] == 1 and 0 <= part["waiting"] <= 1 for part in result["stages"].values())
    assert result["table"]["kind"]["n"] > 0 and result["eval_scenes"] == 2
