"""What the drawings share: colours, a sheet measured in inches, boxes, arrows, pictures."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

COLOURS = {"image": "#0072B2", "mask": "#E69F00", "spatial": "#009E73", "text": "#6B7280"}
INK, SOFT, PAPER = "#1F2933", "#9AA5B1", "#F5F7FA"
DPI = 100


def bare(axes) -> None:
    """No ticks, a thin frame."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(color=SOFT, linewidth=0.8)


def new_sheet(width: float, height: float):
    """A figure with one axes whose unit is the inch, y upward."""
    figure = Figure(figsize=(width, height), dpi=DPI)
    axes = figure.add_axes([0, 0, 1, 1])
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    return figure, axes


def box(axes, x, y, w, h, text="", colour=INK, fill="white", size=9, **text_style) -> None:
    """A rounded box with its lower left corner at (x, y) and text in the middle."""
    style = "round,pad=0,rounding_size=0.08"
    axes.add_patch(
        FancyBboxPatch((x, y), w, h, boxstyle=style, edgecolor=colour, facecolor=fill, linewidth=1.3)
    )
    text_style |= {"ha": "center", "va": "center", "fontsize": size, "color": INK, "parse_math": False}
    axes.text(x + w / 2, y + h / 2, text, **text_style)


def arrow(axes, start, end, colour=INK, bend=0.0) -> None:
    look = {"arrowstyle": "-|>", "mutation_scale": 11, "linewidth": 1.3, "shrinkA": 0, "shrinkB": 0}
    axes.add_patch(FancyArrowPatch(start, end, color=colour, connectionstyle=f"arc3,rad={bend}", **look))


def picture(figure, x, y, size, pixels, mask=None, colour=COLOURS["mask"], title="") -> None:
    """An H×W×3 picture in inches on the sheet, with the outline of a mask, its title above.

    Its axes count from 0 to 1, from the upper left corner; probes find them by their gid, "picture".
    """
    across, up = figure.get_size_inches()
    axes = figure.add_axes([x / across, y / up, size / across, size / up], gid="picture")
    axes.imshow(pixels, interpolation="nearest", extent=(0, 1, 1, 0))
    if mask is not None:
        # One pixel of background around it, so that a mask that touches the border is closed there too.
        height, width = mask.shape
        framed = np.pad(mask.astype(float), 1)
        xs, ys = (np.arange(-1, width + 1) + 0.5) / width, (np.arange(-1, height + 1) + 0.5) / height
        axes.contour(xs, ys, framed, [0.5], colors="white", linewidths=3.2)
        axes.contour(xs, ys, framed, [0.5], colors=colour, linewidths=1.8)
    axes.set(xlim=(0, 1), ylim=(1, 0))
    bare(axes)
    axes.set_title(title, fontsize=9, color=INK, pad=4)


def chips(axes, x: float, y: float, height: float, shades: np.ndarray) -> None:
    """A row of image tokens, each in the colour of its cell."""
    for k, shade in enumerate(shades):
        axes.add_patch(Rectangle((x + 0.14 * k, y), 0.12, height, fc=shade, ec=COLOURS["image"], linewidth=1))
