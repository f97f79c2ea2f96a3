"""What stops a run, and how: a loss that is none, memory that runs out, Ctrl-C (notebook 07)."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from accelerate import PartialState
from accelerate.utils import gather_object

from ..generate import ran_out

CALM, LEAP = 3, 5  # a loss of more than 5 times the highest of the first 3 is no learning any more
NAMED = 16  # ids of a batch that a message names


def guard(value: float, losses: list[float], name: str, lr: float, batches: Sequence) -> None:
    """Stop a run that has gone wrong: a loss that is no number, or one far above all of the first ones.

    Raises FloatingPointError with the ids of the samples of the step, in all processes.
    """
    calm = max(losses[:CALM], default=math.inf)
    leapt = len(losses) >= CALM and value > LEAP * max(calm, 1.0)
    if leapt or not math.isfinite(value):
        before = f", after {calm:.4g} in the beginning" if leapt else ""
        ids = [name for batch in batches if isinstance(batch, dict) for name in batch.get("ids", ())]
        ids = gather_object(ids) if PartialState().num_processes > 1 else ids
        named = ", ".join(ids[:NAMED]) + (f" and {len(ids) - NAMED} more" if len(ids) > NAMED else "")
        batch = f"its samples are {named}" if ids else f"it is batches({len(losses)})"
        raise FloatingPointError(
            f"{name}: the loss is {value:.4g} at step {len(losses)}{before}. Lower the learning rate ({lr:g}), or look at the "
            f"batch: {batch}."
        )


@contextmanager
def fits_memory() -> Iterator[None]:
    """What torch says when memory runs out, with what to do."""
    try:
        yield
    except RuntimeError as error:
        if not ran_out(error):
            raise
        raise MemoryError(
            f"A batch does not fit in memory ({str(error).splitlines()[0][:200]}). Take smaller batches and accumulate as many "
            "of them to a step (accumulate), keep fewer activations (gradient_checkpointing), shorten the texts (limit), or "
            "train the LLM by LoRA."
        ) from error


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
