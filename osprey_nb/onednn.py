"""Matrix products of many rows on a CPU, by oneDNN.

torch multiplies float32 matrices by Intel's MKL, which on other makers' processors leaves the widest registers (AVX-512)
unused. oneDNN, which torch has for convolutions, uses them: with 300 rows it is twice as fast on an AMD EPYC.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PRODUCT = getattr(torch.ops.mkldnn, "_linear_pointwise", None)  # x·Wᵀ + b and no function after it; not in every build of torch
FEWEST = 1.5e6  # multiplications; with fewer, MKL has begun sooner


class ByOneDNN:
    """Inside its `with` block, the `nn.Linear` of a module multiply float32 by oneDNN where that pays, and not for training."""

    def __init__(self, module: nn.Module):
        here = torch.backends.mkldnn.is_available() and PRODUCT is not None
        linears = [x for x in module.modules() if type(x) is nn.Linear and _usable(x)] if here else []
        self.forwards = [(vars(linear), partial(_linear, linear)) for linear in linears]

    def __enter__(self) -> None:
        for attributes, forward in self.forwards:
            attributes["forward"] = forward

    def __exit__(self, *_) -> None:
        for attributes, _ in self.forwards:
            del attributes["forward"]


def _usable(linear: nn.Linear) -> bool:
    weight = linear.weight
    return weight.dtype == torch.float32 and weight.device.type == "cpu" and "forward" not in vars(linear)  # some have a hook's


def _linear(linear: nn.Linear, x: Tensor) -> Tensor:
    if x.numel() * len(linear.weight) < FEWEST or torch.is_grad_enabled():
        return F.linear(x, linear.weight, linear.bias)
    return PRODUCT(x, linear.weight, linear.bias, "none", [], "")
