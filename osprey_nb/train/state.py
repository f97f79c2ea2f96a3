"""What a checkpoint holds: weights, AdamW's two numbers a weight, random numbers; the same, however many processes write it.

    model.safetensors       every weight once, by name
    optimizer.safetensors   name/exp_avg, name/exp_avg_sq, name/step; @mean/… of an average of weights; @scaler/… of fp16
    random-0.safetensors    the random numbers of process 0, and so on

torch.distributed.checkpoint gathers what FSDP has spread and spreads it again; a plain model goes the same way. DeepSpeed alone
writes files of its own.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.optim.swa_utils import get_ema_multi_avg_fn

WEIGHTS, OPTIMIZER, RANDOM = "model.safetensors", "optimizer.safetensors", "random-{}.safetensors"


class State:
    """All that changes while `fit` runs: a prepared model, its optimizer, the mean of its weights if `ema` is given."""

    def __init__(self, accelerator: Accelerator, prepared: nn.Module, optimizer, ema: float | None):
        self.accelerator, self.prepared, self.optimizer = accelerator, prepared, optimizer.optimizer
        self.model = accelerator.unwrap_model(prepared, keep_torch_compile=True)
        self.learning = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.mean = [] if ema is None else [parameter.detach().clone() for parameter in self.learning]
        self.blend = None if ema is None else get_ema_multi_avg_fn(ema)
        self.own_format = accelerator.distributed_type == DistributedType.DEEPSPEED

    def average(self) -> None:
        """Take the weights as they are into their mean."""
        if self.mean:
            self.blend(self.mean, self.learning, None)

    @torch.no_grad()
    def finish(self) -> dict[str, Tensor] | None:
        """The mean becomes the weights. Where processes have shared them out: all of them, in the first process."""
        for parameter, mean in zip(self.learning, self.mean, strict=bool(self.mean)):
            parameter.copy_(mean)
        whole = None
        if self.own_format:
            whole = self.accelerator.get_state_dict(self.prepared)
        elif self.accelerator.distributed_type == DistributedType.FSDP:
            whole = whole_weights(self.model)
        self.accelerator.unwrap_model(self.prepared, keep_fp32_wrapper=False, keep_torch_compile=True)
        self.accelerator.free_memory()
        return whole

    def save(self, folder: Path, frozen: bool = True) -> None:
        """Write the files; every process calls it. Without `frozen`, weights that don't learn are left out."""
        if self.own_format:
            self.accelerator.save_state(str(folder))
            return
        weights = whole_weights(self.model, frozen)
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        # Asked before its first step, torch would take a step of its own, and AdamW would count it.
        moments = {}
        if self.optimizer.state:
            moments = get_optimizer_state_dict(self.model, self.optimizer, options=options).get("state", {})  # first process
        if self.accelerator.is_main_process:
            save_file(weights, folder / WEIGHTS)
            numbers = {f"{name}/{key}": value for name, kept in moments.items() for key, value in kept.items()}
            numbers.update({f"@mean/{i}": value for i, value in enumerate(self.mean)})
            if self.accelerator.scaler is not None:
                scaler = self.accelerator.scaler.state_dict()
                numbers.update({f"@scaler/{key}": torch.tensor(value) for key, value in scaler.items()})
            save_file({key: value.contiguous().cpu() for key, value in numbers.items()}, folder / OPTIMIZER)
        save_file(random_numbers(), folder / RANDOM.format(self.accelerator.process_index))

    def load(self, folder: Path) -> tuple[list[float], float]:
        """The inverse, also for another number of processes (then some begin with new random numbers).

        Returns the losses and the seconds that lie behind.
        """
        facts = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        if self.own_format:
            self.accelerator.load_state(str(folder))
            return facts["losses"], facts["seconds"]
        options = StateDictOptions(full_state_dict=True, strict=False)
        set_model_state_dict(self.model, load_file(folder / WEIGHTS), options=options)
        kept: dict[str, dict[str, Tensor]] = {}
        for key, value in load_file(folder / OPTIMIZER).items():
            name, key = key.split("/")
            kept.setdefault(name, {})[key] = value.clone()  # in memory, where a file's numbers begin at any byte
        for i, value in kept.pop("@mean", {}).items():
            self.mean[int(i)].copy_(value)
        if scaler := kept.pop("@scaler", None):
            self.accelerator.scaler.load_state_dict({key: value.item() for key, value in scaler.items()})
        if kept:
            moments = get_optimizer_state_dict(self.model, self.optimizer, options=options)
            moments["state"].update(kept)
            set_optimizer_state_dict(self.model, self.optimizer, moments, options=options)
            for name, parameter in self.model.named_parameters():
                if name not in kept:  # it had no gradient yet
                    self.optimizer.state.pop(parameter, None)
                for key, value in self.optimizer.state.get(parameter, {}).items():
                    if value.shape == parameter.shape and value.stride() != parameter.stride():
                        # fused AdamW walks through memory: what belongs together must lie in one order (channels last, say)
                        self.optimizer.state[parameter][key] = torch.empty_like(parameter).copy_(value)
        random = folder / RANDOM.format(self.accelerator.process_index)
        if random.exists():
            numbers = load_file(random)
            torch.set_rng_state(numbers["cpu"])
            if "cuda" in numbers and torch.cuda.is_available():
                torch.cuda.set_rng_state(numbers["cuda"])
        return facts["losses"], facts["seconds"]


def whole_weights(model: nn.Module, frozen: bool = True) -> dict[str, Tensor]:
    """Every weight once, by name, on the CPU, gathered from all processes; empty in all but the first."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=not frozen)
    state = get_model_state_dict(model, options=options)
    seen, weights = set(), {}
    for name, value in state.items():
        if value.data_ptr() not in seen or not value.numel():  # tied weights stand there twice
            seen.add(value.data_ptr())
            weights[name] = value.contiguous()
    return weights


def random_numbers() -> dict[str, Tensor]:
    numbers = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        numbers["cuda"] = torch.cuda.get_rng_state()
    return numbers
