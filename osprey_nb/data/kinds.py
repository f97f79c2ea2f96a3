"""The vocabulary of the synthetic world, and the drawing of every kind of object.

A kind is a list of `Shape`s, painted in order. Each shape is a closed polygon in the kind's own frame (x to
the right, y down), names the part it belongs to, and says which ink fills it:

    main            the object's colour; the only ink that carries the pattern
    dark, light     a darker and a lighter tone of the object's colour
    anything else   a fixed colour of `FIXED_INKS`: tyres are black whatever the colour of the car

Every painted pixel belongs to a named part: an eye is a pixel of the head. Shapes with the same part name are
one part (a bicycle has one `wheel` part made of two discs), always named in the singular.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# name: (main colour, tone of the pattern)
COLOUR_TONES: dict[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "red": ((212, 36, 40), (150, 16, 26)),
    "orange": ((246, 136, 22), (255, 190, 110)),
    "yellow": ((250, 218, 48), (226, 172, 10)),
    "green": ((52, 160, 66), (128, 206, 116)),
    "blue": ((44, 96, 212), (120, 166, 244)),
    "purple": ((132, 54, 172), (186, 128, 216)),
    "pink": ((248, 146, 196), (226, 92, 158)),
    "brown": ((122, 76, 40), (170, 124, 82)),
    "white": ((246, 244, 240), (200, 202, 208)),
}
COLOURS: tuple[str, ...] = tuple(COLOUR_TONES)
PATTERNS: tuple[str, ...] = ("plain", "striped", "dotted", "checked")
SIZES: tuple[str, ...] = ("small", "medium", "large")

# name: (RGB, the word a person would use for it)
FIXED_INKS: dict[str, tuple[tuple[int, int, int], str]] = {
    "black": ((44, 44, 52), "black"),
    "grey": ((152, 156, 164), "grey"),
    "glass": ((176, 218, 234), "light blue"),
    "cream": ((244, 232, 204), "cream"),
    "wood": ((156, 116, 78), "wooden"),
    "leaf": ((96, 150, 60), "green"),
    "gold": ((240, 190, 60), "golden"),
    "fire": ((252, 170, 40), "golden"),
    "ink": ((30, 28, 34), "black"),
    "shine": ((255, 255, 255), "white"),
}


@dataclass(frozen=True)
class Shape:
    """One filled polygon: `points` is N×2 in the kind's frame, where the kind's longer side is 1."""

    part: str
    ink: str
    points: np.ndarray
    outline: bool = True


def _rect(x0, y0, x1, y1):
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def _oval(cx, cy, rx, ry=None, start=0.0, stop=360.0, n=40):
    """Ellipse, or the part of it between two angles: degrees, clockwise from the right since y is down."""
    angles = np.radians(np.linspace(start, stop, n, endpoint=stop - start < 360))
    return np.stack([cx + rx * np.cos(angles), cy + (rx if ry is None else ry) * np.sin(angles)], axis=1)


def _blob(*points, n=7):
    """Smooth closed curve through the points (Catmull-Rom)."""
    p = np.asarray(points, float)
    before, after, later = np.roll(p, 1, 0), np.roll(p, -1, 0), np.roll(p, -2, 0)
    t = (np.arange(n) / n)[:, None, None]
    curve = p + 0.5 * t * (
        after - before + t * (2 * before - 5 * p + 4 * after - later + t * (3 * (p - after) + later - before))
    )
    return curve.transpose(1, 0, 2).reshape(-1, 2)


def _stroke(*points, width):
    """An open line with thickness, as a polygon. The curve is smooth if it has more than two points."""
    p = np.asarray(points, float)
    if len(p) > 2:
        ends = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
        t = (np.arange(8) / 8)[:, None, None]
        a, b, c, d = ends[:-3], ends[1:-2], ends[2:-1], ends[3:]
        inner = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
        p = np.concatenate([inner.transpose(1, 0, 2).reshape(-1, 2), p[-1:]])
    along = np.gradient(p, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    side = along[:, ::-1] * (-1, 1) * width / 2
    return np.concatenate([p + side, (p - side)[::-1]])


def _flip(points):
    return np.asarray(points, float) * (-1, 1)


def _turn(points, degrees, centre):
    a = np.radians(degrees)
    return (np.asarray(points, float) - centre) @ [[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]] + centre


def _house():
    yield "chimney", "dark", _rect(0.42, -0.86, 0.68, -0.2)
    yield "wall", "main", _rect(-0.78, -0.12, 0.78, 0.9)
    yield "roof", "dark", [(-1, -0.04), (-0.02, -0.95), (0.02, -0.95), (1, -0.04)]
    yield "door", "wood", _rect(-0.17, 0.3, 0.17, 0.9)
    yield "door", "gold", _oval(0.1, 0.62, 0.035), False
    for x in (-0.48, 0.48):
        yield "window", "glass", _rect(x - 0.18, 0.12, x + 0.18, 0.5)
        yield "window", "shine", _rect(x - 0.02, 0.13, x + 0.02, 0.49), False
        yield "window", "shine", _rect(x - 0.17, 0.29, x + 0.17, 0.33), False


def _car():
    yield (
        "body",
        "main",
        _blob(
            (-1, 0.28),
            (-0.98, -0.02),
            (-0.66, -0.12),
            (-0.42, -0.5),
            (0, -0.57),
            (0.36, -0.5),
            (0.66, -0.12),
            (0.96, -0.02),
            (1.0, 0.28),
            (0.5, 0.34),
            (-0.5, 0.34),
        ),
    )
    yield "window", "glass", [(-0.52, -0.1), (-0.36, -0.41), (-0.07, -0.46), (-0.07, -0.1)]
    yield "window", "glass", [(0.06, -0.1), (0.06, -0.46), (0.32, -0.41), (0.54, -0.1)]
    yield "headlight", "cream", _oval(0.88, 0.1, 0.1, 0.11)
    for x in (-0.55, 0.56):
        yield "wheel", "black", _oval(x, 0.34, 0.25)
        yield "wheel", "grey", _oval(x, 0.34, 0.12), False


def _bicycle():
    for x in (-0.6, 0.6):
        yield "wheel", "black", _oval(x, 0.32, 0.42)
        yield "wheel", "light", _oval(x, 0.32, 0.33), False
        for turn in (10, 55, 100, 145):
            yield "wheel", "grey", _turn(_rect(x - 0.32, 0.305, x + 0.32, 0.335), turn, (x, 0.32)), False
        yield "wheel", "black", _oval(x, 0.32, 0.07), False
    rear, front, pedal, seat, head = (-0.6, 0.32), (0.6, 0.32), (-0.06, 0.36), (-0.3, -0.34), (0.4, -0.36)
    for a, b in ((rear, pedal), (rear, seat), (head, front), (pedal, head), (seat, pedal), (seat, head)):
        yield "frame", "main", _stroke(a, b, width=0.13)
    yield "frame", "main", _oval(*pedal, 0.12)
    yield "saddle", "black", _blob((-0.58, -0.5), (-0.5, -0.6), (-0.1, -0.52), (-0.12, -0.44), (-0.46, -0.36))
    yield "handlebar", "grey", _stroke((0.42, -0.34), (0.36, -0.7), width=0.1)
    yield "handlebar", "grey", _stroke((0.28, -0.72), (0.5, -0.74), (0.66, -0.6), width=0.13)


def _tree():
    yield "trunk", "wood", _rect(-0.14, 0.55, 0.14, 1)
    for y, half, top in ((0.66, 0.74, -0.08), (0.2, 0.6, -0.52), (-0.26, 0.44, -1)):
        yield (
            "crown",
            "main",
            [(-half, y), (0, top), (half, y), (half * 0.4, y + 0.07), (-half * 0.4, y + 0.07)],
        )


def _boat():
    yield "mast", "wood", _rect(-0.05, -1, 0.05, 0.45)
    yield "sail", "main", [(0.07, -0.95), (0.36, -0.45), (0.72, 0.28), (0.07, 0.28)]
    yield "sail", "light", [(-0.09, -0.7), (-0.09, 0.28), (-0.62, 0.28)]
    yield (
        "hull",
        "main",
        _blob((-0.95, 0.4), (-0.4, 0.43), (0.4, 0.43), (0.98, 0.36), (0.66, 0.84), (-0.6, 0.84)),
    )
    yield "hull", "dark", [(-0.84, 0.56), (0.87, 0.56), (0.81, 0.66), (-0.77, 0.66)], False


def _fish():
    yield "tail", "dark", _blob((0.46, 0), (0.96, -0.46), (0.88, 0), (0.96, 0.46))
    yield "fin", "dark", _blob((-0.35, -0.34), (0.08, -0.72), (0.3, -0.22))
    yield "fin", "dark", _blob((-0.15, 0.3), (0.22, 0.62), (0.26, 0.2))
    yield (
        "body",
        "main",
        _blob(
            (-1, 0.02), (-0.55, -0.38), (0.05, -0.4), (0.62, -0.08), (0.62, 0.08), (0.05, 0.4), (-0.55, 0.38)
        ),
    )
    yield "body", "shine", _oval(-0.62, -0.1, 0.1), False
    yield "body", "ink", _oval(-0.64, -0.1, 0.055), False
    yield "body", "ink", _stroke((-0.94, 0.1), (-0.8, 0.14), (-0.68, 0.1), width=0.035), False


def _bird():
    for x in (-0.08, 0.16):
        yield "leg", "gold", _stroke((x, 0.5), (x, 0.94), width=0.07)
        yield "leg", "gold", _stroke((x + 0.02, 0.93), (x - 0.18, 0.94), width=0.07)
    yield "tail", "dark", [(0.5, 0.1), (1.02, -0.32), (1.04, -0.02), (0.52, 0.4)]
    yield (
        "body",
        "main",
        _blob(
            (-0.62, -0.1),
            (-0.1, -0.22),
            (0.45, 0.02),
            (0.7, 0.22),
            (0.35, 0.58),
            (-0.15, 0.62),
            (-0.56, 0.36),
        ),
    )
    yield "head", "main", _oval(-0.48, -0.45, 0.35)
    yield "head", "shine", _oval(-0.58, -0.52, 0.1), False
    yield "head", "ink", _oval(-0.6, -0.52, 0.055), False
    yield "beak", "gold", [(-0.68, -0.64), (-1.16, -0.42), (-0.66, -0.26)]
    yield "wing", "dark", _blob((-0.2, 0.02), (0.3, 0.06), (0.72, 0.06), (0.5, 0.36), (0.1, 0.4))


def _cat():
    yield (
        "tail",
        "dark",
        _stroke((0.36, 0.84), (0.8, 0.76), (0.86, 0.3), (0.68, 0.02), (0.82, -0.18), width=0.17),
    )
    yield (
        "body",
        "main",
        _blob((0, -0.2), (0.36, 0.15), (0.52, 0.7), (0.36, 0.96), (-0.36, 0.96), (-0.52, 0.7), (-0.36, 0.15)),
    )
    for x in (-0.16, 0.16):
        yield "leg", "light", _blob((x - 0.11, 0.45), (x + 0.11, 0.45), (x + 0.15, 0.95), (x - 0.15, 0.95))
    for flip in (1, -1):
        yield "ear", "dark", [(flip * 0.14, -0.72), (flip * 0.5, -1.04), (flip * 0.54, -0.42)]
    yield "head", "main", _oval(0, -0.4, 0.56, 0.44)
    for x in (-0.22, 0.22):
        yield "head", "gold", _oval(x, -0.44, 0.11), False
        yield "head", "ink", _oval(x, -0.44, 0.045, 0.1), False
        for y in (-0.3, -0.18):
            side = np.sign(x)
            yield "head", "ink", _stroke((side * 0.2, -0.23), (side * 0.68, y), width=0.022), False
    yield "head", "ink", [(-0.07, -0.28), (0.07, -0.28), (0, -0.2)], False


def _flower():
    yield "stem", "leaf", _stroke((0, -0.2), (0.04, 0.4), (-0.02, 1), width=0.11)
    yield "leaf", "leaf", _blob((0.02, 0.72), (0.28, 0.36), (0.64, 0.34), (0.42, 0.66))
    yield "leaf", "leaf", _blob((0, 0.86), (-0.26, 0.52), (-0.6, 0.5), (-0.4, 0.8))
    for i in range(7):
        yield "petal", "main", _turn(_oval(0, -0.8, 0.22, 0.34), i * 360 / 7, (0, -0.36))
    yield "core", "gold", _oval(0, -0.36, 0.22)


def _umbrella():
    yield "handle", "wood", _stroke((0, -0.3), (0, 0.4), (0.01, 0.72), (0.16, 0.88), (0.32, 0.74), width=0.11)
    scallops = [
        (x + 0.25 - 0.25 * np.cos(a), 0.1 - 0.14 * np.sin(a))
        for x in (-1, -0.5, 0, 0.5)
        for a in np.linspace(0, np.pi, 7)
    ]
    yield "canopy", "dark", _rect(-0.035, -1, 0.035, -0.8)
    yield "canopy", "main", [*_oval(0, 0.1, 1, 0.94, 180, 360), *scallops[::-1]]
    for x in (-0.5, 0, 0.5):
        yield "canopy", "dark", _stroke((x * 0.05, -0.83), (x * 0.75, -0.45), (x, 0.09), width=0.04), False


def _mushroom():
    yield (
        "stalk",
        "cream",
        _blob((-0.24, 0), (0.24, 0), (0.26, 0.5), (0.42, 0.92), (-0.42, 0.92), (-0.26, 0.5)),
    )
    yield "cap", "main", [*_oval(0, 0.1, 0.98, 0.98, 180, 360), *_oval(0, 0.1, 0.98, 0.2, 0, 180)]


def _balloon():
    for x in (-0.26, 0.26):
        yield "rope", "black", _stroke((x, 0.3), (x * 0.75, 0.72), width=0.05)
    yield "basket", "wood", [(-0.25, 0.68), (0.25, 0.68), (0.2, 1), (-0.2, 1)]
    yield (
        "envelope",
        "main",
        _blob(
            (0, -1),
            (0.5, -0.86),
            (0.76, -0.4),
            (0.6, 0.02),
            (0.26, 0.42),
            (-0.26, 0.42),
            (-0.6, 0.02),
            (-0.76, -0.4),
            (-0.5, -0.86),
        ),
    )
    for x in (-0.4, 0.4):
        yield "envelope", "dark", _stroke((x * 0.2, -0.98), (x, -0.4), (x * 0.3, 0.41), width=0.045), False


def _rocket():
    yield "flame", "fire", _blob((-0.2, 0.56), (0.2, 0.56), (0.13, 0.84), (0, 1.1), (-0.13, 0.84))
    yield "flame", "cream", _blob((-0.08, 0.6), (0.08, 0.6), (0, 0.88)), False
    for flip in (1, -1):
        yield "fin", "dark", np.multiply([(0.2, 0.06), (0.64, 0.5), (0.62, 0.76), (0.2, 0.54)], (flip, 1))
    yield (
        "body",
        "main",
        _blob((-0.22, 0.58), (-0.37, 0.1), (-0.32, -0.42), (0.32, -0.42), (0.37, 0.1), (0.22, 0.58)),
    )
    yield (
        "nose",
        "dark",
        _blob((-0.325, -0.44), (-0.2, -0.8), (0, -1.1), (0.2, -0.8), (0.325, -0.44), (0, -0.42)),
    )
    yield "window", "grey", _oval(0, -0.1, 0.19)
    yield "window", "glass", _oval(0, -0.1, 0.13), False


def _mug():
    ring = [*_oval(0.5, 0.08, 0.48, 0.5, -95, 95), *_oval(0.5, 0.08, 0.28, 0.3, -95, 95)[::-1]]
    yield "handle", "dark", ring
    yield (
        "body",
        "main",
        [(-0.8, -0.68), (0.52, -0.68), *_oval(-0.14, 0.66, 0.6, 0.2, 0, 180, 20), (-0.8, -0.68)],
    )
    yield "rim", "light", _oval(-0.14, -0.68, 0.66, 0.18)
    yield "rim", "black", _oval(-0.14, -0.66, 0.53, 0.1), False


def _lamp():
    yield "pole", "grey", _rect(-0.07, -0.1, 0.07, 0.82)
    yield "base", "dark", [*_oval(0, 0.94, 0.5, 0.3, 180, 360), (0.5, 1), (-0.5, 1)]
    yield "shade", "main", [(-0.36, -1), (0.36, -1), (0.8, 0.12), (-0.8, 0.12)]
    yield "shade", "light", [(-0.8, 0.12), (-0.77, 0.04), (0.77, 0.04), (0.8, 0.12)], False


def _clock():
    for flip in (1, -1):
        yield "leg", "dark", np.multiply([(0.3, 0.6), (0.5, 0.5), (0.68, 0.96), (0.5, 1)], (flip, 1))
        yield "bell", "dark", _turn(_oval(0, -0.66, 0.36, 0.36, 180, 360), flip * 37, (0, 0.12))
    yield "case", "main", _oval(0, 0.12, 0.76)
    yield "dial", "cream", _oval(0, 0.12, 0.47)
    for turn in range(0, 360, 90):
        yield "dial", "ink", _turn(_rect(-0.03, -0.3, 0.03, -0.2), turn, (0, 0.12)), False
    yield "hand", "ink", _stroke((0, 0.16), (0, -0.2), width=0.07), False
    yield "hand", "ink", _stroke((-0.03, 0.12), (0.26, 0.22), width=0.07), False


def _chair():
    yield "leg", "dark", [(-0.34, 0.1), (-0.14, 0.1), (-0.2, 1), (-0.4, 1)]
    yield "leg", "dark", [(0.42, 0.1), (0.62, 0.1), (0.7, 1), (0.5, 1)]
    yield (
        "backrest",
        "main",
        _blob((-0.66, -0.96), (-0.42, -1), (-0.3, -0.4), (-0.16, 0.1), (-0.48, 0.16), (-0.6, -0.4)),
    )
    yield (
        "seat",
        "main",
        _blob(
            (-0.52, 0), (0.1, -0.02), (0.66, -0.02), (0.76, 0.14), (0.66, 0.28), (-0.4, 0.28), (-0.56, 0.16)
        ),
    )


def _snail():
    for x in (-0.76, -0.56):
        yield "antenna", "light", _stroke((-0.62, -0.02), (x - 0.06, -0.46), width=0.075)
        yield "antenna", "ink", _oval(x - 0.07, -0.48, 0.075), False
    yield (
        "body",
        "light",
        _blob(
            (-0.86, 0.06),
            (-0.66, -0.14),
            (-0.44, 0.12),
            (-0.3, 0.42),
            (0.5, 0.42),
            (0.98, 0.62),
            (0.5, 0.68),
            (-0.5, 0.68),
            (-0.84, 0.42),
        ),
    )
    yield "shell", "main", _oval(0.2, -0.08, 0.6)
    angles = np.linspace(0.6, 0.6 + 4.2 * np.pi, 22)
    radius = np.linspace(0.48, 0.03, 22)
    spiral = np.stack([0.2 + radius * np.cos(angles), -0.08 + radius * np.sin(angles)], axis=1)
    yield "shell", "dark", _stroke(*spiral, width=0.06), False


def _train():
    yield "chimney", "black", [(-0.72, -0.3), (-0.8, -0.78), (-0.4, -0.78), (-0.48, -0.3)]
    yield (
        "boiler",
        "main",
        _blob((-0.96, -0.3), (-0.2, -0.34), (0.4, -0.34), (0.4, 0.4), (-0.2, 0.4), (-0.96, 0.36)),
    )
    yield "cab", "dark", _rect(0.24, -0.66, 0.9, 0.42)
    yield "cab", "main", _rect(0.14, -0.84, 1, -0.64)
    yield "window", "glass", _rect(0.38, -0.48, 0.76, -0.08)
    for x, r in ((-0.68, 0.23), (-0.14, 0.23), (0.54, 0.32)):
        yield "wheel", "black", _oval(x, 0.78 - r, r)
        yield "wheel", "grey", _oval(x, 0.78 - r, r * 0.45), False


def _butterfly():
    upper = _blob((0.02, -0.1), (0.26, -0.66), (0.78, -0.88), (0.98, -0.5), (0.72, -0.02), (0.2, 0.06))
    lower = _blob((0.02, 0), (0.5, 0.02), (0.76, 0.34), (0.56, 0.8), (0.26, 0.64), (0.06, 0.26))
    for wing in (upper, lower, _flip(upper), _flip(lower)):
        yield "wing", "main", wing
    for x in (-0.68, 0.68):
        yield "wing", "light", _oval(x, -0.5, 0.13), False
        yield "wing", "dark", _oval(x * 0.72, 0.42, 0.1), False
    for flip in (1, -1):
        curve = np.multiply([(0.02, -0.4), (0.12, -0.72), (0.32, -0.94)], (flip, 1))
        yield "antenna", "black", _stroke(*curve, width=0.06), False
    yield "body", "black", _oval(0, 0.05, 0.1, 0.52)


def _build(parts) -> tuple[Shape, ...]:
    """Put the drawing's bounding box in the middle and make its longer side 1."""
    shapes = [(p[0], p[1], np.asarray(p[2], float), p[3] if len(p) > 3 else True) for p in parts]
    corners = np.concatenate([points for _, _, points, _ in shapes])
    low, high = corners.min(0), corners.max(0)
    return tuple(
        Shape(part, ink, ((points - (low + high) / 2) / (high - low).max()).round(5), outline)
        for part, ink, points, outline in shapes
    )


SHAPES: dict[str, tuple[Shape, ...]] = {
    draw.__name__[1:]: _build(draw())
    for draw in (
        _house,
        _car,
        _bicycle,
        _tree,
        _boat,
        _fish,
        _bird,
        _cat,
        _flower,
        _umbrella,
        _mushroom,
        _balloon,
        _rocket,
        _mug,
        _lamp,
        _clock,
        _chair,
        _snail,
        _train,
        _butterfly,
    )
}
KINDS: dict[str, tuple[str, ...]] = {
    kind: tuple(dict.fromkeys(shape.part for shape in shapes)) for kind, shapes in SHAPES.items()
}
# one colour of every kind is never shown in training: 20 of 180 pairs, each colour two or three times
HELD_OUT: frozenset[tuple[str, str]] = frozenset(
    (kind, COLOURS[(4 * i + 1) % len(COLOURS)]) for i, kind in enumerate(KINDS)
)
