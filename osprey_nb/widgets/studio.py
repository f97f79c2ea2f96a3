"""Draw on a picture and read what the model sees (notebook 00).

    picture ──────────────────────────────────────────┐       read, once: an ImageSession
    stroke ──► masks ──► which regions changed? ──► queue ──► one worker thread ──► _panel ──► cards in the browser
    question, everything ─────────────────────────────┘       describe / chat, word by word

A model takes seconds and messages must not wait, so nothing is inferred where messages arrive. One thread asks the
model, one job after another. It begins with the picture, while the first region is being drawn. A job carries the
versions of its regions: when a stroke changes one, that answer is stale; a job of which nothing is fresh stops at its
next word.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import traitlets

from ..everything import described
from ..familiar import familiar_of
from ..prompt import checked_question
from ..segment import load_segmenter
from ..viz import answers_figure, to_png
from .canvas import CANVAS_FILES, HERE, MaskCanvas, bundle, encode_runs, sentence_of
from .pictures import opened, uploaded
from .session_files import session_code, session_json
from .sheet import REGION, Answer, Exchange, Sheet, about_the_picture, as_messages, renumbered

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LONGEST_QUESTION = 2000  # characters
SAMPLES = (3, 5, 7, 11, 12, 14, 18, 21)  # scenes of the eval split, to begin with
KINDS = {"json": "application/json", "png": "image/png", "py": "text/x-python"}


class Studio(MaskCanvas):
    """The canvas beside the model's answers: short on every stroke, detailed on a click, and a conversation.

    `model.read(image)` gives a session, as `Osprey` does (`generate.ImageSession`), with two methods:

    - `describe(masks, detail="short" | "detailed", stream=True)` → iterator of (index, piece of text)
    - `chat(masks, messages, stream=True)` → iterator of pieces; `<region1>` … count the given masks

    What works in the browser works from Python: `studio.set_masks(masks)`, `studio.detail(1)`,
    `studio.ask("What is <region1>?")`, `studio.everything()`, `studio.set_image(other)`, `studio.reopen(0)`,
    `studio.export("talk.json")`. `studio.wait()` returns when all is said; then read `studio.answers` and
    `studio.conversation`. An error of the model appears in the panel and ends nothing.

    `segmenter` serves clicks and `everything`: tiny SAM by default, loaded when it is first asked.
    """

    _esm = bundle(*CANVAS_FILES, "studio.js")
    _css = "\n".join((HERE / name).read_text(encoding="utf-8") for name in ("canvas.css", "studio.css"))

    _panel = traitlets.Dict({"regions": [], "talk": [], "since": 0}).tag(sync=True)
    _banner = traitlets.Unicode().tag(sync=True)
    _unlike = traitlets.Bool(False).tag(sync=True)  # is the picture unlike those that the model knows?
    _samples = traitlets.List(traitlets.Int(), list(SAMPLES)).tag(sync=True)
    _history = traitlets.List(traitlets.Unicode()).tag(sync=True)  # earlier pictures, the newest last
    _times = traitlets.Dict().tag(sync=True)  # milliseconds: "read", "first", "whole"

    def __init__(self, model, image=SAMPLES[0], height: int = 480, *, segmenter=None, **kwargs):
        self.model = model
        self.source, image = opened(image)
        self.history: list[Sheet] = []
        self._answers: dict[int, Answer] = {}
        self._talk: list[Exchange] = []
        self._since = 0  # earlier exchanges are about regions that have changed; the model hears of them no more
        self._familiar = familiar_of(model)
        self._session, self._session_image = None, None
        kwargs.setdefault("title", "Osprey studio")
        super().__init__(image, height, segmenter=segmenter or _TinySAM(), **kwargs)
        self._banner = self._warning()
        self._worker.do(self._read_ahead)

    def set_image(self, image) -> None:
        """Show another picture: PIL, H×W×3 uint8, a path, or the number of a drawing. The one before goes into `history`.

        Raises what `load_image` raises, and then changes nothing.
        """
        source, image = opened(image)
        with self._lock:
            before = self._sheet()
            super().set_image(image)
            if before.answers or before.talk:
                self.history.append(before)
            self.source, self._answers, self._talk, self._since = source, {}, [], 0
            self._history = [f"{len(sheet.answers)} regions on {sheet.source or 'a picture'}" for sheet in self.history]
            self._unlike, self._banner, self._times = False, self._warning(), {}
        self._show()
        self._worker.do(self._read_ahead)

    def reopen(self, number: int) -> None:
        """Go back to an earlier picture, `history[number]`, with all that was drawn and said. ValueError if there is none."""
        if type(number) is not int or not 0 <= number < len(self.history):
            raise ValueError(f"there is no picture {number!r} to go back to; there are {len(self.history)}")
        with self._lock:
            sheet = self.history.pop(number)
            self.set_image(sheet.image)
            self.source, self._answers, self._talk = sheet.source, sheet.answers, sheet.talk
            self._labels = sheet.labels
            self._push(self._saved + 1)
            for region, name in sheet.names.items():
                self.rename(region, name)
        self._show()

    def everything(self) -> None:
        """Find all there is, and describe it: a list below the picture, from which regions are taken."""
        with self._lock:
            self._newest += 1
            mine, segmenter, image = self._newest, self._segmenter, self.image
            self._candidates = {"id": "everything", "items": [], "busy": True}

        def find() -> None:
            if mine != self._newest:
                return
            try:
                self._read_for_clicks(segmenter, image)
                found = described(self._read_picture(), segmenter.everything(), segmenter.name)
                items = [
                    {"runs": self._wire(encode_runs(mask.astype(np.uint8))), "words": text, "depth": depth}
                    for mask, text, depth in zip(found.masks, found.texts, found.depths(), strict=True)
                ]
                said = {"items": items, "error": "" if items else "Nothing was found."}
            except Exception as error:  # of any segmenter or model; the studio goes on
                said = {"items": [], "error": sentence_of(error)}
            with self._lock:
                if mine == self._newest:
                    self._candidates = {"id": "everything", **said}

        self._worker.do(find)

    def export(self, path: str | Path) -> None:
        """Write the session to .json (all of it), .png (the figure) or .py (code that asks the same). ValueError otherwise."""
        path = Path(path)
        path.write_bytes(self._exported(path.suffix.lstrip(".")))

    @property
    def answers(self) -> dict[int, dict[str, str]]:
        """Region number → {"short": …, "detailed": …}, with "error" where the model failed."""
        with self._lock:
            said = [asdict(self._answers[number]) for number in sorted(self._answers)]
        return {a["region"]: {key: a[key] for key in ("short", "detailed", "error") if a[key]} for a in said}

    @property
    def times(self) -> dict[str, float]:
        """Milliseconds: "read" of the picture, "first" word and "whole" of the newest answers; and how many "answers"."""
        return dict(self._times)

    @property
    def unlike(self) -> bool:
        """Is the picture unlike those that the model was trained on? False where nobody knows (`familiar.py`)."""
        return self._unlike

    @property
    def conversation(self) -> list[dict[str, str]]:
        """The conversation as the model knows it: [{"role": "user" | "assistant", "content": …}, …]."""
        with self._lock:
            talk = self._talk[self._since :]
        return as_messages(exchange for exchange in talk if not exchange.busy)

    def detail(self, region: int) -> None:
        """Ask for the detailed description of a region. ValueError if nothing is drawn there."""
        self._describe([self._known(region)], "detailed")

    def ask(self, question: str) -> None:
        """Ask about the regions that the talk names (`<region1>` or `region 1`), or about all of them if it names none.

        Where none is drawn, or the question speaks of the picture (`sheet.about_the_picture`), it is about the whole picture.
        The model hears the earlier turns about regions with a question about regions, those about the picture with one about it.
        ValueError for an empty question or an unknown region.
        """
        text = question.strip()
        if not text or len(text) > LONGEST_QUESTION:
            raise ValueError(f"a question has 1 to {LONGEST_QUESTION} characters; this one has {len(text)}")
        text = checked_question(text)
        with self._lock:
            for number in REGION.findall(text):
                self._known(int(number))
            exchange = Exchange(text)
            self._talk.append(exchange)
            about = dict(self._answers)
            regions = self.regions
        self._show()
        self._worker.do(lambda: self._reply(exchange, regions, about))

    def forget(self) -> None:
        """Begin a new conversation."""
        with self._lock:
            self._talk = []
            self._since = 0
        self._show()

    def static(self) -> Figure:
        """The picture, its regions and all that was said, as a figure for readers without a kernel."""
        with self._lock:
            regions, answers = self.regions, self.answers
        return answers_figure(self.image, regions, answers)

    # --- what the browser asks for

    def _handle(self, content: dict, buffers) -> None:
        """A button or the question box. A refused question stays readable."""
        kind = content.get("kind")
        if kind == "ask":
            try:
                self.ask(str(content["text"]))
            except ValueError as error:
                with self._lock:
                    self._talk.append(Exchange(str(content["text"]), busy=False, error=sentence_of(error)))
                self._show()
        elif kind == "detail":
            self.detail(content.get("region"))
        elif kind == "describe":
            detail = "detailed" if content.get("detail") == "detailed" else "short"
            self._describe([self._known(content.get("region"))], detail)
        elif kind == "forget":
            self.forget()
        elif kind == "everything":
            self.everything()
        elif kind == "sample":
            self.set_image(content["number"])
        elif kind == "path":
            self.set_image(str(content["path"]).strip())
        elif kind == "picture" and buffers:
            self.set_image(uploaded(bytes(buffers[0]), str(content.get("name", ""))))
        elif kind == "reopen":
            self.reopen(content["number"])
        elif kind == "export":
            form = content["form"]
            self.send({"kind": "file", "name": f"session.{form}", "type": KINDS.get(form, "")}, [self._exported(form)])
        else:
            super()._handle(content, buffers)

    def _exported(self, form: str) -> bytes:
        if form not in KINDS:
            raise ValueError(f"a session is exported as .json, .png or .py, not as .{form}")
        if form == "png":
            return to_png(self.static())
        with self._lock:
            folder = Path(getattr(self.model, "name_or_path", "") or "a model")
            name = folder.name if folder.parent.name == "weights" else str(folder)
            facts = (self.image, self.source, name, self.regions, self.names)
            if form == "py":
                return session_code(*facts, self.conversation).encode()
            return json.dumps(session_json(*facts, self.answers, self.conversation), indent=1, ensure_ascii=False).encode()

    def _sheet(self) -> Sheet:
        return Sheet(self.image, self.source, self._labels, self.names, self._answers, self._talk)

    def _warning(self) -> str:
        trained_on = getattr(getattr(self.model, "config", None), "trained_on", None)
        return f"This model was trained on {trained_on}." if trained_on else ""

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
            self._worker.do(lambda: self._write_answers(asked, masks, detail))

    # --- on the worker's thread

    def _read_picture(self):
        image = self.image
        if self._session_image is not image:
            start = time.perf_counter()
            session = self.model.read(image)
            self._session, self._session_image = session, image
            self._times = {"read": _ms(start)}
            if self._familiar is not None and self._familiar.unlike(session.features):
                with self._lock:
                    if self.image is image:
                        self._unlike = True
                        self._banner = f"This picture is unlike those it knows; it sounds sure all the same. {self._warning()}"
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
                session, start, first = self._read_picture(), time.perf_counter(), None
                pieces = session.describe([mask for _, mask in writing], detail=detail, stream=True)
                said = [""] * len(writing)
                for index, piece in pieces:
                    if not any(fresh(answer) for answer, _ in writing):
                        break  # which also stops the model
                    first = _ms(start) if first is None else first
                    said[index] += piece
                    setattr(writing[index][0], detail, said[index].strip())
                    self._show()
                else:
                    self._times = {**self._times, "first": first, "whole": _ms(start), "answers": len(writing)}
        except Exception as error:
            for answer in asked:
                setattr(answer, detail, "")  # half a sentence looks like a whole one
                answer.error, answer.failed = sentence_of(error), detail
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
                talk = talk[: talk.index(exchange) + 1]
                subjects = about_the_picture(one.question for one in talk)
                whole = subjects[-1]
                messages = as_messages(one for one, subject in zip(talk, subjects, strict=True) if subject == whole)
                # The model is given the regions that the talk names, or all if it names none: what nobody asks about only
                # distracts it. Regions 2 and 5 of the canvas are then its <region1> and <region2>.
                named = {int(n) for message in messages for n in REGION.findall(message["content"])}
                if named or whole:
                    regions = {n: mask for n, mask in regions.items() if n in named}
                there = {number: i for i, number in enumerate(regions, start=1)}
                here = {i: number for number, i in there.items()}
                for message in messages:
                    message["content"] = renumbered(message["content"], there)
                text = ""
                for piece in self._read_picture().chat(list(regions.values()), messages, stream=True):
                    if not fresh():
                        break
                    text += piece
                    exchange.answer = renumbered(text.strip(), here)
                    self._show()
            if not fresh():
                exchange.error = "Stopped, because the regions changed. Ask again."
        except Exception as error:
            exchange.error = sentence_of(error)
            if len(self.conversation) > 1:
                exchange.error += " Or begin a new conversation: this one is sent along with each question."
        exchange.busy = False
        self._show()

    def _show(self) -> None:
        with self._lock:
            regions = [asdict(self._answers[number]) for number in sorted(self._answers)]
            self._panel = {"regions": regions, "talk": [asdict(e) for e in self._talk], "since": self._since}


class _TinySAM:
    """tiny SAM, loaded when it is first asked."""

    def __init__(self):
        self.loaded = None

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        if self.loaded is None:
            self.loaded = load_segmenter("tiny")
        return getattr(self.loaded, name)


def _ms(start: float) -> float:
    return round(1000 * (time.perf_counter() - start), 1)
