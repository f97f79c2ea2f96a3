"""Devices and processes: what accelerate is told (notebook 07; configs/ has the files for several GPUs)."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from torch import nn

logging.getLogger("accelerate.utils.other").setLevel(logging.ERROR)  # it warns of tied weights at each checkpoint


def launched(device: torch.device, accumulate: int = 1) -> Accelerator:
    """accelerate, as this process was started: alone, or one of several by `accelerate launch` or torchrun."""
    accelerator = Accelerator(
        cpu=device.type == "cpu",
        mixed_precision=precision(device),
        gradient_accumulation_steps=accumulate,
        # a batch of captions has no regions: the mask extractor then has no gradient in one process, and has one in another
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    state = accelerator.state
    if state.distributed_type == DistributedType.DEEPSPEED:  # it asks for a number, and uses it for its own loaders only
        state.deepspeed_plugin.deepspeed_config["train_micro_batch_size_per_gpu"] = 1
    if state.distributed_type == DistributedType.MULTI_CPU and os.environ.get("ACCELERATE_USE_FSDP") == "true":
        # accelerate leaves FSDP to accelerators; what it calls works over gloo as well
        state.fsdp_plugin = FullyShardedDataParallelPlugin()
        state.distributed_type = PartialState().distributed_type = DistributedType.FSDP
    return accelerator


@contextmanager
def cores_for_loading(device: torch.device) -> Iterator[None]:
    """Beside a GPU the cores are left to the processes that load data.

    torch would start a thread on each core for what little there is to do here, and all of them wait for the one whose core is
    taken: measured on 16 cores, one busy process made a step of the tiny model 16 times as long.
    """
    threads = torch.get_num_threads()
    if device.type == "cuda":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def compile_layers(llm: nn.Module) -> None:
    """Compile every layer of an LLM on its own, when it first runs; any length of batch fits. Its weights stay where they are.

    On a CPU attention is written out, which the compiler makes faster than the ready-made kernel.
    """
    if llm.device.type == "cpu":
        llm.set_attn_implementation("eager")
    for layer in layers_of(llm):
        layer.compile(dynamic=True)


def compiled(llm: nn.Module) -> bool:
    """Has `compile_layers` been here?"""
    return layers_of(llm)[0]._compiled_call_impl is not None


def layers_of(llm: nn.Module) -> nn.ModuleList:
    return next(module for module in llm.modules() if isinstance(module, nn.ModuleList))


def halve_frozen(model: nn.Module) -> None:
    """Weights that do not learn in bf16, in place: half the memory, and no cast of them at each step.

    Raises ValueError where the hardware does not multiply bf16.
    """
    if not fast_bf16(next(model.parameters()).device):
        raise ValueError("frozen weights in bf16 need a device that multiplies bf16; leave out frozen_bf16")
    for parameter in model.parameters():
        if not parameter.requires_grad and parameter.is_floating_point():
            parameter.data = parameter.data.bfloat16()


def needs_a_compiler(device: torch.device) -> None:
    """Raises ValueError when torch.compile would find no C++ compiler on this machine."""
    if device.type == "cpu" and not shutil.which(os.environ.get("CXX", "g++")):
        raise ValueError("compiling for the CPU needs a C++ compiler, and there is no g++; install it, or leave out --compile")


def precision(device: torch.device) -> str:
    """What to compute in: bf16 where the hardware multiplies it, fp16 on older GPUs, else float32 ("no")."""
    if fast_bf16(device):
        return "bf16"
    return "fp16" if device.type == "cuda" else "no"


def shared_out() -> bool:
    """Was this process started to hold a part of the weights only (FSDP, DeepSpeed)?"""
    return "true" in (os.environ.get("ACCELERATE_USE_FSDP"), os.environ.get("ACCELERATE_USE_DEEPSPEED"))


def fast_bf16(device: torch.device) -> bool:
    """Does the hardware multiply bf16?"""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
