"""What writing an answer computes, and what it keeps (notebook 08)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from .drawing import COLOURS, DPI, INK, SOFT, box, new_sheet

PALE = "#E4E7EB"


def computed(prompt: int, new: int, steps: int | None = None) -> Figure:
    """Which positions are computed for each new token: without a KV cache, and with one.

    A row is one pass through the LLM that gives one token; a column is a position. `prompt` positions are there at the start,
    `new` tokens are written. `steps` passes are drawn, all by default. ValueError below 1.
    """
    steps = new if steps is None else steps
    if min(prompt, new, steps) < 1:
        raise ValueError(f"prompt {prompt}, new {new}, steps {steps}: each must be 1 or more")
    positions = prompt + steps - 1
    passes, places = np.indices((steps, positions))
    there = places < prompt + passes
    fresh = there & (places >= np.where(passes > 0, prompt + passes - 1, 0))
    cell = min(0.24, 5.2 / positions)
    wide, high = positions * cell, steps * cell
    figure, axes = new_sheet(2 * wide + 1.3, high + 0.95)
    for k, (title, now) in enumerate((("without a cache", there), ("with a cache", fresh))):
        left = 0.75 + k * (wide + 0.45)
        for row, column in np.argwhere(there):
            first = column < prompt
            colour = (SOFT if first else COLOURS["mask"]) if now[row, column] else "white"
            place = (left + column * cell, high - (row + 1) * cell + 0.3)
            axes.add_patch(Rectangle(place, cell * 0.88, cell * 0.88, fc=colour, ec=PALE, linewidth=0.7))
        axes.text(left, high + 0.4, f"{title}: {int(now.sum()):,} positions", fontsize=10, color=INK)
    for row in (0, steps - 1):
        axes.text(0.68, high - (row + 0.55) * cell + 0.3, f"word {row + 1}", fontsize=8, ha="right", va="center", color=INK)
    axes.text(0.75, 0.08, "grey: of the prompt, orange: just written, white: remembered, not computed", fontsize=8, color=INK)
    return figure


def shared_prefix(prefix: Sequence[str], rows: Sequence[Sequence[str]], count: Mapping[str, int] | None = None) -> Figure:
    """A beginning that is held once, and the rows that go on from it, a box for each piece.

    `prefix` and each of `rows` are short texts; "image", "mask" and "spatial" get their colours. `count` says of pieces how
    many positions they stand for, written below them. ValueError without rows.
    """
    if not rows:
        raise ValueError("no rows; give at least one, a list of pieces each")
    count, step, gap = dict(count or {}), 0.62, 0.12
    widths = {piece: max(0.62, 0.095 * len(piece) + 0.2) for piece in (*prefix, *(x for row in rows for x in row))}
    left = sum(widths[piece] + gap for piece in prefix)
    right = max(sum(widths[piece] + gap for piece in row) for row in rows)
    high = step * len(rows) + 0.5
    figure, axes = new_sheet(0.3 + left + 0.8 + right, high)
    middle = step * len(rows) / 2 + 0.05
    joint = 0.15 + left
    _pieces(axes, prefix, 0.15, middle, widths, gap, count)
    for k, row in enumerate(rows):
        y = step * (len(rows) - 1 - k) + step / 2 + 0.05
        _pieces(axes, row, joint + 0.75, y, widths, gap, count)
        bend = joint + 0.3
        axes.plot([joint - gap, bend, bend, joint + 0.75], [middle, middle, y, y], color=SOFT, linewidth=1.2, zorder=0)
    axes.text(0.15, high - 0.22, "read once, held once", fontsize=9, color=INK)
    axes.text(joint + 0.75, high - 0.22, "a row for each region", fontsize=9, color=INK)
    return figure


def who_sees_whom(sees, rows: Sequence[int]) -> Figure:
    """Attention of rows that stand in one line: a row of the drawing looks (place i), a column is seen (place j).

    `sees` is T×T, true where i may look at j; `rows` says of each place whose it is, -1 for what all begin with. ValueError
    where the two differ in length.
    """
    sees, rows = np.asarray(sees, dtype=bool), np.asarray(rows)
    if sees.shape != (len(rows), len(rows)):
        raise ValueError(f"sees is {sees.shape}, for {len(rows)} places; it must be {len(rows)}×{len(rows)}")
    shared, own = to_rgb(COLOURS["image"]), to_rgb(COLOURS["mask"])
    pixels = np.where(sees[..., None], np.where((rows < 0)[None, :, None], shared, own), 1.0)
    figure = Figure(figsize=(5.6, 4.9), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    axes.imshow(pixels, interpolation="nearest")
    starts = np.flatnonzero(np.diff(rows, prepend=rows[0] - 1))
    middles = (starts + np.append(starts[1:], len(rows))) / 2 - 0.5
    names = ["the beginning" if rows[start] < 0 else f"row {rows[start] + 1}" for start in starts]
    for start in starts[1:]:
        axes.axhline(start - 0.5, color=PALE, linewidth=0.8)
        axes.axvline(start - 0.5, color=PALE, linewidth=0.8)
    axes.set_yticks(middles, names, fontsize=8, color=INK)
    axes.set_xticks(middles, names, fontsize=8, color=INK, rotation=90)
    axes.tick_params(length=0)
    axes.set_title("who looks (down), who is seen (across)", fontsize=10, color=INK, loc="left")
    for side in axes.spines.values():
        side.set_color(PALE)
    return figure


def bars(values: Mapping[str, float], title: str = "", form: str = "{:.3g}", most: float | None = None) -> Figure:
    """A bar for each name, its value beside it, all on one scale from 0. `most` draws a line there: what there is room for.

    `form` writes a value. ValueError for no values, or one that is negative or not finite.
    """
    if not values or not all(np.isfinite(v) and v >= 0 for v in values.values()):
        raise ValueError(f"bars draws values of 0 or more, at least one; got {dict(values)}")
    figure = Figure(figsize=(8.0, 0.6 + 0.36 * len(values)), dpi=DPI)
    axes = figure.add_axes([0.36, 0.06, 0.5, 0.94 - 0.3 / figure.get_figheight()])
    names, sizes = list(values), list(values.values())
    top = max(*sizes, most or 0, 1e-12)
    axes.barh(names, sizes, color=COLOURS["image"], height=0.66)
    for k, size in enumerate(sizes):
        axes.text(size + top * 0.015, k, form.format(size), va="center", fontsize=9, color=INK)
    if most is not None:
        axes.axvline(most, color=COLOURS["mask"], linewidth=1.6, zorder=0)
    axes.set(xlim=(0, top * 1.12), xticks=[])
    axes.invert_yaxis()
    axes.tick_params(length=0, labelsize=9, labelcolor=INK)
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontsize=10, color=INK, loc="left")
    return figure


def verdicts(rows: Sequence[str], columns: Sequence[str], values) -> Figure:
    """A table of shares, R×C in 0..1, each row's largest in bold: which of C answers fits each of R regions best.

    ValueError when the values do not fit the names.
    """
    values = np.asarray(values, dtype=float)
    if values.shape != (len(rows), len(columns)):
        raise ValueError(f"values are {values.shape}; {len(rows)} rows and {len(columns)} columns need them of that shape")
    wide, high = 1.75, 0.42
    left = 0.3 + 0.085 * max(map(len, rows))
    figure, axes = new_sheet(left + wide * len(columns) + 0.1, high * (len(rows) + 1) + 0.15)
    for k, name in enumerate(columns):
        axes.text(left + wide * (k + 0.5), high * len(rows) + 0.2, name, fontsize=9, color=INK, ha="center", parse_math=False)
    for r, name in enumerate(rows):
        y = high * (len(rows) - 1 - r) + 0.08
        axes.text(left - 0.12, y + high / 2, name, fontsize=9, color=INK, ha="right", va="center", parse_math=False)
        for c, share in enumerate(values[r]):
            shade = tuple(1 - (1 - np.array((0.55, 0.77, 0.90))) * share)
            axes.add_patch(Rectangle((left + wide * c, y), wide * 0.97, high * 0.9, fc=shade, ec=PALE, linewidth=0.7))
            look = {"ha": "center", "va": "center", "fontweight": "bold" if share == values[r].max() else "normal"}
            axes.text(left + wide * (c + 0.485), y + high * 0.45, f"{share:.0%}", fontsize=9, color=INK, **look)
    return figure


def _pieces(axes, pieces: Sequence[str], x: float, y: float, widths, gap: float, count: Mapping[str, int]) -> None:
    for piece in pieces:
        colour = COLOURS.get(piece, COLOURS["text"])
        box(axes, x, y - 0.17, widths[piece], 0.34, piece, colour=colour)
        if piece in count:
            axes.text(x + widths[piece] / 2, y - 0.29, f"{count[piece]:,}", fontsize=7, color=INK, ha="center", va="center")
        x += widths[piece] + gap
