"""The synthetic world: from a seed to a scene graph, from the graph to pixels and exact masks.

    seed ──compose──▶ SceneGraph ──render(size)──▶ Scene
                      integers only               ├─ image     H×W×3 uint8
                      no resolution               ├─ labels    H×W uint8: 0 background, k = segments[k]
                                                  └─ objects   kind, colour, pattern, size, mask, parts

The picture and the labels come from **one** drawing: each pixel of the canvas holds `segment * 64 + ink`. The
masks are therefore the visible ones, exact by construction: an object in front takes its pixels from the one
behind.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from osprey_nb.data.backgrounds import BACKGROUNDS, paint
from osprey_nb.data.drawings import SHAPES
from osprey_nb.data.graph import UNIT, Compositions, ObjectSpec, SceneGraph, Split, compose, direction, overlap
from osprey_nb.data.kinds import (
    COLOUR_TONES,
    COLOURS,
    FIXED_INKS,
    HELD_OUT,
    KINDS,
    PATTERNS,
    SIZES,
)

__all__ = [
    "BACKGROUNDS", "COLOURS", "HELD_OUT", "KINDS", "PATTERNS", "SIZES",
    "ObjectSpec", "Part", "Scene", "SceneGraph", "SceneObject", "compose", "make_scene", "render",
]  # fmt: skip

MIN_PART = 12  # pixels at 128×128 under which a visible part is not listed
SUPERSAMPLE = 3  # odd, so that the middle sample of a pixel is its centre
INKS = 64  # canvas value = segment * INKS + ink


@dataclass(frozen=True, eq=False)
class Part:
    """A visible part of an object. `mask` is H×W bool."""

    name: str
    label: int
    scene: Scene = field(repr=False)

    @property
    def mask(self) -> np.ndarray:
        return self.scene.labels == self.label


@dataclass(frozen=True, eq=False)
class SceneObject:
    """A visible object. `mask` is H×W bool; `parts` lists the parts that are large enough to be seen."""

    index: int
    spec: ObjectSpec
    scene: Scene = field(repr=False)

    kind = property(lambda self: self.spec.kind)
    colour = property(lambda self: self.spec.colour)
    pattern = property(lambda self: self.spec.pattern)
    size = property(lambda self: self.spec.size)

    @property
    def labels(self) -> range:
        """The ids of the object's segments: consecutive, in the order of `KINDS[kind]`."""
        first = self.scene.segments.index((self.index, KINDS[self.kind][0]))
        return range(first, first + len(KINDS[self.kind]))

    @property
    def mask(self) -> np.ndarray:
        labels = self.labels
        return (self.scene.labels >= labels.start) & (self.scene.labels < labels.stop)

    @cached_property
    def parts(self) -> list[Part]:
        least = MIN_PART * self.scene.labels.size / 128**2
        named = zip(KINDS[self.kind], self.labels, strict=True)
        return [Part(name, k, self.scene) for name, k in named if self.scene.areas[k] >= least]


@dataclass(frozen=True, eq=False)
class Scene:
    """A rendered scene. `segments[k]` is (object index, part name) of label k; 0 is the background."""

    graph: SceneGraph
    image: np.ndarray
    labels: np.ndarray
    segments: tuple[tuple[int, str], ...]

    @property
    def background(self) -> str:
        return self.graph.background

    @cached_property
    def areas(self) -> np.ndarray:
        """Visible pixels of each segment."""
        return np.bincount(self.labels.ravel(), minlength=len(self.segments))

    @cached_property
    def objects(self) -> list[SceneObject]:
        return [SceneObject(i, spec, self) for i, spec in enumerate(self.graph.objects)]

    @cached_property
    def relations(self) -> list[tuple[int, str, int]]:
        """(a, relation, b) for "object a is `relation` object b"; each pair both ways round."""
        found = []
        for b, second in enumerate(self.graph.objects):
            for a, first in enumerate(self.graph.objects[:b]):
                if overlap(first.box, second.box) and _occludes(self.graph, b, a, self.labels.shape):
                    found += [(a, "behind", b), (b, "in front of", a)]
                for i, j, one, other in ((a, b, first, second), (b, a, second, first)):
                    if said := direction(one, other):
                        found.append((i, said, j))
        return found


