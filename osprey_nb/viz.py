"""Pictures with their regions, as matplotlib figures; knows no model (for the course's drawings: diagrams.py).

    image, masks, labels ── overlay ────────> Figure: coloured regions with numbers, the labels beside them
    image, regions, answers ── answers_figure ─> the same, with short and detailed answers of numbered regions

Figures are made with `Figure()`, not with pyplot: widgets draw beside the main thread, and nothing piles up.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from .images import load_image
from .masks import to_masks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# These stay apart (CIEDE2000 of 16 or more) for people who see no red or no green, too; numbers help as well.
REGION_COLOURS = (
    "#d96a1e", "#4f86d6", "#ecd21c", "#1f6034", "#5a14f0", "#43e8c0", "#e6bff5", "#93526f", "#8b9180",
)  # fmt: skip
INK, SOFT, ALARM = "#1f2933", "#5d6875", "#b3261e"
PICTURE = (5.4, 4.6)  # inches, at most
PANEL = 4.6  # inches for the text beside it
COLUMN = 7.5  # inches of text that stand one below the other, at least
LINE, GAP = 0.22, 0.16  # inches from line to line, and more to the next region
DRAWN_EDGE = 1024  # more pixels than a figure shows only cost time


def overlay(image, masks, labels: Sequence[str] | None = None, title: str | None = None) -> Figure:
    """The picture with its regions coloured and numbered from 1, and each region's label beside it.

    `image` and `masks` in any form that `load_image` and `to_masks` take; no masks at all shows the picture
    alone. Raises ValueError if there are not as many labels as regions.
    """
    image = load_image(image)
    regions = {}
    if not (isinstance(masks, Sequence) and len(masks) == 0):
        regions = dict(enumerate(to_masks(masks, size=(image.height, image.width)), start=1))
    if labels is not None and len(labels) != len(regions):
        raise ValueError(f"got {len(labels)} labels for {len(regions)} regions; give one label for each region")
    texts = None if labels is None else {n: [(label, INK)] for n, label in enumerate(labels, start=1)}
    return _figure(image, regions, texts, title)


def answers_figure(
    image,
    regions: Mapping[int, np.ndarray],
    answers: Mapping[int, Mapping[str, str]],
    title: str | None = None,
) -> Figure:
    """The picture with numbered `regions` (H×W bool), and beside it what was answered about each.

    `answers[number]` holds texts under "short", "detailed" and "error", any of which may be missing.
    """
    tones = {"short": INK, "detailed": SOFT, "error": ALARM}
    texts = {
        number: [(answers[number][key], tone) for key, tone in tones.items() if answers[number].get(key)]
        for number in regions
        if number in answers
    }
    return _figure(load_image(image), regions, texts, title)


def contact_sheet(tiles, columns: int = 4) -> Figure:
    """Small pictures in rows: `tiles` are (image, R×H×W bool, title, lines of text)."""
    from matplotlib.figure import Figure

    tile, below = 3.1, 0.95  # inches
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    sheet = (columns * tile, rows * (tile + below))
    figure = Figure(figsize=sheet, dpi=100)
    for i, (image, masks, title, lines) in enumerate(tiles):
        x, top = i % columns * tile, sheet[1] - i // columns * (tile + below)
        scale = min((tile - 0.2) / image.width, (tile - 0.4) / image.height)
        width, height = image.width * scale, image.height * scale
        axes = figure.add_axes([(x + 0.1) / sheet[0], (top - 0.3 - height) / sheet[1], width / sheet[0], height / sheet[1]])
        _picture(axes, image, dict(enumerate(masks, 1)))
        left, text = (x + 0.1) / sheet[0], "\n".join(part for line in lines for part in textwrap.wrap(line, 44)[:3])
        figure.text(left, (top - 0.15) / sheet[1], title, fontsize=9, color=SOFT, va="center", parse_math=False)
        figure.text(left, (top - 0.38 - height) / sheet[1], text, fontsize=8, color=INK, va="top", parse_math=False)
    return figure


def to_png(figure: Figure) -> bytes:
    """A figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def region_colour(number: int) -> str:
    """The colour of region `number`, counted from 1. After nine they come again."""
    return REGION_COLOURS[(number - 1) % len(REGION_COLOURS)]


