"""Short phrases for regions, and the way back from a phrase to the words that count.

    object_phrase   "a red bicycle", "a large striped red bicycle"
    part_phrase     "the wheel of a red bicycle", "a red bicycle's wheel"
    parse_phrase    any text -> {"kind": "bicycle", "colour": "red", "part": "wheel", "pattern": None}

A part has one name however many pieces it has: the `wheel` of a bicycle is both wheels. Only the lists of
parts in longer texts use the plural.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate, groupby
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from osprey_nb.data.drawings import SHAPES
from osprey_nb.data.graph import UNIT
from osprey_nb.data.kinds import COLOURS, FIXED_INKS, KINDS, PATTERNS
from osprey_nb.data.scenes import Part, Scene, SceneObject

PARTS: tuple[str, ...] = tuple(dict.fromkeys(part for parts in KINDS.values() for part in parts))
SEVERAL = {  # parts of which an unhidden object shows more than one
    "house": {"window": "windows"},
    "car": {"window": "windows", "wheel": "wheels"},
    "bicycle": {"wheel": "wheels"},
    "boat": {"sail": "sails"},
    "fish": {"fin": "fins"},
    "bird": {"leg": "legs"},
    "cat": {"leg": "legs", "ear": "ears"},
    "flower": {"leaf": "leaves", "petal": "petals"},
    "balloon": {"rope": "ropes"},
    "rocket": {"fin": "fins"},
    "clock": {"leg": "legs", "bell": "bells", "hand": "hands"},
    "chair": {"leg": "legs"},
    "snail": {"antenna": "antennae"},
    "train": {"wheel": "wheels"},
    "butterfly": {"wing": "wings", "antenna": "antennae"},
}
_SINGULAR = {plural: part for parts in SEVERAL.values() for part, plural in parts.items()}
#: Where something is with respect to something else, and the same said of "it": along one axis, and along both.
LEVEL = {"to the left of": "to its left", "to the right of": "to its right"}
UPRIGHT = {"above": "above it", "below": "below it"}
STRAIGHT = LEVEL | UPRIGHT
BESIDE = STRAIGHT | {f"{one} and {other}": f"{UPRIGHT[one]} and {LEVEL[other]}" for one in UPRIGHT for other in LEVEL}
FIELDS = (  # the picture in nine
    ("at the top left", "at the top", "at the top right"),
    ("on the left", "in the middle", "on the right"),
    ("at the bottom left", "at the bottom", "at the bottom right"),
)
MIDDLE = (0.39, 0.61)  # where it begins and ends, in shares of a side


class Region(NamedTuple):
    """A whole object, or one of its parts."""

    obj: SceneObject
    part: Part | None = None

    @property
    def mask(self) -> np.ndarray:
        """H×W bool, the visible pixels."""
        return self.obj.mask if self.part is None else self.part.mask

    @property
    def category(self) -> str:
        """`bicycle`, or for a part `bicycle:wheel`."""
        return self.obj.kind if self.part is None else f"{self.obj.kind}:{self.part.name}"

    def phrase(self, rng: np.random.Generator | None = None) -> str:
        return object_phrase(self.obj, rng) if self.part is None else part_phrase(self.obj, self.part, rng)


def article(words: str) -> str:
    """The words with `a` or `an` before them."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def capital(sentence: str) -> str:
    """The sentence with a capital letter."""
    return sentence[0].upper() + sentence[1:]


def listed(words: list[str]) -> str:
    """`a roof, a door and a window`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def object_phrase(obj: SceneObject, rng: np.random.Generator | None = None) -> str:
    """A short description. Without an rng `a red bicycle`; with one its pattern is said, too: `a striped red bicycle`."""
    patterned = rng is not None and obj.pattern != "plain"
    return article(f"{obj.pattern + ' ' if patterned else ''}{obj.colour} {obj.kind}")


def part_phrase(obj: SceneObject, part: Part | str, rng: np.random.Generator | None = None) -> str:
    """A short description of a part. Without an rng exactly `the wheel of a red bicycle`."""
    word = part if isinstance(part, str) else part.name
    if rng is None or rng.random() < 0.6:
        return f"the {word} of {object_phrase(obj, rng)}"
    return f"{object_phrase(obj, rng)}'s {word}"


def part_list(scene: Scene, obj: SceneObject) -> str:
    """The visible parts, in the plural where several pieces show: `wheels, frame and saddle`.

    Of an object that something stands before, a part has several where its visible pixels hang together in several pieces.
    """
    hidden = any(i == obj.index and relation == "behind" for i, relation, _ in scene.relations)
    plurals = SEVERAL.get(obj.kind, {})
    several = [part.name in plurals and (not hidden or ndimage.label(part.mask)[1] > 1) for part in obj.parts]
    return listed([plurals[part.name] if many else part.name for part, many in zip(obj.parts, several, strict=True)])


def part_colour(obj: SceneObject, part: Part) -> str:
    """The colour that a person would name: the object's own, or the fixed one of tyres, glass, wood …"""
    ink = next(shape.ink for shape in SHAPES[obj.kind] if shape.part == part.name)
    return FIXED_INKS[ink][1] if ink in FIXED_INKS else obj.colour


