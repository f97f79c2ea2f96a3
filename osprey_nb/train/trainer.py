"""The training loop: one optimizer, a cosine with warm-up, a budget, a log, checkpoints (notebook 07; paper section 3).

    batches(step) ─► objective(batch) ─► backward ─► clip ─► AdamW ─► lr(progress) ─► log.jsonl ─► a checkpoint, when due
                                                                          ▲
                                                        steps or seconds spent, 0 … 1

accelerate stands below: devices, precision, and what a checkpoint of weights, optimizer and random numbers is.
"""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm.auto import tqdm

from .checkpoints import Checkpoints

WARM_UP = 0.03
CALM, LEAP = 3, 5  # a loss of more than 5 times the highest of the first 3 is no learning any more
logging.getLogger("accelerate.utils.other").setLevel(logging.ERROR)  # it warns of tied weights at each checkpoint


@dataclass
class Budget:
    """Train for a number of steps (the same weights every time) or for seconds (never longer than promised)."""

    steps: int | None = None
    seconds: float | None = None

    def progress(self, step: int, elapsed: float) -> float:
        """Share of the budget that is spent, 0 to 1 and above."""
        return step / self.steps if self.steps is not None else elapsed / self.seconds


class Fitted(NamedTuple):
    """The loss of every step, and the seconds they took."""

    losses: list[float]
    seconds: float


class Objective(nn.Module):
    """A model and what it is trained for: `objective(batch)` is `loss_of(model, batch)`."""

    def __init__(self, model: nn.Module, loss_of: Callable[[nn.Module, object], Tensor]):
        super().__init__()
        self.model, self.loss_of = model, loss_of

    def forward(self, batch) -> Tensor:
        return self.loss_of(self.model, batch)


def freeze(model: nn.Module, trainable: list[nn.Module]) -> list[nn.Parameter]:
    """Only `trainable` learns: the rest needs no gradient and runs in eval mode. Returns the learning parameters.

    Raises ValueError when nothing would learn.
    """
    model.requires_grad_(False).eval()
    for module in trainable:
        module.requires_grad_(True).train()
    return learning(model)


