"""Guess with the model: four answers, one region (notebook 00).

    region ─► session.score(mask, four answers) ─► softmax ─► how likely the model holds each
           ─► session.describe(mask) ───────────────────────► what it says unasked
    the reader chooses first, then sees both, and the truth
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import ipywidgets
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from osprey_nb.data.kinds import COLOURS as ALL_COLOURS
from osprey_nb.data.kinds import KINDS, PATTERNS
from osprey_nb.data.phrases import article
from osprey_nb.diagrams.drawing import COLOURS, INK, SOFT, new_sheet, picture
from osprey_nb.viz import ALARM

from ..pointed import PointedFigure
from .asked import check_choice
from .controls import APART, heading, notice
from .panels import TONE, place, quoted, write

LETTERS = "ABCD"
RIGHT = "#1B7F4B"


@dataclass(frozen=True)
class Question:
    """A picture (H×W×3 uint8), a region (H×W bool), four different answers, and which of them is true (0 to 3)."""

    image: np.ndarray
    mask: np.ndarray
    answers: tuple[str, str, str, str]
    truth: int

    def __post_init__(self):
        if len(set(self.answers)) != len(LETTERS):
            raise ValueError(f"The answers are {self.answers}; give four different ones.")
        check_choice("truth", self.truth, len(LETTERS))
        if self.mask.shape != self.image.shape[:2] or not self.mask.any():
            raise ValueError(f"The mask is {self.mask.shape}; give {self.image.shape[:2]} with one pixel or more.")


@dataclass(frozen=True)
class Verdict:
    """What the model says of a question: its own words, and the log-likelihoods of the four answers."""

    said: str
    scores: tuple[float, ...]

    @property
    def shares(self) -> np.ndarray:
        """Softmax of the scores: 4 shares that sum to 1."""
        return torch.tensor(self.scores, dtype=torch.float64).softmax(0).numpy()

    @property
    def choice(self) -> int:
        return int(np.argmax(self.scores))


@dataclass(frozen=True)
class QuizState:
    """Which question is shown, and what the reader chose of each: 0 to 3, or None where nothing is chosen yet."""

    question: int
    choices: tuple[int | None, ...]


def scene_questions(scenes: Iterable, seed: int = 0) -> list[Question]:
    """One question a scene, about one of its objects: its true name, and three with another pattern, colour or kind.

    The other colour and kind are those of another object of the scene, where there is one.
    """
    questions = []
    for number, scene in enumerate(scenes):
        rng = np.random.default_rng([seed, number])
        thing = scene.objects[int(rng.integers(len(scene.objects)))]
        words = {"pattern": thing.pattern, "colour": thing.colour, "kind": thing.kind}
        answers = [_phrase(**words)]
        for name, choices in (("pattern", PATTERNS), ("colour", ALL_COLOURS), ("kind", tuple(KINDS))):
            near = [getattr(x, name) for x in scene.objects] if name != "pattern" else []
            others = [x for x in near if x != words[name]] or [x for x in choices if x != words[name]]
            answers.append(_phrase(**words | {name: others[int(rng.integers(len(others)))]}))
        order = rng.permutation(len(answers)).tolist()
        questions.append(Question(scene.image, thing.mask, tuple(answers[i] for i in order), order.index(0)))
    return questions


def _phrase(pattern: str, colour: str, kind: str) -> str:
    return article(f"{colour} {kind}" if pattern == "plain" else f"{pattern} {colour} {kind}")


def judge(model, question: Question) -> Verdict:
    """Ask the model: what is it, and how likely is each of the four?"""
    session = model.read(question.image)
    scores = session.score([question.mask], list(question.answers))[0]
    return Verdict(session.describe([question.mask])[0], tuple(scores.tolist()))


def tally(questions: Sequence[Question], verdicts: Sequence[Verdict | None], state: QuizState) -> tuple[int, int, int]:
    """(right answers of the reader, of the model, questions that the reader has answered)."""
    done = [i for i, choice in enumerate(state.choices) if choice is not None]
    reader = sum(state.choices[i] == questions[i].truth for i in done)
    return reader, sum(verdicts[i].choice == questions[i].truth for i in done), len(done)


def quiz_figure(questions: Sequence[Question], verdicts: Sequence[Verdict | None], state: QuizState) -> Figure:
    """The region and four answers; once one is chosen, the truth, the model's words and how likely it holds each."""
    check_choice("question", state.question, len(questions))
    question, choice = questions[state.question], state.choices[state.question]
    figure, sheet = new_sheet(11.6, 4.6)
    write(figure, 0.15, 4.35, f"Question {state.question + 1} of {len(questions)}: what is outlined?", 12)
    picture(figure, 0.15, 0.5, 3.6, question.image, question.mask)
    figure.axes[-1].set_gid(None)  # a click there would say nothing
    if choice is not None:
        reader, model, done = tally(questions, verdicts, state)
        write(figure, 11.4, 4.35, f"you {reader} · the model {model} · of {done}", 12, ha="right")
        verdict = verdicts[state.question]
        write(figure, 8.3, 3.95, "how likely the model holds each", 9, TONE)
    for i, answer in enumerate(question.answers):
        y, tone, width, marks = 3.45 - 0.66 * i, SOFT, 1.1, []
        if choice is not None and i == question.truth:
            tone, width = RIGHT, 2.4
            marks.append("true")
        elif choice == i:
            tone, width = ALARM, 2.4
        if choice == i:
            marks.append("your choice")
        look = {"boxstyle": "round,pad=0,rounding_size=0.08", "facecolor": "white", "edgecolor": tone, "linewidth": width}
        sheet.add_patch(FancyBboxPatch((4.2, y - 0.26), 3.8, 0.52, **look))
        if choice is None:
            place(figure, str(i), 4.2, y - 0.26, 3.8, 0.52)
        sheet.text(4.35, y, f"{LETTERS[i]}   {answer}", va="center", fontsize=11.5, color=INK, parse_math=False)
        sheet.text(7.9, y, " · ".join(marks), va="center", ha="right", fontsize=8.5, color=tone)
        if choice is not None:
            share = float(verdict.shares[i])
            patch = {"facecolor": COLOURS["image"], "linewidth": 0, "boxstyle": "round,pad=0,rounding_size=0.03"}
            sheet.add_patch(FancyBboxPatch((8.3, y - 0.13), max(2.3 * share, 0.02), 0.26, **patch))
            sheet.text(8.42 + 2.3 * share, y, f"{share:.0%}", va="center", fontsize=10, color=INK)
    if choice is None:
        write(figure, 4.2, 0.75, "Choose first. Then see what the model says.", 10, TONE)
    else:
        write(figure, 4.2, 0.78, f"Unasked, the model says: {quoted(verdict.said)}", 10.5, wrap=80)
    return figure


