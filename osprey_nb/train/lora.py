"""Train a large LLM with little memory: low-rank adapters (LoRA), and weights in 4 bits below them (notebook 07).

    y = W x + s · B (A x)        W frozen, in 4 bits if you like; A: r×in, B: out×r are trained

Needs peft, and bitsandbytes for 4 bits: pip install "osprey-nb[lora]". At the end `merge` makes plain Linears again.
"""

from __future__ import annotations

import logging

import torch
from torch import nn

logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)  # it warns of a kernel that nobody asked for
INSTALL = 'pip install "osprey-nb[lora]"'


def add_lora(llm: nn.Module, rank: int) -> None:
    """Give every Linear of the LLM but its head an adapter of this rank, scale 2. Only adapters need a gradient afterwards.

    Raises ImportError without peft, ValueError for a rank below 1.
    """
    try:
        from peft import LoraConfig
        from peft.tuners.lora import LoraModel
    except ImportError as error:
        raise ImportError(f"LoRA needs peft: {INSTALL}") from error
    if rank < 1:
        raise ValueError(f"lora is {rank}; a rank is 1 or more (8 to 128 are usual)")
    LoraModel(llm, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear"), "default")
    for name, parameter in llm.named_parameters():
        parameter.requires_grad_("lora_" in name)


def in_4_bits(llm: nn.Module) -> None:
    """Put the weights of every Linear but the head into 4 bits (NF4), in place. Raises ImportError without bitsandbytes."""
    try:
        from bitsandbytes.nn import Linear4bit, Params4bit
    except ImportError as error:
        raise ImportError(f"4-bit weights need bitsandbytes: {INSTALL}") from error
    head = llm.get_output_embeddings()
    for name, linear in list(llm.named_modules()):
        if type(linear) is not nn.Linear or linear is head:
            continue
        compute = torch.bfloat16 if linear.weight.device.type == "cuda" else torch.float32
        sizes = linear.in_features, linear.out_features, linear.bias is not None
        small = Linear4bit(*sizes, compute_dtype=compute, quant_type="nf4", device="meta")
        small.weight = Params4bit(linear.weight.detach().cpu(), requires_grad=False, quant_type="nf4")
        small.bias = linear.bias
        llm.set_submodule(name, small.to(linear.weight.device))  # moving it is what quantises


@torch.no_grad()
def merge(llm: nn.Module) -> None:
    """Every adapter is added to its weights, and those are float32, not 4 bits: an LLM of plain Linears."""
    from peft.tuners.lora import LoraLayer

    for name, layer in list(llm.named_modules()):
        if not isinstance(layer, LoraLayer):
            continue
        below = layer.get_base_layer()
        weight = below.weight
        if hasattr(weight, "quant_state"):
            from bitsandbytes.functional import dequantize_4bit

            weight = dequantize_4bit(weight.data, weight.quant_state)
        plain = nn.Linear(below.in_features, below.out_features, below.bias is not None, device="meta")
        plain.weight = nn.Parameter(weight.float() + layer.get_delta_weight("default").float())
        plain.bias = below.bias
        llm.set_submodule(name, plain)