def place(mask: np.ndarray) -> str:
    """Where the middle of a mask's box is in the picture, in nine fields: `at the top left`, `in the middle` …"""
    centres = (np.flatnonzero(mask.any(axis=axis))[[0, -1]].mean() + 0.5 for axis in (0, 1))
    column, row = (sum(v > edge * side for edge in MIDDLE) for v, side in zip(centres, mask.shape[::-1], strict=True))
    return FIELDS[row][column]


def directions(a: SceneObject, b: SceneObject) -> list[str]:
    """Where a is with respect to b: all of `BESIDE` that is true, the best first; [] where they are too near to tell.

    `above` is true where the way up is longer than that across by a fifth, `above and to the left of` where neither is longer
    than three times the other. So both may be true; from twice as long on straight is the better.
    """
    dx, dy = a.spec.x - b.spec.x, a.spec.y - b.spec.y
    across, along = sorted((abs(dx), abs(dy)))
    if 5 * along <= UNIT:
        return []
    level, upright = [*LEVEL][dx > 0], [*UPRIGHT][dy > 0]
    straight = [level if abs(dx) > abs(dy) else upright] if 5 * along >= 6 * across else []
    slanting = [f"{upright} and {level}"] if along <= 3 * across else []
    return straight + slanting if along > 2 * across else slanting + straight


def in_order(objects: Iterable[SceneObject]) -> list[SceneObject]:
    """By colour, in the order of the rainbow, then by kind: so what was named last tells what can come next."""
    kinds = [*KINDS]
    return sorted(objects, key=lambda obj: (COLOURS.index(obj.colour), kinds.index(obj.kind)))


def others_in_order(obj: SceneObject) -> list[SceneObject]:
    """What else is in the picture, of other colours: first those that come after its own in the rainbow, then those before."""
    others = in_order(other for other in obj.scene.objects if other.colour != obj.colour)
    own = COLOURS.index(obj.colour)
    return sorted(others, key=lambda other: (COLOURS.index(other.colour) - own) % len(COLOURS))


def by_colour(objects: Iterable[SceneObject]) -> list[str]:
    """`a red cat and boat`, `a blue fish`: a phrase for each colour, in the order of the rainbow."""
    groups = groupby(in_order(objects), key=lambda obj: obj.colour)
    return [article(f"{colour} {' and '.join(obj.kind for obj in alike)}") for colour, alike in groups]


def singular(word: str) -> str:
    """The name of a part from its plural; any other word stays as it is."""
    return _SINGULAR.get(word, word)


def parse_phrase(text: str) -> dict[str, str | None]:
    """The first kind, colour, part and pattern named in a text, and None for each that is not there."""
    words = [singular(word) for word in re.findall(r"[a-z]+", str(text).lower())]
    vocabularies = {"kind": KINDS, "colour": COLOURS, "part": PARTS, "pattern": PATTERNS}
    return {key: next((word for word in words if word in vocabulary), None) for key, vocabulary in vocabularies.items()}


# ---------------------------------------------------------------- seeded choices, shared by the texts


def pick(rng: np.random.Generator, options):
    """One of the options; a dictionary gives each its weight."""
    if not isinstance(options, dict):
        return options[int(rng.integers(len(options)))]
    ends = list(accumulate(options.values()))
    return list(options)[bisect_right(ends, rng.integers(ends[-1]))]


def shuffled(rng: np.random.Generator, items) -> list:
    """The items in random order."""
    items = list(items)
    return [items[i] for i in rng.permutation(len(items))]


def pick_regions(scene: Scene, rng: np.random.Generator, limit: int, parts: float) -> list[Region]:
    """Up to `limit` regions in random order; a share `parts` of them are parts (0: none, 1: all).

    A part comes the sooner the larger it is: a car's body is harder to tell from the car than its headlight.
    """
    objects = [Region(obj) for obj in scene.objects] if parts < 1 else []
    pieces = [Region(obj, part) for obj in scene.objects for part in obj.parts] if parts > 0 else []
    objects = shuffled(rng, objects)
    waits = [rng.exponential() / scene.areas[piece.part.label] ** 0.75 for piece in pieces]
    pieces = [pieces[i] for i in np.argsort(waits)[::-1]]  # the last is taken first
    chosen: list[Region] = []
    while len(chosen) < limit and (objects or pieces):
        pool = pieces if pieces and (not objects or rng.random() < parts) else objects
        chosen.append(pool.pop())
    return chosen
