"""How every kind of object is drawn.

A drawing is a list of `Shape`s, painted in order. Each shape is a closed polygon in the kind's own frame (x
to the right, y down), names the part it belongs to, and says which ink fills it:

    main            the object's colour; the only ink that carries the pattern
    dark, light     a darker and a lighter tone of the object's colour
    anything else   a fixed colour of `kinds.FIXED_INKS`: tyres are black whatever the colour of the car

Every painted pixel belongs to a named part: an eye is a pixel of the head. Shapes with the same part name are
one part (a bicycle has one `wheel` part made of two discs), always named in the singular.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from osprey_nb.data.curves import blob, flip, oval, rect, stroke, turn


@dataclass(frozen=True)
class Shape:
    """One filled polygon: `points` is N×2 in the kind's frame, where the kind's longer side is 1."""

    part: str
    ink: str
    points: np.ndarray
    outline: bool = True


def _house():
    yield "chimney", "dark", rect(0.42, -0.86, 0.68, -0.2)
    yield "wall", "main", rect(-0.78, -0.12, 0.78, 0.9)
    yield "roof", "dark", [(-1, -0.04), (-0.02, -0.95), (0.02, -0.95), (1, -0.04)]
    yield "door", "wood", rect(-0.17, 0.3, 0.17, 0.9)
    yield "door", "gold", oval(0.1, 0.62, 0.035), False
    for x in (-0.48, 0.48):
        yield "window", "glass", rect(x - 0.18, 0.12, x + 0.18, 0.5)
        yield "window", "shine", rect(x - 0.02, 0.13, x + 0.02, 0.49), False
        yield "window", "shine", rect(x - 0.17, 0.29, x + 0.17, 0.33), False


def _car():
    yield (
        "body",
        "main",
        blob(
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
    yield "headlight", "cream", oval(0.88, 0.1, 0.1, 0.11)
    for x in (-0.55, 0.56):
        yield "wheel", "black", oval(x, 0.34, 0.25)
        yield "wheel", "grey", oval(x, 0.34, 0.12), False


def _bicycle():
    for x in (-0.6, 0.6):
        yield "wheel", "black", oval(x, 0.32, 0.42)
        yield "wheel", "light", oval(x, 0.32, 0.33), False
        for angle in (10, 55, 100, 145):
            yield "wheel", "grey", turn(rect(x - 0.32, 0.305, x + 0.32, 0.335), angle, (x, 0.32)), False
        yield "wheel", "black", oval(x, 0.32, 0.07), False
    rear, front, pedal, seat, head = (-0.6, 0.32), (0.6, 0.32), (-0.06, 0.36), (-0.3, -0.34), (0.4, -0.36)
    for a, b in ((rear, pedal), (rear, seat), (head, front), (pedal, head), (seat, pedal), (seat, head)):
        yield "frame", "main", stroke(a, b, width=0.13)
    yield "frame", "main", oval(*pedal, 0.12)
    yield "saddle", "black", blob((-0.58, -0.5), (-0.5, -0.6), (-0.1, -0.52), (-0.12, -0.44), (-0.46, -0.36))
    yield "handlebar", "grey", stroke((0.42, -0.34), (0.36, -0.7), width=0.1)
    yield "handlebar", "grey", stroke((0.28, -0.72), (0.5, -0.74), (0.66, -0.6), width=0.13)


def _tree():
    yield "trunk", "wood", rect(-0.14, 0.55, 0.14, 1)
    for y, half, top in ((0.66, 0.74, -0.08), (0.2, 0.6, -0.52), (-0.26, 0.44, -1)):
        yield (
            "crown",
            "main",
            [(-half, y), (0, top), (half, y), (half * 0.4, y + 0.07), (-half * 0.4, y + 0.07)],
        )


def _boat():
    yield "mast", "wood", rect(-0.05, -1, 0.05, 0.45)
    yield "sail", "main", [(0.07, -0.95), (0.36, -0.45), (0.72, 0.28), (0.07, 0.28)]
    yield "sail", "light", [(-0.09, -0.7), (-0.09, 0.28), (-0.62, 0.28)]
    yield (
        "hull",
        "main",
        blob((-0.95, 0.4), (-0.4, 0.43), (0.4, 0.43), (0.98, 0.36), (0.66, 0.84), (-0.6, 0.84)),
    )
    yield "hull", "dark", [(-0.84, 0.56), (0.87, 0.56), (0.81, 0.66), (-0.77, 0.66)], False


def _fish():
    yield "tail", "dark", blob((0.46, 0), (0.96, -0.46), (0.88, 0), (0.96, 0.46))
    yield "fin", "dark", blob((-0.35, -0.34), (0.08, -0.72), (0.3, -0.22))
    yield "fin", "dark", blob((-0.15, 0.3), (0.22, 0.62), (0.26, 0.2))
    yield (
        "body",
        "main",
        blob((-1, 0.02), (-0.55, -0.38), (0.05, -0.4), (0.62, -0.08), (0.62, 0.08), (0.05, 0.4), (-0.55, 0.38)),
    )
    yield "body", "shine", oval(-0.62, -0.1, 0.1), False
    yield "body", "ink", oval(-0.64, -0.1, 0.055), False
    yield "body", "ink", stroke((-0.94, 0.1), (-0.8, 0.14), (-0.68, 0.1), width=0.035), False


def _bird():
    for x in (-0.08, 0.16):
        yield "leg", "gold", stroke((x, 0.5), (x, 0.94), width=0.07)
        yield "leg", "gold", stroke((x + 0.02, 0.93), (x - 0.18, 0.94), width=0.07)
    yield "tail", "dark", [(0.5, 0.1), (1.02, -0.32), (1.04, -0.02), (0.52, 0.4)]
    yield (
        "body",
        "main",
        blob(
            (-0.62, -0.1),
            (-0.1, -0.22),
            (0.45, 0.02),
            (0.7, 0.22),
            (0.35, 0.58),
            (-0.15, 0.62),
            (-0.56, 0.36),
        ),
    )
    yield "head", "main", oval(-0.48, -0.45, 0.35)
    yield "head", "shine", oval(-0.58, -0.52, 0.1), False
    yield "head", "ink", oval(-0.6, -0.52, 0.055), False
    yield "beak", "gold", [(-0.68, -0.64), (-1.16, -0.42), (-0.66, -0.26)]
    yield "wing", "dark", blob((-0.2, 0.02), (0.3, 0.06), (0.72, 0.06), (0.5, 0.36), (0.1, 0.4))


def _cat():
    yield (
        "tail",
        "dark",
        stroke((0.36, 0.84), (0.8, 0.76), (0.86, 0.3), (0.68, 0.02), (0.82, -0.18), width=0.17),
    )
    yield (
        "body",
        "main",
        blob((0, -0.2), (0.36, 0.15), (0.52, 0.7), (0.36, 0.96), (-0.36, 0.96), (-0.52, 0.7), (-0.36, 0.15)),
    )
    for x in (-0.16, 0.16):
        yield "leg", "light", blob((x - 0.11, 0.45), (x + 0.11, 0.45), (x + 0.15, 0.95), (x - 0.15, 0.95))
    for side in (1, -1):
        yield "ear", "dark", [(side * 0.14, -0.72), (side * 0.5, -1.04), (side * 0.54, -0.42)]
    yield "head", "main", oval(0, -0.4, 0.56, 0.44)
    for x in (-0.22, 0.22):
        yield "head", "gold", oval(x, -0.44, 0.11), False
        yield "head", "ink", oval(x, -0.44, 0.045, 0.1), False
        for y in (-0.3, -0.18):
            side = np.sign(x)
            yield "head", "ink", stroke((side * 0.2, -0.23), (side * 0.68, y), width=0.022), False
    yield "head", "ink", [(-0.07, -0.28), (0.07, -0.28), (0, -0.2)], False


def _flower():
    yield "stem", "leaf", stroke((0, -0.2), (0.04, 0.4), (-0.02, 1), width=0.11)
    yield "leaf", "leaf", blob((0.02, 0.72), (0.28, 0.36), (0.64, 0.34), (0.42, 0.66))
    yield "leaf", "leaf", blob((0, 0.86), (-0.26, 0.52), (-0.6, 0.5), (-0.4, 0.8))
    for i in range(7):
        yield "petal", "main", turn(oval(0, -0.8, 0.22, 0.34), i * 360 / 7, (0, -0.36))
    yield "core", "gold", oval(0, -0.36, 0.22)


def _umbrella():
    yield "handle", "wood", stroke((0, -0.3), (0, 0.4), (0.01, 0.72), (0.16, 0.88), (0.32, 0.74), width=0.11)
    scallops = [
        (x + 0.25 - 0.25 * np.cos(a), 0.1 - 0.14 * np.sin(a)) for x in (-1, -0.5, 0, 0.5) for a in np.linspace(0, np.pi, 7)
    ]
    yield "canopy", "dark", rect(-0.035, -1, 0.035, -0.8)
    yield "canopy", "main", [*oval(0, 0.1, 1, 0.94, 180, 360), *scallops[::-1]]
    for x in (-0.5, 0, 0.5):
        yield "canopy", "dark", stroke((x * 0.05, -0.83), (x * 0.75, -0.45), (x, 0.09), width=0.04), False


def _mushroom():
    yield (
        "stalk",
        "cream",
        blob((-0.24, 0), (0.24, 0), (0.26, 0.5), (0.42, 0.92), (-0.42, 0.92), (-0.26, 0.5)),
    )
    yield "cap", "main", [*oval(0, 0.1, 0.98, 0.98, 180, 360), *oval(0, 0.1, 0.98, 0.2, 0, 180)]


def _balloon():
    for x in (-0.26, 0.26):
        yield "rope", "black", stroke((x, 0.3), (x * 0.75, 0.72), width=0.05)
    yield "basket", "wood", [(-0.25, 0.68), (0.25, 0.68), (0.2, 1), (-0.2, 1)]
    yield (
        "envelope",
        "main",
        blob(
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
        yield "envelope", "dark", stroke((x * 0.2, -0.98), (x, -0.4), (x * 0.3, 0.41), width=0.045), False


def _rocket():
    yield "flame", "fire", blob((-0.2, 0.56), (0.2, 0.56), (0.13, 0.84), (0, 1.1), (-0.13, 0.84))
    yield "flame", "cream", blob((-0.08, 0.6), (0.08, 0.6), (0, 0.88)), False
    for side in (1, -1):
        yield "fin", "dark", np.multiply([(0.2, 0.06), (0.64, 0.5), (0.62, 0.76), (0.2, 0.54)], (side, 1))
    yield (
        "body",
        "main",
        blob((-0.22, 0.58), (-0.37, 0.1), (-0.32, -0.42), (0.32, -0.42), (0.37, 0.1), (0.22, 0.58)),
    )
    yield (
        "nose",
        "dark",
        blob((-0.325, -0.44), (-0.2, -0.8), (0, -1.1), (0.2, -0.8), (0.325, -0.44), (0, -0.42)),
    )
    yield "window", "grey", oval(0, -0.1, 0.19)
    yield "window", "glass", oval(0, -0.1, 0.13), False


def _mug():
    ring = [*oval(0.5, 0.08, 0.48, 0.5, -95, 95), *oval(0.5, 0.08, 0.28, 0.3, -95, 95)[::-1]]
    yield "handle", "dark", ring
    yield (
        "body",
        "main",
        [(-0.8, -0.68), (0.52, -0.68), *oval(-0.14, 0.66, 0.6, 0.2, 0, 180, 20), (-0.8, -0.68)],
    )
    yield "rim", "light", oval(-0.14, -0.68, 0.66, 0.18)
    yield "rim", "black", oval(-0.14, -0.66, 0.53, 0.1), False


def _lamp():
    yield "pole", "grey", rect(-0.07, -0.1, 0.07, 0.82)
    yield "base", "dark", [*oval(0, 0.94, 0.5, 0.3, 180, 360), (0.5, 1), (-0.5, 1)]
    yield "shade", "main", [(-0.36, -1), (0.36, -1), (0.8, 0.12), (-0.8, 0.12)]
    yield "shade", "light", [(-0.8, 0.12), (-0.77, 0.04), (0.77, 0.04), (0.8, 0.12)], False


def _clock():
    for side in (1, -1):
        yield "leg", "dark", np.multiply([(0.3, 0.6), (0.5, 0.5), (0.68, 0.96), (0.5, 1)], (side, 1))
        yield "bell", "dark", turn(oval(0, -0.66, 0.36, 0.36, 180, 360), side * 37, (0, 0.12))
    yield "case", "main", oval(0, 0.12, 0.76)
    yield "dial", "cream", oval(0, 0.12, 0.47)
    for angle in range(0, 360, 90):
        yield "dial", "ink", turn(rect(-0.03, -0.3, 0.03, -0.2), angle, (0, 0.12)), False
    yield "hand", "ink", stroke((0, 0.16), (0, -0.2), width=0.07), False
    yield "hand", "ink", stroke((-0.03, 0.12), (0.26, 0.22), width=0.07), False


def _chair():
    yield "leg", "dark", [(-0.34, 0.1), (-0.14, 0.1), (-0.2, 1), (-0.4, 1)]
    yield "leg", "dark", [(0.42, 0.1), (0.62, 0.1), (0.7, 1), (0.5, 1)]
    yield (
        "backrest",
        "main",
        blob((-0.66, -0.96), (-0.42, -1), (-0.3, -0.4), (-0.16, 0.1), (-0.48, 0.16), (-0.6, -0.4)),
    )
    yield (
        "seat",
        "main",
        blob((-0.52, 0), (0.1, -0.02), (0.66, -0.02), (0.76, 0.14), (0.66, 0.28), (-0.4, 0.28), (-0.56, 0.16)),
    )


def _snail():
    for x in (-0.76, -0.56):
        yield "antenna", "light", stroke((-0.62, -0.02), (x - 0.06, -0.46), width=0.075)
        yield "antenna", "ink", oval(x - 0.07, -0.48, 0.075), False
    yield (
        "body",
        "light",
        blob(
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
    yield "shell", "main", oval(0.2, -0.08, 0.6)
    angles = np.linspace(0.6, 0.6 + 4.2 * np.pi, 22)
    radius = np.linspace(0.48, 0.03, 22)
    spiral = np.stack([0.2 + radius * np.cos(angles), -0.08 + radius * np.sin(angles)], axis=1)
    yield "shell", "dark", stroke(*spiral, width=0.06), False


def _train():
    yield "chimney", "black", [(-0.72, -0.3), (-0.8, -0.78), (-0.4, -0.78), (-0.48, -0.3)]
    yield (
        "boiler",
        "main",
        blob((-0.96, -0.3), (-0.2, -0.34), (0.4, -0.34), (0.4, 0.4), (-0.2, 0.4), (-0.96, 0.36)),
    )
    yield "cab", "dark", rect(0.24, -0.66, 0.9, 0.42)
    yield "cab", "main", rect(0.14, -0.84, 1, -0.64)
    yield "window", "glass", rect(0.38, -0.48, 0.76, -0.08)
    for x, r in ((-0.68, 0.23), (-0.14, 0.23), (0.54, 0.32)):
        yield "wheel", "black", oval(x, 0.78 - r, r)
        yield "wheel", "grey", oval(x, 0.78 - r, r * 0.45), False


def _butterfly():
    upper = blob((0.02, -0.1), (0.26, -0.66), (0.78, -0.88), (0.98, -0.5), (0.72, -0.02), (0.2, 0.06))
    lower = blob((0.02, 0), (0.5, 0.02), (0.76, 0.34), (0.56, 0.8), (0.26, 0.64), (0.06, 0.26))
    for wing in (upper, lower, flip(upper), flip(lower)):
        yield "wing", "main", wing
    for x in (-0.68, 0.68):
        yield "wing", "light", oval(x, -0.5, 0.13), False
        yield "wing", "dark", oval(x * 0.72, 0.42, 0.1), False
    for side in (1, -1):
        curve = np.multiply([(0.02, -0.4), (0.12, -0.72), (0.32, -0.94)], (side, 1))
        yield "antenna", "black", stroke(*curve, width=0.06), False
    yield "body", "black", oval(0, 0.05, 0.1, 0.52)


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
