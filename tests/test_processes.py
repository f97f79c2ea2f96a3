"""Several processes: on the CPU, over gloo. Two train as one that accumulates two; what FSDP has spread, one process loads."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from accelerate.commands.config.config_args import ClusterConfig
from accelerate.utils import FullyShardedDataParallelPlugin
from safetensors.torch import load_file
from transformers.integrations.deepspeed import set_hf_deepspeed_config, unset_hf_deepspeed_config

from osprey_nb import Osprey
from osprey_nb.train.run import save
from osprey_nb.train.trainer import Fitted

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = ROOT / "tests" / "programs" / "train_together.py"
STEPS = 3
TOLERANCE = 1e-5  # of losses around 0.3: sums in another order


def fsdp_environment() -> dict[str, str]:
    """What `accelerate launch` makes of configs/fsdp.yaml."""
    chosen = yaml.safe_load((ROOT / "configs" / "fsdp.yaml").read_text())["fsdp_config"]
    names = {"fsdp_transformer_layer_cls_to_wrap": "FSDP_TRANSFORMER_CLS_TO_WRAP"}
    return {"ACCELERATE_USE_FSDP": "true"} | {names.get(key, key.upper()): str(value) for key, value in chosen.items()}


def train(out: Path, processes: int, accumulate: int, resume: Path | None = None, **environment) -> list[float]:
    """The losses of a run of the program beside this file."""
    out.mkdir()
    launch = [sys.executable]
    if processes > 1:
        launch += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    command = [*launch, PROGRAM, out, STEPS, accumulate, *([resume] if resume else [])]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((out / "losses.json").read_text())


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    out = tmp_path_factory.mktemp("alone") / "run"
    return out, train(out, 1, 2)


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "model" / "model.safetensors")


def largest_gap(ours: dict, theirs: dict) -> float:
    assert ours.keys() == theirs.keys()
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)


def test_two_processes_train_as_one_that_accumulates_two(alone, tmp_path):
    out, losses = alone
    together = train(tmp_path / "ddp", 2, 1)
    assert together == pytest.approx(losses, abs=TOLERANCE) and len(set(losses)) == STEPS
    assert largest_gap(weights(tmp_path / "ddp"), weights(out)) < 1e-4
    names = {path.name for path in (tmp_path / "ddp" / "checkpoints").glob("step-*/random-*")}
    assert names == {"random-0.safetensors", "random-1.safetensors"}


def test_what_fsdp_has_spread_one_process_loads_and_goes_on_with(alone, tmp_path):
    out, losses = alone
    spread = train(tmp_path / "fsdp", 2, 1, **fsdp_environment())
    assert spread == pytest.approx(losses, abs=TOLERANCE)
    model = Osprey.from_pretrained(tmp_path / "fsdp" / "model")
    assert largest_gap(model.state_dict(), Osprey.from_pretrained(out / "model").state_dict()) < 1e-4

    checkpoints = sorted((tmp_path / "fsdp" / "checkpoints").glob("step-*"))
    assert len(json.loads((checkpoints[0] / "state.json").read_text())["losses"]) == STEPS - 1
    resumed = train(tmp_path / "resumed", 1, 2, checkpoints[0])
    assert resumed == pytest.approx(losses, abs=TOLERANCE)
    assert largest_gap(weights(tmp_path / "resumed"), weights(out)) < 1e-4


def test_after_zero3_the_whole_model_is_written_by_one_process_alone(tiny, tmp_path):
    class Zero3:  # what DeepSpeed leaves with transformers: from now on every new model is to be shared out
        config = {}
        is_zero3 = staticmethod(lambda: True)

    chosen = Zero3()
    set_hf_deepspeed_config(chosen)
    try:
        whole = {f"model.{name}": weight for name, weight in tiny.state_dict().items()}
        save(tiny, Fitted([], 0.0, whole), tmp_path / "model", merged=False)
    finally:
        unset_hf_deepspeed_config()
    assert largest_gap(Osprey.from_pretrained(tmp_path / "model").state_dict(), tiny.state_dict()) == 0


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_config_is_one_that_accelerate_takes_and_says_how_to_launch_it(path, monkeypatch):
    text = path.read_text()
    config = ClusterConfig.from_yaml_file(str(path))
    launch = f"accelerate launch --config_file configs/{path.name} -m osprey_nb.cli train stage"
    assert config.num_processes == 4 and launch in text
    if config.deepspeed_config:
        chosen = json.loads((ROOT / config.deepspeed_config["deepspeed_config_file"]).read_text())
        assert chosen["zero_optimization"]["stage"] == int(path.stem[-1]) and chosen["gradient_clipping"] == 1
    if config.fsdp_config:
        for name, value in fsdp_environment().items():
            monkeypatch.setenv(name, value)
        plugin = FullyShardedDataParallelPlugin()
        plugin.set_auto_wrap_policy(Osprey.from_pretrained("tiny"))
        assert plugin.fsdp_version == 2 and plugin.auto_wrap_policy is not None