def _placed(spec: ObjectSpec, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The 2×2 matrix and the offset that take the kind's frame to canvas pixels."""
    scale = spec.extent * min(height, width) / UNIT
    cos, sin = np.cos(np.radians(spec.angle)), np.sin(np.radians(spec.angle))
    stretch = spec.stretch / 100 * (-1 if spec.mirror else 1)
    matrix = scale * np.array([[cos * stretch, sin * stretch], [-sin, cos]])
    return matrix, np.array([spec.x * width / UNIT, spec.y * height / UNIT]) - 0.5


def _draw(draw: ImageDraw.ImageDraw, spec: ObjectSpec, height: int, width: int, value) -> None:
    """Paint one object; `value(part, ink)` says which number goes into the canvas."""
    matrix, offset = _placed(spec, height, width)
    line = max(2, round(min(height, width) * (5 + spec.extent / 100) / UNIT))
    for shape in SHAPES[spec.kind]:
        points = (shape.points @ matrix + offset).ravel().tolist()
        draw.polygon(points, fill=value(shape.part, shape.ink))
        if shape.outline:
            draw.line(points + points[:4], value(shape.part, "outline"), line, "curve" if line > 6 else None)


def _occludes(graph: SceneGraph, front: int, back: int, shape: tuple[int, int]) -> bool:
    """Does object `front` hide some of object `back`? Decided on a grid of 256 on the shorter side."""
    height, width = (round(256 * s / min(shape)) for s in shape)
    drawn = []
    for i in (front, back):
        canvas = Image.new("1", (width, height))
        _draw(ImageDraw.Draw(canvas), graph.objects[i], height, width, lambda part, ink: 1)
        drawn.append(np.asarray(canvas))
    return int((drawn[0] & drawn[1]).sum()) * 50 >= int(drawn[1].sum())  # at least 2 % of it


_FIXED = {name: 8 + i for i, name in enumerate(FIXED_INKS)}
_TONED = {"main": 1, "pattern": 2, "dark": 3, "light": 4, "outline": 5}
_INK = {**_TONED, **_FIXED}


def _palette(spec: ObjectSpec) -> np.ndarray:
    """INKS×3 uint8: the colours of one object's inks."""
    main, tone = (np.array(c, float) for c in COLOUR_TONES[spec.colour])
    main, tone = main + spec.tint, tone + spec.tint
    table = np.zeros((INKS, 3))
    table[1:6] = main, tone, main * 0.8, main * 0.55 + 255 * 0.45, main * 0.32
    if spec.colour == "white":
        table[[3, 4, 5]] = (214, 214, 218), (250, 249, 247), (98, 98, 112)
    for name, (colour, _) in FIXED_INKS.items():
        table[_FIXED[name]] = colour
    return np.clip(table, 0, 255).astype(np.uint8)


def _pattern(spec: ObjectSpec, height: int, width: int, top: int, left: int, shape) -> np.ndarray:
    """Bool block: where the second tone of the object's pattern goes. The pattern turns with the object."""
    matrix, offset = _placed(spec, height, width)
    inverse = (np.linalg.inv(matrix) * spec.extent).astype(np.float32)
    y = (np.arange(shape[0], dtype=np.float32) + top - offset[1])[:, None]
    x = (np.arange(shape[1], dtype=np.float32) + left - offset[0])[None]
    period = np.float32(24 + spec.extent * 0.09)
    u = (x * inverse[0, 0] + y * inverse[1, 0]) / period
    v = (x * inverse[0, 1] + y * inverse[1, 1]) / period
    if spec.pattern == "striped":
        return (u + 0.6 * v) % 1 < 0.45
    if spec.pattern == "checked":
        return (u % 1.6 < 0.8) ^ (v % 1.6 < 0.8)
    v *= 1.1
    row = np.floor(v)
    return ((u + 0.5 * (row % 2)) % 1 - 0.5) ** 2 + (v - row - 0.5) ** 2 < 0.1


def render(graph: SceneGraph, size: int | tuple[int, int] = 128) -> Scene:
    """Paint a graph at `size`: a side, or (H, W). Shapes keep their proportions, places spread."""
    height, width = (int(side) for side in (size if isinstance(size, tuple) else (size, size)))
    if min(height, width) < 32:
        raise ValueError(f"size is {size!r}; expected at least 32 pixels a side. Ask for a larger picture.")
    tall, wide = height * SUPERSAMPLE, width * SUPERSAMPLE
    canvas = Image.new("I", (wide, tall))
    draw = ImageDraw.Draw(canvas)
    segments: list[tuple[int, str]] = [(-1, "background")]
    for i, spec in enumerate(graph.objects):
        ids = {part: len(segments) + k for k, part in enumerate(KINDS[spec.kind])}
        segments += [(i, part) for part in KINDS[spec.kind]]
        _draw(draw, spec, tall, wide, lambda part, ink, ids=ids: ids[part] * INKS + _INK[ink])

    values = np.array(canvas)
    middle = slice(SUPERSAMPLE // 2, None, SUPERSAMPLE)
    labels = (values[middle, middle] // INKS).astype(np.uint8)
    table = np.zeros((len(segments) * INKS, 3), np.uint8)
    shade = np.ones((height, width), np.float32)
    for i, spec in enumerate(graph.objects):
        ids = [k for k, (owner, _) in enumerate(segments) if owner == i]
        table[ids[0] * INKS : (ids[-1] + 1) * INKS] = np.tile(_palette(spec), (len(ids), 1))
        x0, y0, x1, y1 = (max(v, 0) for v in _pixel_box(spec, height, width))
        ours = (labels[y0:y1, x0:x1] >= ids[0]) & (labels[y0:y1, x0:x1] <= ids[-1])
        light = np.linspace(1.07, 0.86, ours.shape[0], dtype=np.float32)[:, None]
        light = light + np.linspace(0.05, -0.05, ours.shape[1], dtype=np.float32)[None]
        shade[y0:y1, x0:x1][ours] = light[ours]
        if spec.pattern != "plain":
            top, left = y0 * SUPERSAMPLE, x0 * SUPERSAMPLE
            block = values[top : y1 * SUPERSAMPLE, left : x1 * SUPERSAMPLE]
            second = _pattern(spec, tall, wide, top, left, block.shape)
            for k in ids:
                block[(block == k * INKS + _INK["main"]) & second] += 1

    colour = np.asarray(Image.fromarray(table[values]).reduce(SUPERSAMPLE), np.float32)
    silhouette = Image.fromarray(np.where(values, np.uint8(255), np.uint8(0))).reduce(SUPERSAMPLE)
    opacity = np.asarray(silhouette, np.float32)[:, :, None] / 255
    blur = min(height, width) / 64
    soft = np.asarray(silhouette.filter(ImageFilter.GaussianBlur(blur)), np.float32) / 255
    step = round(blur)
    shadow = np.zeros_like(soft)
    shadow[step:, step:] = soft[: height - step, : width - step]
    ground = paint(graph.background, graph.variant, height, width) * (1 - 0.38 * shadow[:, :, None])
    pixels = ground * (1 - opacity) + colour * shade[:, :, None]
    return Scene(graph, np.clip(pixels, 0, 255).astype(np.uint8), labels, tuple(segments))


def _pixel_box(spec: ObjectSpec, height: int, width: int) -> tuple[int, int, int, int]:
    """The object's box in pixels of the picture, a pixel generous."""
    x0, y0, x1, y1 = spec.box
    scale = min(height, width) / UNIT
    x, y = spec.x * width / UNIT, spec.y * height / UNIT
    half_w, half_h = (x1 - x0) / 2 * scale + 2, (y1 - y0) / 2 * scale + 2
    return int(x - half_w), int(y - half_h), int(x + half_w) + 1, int(y + half_h) + 1


def make_scene(
    seed: int, size: int | tuple[int, int] = 128, split: Split = "train", compositions: Compositions = "train"
) -> Scene:
    """`compose` and `render` in one call."""
    return render(compose(seed, split, compositions), size)
