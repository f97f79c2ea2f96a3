"""Scene graphs: which objects a scene holds, and where, without a resolution.

    (split, compositions, seed) ──PCG64──▶ SceneGraph: background + ObjectSpecs, all integers

Only integers are computed, so a seed gives the same graph on any machine. The streams of the splits and of
the three kinds of composition never meet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from osprey_nb.data.backgrounds import BACKGROUNDS, VARIANTS
from osprey_nb.data.drawings import SHAPES
from osprey_nb.data.kinds import COLOURS, HELD_OUT, KINDS, PATTERNS, SIZES

Split = Literal["train", "eval"]
Compositions = Literal["train", "held_out", "all"]

UNIT = 1024  # the graph's canvas is UNIT×UNIT, whatever the resolution of the picture
EXTENTS = {"small": (232, 288), "medium": (328, 392), "large": (440, 512)}  # longer side of an object
COVERED = 20  # at most this share (%) of an object's box is taken by the boxes in front of it


@dataclass(frozen=True)
class ObjectSpec:
    """One object of the graph, in units of 1/1024 of the canvas; angle in degrees, stretch in percent."""

    kind: str
    colour: str
    pattern: str
    size: str
    x: int
    y: int
    extent: int
    stretch: int
    angle: int
    mirror: bool
    tint: tuple[int, int, int]

    @property
    def box(self) -> tuple[int, int, int, int]:
        """(x0, y0, x1, y1) around the turned object, in integers, a little generous."""
        wide, high = _PER_MILLE[self.kind]
        wide, high = self.extent * wide * self.stretch // 100_000, self.extent * high // 1000
        lean = abs(self.angle) * 18  # sin(1°) is a little under 18/1000
        half_w, half_h = (wide + high * lean // 1000) // 2 + 6, (high + wide * lean // 1000) // 2 + 6
        return self.x - half_w, self.y - half_h, self.x + half_w, self.y + half_h


@dataclass(frozen=True)
class SceneGraph:
    """What a scene is made of; objects are painted in order, so later ones are in front."""

    background: str
    variant: int
    objects: tuple[ObjectSpec, ...]


def _span(kind: str) -> tuple[int, int]:
    corners = np.concatenate([shape.points for shape in SHAPES[kind]])
    wide, high = np.round((corners.max(0) - corners.min(0)) * 1000).astype(int)
    return int(wide), int(high)


_PER_MILLE = {kind: _span(kind) for kind in SHAPES}
_PAIRS = {
    "all": tuple((kind, colour) for kind in KINDS for colour in COLOURS),
    "held_out": tuple(sorted(HELD_OUT)),
    "train": tuple((kind, colour) for kind in KINDS for colour in COLOURS if (kind, colour) not in HELD_OUT),
}


def overlap(a, b) -> int:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(wide, 0) * max(high, 0)


def direction(a: ObjectSpec, b: ObjectSpec) -> str | None:
    """Where a is with respect to b: `left of`, `right of`, `above`, `below`, or None where none of them is clear.

    Clear is a distance of more than a fifth of the canvas, at least 1.6 times the distance across.
    """
    dx, dy = b.x - a.x, b.y - a.y
    if 5 * abs(dx) > 8 * abs(dy) and abs(dx) > UNIT // 5:
        return "left of" if dx > 0 else "right of"
    if 5 * abs(dy) > 8 * abs(dx) and abs(dy) > UNIT // 5:
        return "above" if dy > 0 else "below"
    return None


def _area(box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def compose(seed: int, split: Split = "train", compositions: Compositions = "train") -> SceneGraph:
    """Draw a scene graph from the stream (split, compositions, seed): the same integers on any machine.

    `compositions` says which (kind, colour) pairs may appear: "train" never shows one of `HELD_OUT`;
    "held_out" shows one of them, among training pairs; "all" draws from every pair.
    """
    if split not in ("train", "eval"):
        raise ValueError(f"split is {split!r}; expected 'train' or 'eval'.")
    if compositions not in _PAIRS:
        raise ValueError(f"compositions is {compositions!r}; expected 'train', 'held_out' or 'all'.")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"seed is {seed!r}; expected an integer of 0 or more.")
    stream = [("train", "eval").index(split), ("train", "held_out", "all").index(compositions), int(seed)]
    rng = np.random.default_rng(stream)

    def pick(options):
        return options[int(rng.integers(len(options)))]

    background, variant = pick(BACKGROUNDS), int(rng.integers(VARIANTS))
    wanted = int(rng.integers(2, 7))
    held_out_at = int(rng.integers(2)) if compositions == "held_out" else -1
    objects: list[ObjectSpec] = []
    covered: list[int] = []
    for _ in range(4 * wanted):
        if len(objects) == wanted:
            break
        pool = compositions
        if compositions == "held_out" and len(objects) != held_out_at:
            pool = "train"
        kind, colour = pick(_PAIRS[pool])
        pattern = "plain" if rng.integers(2) else pick(PATTERNS[1:])
        size, may_overlap = pick(SIZES), bool(rng.integers(2))
        low, high = EXTENTS[size]
        extent, stretch, angle = (int(rng.integers(a, b)) for a, b in ((low, high + 1), (92, 109), (-10, 11)))
        mirror, tint = bool(rng.integers(2)), tuple(int(v) for v in rng.integers(-7, 8, 3))
        if any((kind, colour) == (other.kind, other.colour) for other in objects):
            continue
        for _ in range(25):
            x, y = (int(v) for v in rng.integers(0, UNIT, 2))
            spec = ObjectSpec(kind, colour, pattern, size, x, y, extent, stretch, angle, mirror, tint)
            box = spec.box
            if min(box[:2]) < 0 or max(box[2:]) > UNIT:
                continue
            overlaps = [overlap(box, other.box) for other in objects]
            if any(overlaps) and not may_overlap:
                continue
            after = [c + o for c, o in zip(covered, overlaps, strict=True)]
            if all(100 * c <= COVERED * _area(other.box) for c, other in zip(after, objects, strict=True)):
                objects.append(spec)
                covered = [*after, 0]
                break
    return SceneGraph(background, variant, tuple(objects))
