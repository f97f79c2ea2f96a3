"""What the figures of the probes share: places in inches, pictures with a mask or with heat, bars of words."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from osprey_nb.diagrams.drawing import COLOURS, INK, SOFT, picture

PALE = "#D5DAE0"
TONE = "#5D6875"  # of quieter text; SOFT is for lines
BEFORE, AFTER = SOFT, COLOURS["image"]


def part(figure: Figure, x: float, y: float, width: float, height: float):
    """Axes at (x, y), so wide and high, in inches from the lower left corner; without ticks and frame."""
    across, up = figure.get_size_inches()
    axes = figure.add_axes([x / across, y / up, width / across, height / up])
    axes.set(xticks=[], yticks=[])
    axes.tick_params(length=0, labelsize=9, labelcolor=INK)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def place(figure: Figure, name: str, x: float, y: float, width: float, height: float) -> None:
    """A place that can be pointed at, over what is drawn there, in inches from the lower left corner: so are its units."""
    axes = part(figure, x, y, width, height)
    axes.set(xlim=(x, x + width), ylim=(y, y + height), gid=name)
    axes.patch.set_visible(False)


def write(figure: Figure, x: float, y: float, text: str, size: float = 9, colour: str = INK, wrap: int = 0, **look) -> None:
    """Text at (x, y) inches. A model may have written it: nothing in it is taken for mathematics."""
    across, up = figure.get_size_inches()
    text = "\n".join(textwrap.wrap(text, wrap)) if wrap else text
    look = {"va": "center", "linespacing": 1.35} | look
    figure.text(x / across, y / up, text, fontsize=size, color=colour, parse_math=False, **look)


def quoted(text: str, most: int = 120) -> str:
    """A text in quotation marks, cut at a word where it has more than `most` characters."""
    return f"“{textwrap.shorten(text, most, placeholder=' …')}”" if text else "(nothing)"


def heat(figure: Figure, x: float, y: float, size: float, image, values: np.ndarray, mask, title: str, top=None) -> None:
    """A pale picture with h×w `values` over it in the colour of image tokens, the strongest full, and a mask's outline.

    Values below 0 are drawn in the mask's colour. `top` is the value that is full; by default the largest there is.
    """
    grey = 255 - (255 - image.mean(2, keepdims=True).repeat(3, 2)) * 0.6
    picture(figure, x, y, size, grey.astype(np.uint8), mask, title=title)
    axes = figure.axes[-1]
    tint = np.zeros((*values.shape, 4))
    tint[..., :3] = np.where(values[..., None] >= 0, np.array([0, 0.447, 0.698]), np.array([0.9, 0.45, 0]))
    tint[..., 3] = np.clip(0.85 * np.abs(values) / max(top or np.abs(values).max(), 1e-12), 0, 0.85)
    axes.imshow(tint, extent=(0, 1, 1, 0), interpolation="nearest", zorder=1.5)


def word_bars(axes, words: Sequence[str], ways: dict[str, Sequence[float]], title: str, colours=(BEFORE, AFTER)) -> None:
    """A group of upright bars for each word: its probability in each of `ways`."""
    width = 0.8 / len(ways)
    for w, (chances, colour) in enumerate(zip(ways.values(), colours, strict=False)):
        places = np.arange(len(words)) + (w - (len(ways) - 1) / 2) * width
        axes.bar(places, chances, width * 0.92, color=colour)
        if len(words) <= 10:
            for place, chance in zip(places, chances, strict=True):
                label = f"{100 * chance:.0f}" if chance >= 0.005 else "0"
                axes.text(place, chance + 0.04, label, ha="center", fontsize=7.5, color=INK)
    axes.set(xlim=(-0.6, max(len(words), 4) - 0.4), ylim=(0, 1.25), xticks=range(len(words)))
    if len(words) <= 6:
        axes.set_xticklabels(words, fontsize=9, parse_math=False, va="baseline")
        axes.tick_params(axis="x", pad=13)
    else:
        axes.set_xticklabels(words, fontsize=8.5, parse_math=False, rotation=30, ha="right", rotation_mode="anchor")
    axes.axhline(0, color=SOFT, linewidth=1)
    axes.set_title(title, fontsize=9, color=INK, loc="left", parse_math=False)


def legend(figure: Figure, x: float, y: float, entries: dict[str, str]) -> None:
    """Squares of colour with their meaning, in a row: {meaning: colour}."""
    for meaning, colour in entries.items():
        axes = part(figure, x, y - 0.07, 0.14, 0.14)
        axes.add_patch(Rectangle((0, 0), 1, 1, facecolor=colour))
        write(figure, x + 0.2, y, meaning, 8.5)
        x += 0.5 + 0.078 * len(meaning)
