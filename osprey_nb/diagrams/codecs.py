"""What a mask looks like in each of its forms (notebook 01)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from .drawing import COLOURS, INK, SOFT, arrow, box, new_sheet, picture

FILLS = {False: "#EEF1F4", True: "#FFE3A8"}


def runs(mask, counts: Sequence[int] | None = None) -> Figure:
    """A small mask (H×W, 0/1), the order in which RLE reads its pixels, and the row of pixels with its `counts` below."""
    mask = np.asarray(mask, dtype=bool)
    height, width = mask.shape
    cell = 0.42
    strip = min(cell, 11.0 / mask.size)
    figure, axes = new_sheet(max(strip * mask.size, width * cell) + 0.4, height * cell + 2.0)
    top = height * cell + 1.55
    for n, value in enumerate(mask.ravel(order="F").tolist()):
        column, row = divmod(n, height)
        x, y = 0.2 + column * cell, top - (row + 1) * cell
        axes.add_patch(Rectangle((x, y), cell, cell, facecolor=FILLS[value], edgecolor="white", linewidth=1.5))
        axes.text(x + cell / 2, y + cell / 2, str(n), ha="center", va="center", fontsize=9, color=INK if value else SOFT)
        x = 0.2 + n * strip
        axes.add_patch(Rectangle((x, 0.75), strip, 0.36, facecolor=FILLS[value], edgecolor="white", linewidth=0.8))
    axes.text(0.2, top + 0.15, "the mask; each pixel shows its place in the row", fontsize=9, color=INK)
    axes.text(0.2, 1.2, "the row: column after column, from the top down", fontsize=9, color=INK)
    if counts is not None:
        start = 0
        for i, count in enumerate(counts):
            middle = 0.2 + (start + count / 2) * strip
            colour = COLOURS["mask"] if i % 2 else COLOURS["text"]
            if count:
                ends = 0.2 + start * strip + 0.03, 0.2 + (start + count) * strip - 0.03
                axes.plot(ends, [0.66] * 2, color=colour, linewidth=2)
            axes.text(middle, 0.38, str(count), ha="center", va="center", fontsize=11, color=INK, fontweight="bold")
            start += count
        axes.text(0.2, 0.1, "the runs: zeros, ones, zeros, …", fontsize=9, color=INK)
    return figure


def outline(polygon: Sequence[float], mask) -> Figure:
    """A flat polygon [x, y, x, y, …] over the pixels (H×W, 0/1) that it makes; a dot marks each pixel's middle."""
    mask = np.asarray(mask, dtype=bool)
    height, width = mask.shape
    cell = min(0.42, 6.0 / max(height, width))
    figure, axes = new_sheet(width * cell + 0.6, height * cell + 0.6)
    axes.set(xlim=(-0.3 / cell, width + 0.3 / cell), ylim=(height + 0.3 / cell, -0.3 / cell))
    for row, column in np.ndindex(height, width):
        look = {"facecolor": FILLS[bool(mask[row, column])], "edgecolor": "white", "linewidth": 1.5}
        axes.add_patch(Rectangle((column, row), 1, 1, **look))
    rows, columns = np.indices(mask.shape) + 0.5
    axes.plot(columns.ravel(), rows.ravel(), ".", color=SOFT, markersize=3)
    corners = np.asarray(polygon, dtype=float).reshape(-1, 2)
    closed = np.vstack([corners, corners[:1]])
    axes.plot(*closed.T, color=COLOURS["image"], linewidth=1.8, clip_on=False)
    axes.plot(*corners.T, "o", color=COLOURS["image"], markersize=6, clip_on=False)
    return figure


def polygons(image, mask, attempts: Sequence[tuple[str, Sequence[Sequence[float]], np.ndarray]]) -> Figure:
    """A mask (H×W bool) over its picture, then what others make of it: `attempts` are (title, outlines to draw, H×W bool).

    Pixels that are lost are red, pixels that are too many are blue; under each, how much of the two masks is common (IoU).
    """
    mask = np.asarray(mask, dtype=bool)
    height, width = mask.shape
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    side = int(1.15 * max(np.ptp(rows), np.ptp(columns))) + 4
    x, y = int(columns.mean() - side / 2), int(rows.mean() - side / 2)
    grey = 255 - (255 - np.asarray(image).mean(2, keepdims=True).repeat(3, 2)) * 0.45
    cell = 11.6 / (len(attempts) + 1)
    high = cell + 0.55
    figure, _ = new_sheet(11.6, high)
    for i, (title, corners, made) in enumerate([("the mask", [], mask), *attempts]):
        colours = grey.copy()
        for where, colour in ((mask & made, (230, 159, 0)), (mask & ~made, (200, 50, 40)), (made & ~mask, (0, 114, 178))):
            colours[where] = 0.35 * colours[where] + 0.65 * np.array(colour)
        axes = figure.add_axes([(i * cell + 0.08) / 11.6, 0.3 / high, (cell - 0.16) / 11.6, (cell - 0.1) / high])
        axes.imshow(colours.astype(np.uint8), extent=(0, width, height, 0), interpolation="nearest")
        for flat in corners:
            points = np.asarray(flat, dtype=float).reshape(-1, 2)
            axes.plot(*np.vstack([points, points[:1]]).T, color=INK, linewidth=1)
            axes.plot(*points.T, ".", color=INK, markersize=3)
        axes.set(xlim=(x, x + side), ylim=(y + side, y))
        axes.axis("off")
        axes.set_title(title, fontsize=10, color=INK, pad=4)
        if i:
            common = f"IoU {(mask & made).sum() / (mask | made).sum():.3f}"
            figure.text((i + 0.5) * cell / 11.6, 0.12 / high, common, ha="center", fontsize=10, color=INK)
    return figure


def pointing(image, mask) -> Figure:
    """What notebook 01 built: every way to point, one mask (H×W bool over H×W×3), and where it goes."""
    figure, axes = new_sheet(11.6, 3.6)
    orange = COLOURS["mask"]
    ways = ("strokes", "box", "polygons", "run lengths (RLE)", "PNG")
    for i, way in enumerate(ways):
        y = 2.85 - 0.64 * i
        box(axes, 0.2, y, 1.9, 0.48, way, INK, "#FFFDF5", 10)
        arrow(axes, (2.13, y + 0.24), (3.2, 1.8 + 0.12 * (2 - i)), INK)
    picture(figure, 3.3, 0.5, 2.6, image, mask)
    axes.text(4.6, 3.28, "one mask: H × W, True or False", ha="center", fontsize=10, color=INK)
    arrow(axes, (5.98, 1.8), (6.6, 1.8), orange)
    box(axes, 6.65, 1.4, 2.0, 0.8, "mask extractor\n(notebook 03)", orange, "#FFF7E6", 11)
    for y, kind, fill in ((2.3, "mask", "#FFE3A8"), (0.8, "spatial", "#B5E3D2")):
        arrow(axes, (8.7, 1.8), (9.3, y + 0.24), COLOURS[kind])
        box(axes, 9.35, y, 1.7, 0.48, f"{kind} token", COLOURS[kind], fill, 11)
    return figure
