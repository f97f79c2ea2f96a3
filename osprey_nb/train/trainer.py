"""The training loop, the same for every stage (notebook 07; docs/osprey.md, section 3).

    batches(step) ─► objective(batch) ─► backward ─► clip ─► AdamW ─► lr(spent) ─► watchers ─► a checkpoint, when due
                     × accumulate, × processes                         ▲
                                                     steps or seconds spent, 0 … 1

accelerate stands below: devices, precision, several processes. Where a step takes several batches (`accumulate`, processes),
each answer token weighs the same, whichever of them it stands in: so four processes train as one that accumulates four.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from accelerate.utils import DistributedType, broadcast_object_list, reduce
from torch import Tensor, nn

from .checkpoints import Checkpoints
from .guards import fits_memory, guard, interrupts
from .machines import cores_for_loading, launched
from .state import State
from .watch import Watcher, looking_on

WARM_UP = 0.03
NORMS_EVERY = 10  # steps; gradient norms part by part


@dataclass
class Budget:
    """Train for a number of steps (the same weights every time) or for seconds (never longer than promised)."""

    steps: int | None = None
    seconds: float | None = None

    def progress(self, step: int, elapsed: float) -> float:
        """Share of the budget that is spent, 0 to 1 and above."""
        return step / self.steps if self.steps is not None else elapsed / self.seconds


class Fitted(NamedTuple):
    """The loss of every step, and the seconds they took. `weights` only where processes shared them out: all, in the first."""

    losses: list[float]
    seconds: float
    weights: dict[str, Tensor] | None = None


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
    batches: Callable[..., Iterator],
    lr: float | list[dict],
    budget: Budget,
    name: str,
    watchers: Sequence[Watcher] = (),
    weight_decay: float = 0.0,
    accumulate: int = 1,
    ema: float | None = None,
    checkpoints: Checkpoints | None = None,
    resume: Path | None = None,
    notes: dict | None = None,
) -> Fitted:
    """Minimise `objective(batch)` over its parameters that need a gradient, until the budget is spent.

    `batches(start=step)` iterates over the batches from that step on; a step has the same batch wherever one starts, or a run
    could not be resumed.
    `lr` is the highest learning rate, or a list of AdamW's groups, {"params": …, "lr": …}, each with its own.
    AdamW, cosine to zero after 3 % of warm-up, gradient norm clipped at 1; autocast to what the device multiplies in hardware.
    A step takes `accumulate` batches in each process; then `batches` takes `lane` and `lanes` too: this one of so many streams,
    which hold different samples. `ema`, 0.999 say, ends with the mean of the weights, older ones counting that much less.
    With `checkpoints` one is kept of the beginning, when one is due, and at Ctrl-C; `resume` is such a folder, of the same
    objective and budget; `notes` are kept in its state. Raises FloatingPointError at the first loss that is not finite or that
    leaps up, MemoryError for a batch that does not fit; the last checkpoint is then intact.
    """
    device = learning(objective)[0].device
    accelerator = launched(device, accumulate)
    if ema is not None and accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
        raise ValueError("ema needs whole weights in every process; FSDP and DeepSpeed share them out. Leave out ema.")
    groups = lr if isinstance(lr, list) else [{"params": learning(objective), "lr": lr}]
    peaks = [group["lr"] for group in groups]
    fused = device.type in ("cpu", "cuda")
    optimizer = torch.optim.AdamW(groups, weight_decay=weight_decay, betas=(0.9, 0.98), fused=fused)
    prepared, optimizer = accelerator.prepare(objective, optimizer)
    state = State(accelerator, prepared, optimizer, ema)
    parameters, losses, before = learning(state.model), [], 0.0
    if resume is not None:
        losses, before = state.load(resume)

    world, lanes = accelerator.num_processes, accumulate * accelerator.num_processes
    mine = range(accelerator.process_index * accumulate, (accelerator.process_index + 1) * accumulate)
    sources = [batches(start=len(losses), **({"lane": lane, "lanes": lanes} if lanes > 1 else {})) for lane in mine]
    start, samples, waited = time.perf_counter() - before, 0, 0.0

    def save() -> None:
        facts = {"phase": name, "losses": losses, "seconds": time.perf_counter() - start, **(notes or {})}
        write = partial(state.save, frozen=checkpoints.frozen)
        checkpoints.save(write, facts, accelerator.is_main_process, accelerator.wait_for_everyone)

    shown = watchers if accelerator.is_main_process else ()
    with interrupts() as interrupted, looking_on(shown, name, len(losses)) as show, cores_for_loading(device):

        def look() -> tuple[float, bool]:
            """The share that is spent, and whether to stop: the first process decides for all. Saves when that is due."""
            due = checkpoints is not None and len(losses) > 0 and (checkpoints.due or interrupted())
            facts = [budget.progress(len(losses), time.perf_counter() - start), due, interrupted()]
            spent, due, stop = broadcast_object_list(facts) if world > 1 else facts
            if due:
                save()
            return spent, stop

        if checkpoints is not None and resume is None:
            save()
        spent, stop = look()
        while spent < 1:
            share = min(1.0, spent / WARM_UP + 1e-3) * 0.5 * (1 + math.cos(math.pi * spent))
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = share * peak
            asked = time.perf_counter()
            taken = [next(source) for source in sources]
            waited += time.perf_counter() - asked
            weights = [weight(batch) for batch in taken]
            answers, seen = reduce(torch.tensor([sum(weights), sum(map(rows, taken))], device=device), "sum").tolist()
            loss, norms = torch.zeros((), device=device), {}
            for batch, its in zip(taken, weights, strict=True):
                with fits_memory(), accelerator.accumulate(prepared):
                    part = prepared(batch) * (its * world / max(answers, 1))
                    loss += part.detach()
                    accelerator.backward(part * accumulate)  # accelerate divides by it
                    if accelerator.sync_gradients:
                        value = reduce(loss, "mean").item()
                        guard(value, losses, name, max(peaks), taken)
                        total = accelerator.clip_grad_norm_(parameters, 1.0)
                        if len(losses) % NORMS_EVERY == 0:
                            norms = part_norms(state.model, total)
                    optimizer.step()
                    optimizer.zero_grad()
            state.average()

            losses.append(value)
            samples += seen
            show(
                stage=name, step=len(losses), loss=value, lr=share * max(peaks), seconds=time.perf_counter() - start,
                samples=samples, waited=waited, spent=spent, norms=norms,
            )  # fmt: skip
            spent, stop = look()
            if stop:
                kept = "" if checkpoints is None else "; a checkpoint is kept, --resume goes on from it"
                raise KeyboardInterrupt(f"stopped at step {len(losses)} of {name}{kept}")
    whole = state.finish()
    return Fitted(losses, time.perf_counter() - start, whole)


def weight(batch) -> int:
    """What a batch counts in the mean over several: its tokens with loss, or one."""
    return int((batch["labels"][:, 1:] != -100).sum()) if isinstance(batch, dict) else 1


def rows(batch) -> int:
    """The samples of a batch."""
    return len(batch["labels"] if isinstance(batch, dict) else batch)


def part_norms(model: nn.Module, total) -> dict[str, float]:
    """The norm of the gradient of each part, before it was clipped to 1; `total` is that of all."""
    grads: dict[str, list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            grads.setdefault(name.removeprefix("model.").split(".")[0], []).append(parameter.grad)
    norms = {part: nn.utils.get_total_norm(found) for part, found in grads.items()}
    norms = {part: float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm) for part, norm in norms.items()}
    return {part: norm * max(float(total), 1.0) for part, norm in norms.items()}
