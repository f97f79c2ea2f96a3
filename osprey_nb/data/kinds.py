"""The vocabulary of the synthetic world: kinds and their parts, colours, patterns, sizes, held-out pairs."""

from __future__ import annotations

from osprey_nb.data.drawings import SHAPES

KINDS: dict[str, tuple[str, ...]] = {
    kind: tuple(dict.fromkeys(shape.part for shape in shapes)) for kind, shapes in SHAPES.items()
}
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
    "wood": ((156, 116, 78), "brown"),
    "leaf": ((96, 150, 60), "green"),
    "gold": ((240, 190, 60), "golden"),
    "fire": ((252, 170, 40), "golden"),
    "ink": ((30, 28, 34), "black"),
    "shine": ((255, 255, 255), "white"),
}
# one colour of every kind is never shown in training: 20 of 180 pairs, each colour two or three times
HELD_OUT: frozenset[tuple[str, str]] = frozenset((kind, COLOURS[(4 * i + 1) % len(COLOURS)]) for i, kind in enumerate(KINDS))

#: Kinds that resemble each other, for questions after what is not there that are not easy.
LOOK_ALIKE: tuple[tuple[str, ...], ...] = (
    ("car", "train", "bicycle", "boat", "rocket"),
    ("cat", "bird", "fish", "snail", "butterfly"),
    ("tree", "flower", "mushroom", "umbrella", "balloon"),
    ("house", "mug", "lamp", "clock", "chair"),
)