def _figure(
    image: Image.Image,
    regions: Mapping[int, np.ndarray],
    texts: Mapping[int, list[tuple[str, str]]] | None,
    title: str | None,
) -> Figure:
    """Everything is laid out in inches, y upward; the sheet is as high as the picture or the text needs."""
    from matplotlib.figure import Figure

    scale = min(PICTURE[0] / image.width, PICTURE[1] / image.height)
    width, height = image.width * scale, image.height * scale
    head, edge = (0.4 if title else 0.1), 0.1
    columns: list[list[tuple[int, list[tuple[str, str]]]]] = []
    room = 0.0
    for number, parts in (texts or {}).items():
        lines = _wrap(parts)
        needed = len(lines) * LINE + GAP
        if not columns or needed > room:
            columns.append([])
            room = max(height, COLUMN)
        columns[-1].append((number, lines))
        room -= needed
    written = max((sum(len(lines) * LINE + GAP for _, lines in column) for column in columns), default=0)
    sheet = (width + 2 * edge + PANEL * len(columns), max(height, written) + head + edge)

    figure = Figure(figsize=sheet, dpi=110)
    top = sheet[1] - head
    axes = figure.add_axes([edge / sheet[0], (top - height) / sheet[1], width / sheet[0], height / sheet[1]])
    _picture(axes, image, regions)
    if title:
        figure.text(edge / sheet[0], 1 - 0.2 / sheet[1], title, fontsize=13, color=INK, va="center", parse_math=False)

    if columns:
        beside = figure.add_axes([0, 0, 1, 1])
        beside.set(xlim=(0, sheet[0]), ylim=(0, sheet[1]))
        beside.axis("off")
    for i, column in enumerate(columns):
        x, y = width + 2 * edge + i * PANEL, top - LINE / 2 - 0.02
        for number, lines in column:
            _badge(beside, x + 0.22, y, number)
            for line, tone in lines:
                beside.text(x + 0.46, y, line, fontsize=11, color=tone, va="center", parse_math=False)
                y -= LINE
            y -= GAP
    return figure


def _picture(axes: Axes, image: Image.Image, regions: Mapping[int, np.ndarray]) -> None:
    """The picture with each region as a wash, an outline that shows on any ground, and its number within."""
    from matplotlib.colors import to_rgb
    from scipy.ndimage import distance_transform_edt

    width, height = image.size
    shrunk = image.copy()
    shrunk.thumbnail((DRAWN_EDGE, DRAWN_EDGE))
    rows = (np.arange(shrunk.height) + 0.5) * height / shrunk.height
    columns = (np.arange(shrunk.width) + 0.5) * width / shrunk.width
    pixels = np.asarray(shrunk, dtype=float) / 255
    masks = {number: np.asarray(mask)[np.ix_(rows.astype(int), columns.astype(int))] for number, mask in regions.items()}

    # The wash is thin: the region's own colour is what the answer is about.
    for number, mask in masks.items():
        pixels[mask] = 0.86 * pixels[mask] + 0.14 * np.array(to_rgb(region_colour(number)))
    axes.imshow(pixels, extent=(0, width, height, 0), interpolation="antialiased")
    # A frame of background, so that a region at the border is outlined there too.
    xs = np.concatenate([[-columns[0]], columns, [width + columns[0]]])
    ys = np.concatenate([[-rows[0]], rows, [height + rows[0]]])
    for number, mask in masks.items():
        framed = np.pad(mask, 1).astype(float)
        if framed.any():
            axes.contour(xs, ys, framed, [0.5], colors="white", linewidths=3.4)
            axes.contour(xs, ys, framed, [0.5], colors=region_colour(number), linewidths=1.8)
    for number, mask in masks.items():
        if mask.any():
            # The point farthest from the outline: inside the region, whatever its shape.
            middle = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1].argmax()
            row, column = np.unravel_index(middle, mask.shape)
            _badge(axes, columns[column], rows[row], number)
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")


def _badge(axes: Axes, x: float, y: float, number: int) -> None:
    from matplotlib.colors import to_rgb

    colour = region_colour(number)
    dark = np.dot(to_rgb(colour), (0.299, 0.587, 0.114)) < 0.6
    axes.text(
        x, y, str(number), ha="center", va="center", fontsize=10, fontweight="bold", zorder=5,
        color="white" if dark else INK,
        bbox={"boxstyle": "circle,pad=0.24", "facecolor": colour, "edgecolor": "white", "linewidth": 1.4},
    )  # fmt: skip


def _wrap(parts: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Lines that fit the panel, each with its colour; one empty line at least, for the number."""
    lines = [(line, tone) for text, tone in parts for line in textwrap.wrap(text, 50)]
    return lines or [("", INK)]
