"""The training loop: one optimizer, a cosine with warm-up, a budget, a log (notebook 07; paper section 3).

    batches ─► loss(batch) ─► backward ─► clip ─► AdamW ─► lr(progress) ─► log.jsonl
                                                               ▲
                                             steps or seconds spent, 0 … 1
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

WARM_UP = 0.03


@dataclass
class Budget:
    """Train for a number of steps (the same weights every time) or for seconds (never longer than promised)."""

    steps: int | None = None
    seconds: float | None = None

    def progress(self, step: int, elapsed: float) -> float:
        """Share of the budget that is spent, 0 to 1 and above."""
        return step / self.steps if self.steps is not None else elapsed / self.seconds


def freeze(model: nn.Module, trainable: list[nn.Module]) -> list[nn.Parameter]:
    """Only `trainable` learns: the rest needs no gradient and runs in eval mode. Returns the learning parameters.

    Raises ValueError when nothing would learn.
    """
    model.requires_grad_(False).eval()
    for module in trainable:
        module.requires_grad_(True).train()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise ValueError("This stage trains nothing: name at least one part with parameters.")
    return parameters


def fit(
    parameters: list[nn.Parameter],
    loss_of: Callable[[object], Tensor],
    batches: Iterator,
    lr: float,
    budget: Budget,
    name: str,
    log: Path | None = None,
    weight_decay: float = 0.0,
    progress: bool = True,
) -> list[float]:
    """Minimise `loss_of(batch)` over `parameters` until the budget is spent. Returns the losses.

    AdamW, cosine to zero after 3 % of warm-up, gradient norm clipped at 1; bf16 autocast where the device has it in hardware.
    Raises FloatingPointError at the first loss that is not finite.
    """
    device = parameters[0].device
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay, betas=(0.9, 0.98))
    losses: list[float] = []
    start, smooth = time.perf_counter(), None
    bar = tqdm(total=100, desc=name, disable=not progress, bar_format="{l_bar}{bar}| {elapsed}<{remaining}{postfix}")
    with bar, open(log, "a") if log else _Nowhere() as file:
        while (spent := budget.progress(len(losses), time.perf_counter() - start)) < 1:
            rate = lr * min(1.0, spent / WARM_UP + 1e-3) * 0.5 * (1 + math.cos(math.pi * spent))
            for group in optimizer.param_groups:
                group["lr"] = rate
            with autocast(device):
                loss = loss_of(next(batches))
            value = loss.item()
            if not math.isfinite(value):
                raise FloatingPointError(f"{name}: the loss is {value} at step {len(losses)}. Lower the learning rate ({lr}).")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()

            losses.append(value)
            smooth = value if smooth is None else 0.95 * smooth + 0.05 * value
            file.write(json.dumps({"stage": name, "step": len(losses), "loss": round(value, 5), "lr": rate}) + "\n")
            bar.set_postfix_str(f"step {len(losses)} loss {smooth:.3f}")
            bar.update(round(100 * min(spent, 1)) - bar.n)
    return losses


def autocast(device: torch.device):
    """bf16 where the hardware multiplies it; float32 elsewhere."""
    fast = torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else (
        device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    )
    return torch.autocast(device.type, torch.bfloat16, enabled=fast)


class _Nowhere:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def write(self, text: str) -> None:
        pass
