"""What is drawn and said about one picture in a studio, and how a model is told of it.

    Sheet ─► picture, regions, {region: Answer}, [Exchange, …] ─► as_messages ─► renumbered ─► `session.chat`
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

REGION = re.compile(r"<?\bregion ?([1-9])\b>?", re.I)
PICTURE = re.compile(r"\b(pictures?|images?|photo(graph)?s?|scene|is there|are there|can you see|where is this)\b", re.I)


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


@dataclass(eq=False)
class Sheet:
    """A picture with all that was drawn and said on it."""

    image: Image.Image
    source: str
    labels: np.ndarray
    names: dict[int, str]
    answers: dict[int, Answer]
    talk: list[Exchange]


def about_the_picture(questions: Iterable[str]) -> list[bool]:
    """Of each question of a talk: is it about the whole picture? `What do you see in this picture?`, `Is there a cat?`

    One that names a region is not. One that speaks of neither goes on with the one before; at first that is the regions.
    """
    found, whole = [], False
    for question in questions:
        whole = REGION.search(question) is None and (whole or PICTURE.search(question) is not None)
        found.append(whole)
    return found


def as_messages(exchanges: Iterable[Exchange]) -> list[dict[str, str]]:
    """Questions and answers in turn, as `chat` takes them; a question that got an error is left out."""
    messages = []
    for exchange in exchanges:
        if exchange.error:
            continue
        messages.append({"role": "user", "content": exchange.question})
        if not exchange.busy:
            messages.append({"role": "assistant", "content": exchange.answer})
    return messages


def renumbered(text: str, numbers: dict[int, int]) -> str:
    """Every `region N` of a text as `<regionM>`, M = numbers[N]; a number that is not there stays."""
    return REGION.sub(lambda match: f"<region{numbers.get(int(match[1]), match[1])}>", text)
