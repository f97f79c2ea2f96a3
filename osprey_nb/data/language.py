"""From a scene graph to text, and from text back to the words that count."""

from __future__ import annotations

import re

import numpy as np

from osprey_nb.data.kinds import COLOURS, KINDS, PATTERNS
from osprey_nb.data.scenes import Part, SceneObject

PARTS: tuple[str, ...] = tuple(dict.fromkeys(part for parts in KINDS.values() for part in parts))


def _article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _pick(rng: np.random.Generator, options, weights=None):
    """One of the options; the same draw whatever their type."""
    if weights is None:
        return options[int(rng.integers(len(options)))]
    return options[int(np.searchsorted(np.cumsum(weights), rng.random() * sum(weights), side="right"))]


def _name(obj: SceneObject, rng: np.random.Generator | None = None) -> str:
    """The object without an article: `red bicycle`; with an rng, also its pattern and sometimes its size."""
    words = [obj.colour, obj.kind]
    if rng is not None:
        if obj.pattern != "plain":
            words.insert(0, obj.pattern)
        if rng.random() < 0.2:
            words.insert(0, obj.size)
    return " ".join(words)


def object_phrase(obj: SceneObject, rng: np.random.Generator | None = None) -> str:
    """A short description. Without an rng `a red bicycle`; with one also `a small striped red bicycle`."""
    return _article(_name(obj, rng))


def part_phrase(obj: SceneObject, part: Part | str, rng: np.random.Generator | None = None) -> str:
    """A short description of a part. Without an rng exactly `the wheel of a red bicycle`."""
    word = part if isinstance(part, str) else part.name
    if rng is None or rng.random() < 0.6:
        return f"the {word} of {_article(_name(obj, rng))}"
    return f"{_article(_name(obj, rng))}'s {word}"


def parse_phrase(text: str) -> dict[str, str | None]:
    """The first kind, colour, part and pattern named in a text; None where there is none."""
    words = re.findall(r"[a-z]+", str(text).lower())
    found = {}
    for key, vocabulary in (("kind", KINDS), ("colour", COLOURS), ("part", PARTS), ("pattern", PATTERNS)):
        found[key] = next((word for word in words if word in vocabulary), None)
    return found
