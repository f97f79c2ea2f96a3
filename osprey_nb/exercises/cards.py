"""Exercises of the notebooks: what a card looks like, how an answer is checked (used by every notebook).

    ### Exercise 03.1 · By hand            a markdown cell: title, difficulty and minutes, the task,
    ★☆☆ · 3 minutes                        hint and solution folded away in <details>
    ┌──────────────────────────┐
    │ my_mean = ...            │           a code cell tagged `exercise`: the stub, for the reader to fill in
    └──────────────────────────┘
    check("03.1", my_mean)                 the check: says what is right, or what to look at next

The solution lives in one place, the card, where a reader unfolds it. `read_exercises` finds it there, so that
the tests run the very text that a reader sees. A check never raises: a wrong answer is not an error.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

CHECKS: dict[str, Callable[[Any], str]] = {}


class Wrong(Exception):
    """Raised inside a check: the message tells the learner what was seen and what to look at next."""


@dataclass(frozen=True)
class Verdict:
    """The outcome of a check; the last line of a cell shows it."""

    passed: bool
    message: str

    def __repr__(self) -> str:
        return f"{'✓' if self.passed else '○'} {self.message}"

    def _repr_html_(self) -> str:
        colour, paper = ("#1a7f4b", "#eaf7f0") if self.passed else ("#9a6700", "#fff8e6")
        word = "✓ Right." if self.passed else "○ Not yet."
        return (
            f'<div style="border-left:4px solid {colour};background:{paper};color:#222;padding:8px 12px;'
            f'white-space:pre-wrap;max-width:52em"><b style="color:{colour}">{word}</b> '
            f"{html.escape(self.message)}</div>"
        )


def check(exercise: str, answer: Any) -> Verdict:
    """Check an answer: `check("03.1", my_mean)`. A function that raises is reported, not raised again."""
    if exercise not in CHECKS:
        raise ValueError(f"there is no exercise {exercise!r}; there are {', '.join(sorted(CHECKS))}")
    if answer is ...:
        return Verdict(False, "The answer is still `...`: put yours there, run that cell, then this one.")
    try:
        return Verdict(True, CHECKS[exercise](answer))
    except Wrong as wrong:
        return Verdict(False, str(wrong))
    except Exception as error:  # whatever the learner's code raises belongs in the message
        return Verdict(False, f"Your code stopped with {type(error).__name__}: {error}")


def exercise(name: str) -> Callable:
    """Register the check of an exercise. It returns a word of praise, or raises `Wrong` with advice."""

    def register(function: Callable[[Any], str]) -> Callable[[Any], str]:
        if name in CHECKS:
            raise ValueError(f"exercise {name!r} has two checks; give the second another number")
        CHECKS[name] = function
        return function

    return register


@dataclass(frozen=True)
class Exercise:
    """One exercise as a notebook shows it."""

    name: str
    title: str
    difficulty: int  # stars, 1 to 3
    minutes: int
    hint: str
    solution: str  # Python, from the folded block
    stub: str  # Python, the code cell below the card


CARD = re.compile(
    r"^### Exercise (?P<name>\d\d\.\d) · (?P<title>.+)\n+(?P<stars>★{1,3}☆*) · (?P<minutes>\d+) minutes?\n"
)
FOLD = re.compile(
    r"<details>\s*<summary>(?P<title>Hint|Solution)</summary>\n\n(?P<body>.*?)\n+</details>", re.S
)
CODE = re.compile(r"```python\n(.*?)```", re.S)


def read_exercises(notebook: str | Path) -> list[Exercise]:
    """The exercises of a notebook (`.py` or `.ipynb`), in order; `ValueError` names what a card lacks."""
    import jupytext

    cells = jupytext.read(notebook).cells
    found = []
    for card, below in zip(cells, cells[1:] + [None], strict=True):
        if card.cell_type != "markdown" or not card.source.startswith("### Exercise"):
            continue
        first_line = card.source.splitlines()[0]
        head = CARD.match(card.source)
        if head is None or len(head["stars"]) != 3:
            raise ValueError(f"{first_line!r}: expected '### Exercise 03.1 · Title', then '★☆☆ · 3 minutes'")
        folds = {fold["title"]: fold["body"].strip() for fold in FOLD.finditer(card.source)}
        code = CODE.search(folds.get("Solution", ""))
        if not folds.get("Hint") or code is None:
            raise ValueError(f"{first_line!r}: expected a folded Hint and a folded Solution with ```python")
        if below is None or below.cell_type != "code" or "exercise" not in below.metadata.get("tags", []):
            raise ValueError(f"{first_line!r}: the cell below must be code, tagged `exercise`: the stub")
        found.append(
            Exercise(
                name=head["name"],
                title=head["title"].strip(),
                difficulty=head["stars"].count("★"),
                minutes=int(head["minutes"]),
                hint=folds["Hint"],
                solution=code[1],
                stub=below.source,
            )
        )
    return found


def given(answer):
    """What a function gave, unless it gave nothing."""
    if answer is None:
        raise Wrong("Your function returned None. Replace the `...` and end with `return`.")
    return answer


def tensor(answer, shape: tuple[int, ...]) -> torch.Tensor:
    """The answer as a float tensor of the expected shape, or advice."""
    answer = torch.as_tensor(given(answer)).detach().float()
    if tuple(answer.shape) != shape:
        turned = tuple(reversed(answer.shape)) == shape and len(shape) == 2
        advice = " The two axes are swapped: `.T` turns them." if turned else ""
        raise Wrong(f"The shape is {tuple(answer.shape)}, expected {shape}.{advice}")
    return answer