class QuizProbe(ipywidgets.VBox):
    """A region is shown: choose one of four answers, then see the truth and what the model holds of each.

    `questions` are `Question`s, for instance `scene_questions(scenes)`. Buttons take Tab and Space.
    """

    notice = (
        "Which of your mistakes does the model make too? It may choose right among four and still say another word of its own."
    )

    def __init__(self, model, questions: Sequence[Question]):
        if not questions:
            raise ValueError("There are no questions; give one at least.")
        self.model, self.questions = model, list(questions)
        self.verdicts: list[Verdict | None] = [None] * len(self.questions)
        self.state = QuizState(0, (None,) * len(self.questions))
        wide = {"width": "auto", "min_width": "3.5em"}
        self.buttons = [ipywidgets.Button(description=letter, layout=wide) for letter in LETTERS]
        for i, button in enumerate(self.buttons):
            button.on_click(lambda _, i=i: self.choose(i))
        self.before = ipywidgets.Button(description="back", layout=wide | {"margin": "2px 2px 2px 24px"})
        self.after = ipywidgets.Button(description="next", layout=wide)
        self.before.on_click(lambda _: self.go(self.state.question - 1))
        self.after.on_click(lambda _: self.go(self.state.question + 1))
        title, hint = "Probe: do you see what the model sees?", "Click an answer."
        self.picture = PointedFigure(alt=f"{title} {hint}")
        self.picture.on_point(lambda place, start, end: self.choose(int(place)))
        line = ipywidgets.HBox([ipywidgets.Label("your answer"), *self.buttons, self.before, self.after])
        super().__init__([heading(title, hint), line, self.picture, notice(self.notice)], layout=APART)
        self._draw()

    def choose(self, answer: int) -> None:
        """The reader's answer to the present question, 0 to 3. The first counts: a second is not taken."""
        check_choice("answer", answer, len(LETTERS))
        number = self.state.question
        if self.state.choices[number] is not None:
            return
        self.verdicts[number] = judge(self.model, self.questions[number])
        choices = tuple(answer if i == number else old for i, old in enumerate(self.state.choices))
        self.state = replace(self.state, choices=choices)
        self._draw()

    def go(self, question: int) -> None:
        """Show another question, counted from 0."""
        check_choice("question", question, len(self.questions))
        self.state = replace(self.state, question=question)
        self._draw()

    def static(self) -> Figure:
        """The present question as a figure, for readers without a kernel."""
        return quiz_figure(self.questions, self.verdicts, self.state)

    def _draw(self) -> None:
        number = self.state.question
        for button in self.buttons:
            button.disabled = self.state.choices[number] is not None
        self.before.disabled, self.after.disabled = number == 0, number == len(self.questions) - 1
        self.picture.show(self.static())
