"""Draw on a picture and read what the model sees (notebook 00).

    picture ──────────────────────────────────────────┐       read, once: an ImageSession
    stroke ──► masks ──► which regions changed? ──► queue ──► one worker thread ──► _panel ──► cards in the browser
    question ─────────────────────────────────────────┘       describe / chat, word by word

A model takes seconds and messages must not wait, so nothing is inferred where messages arrive. One thread asks the
model, one job after another. It begins with the picture, while the first region is being drawn. A job carries the
versions of its regions: when a stroke changes one, that answer is stale; a job of which nothing is fresh stops at its
next word.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import traitlets

from ..viz import answers_figure
from .canvas import CANVAS_FILES, HERE, MaskCanvas, bundle

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REGION = re.compile(r"<?\bregion ?([1-9])\b>?", re.I)
LONGEST_QUESTION = 2000  # characters


@dataclass(eq=False)
class Answer:
    """What is said about one region. A changed region gets a new Answer, which makes the old one stale."""

    region: int
    short: str = ""
    detailed: str = ""
    busy: list[str] = field(default_factory=list)  # what is being written: "short", "detailed"
    error: str = ""
    failed: str = ""  # which of the two came to nothing


@dataclass(eq=False)
class Exchange:
    """A question and what came of it."""

    question: str
    answer: str = ""
    busy: bool = True
    error: str = ""  # the question stays readable beside it, and the model does not hear of it again


class Studio(MaskCanvas):
    """The canvas beside the model's answers: short on every stroke, detailed on a click, and a conversation.

    `model.read(image)` gives a session, as `Osprey` does (`generate.ImageSession`), with two methods:

    - `describe(masks, detail="short" | "detailed", stream=True)` → iterator of (index, piece of text)
    - `chat(masks, messages, stream=True)` → iterator of pieces; `<region1>` … count the given masks

    What works in the browser works from Python: `studio.set_masks(masks)`, `studio.detail(1)`,
    `studio.ask("What is <region1>?")`. `studio.wait()` returns when all is said; then read `studio.answers` and
    `studio.conversation`. An error of the model appears in the panel and ends nothing.
    """

    _esm = bundle(*CANVAS_FILES, "studio.js")
    _css = "\n".join((HERE / name).read_text(encoding="utf-8") for name in ("canvas.css", "studio.css"))

    _panel = traitlets.Dict({"regions": [], "talk": [], "since": 0}).tag(sync=True)
    _banner = traitlets.Unicode().tag(sync=True)

    def __init__(self, model, image, height: int = 480, **kwargs):
        self.model = model
        self._answers: dict[int, Answer] = {}
        self._talk: list[Exchange] = []
        self._since = 0  # earlier exchanges are about regions that have changed; the model hears of them no more
        self._jobs: deque[Callable[[], None]] = deque()
        self._idle = threading.Condition()
        self._worker: threading.Thread | None = None
        trained_on = getattr(getattr(model, "config", None), "trained_on", None)
        kwargs.setdefault("title", "Osprey studio")
        super().__init__(image, height, _banner=f"This model was trained on {trained_on}." if trained_on else "", **kwargs)
        self.on_msg(self._asked)
        self._session = None
        self._enqueue(self._read_ahead)

    @property
    def answers(self) -> dict[int, dict[str, str]]:
        """Region number → {"short": …, "detailed": …}, with "error" where the model failed."""
        with self._lock:
            said = [asdict(self._answers[number]) for number in sorted(self._answers)]
        return {a["region"]: {key: a[key] for key in ("short", "detailed", "error") if a[key]} for a in said}

    @property
    def conversation(self) -> list[dict[str, str]]:
        """The conversation as the model knows it: [{"role": "user" | "assistant", "content": …}, …]."""
        with self._lock:
            talk = self._talk[self._since :]
        return _messages(exchange for exchange in talk if not exchange.busy)

    def detail(self, region: int) -> None:
        """Ask for the detailed description of a region. ValueError if nothing is drawn there."""
        self._describe([self._known(region)], "detailed")

    def ask(self, question: str) -> None:
        """Ask about the regions; `<region1>` names one. ValueError for an empty question or an unknown region."""
        text = question.strip()
        if not text or len(text) > LONGEST_QUESTION:
            raise ValueError(f"a question has 1 to {LONGEST_QUESTION} characters; this one has {len(text)}")
        with self._lock:
            if not self._answers:
                raise ValueError("no region is drawn yet; draw one, then ask about it")
            for number in REGION.findall(text):
                self._known(int(number))
            exchange = Exchange(text)
            self._talk.append(exchange)
            about = dict(self._answers)
            regions = self.regions
        self._show()
        self._enqueue(lambda: self._reply(exchange, regions, about))

    def forget(self) -> None:
        """Begin a new conversation."""
        with self._lock:
            self._talk = []
            self._since = 0
        self._show()

    def wait(self, timeout: float | None = None) -> None:
        """Return when every answer is written. TimeoutError after `timeout` seconds."""
        with self._idle:
            if not self._idle.wait_for(lambda: not self._jobs and self._worker is None, timeout):
                raise TimeoutError(f"the model is still writing after {timeout} s")

    def static(self) -> Figure:
        """The picture, its regions and all that was said, as a figure for readers without a kernel."""
        with self._lock:
            regions, answers = self.regions, self.answers
        return answers_figure(self.image, regions, answers)

    # --- what the browser asks for

    def _asked(self, _, content, buffers) -> None:
        """A button or the question box. Whatever is wrong is shown in the widget; a refused question stays readable."""
        try:
            kind = content.get("kind") if isinstance(content, dict) else None
            if kind == "ask" and isinstance(content.get("text"), str):
                try:
                    self.ask(content["text"])
                except ValueError as error:
                    with self._lock:
                        self._talk.append(Exchange(content["text"], busy=False, error=_sentence(error)))
                    self._show()
            elif kind == "detail":
                self.detail(content.get("region"))
            elif kind == "describe":
                detail = "detailed" if content.get("detail") == "detailed" else "short"
                self._describe([self._known(content.get("region"))], detail)
            elif kind == "forget":
                self.forget()
            self._notice = ""
        except ValueError as error:
            self._notice = _sentence(error)

    def _known(self, region) -> int:
        drawn = sorted(self._answers)
        if region not in drawn:
            raise ValueError(f"there is no region {region}; drawn: {', '.join(map(str, drawn)) or 'none'}")
        return region

    def _drawn(self, before: np.ndarray, after: np.ndarray) -> None:
        """The label map changed: describe anew what changed, forget what is gone."""
        changed = before != after
        touched = {*np.unique(before[changed]).tolist(), *np.unique(after[changed]).tolist()} - {0}
        kept = sorted(touched & set(np.unique(after).tolist()))
        with self._lock:
            if touched & set(self._answers):
                self._since = len(self._talk)
            for number in touched:
                self._answers.pop(number, None)
            for number in kept:
                self._answers[number] = Answer(number)
        self._describe(kept, "short")
        super()._drawn(before, after)

    def _describe(self, regions: list[int], detail: str) -> None:
        with self._lock:
            asked = [self._answers[region] for region in regions if detail not in self._answers[region].busy]
            masks = [self._labels == answer.region for answer in asked]
            for answer in asked:
                answer.busy.append(detail)
                answer.error = answer.failed = ""
                setattr(answer, detail, "")
        self._show()
        if asked:
            self._enqueue(lambda: self._write_answers(asked, masks, detail))

    # --- on the worker's thread

    def _read_picture(self):
        if self._session is None:
            self._session = self.model.read(self.image)
        return self._session

    def _read_ahead(self) -> None:
        with suppress(Exception):  # the first answer tries again, and its card says what is wrong
            self._read_picture()

    def _write_answers(self, asked: list[Answer], masks: list[np.ndarray], detail: str) -> None:
        def fresh(answer: Answer) -> bool:
            return self._answers.get(answer.region) is answer

        writing = [(answer, mask) for answer, mask in zip(asked, masks, strict=True) if fresh(answer)]
        try:
            if writing:
                pieces = self._read_picture().describe([mask for _, mask in writing], detail=detail, stream=True)
                said = [""] * len(writing)
                for index, piece in pieces:
                    if not any(fresh(answer) for answer, _ in writing):
                        break  # which also stops the model
                    said[index] += piece
                    setattr(writing[index][0], detail, said[index].strip())
                    self._show()
        except Exception as error:
            for answer in asked:
                setattr(answer, detail, "")  # half a sentence looks like a whole one
                answer.error, answer.failed = _sentence(error), detail
        for answer in asked:
            answer.busy.remove(detail)
        self._show()

    def _reply(self, exchange: Exchange, regions: dict[int, np.ndarray], about: dict[int, Answer]) -> None:
        def fresh() -> bool:
            return exchange in self._talk and all(self._answers.get(n) is answer for n, answer in about.items())

        try:
            if fresh():
                with self._lock:
                    talk = self._talk[self._since :]
                messages = _messages(talk[: talk.index(exchange) + 1])
                # The model is given the regions that the talk names, or all if it names none: what nobody asks about only
                # distracts it. Regions 2 and 5 of the canvas are then its <region1> and <region2>.
                named = {int(n) for message in messages for n in REGION.findall(message["content"])}
                regions = {n: mask for n, mask in regions.items() if n in named} or regions
                there = {number: i for i, number in enumerate(regions, start=1)}
                here = {i: number for number, i in there.items()}
                for message in messages:
                    message["content"] = _renumber(message["content"], there)
                text = ""
                for piece in self._read_picture().chat(list(regions.values()), messages, stream=True):
                    if not fresh():
                        break
                    text += piece
                    exchange.answer = _renumber(text.strip(), here)
                    self._show()
            if not fresh():
                exchange.error = "Stopped, because the regions changed. Ask again."
        except Exception as error:
            exchange.error = _sentence(error)
            if len(self.conversation) > 1:
                exchange.error += " Or begin a new conversation: this one is sent along with each question."
        exchange.busy = False
        self._show()

    def _enqueue(self, job: Callable[[], None]) -> None:
        with self._idle:
            self._jobs.append(job)
            if self._worker is None:  # it lives while there is work
                self._worker = threading.Thread(target=self._work, name="osprey-studio", daemon=True)
                self._worker.start()

    def _work(self) -> None:
        while True:
            with self._idle:
                if not self._jobs:
                    self._worker = None
                    self._idle.notify_all()
                    return
                job = self._jobs.popleft()
            job()

    def _show(self) -> None:
        with self._lock:
            regions = [asdict(self._answers[number]) for number in sorted(self._answers)]
            self._panel = {"regions": regions, "talk": [asdict(e) for e in self._talk], "since": self._since}


def _messages(exchanges: Iterable[Exchange]) -> list[dict[str, str]]:
    """Questions and answers in turn, as `chat` takes them; a question that got an error is left out."""
    messages = []
    for exchange in exchanges:
        if exchange.error:
            continue
        messages.append({"role": "user", "content": exchange.question})
        if not exchange.busy:
            messages.append({"role": "assistant", "content": exchange.answer})
    return messages


def _renumber(text: str, numbers: dict[int, int]) -> str:
    """Every `region N` of a text as `<regionM>`, M = numbers[N]; a number that is not there stays."""
    return REGION.sub(lambda match: f"<region{numbers.get(int(match[1]), match[1])}>", text)


def _sentence(error: Exception) -> str:
    """An error as people read it. A ValueError is written for them; others carry their name."""
    text = str(error) or "no message"
    return text[0].upper() + text[1:] if isinstance(error, ValueError) else f"{type(error).__name__}: {text}"