def learning(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that need a gradient. Raises ValueError when there are none."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise ValueError("This stage trains nothing: name at least one part with parameters.")
    return parameters


def fit(
    objective: nn.Module,
    batches: Callable[[int], Iterator],
    lr: float | list[dict],
    budget: Budget,
    name: str,
    log: Path | None = None,
    weight_decay: float = 0.0,
    progress: bool = True,
    checkpoints: Checkpoints | None = None,
    resume: Path | None = None,
    notes: dict | None = None,
) -> Fitted:
    """Minimise `objective(batch)` over its parameters that need a gradient, until the budget is spent.

    `batches(step)` iterates over the batches from that step on: the same step gives the same batch, so a run can be resumed.
    `lr` is the highest learning rate, or a list of AdamW's groups, {"params": …, "lr": …}, each with its own.
    AdamW, cosine to zero after 3 % of warm-up, gradient norm clipped at 1; bf16 autocast where the device has it in hardware.
    With `checkpoints` one is kept of the beginning, when one is due, and at Ctrl-C; `resume` is such a folder, of the same
    objective and budget; `notes` are kept in its state. Raises FloatingPointError at the first loss that is not finite or that
    leaps up, MemoryError for a batch that does not fit; the last checkpoint is then intact.
    """
    parameters = learning(objective)
    device = parameters[0].device
    accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision="bf16" if fast_bf16(device) else "no")
    groups = lr if isinstance(lr, list) else [{"params": parameters, "lr": lr}]
    peaks = [group["lr"] for group in groups]
    optimizer = torch.optim.AdamW(groups, weight_decay=weight_decay, betas=(0.9, 0.98))
    prepared, optimizer = accelerator.prepare(objective, optimizer)
    losses: list[float] = []
    before = 0.0
    if resume is not None:
        state = json.loads((resume / "state.json").read_text(encoding="utf-8"))
        losses, before = state["losses"], state["seconds"]
        accelerator.load_state(str(resume))
    if log is not None:
        keep_log(log, name, len(losses))
    start, smooth = time.perf_counter() - before, None

    def save() -> None:
        file.flush()
        state = {"phase": name, "losses": losses, "seconds": time.perf_counter() - start, **(notes or {})}
        checkpoints.save(lambda folder: accelerator.save_state(str(folder)), state)

    source = batches(len(losses))
    bar = tqdm(total=100, desc=name, disable=not progress, bar_format="{l_bar}{bar}| {elapsed}<{remaining}{postfix}")
    with bar, interrupts() as interrupted, open(log or os.devnull, "a", encoding="utf-8") as file:
        if checkpoints is not None and resume is None:
            save()
        while (spent := budget.progress(len(losses), time.perf_counter() - start)) < 1:
            share = min(1.0, spent / WARM_UP + 1e-3) * 0.5 * (1 + math.cos(math.pi * spent))
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = share * peak
            with fits_memory():
                loss = prepared(next(source))
                value = loss.item()
                guard(value, losses, name, max(peaks))
                optimizer.zero_grad(set_to_none=True)
                accelerator.backward(loss)
            accelerator.clip_grad_norm_(parameters, 1.0)
            optimizer.step()

            losses.append(value)
            smooth = value if smooth is None else 0.95 * smooth + 0.05 * value
            entry = {"stage": name, "step": len(losses), "loss": round(value, 5), "lr": share * max(peaks)}
            file.write(json.dumps(entry) + "\n")
            bar.set_postfix_str(f"step {len(losses)} loss {smooth:.3f}")
            bar.update(round(100 * min(spent, 1)) - bar.n)
            if checkpoints is not None and (checkpoints.due or interrupted()):
                save()
            if interrupted():
                kept = "" if checkpoints is None else "; a checkpoint is kept, --resume goes on from it"
                raise KeyboardInterrupt(f"stopped at step {len(losses)} of {name}{kept}")
    accelerator.unwrap_model(prepared, keep_fp32_wrapper=False)
    accelerator.free_memory()
    return Fitted(losses, time.perf_counter() - start)


def guard(value: float, losses: list[float], name: str, lr: float) -> None:
    """Stop a run that has gone wrong: a loss that is no number, or one far above all of the first ones."""
    calm = max(losses[:CALM], default=math.inf)
    leapt = len(losses) >= CALM and value > LEAP * max(calm, 1.0)
    if leapt or not math.isfinite(value):
        before = f", after {calm:.4g} in the beginning" if leapt else ""
        raise FloatingPointError(
            f"{name}: the loss is {value:.4g} at step {len(losses)}{before}. Lower the learning rate ({lr:g}), or look at the "
            f"batch: it is the first of batches({len(losses)})."
        )


@contextmanager
def fits_memory() -> Iterator[None]:
    """What torch says when memory runs out, with what to do."""
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one, and a CPU has no error of its own
        if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        raise MemoryError(
            f"A batch does not fit in memory ({str(error).splitlines()[0][:200]}). Take smaller batches, shorter texts (limit) "
            "or smaller pictures."
        ) from error


def keep_log(log: Path, name: str, steps: int) -> None:
    """Leave out of a log what a resumed run will write again: this phase's lines after `steps`."""
    if not log.exists():
        return
    kept = []
    for line in log.read_text(encoding="utf-8").splitlines(keepends=True):
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # the last line of a run that was killed
        if entry["stage"] != name or entry["step"] <= steps:
            kept.append(line)
    log.write_text("".join(kept), encoding="utf-8")


@contextmanager
def interrupts() -> Iterator[Callable[[], bool]]:
    """Ctrl-C waits for the end of the step, so that a checkpoint can be kept; a second one stops at once."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    asked = []

    def ask(*_):
        asked.append(True)
        signal.signal(signal.SIGINT, usual)

    usual = signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGINT, usual)


def fast_bf16(device: torch.device) -> bool:
    """Does the hardware multiply bf16?"""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
