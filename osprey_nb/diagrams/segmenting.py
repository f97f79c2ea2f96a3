"""Clicks, boxes and the masks that they give (notebook 09)."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from .arrays import principal_colours
from .drawing import COLOURS, DPI, INK, SOFT, arrow, bare, box, new_sheet

INSIDE, OUTSIDE = "#009E73", "#D55E00"


class Panel(NamedTuple):
    """A mask (H×W bool) with its title, and what was pointed with: points (x, y), labels 1 or 0, a box x0, y0, x1, y1."""

    title: str = ""
    mask: np.ndarray | None = None
    points: Sequence[Sequence[float]] = ()
    labels: Sequence[int] | None = None
    box: Sequence[float] | None = None


def prompted(image, panels: Sequence[Panel], columns: int = 4) -> Figure:
    """The picture (H×W×3 uint8) once for each panel: what is outside the mask is pale, clicks are dots, boxes are frames.

    A green dot with + belongs to the region, a red one with − does not. ValueError without panels.
    """
    if not panels:
        raise ValueError("no panels; give at least one")
    side, gap = 2.85, 0.1
    columns = min(columns, len(panels))
    titles = ["\n".join(textwrap.fill(line, 36) for line in panel.title.splitlines()) for panel in panels]
    head = 0.16 + 0.17 * max(title.count("\n") + 1 for title in titles)
    rows = -(-len(panels) // columns)
    figure, _ = new_sheet((side + gap) * columns + gap, (side + head) * rows + gap)
    across, up = figure.get_size_inches()
    for k, (panel, title) in enumerate(zip(panels, titles, strict=True)):
        x, y = gap + (side + gap) * (k % columns), gap / 2 + (side + head) * (rows - 1 - k // columns)
        axes = figure.add_axes([x / across, y / up, side / across, side / up])
        _shown(axes, np.asarray(image), panel)
        axes.set_title(title, fontsize=9, color=INK, pad=4, parse_math=False)
    return figure


def sam_flow(image, embedding, panels: Sequence[Panel]) -> Figure:
    """SAM from left to right: picture (H×W×3), image embedding (C×h×w) in colours, the click of the first panel, the masks."""
    figure, axes = new_sheet(11.8, 4.4)
    across, up = figure.get_size_inches()

    def place(x, y, side):
        return figure.add_axes([x / across, y / up, side / across, side / up])

    _shown(place(0.15, 2.2, 1.9), np.asarray(image), Panel())
    axes.text(0.15, 4.18, "a picture", fontsize=9, color=INK)
    arrow(axes, (2.1, 3.15), (2.4, 3.15), COLOURS["image"])
    box(axes, 2.42, 2.75, 1.25, 0.8, "image\nencoder", COLOURS["image"], "#EAF3FA", 9)
    arrow(axes, (3.7, 3.15), (4.0, 3.15), COLOURS["image"])
    cells = place(4.05, 2.2, 1.9)
    cells.imshow(principal_colours(np.asarray(embedding)), interpolation="nearest")
    bare(cells)
    axes.text(4.05, 4.18, "its embedding: once a picture", fontsize=9, color=INK)
    arrow(axes, (6.0, 3.15), (6.55, 3.0), COLOURS["image"])
    first = panels[0]._replace(mask=None)
    _shown(place(0.15, 0.12, 1.55), np.asarray(image), first)
    axes.text(0.15, 1.78, "a click", fontsize=9, color=INK)
    arrow(axes, (1.75, 0.9), (2.4, 0.9), COLOURS["mask"])
    box(axes, 2.42, 0.5, 1.25, 0.8, "prompt\nencoder", COLOURS["mask"], "#FFF7E6", 9)
    arrow(axes, (3.7, 0.9), (6.55, 2.55), COLOURS["mask"])
    axes.text(4.2, 0.9, "for every click anew, in milliseconds", fontsize=9, color=INK)
    box(axes, 6.58, 2.3, 1.15, 1.1, "mask\ndecoder", INK, "#E4E7EB", 10)
    for k, panel in enumerate(panels[:3]):
        y = 2.95 - 1.42 * k
        arrow(axes, (7.78, 2.85), (8.3, y + 0.67))
        _shown(place(8.35, y, 1.34), np.asarray(image), panel)
        axes.text(9.8, y + 0.67, textwrap.fill(panel.title, 24), fontsize=9, va="center", color=INK, parse_math=False)
    return figure


def scatter(xs: Sequence[float], ys: Sequence[float], x_name: str, y_name: str) -> Figure:
    """Pairs of shares in 0..1 as dots, with the diagonal on which both are equal. ValueError for other lengths."""
    if len(xs) != len(ys):
        raise ValueError(f"got {len(xs)} values for x and {len(ys)} for y; give pairs")
    figure = Figure(figsize=(4.6, 4.4), dpi=DPI)
    axes = figure.add_axes([0.15, 0.13, 0.82, 0.84])
    axes.plot([0, 1], [0, 1], color=SOFT, linewidth=1, linestyle="--")
    axes.scatter(xs, ys, s=16, color=COLOURS["image"], alpha=0.5, linewidth=0)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), aspect="equal")
    axes.set_xlabel(x_name, fontsize=9, color=INK)
    axes.set_ylabel(y_name, fontsize=9, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, colors=INK)
    return figure


def _shown(axes, image: np.ndarray, panel: Panel) -> None:
    height, width = image.shape[:2]
    shown = image / 255
    if panel.mask is not None:
        shown = np.where(panel.mask[..., None], shown, 0.3 * shown + 0.7)
    axes.imshow(shown, interpolation="nearest", extent=(0, width, height, 0))
    if panel.mask is not None and panel.mask.any():
        framed = np.pad(panel.mask.astype(float), 1)
        xs, ys = np.arange(-1, width + 1) + 0.5, np.arange(-1, height + 1) + 0.5
        axes.contour(xs, ys, framed, [0.5], colors="white", linewidths=2.6)
        axes.contour(xs, ys, framed, [0.5], colors=COLOURS["mask"], linewidths=1.4)
    if panel.box is not None:
        x0, y0, x1, y1 = panel.box
        for colour, line in (("white", 3.4), (INSIDE, 1.8)):
            axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=colour, linewidth=line))
    labels = [1] * len(panel.points) if panel.labels is None else panel.labels
    for (x, y), label in zip(panel.points, labels, strict=True):
        axes.plot(x, y, "o", color=INSIDE if label else OUTSIDE, markeredgecolor="white", markeredgewidth=1.4, markersize=11)
        axes.text(x, y, "+" if label else "−", color="white", fontsize=10, fontweight="bold", ha="center", va="center_baseline")
    axes.set(xlim=(0, width), ylim=(height, 0))
    bare(axes)
