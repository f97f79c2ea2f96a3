"""Small arrays as squares with numbers, features as colours, curves and shares (notebooks 00 to 03)."""

from __future__ import annotations

import itertools

import numpy as np
from matplotlib.figure import Figure

from .drawing import COLOURS, DPI, INK, SOFT, bare, new_sheet, picture


def number_grids(*titled, signs: str = "", cmap: str = "Blues") -> Figure:
    """2-D arrays side by side as squares with numbers: `number_grids(("red", a), ("mask", b), signs="×")`.

    `signs` holds one character for each gap ("×=", "→"). Arrays within 0..1 are drawn as masks, in the mask's
    colour; the others share one colour scale. Raises ValueError for an array that is not 2-D.
    """
    arrays = [(title, np.asarray(array, dtype=float)) for title, array in titled]
    for title, array in arrays:
        if array.ndim != 2:
            raise ValueError(
                f"{title!r} has shape {array.shape}; number_grids draws H×W arrays: index one channel"
            )
    top = max([np.abs(a).max() for _, a in arrays if a.max() > 1], default=1.0)
    cell = 0.52 if max(max(a.shape) for _, a in arrays) <= 4 else 0.4
    heights = [a.shape[0] * cell for _, a in arrays]
    widths = [a.shape[1] * cell for _, a in arrays]
    gap, head = 0.75, 0.5
    total_w = sum(widths) + gap * (len(arrays) - 1) + 0.2
    total_h = max(heights) + head + 0.1
    figure = Figure(figsize=(total_w, total_h), dpi=DPI)
    x = 0.1
    for i, (title, array) in enumerate(arrays):
        y = (max(heights) - heights[i]) / 2 + 0.05
        axes = figure.add_axes([x / total_w, y / total_h, widths[i] / total_w, heights[i] / total_h])
        is_mask = array.max() <= 1 and array.min() >= 0
        axes.imshow(array, cmap="Oranges" if is_mask else cmap, vmin=0, vmax=2.2 if is_mask else 1.8 * top)
        for row in range(array.shape[0]):
            for column in range(array.shape[1]):
                value = array[row, column]
                # Leading zeros only make a small cell hard to read.
                text = f"{value:.3g}".replace("0.", ".") if abs(value) < 1 else f"{value:.3g}"
                axes.text(
                    column, row, text, ha="center", va="center", color=INK, fontsize=10 if cell > 0.5 else 8
                )
        axes.set_xticks(np.arange(0.5, array.shape[1] - 1), [])
        axes.set_yticks(np.arange(0.5, array.shape[0] - 1), [])
        axes.grid(color="white", linewidth=1.5)
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set_title(title, fontsize=10, color=INK, pad=6)
        x += widths[i] + gap
        if i < len(signs) and i + 1 < len(arrays):
            figure.text(
                (x - gap / 2) / total_w,
                (max(heights) / 2 + 0.05) / total_h,
                signs[i],
                ha="center",
                va="center",
                fontsize=18,
                color=INK,
            )
    return figure


def principal_colours(feature: np.ndarray) -> np.ndarray:
    """C×H×W features -> H×W×3 colours in 0..1: the three directions in which the cells differ most.

    Cells with like features get like colours. The colours of two levels can't be compared with each other.
    """
    channels, height, width = feature.shape
    cells = feature.reshape(channels, -1).T.astype(np.float64)
    cells = cells - cells.mean(0)
    _, _, directions = np.linalg.svd(cells, full_matrices=False)
    directions = directions[:3]
    # The sign of a direction is arbitrary: fix it, so that the picture is the same on every machine.
    directions = (
        directions * np.sign(directions[np.arange(len(directions)), np.abs(directions).argmax(1)])[:, None]
    )
    colours = np.zeros((len(cells), 3))
    colours[:, : len(directions)] = cells @ directions.T
    low, high = np.percentile(colours, 2, axis=0), np.percentile(colours, 98, axis=0)
    return np.clip((colours - low) / np.maximum(high - low, 1e-9), 0, 1).reshape(height, width, 3)


def heatmaps(*titled, cmap: str = "magma") -> Figure:
    """2-D arrays side by side as heat, each on its own scale: `heatmaps(("res2", a), ("res3", b))`. ValueError if not 2-D."""
    side = 11.6 / max(len(titled), 4)
    figure, _ = new_sheet(side * len(titled), side + 0.2)
    for i, (title, array) in enumerate(titled):
        array = np.asarray(array, dtype=float)
        if array.ndim != 2:
            raise ValueError(f"{title!r} has shape {array.shape}; heatmaps draws H×W arrays: index one channel")
        across, up = figure.get_size_inches()
        axes = figure.add_axes([(i * side + 0.08) / across, 0.06 / up, (side - 0.16) / across, (side - 0.16) / up])
        axes.imshow(array, cmap=cmap)
        bare(axes)
        axes.set_title(title, fontsize=10, color=INK, pad=4)
    return figure


def pyramid(image, rows: dict[str, list[np.ndarray]]) -> Figure:
    """A picture (H×W×3) and its levels, C×H×W each, in `principal_colours`: one row for each name in `rows`."""
    side, head = 2.05, 0.45
    figure, axes = new_sheet(11.6, (side + head) * len(rows))
    for r, (name, levels) in enumerate(rows.items()):
        y = (side + head) * (len(rows) - 1 - r) + 0.08
        picture(figure, 0.1, y, side, image, title=name)
        for i, level in enumerate(levels):
            title = f"res{i + 2} · {level.shape[0]}×{level.shape[1]}×{level.shape[2]}"
            picture(figure, 2.5 + (side + 0.22) * i, y, side, principal_colours(np.asarray(level)), title=title)
    return figure


def curve(values, title: str, window: int = 10) -> Figure:
    """A loss, step by step: pale as it is, dark its mean over the last `window` steps."""
    values = np.asarray(values, dtype=float)
    figure = Figure(figsize=(6.0, 2.6), dpi=DPI)
    axes = figure.add_axes([0.1, 0.2, 0.87, 0.66])
    axes.plot(np.arange(1, len(values) + 1), values, color=SOFT, linewidth=0.8)
    if len(values) >= window:
        smooth = np.convolve(values, np.ones(window) / window, "valid")
        axes.plot(np.arange(window, len(values) + 1), smooth, color=COLOURS["image"], linewidth=2)
    axes.set_xlabel("step", fontsize=9, color=INK)
    axes.set_title(title, fontsize=10, color=INK, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, colors=INK)
    return figure


def shares(rows: dict[str, dict[str, float | list[float]]], title: str = "") -> Figure:
    """Shares from 0 to 1 as bars: `shares({"kind": {"before": 0.05, "after": 0.4}})`, one group a name. Of several
    runs, a list, the bar is the mean and each run a dot."""
    names, ways = list(rows), list(next(iter(rows.values())))
    figure = Figure(figsize=(7.0, 0.55 + 0.27 * len(names) * (len(ways) + 0.6)), dpi=DPI)
    axes = figure.add_axes([0.32, 0.04, 0.6, 0.84])
    tones = [SOFT, "#7CA6C4", COLOURS["image"], COLOURS["mask"], COLOURS["spatial"]]
    labels, place = [], 0.0
    for name in names:
        for way, tone in zip(ways, itertools.cycle(tones), strict=False):
            runs = np.atleast_1d(rows[name][way])
            axes.barh(place, runs.mean(), color=tone, height=0.8)
            if len(runs) > 1:
                axes.scatter(runs, np.full(len(runs), place), s=12, color=INK, zorder=2, clip_on=False)
            axes.text(runs.max() + 0.02, place, f"{runs.mean():.0%}", va="center", fontsize=9, color=INK)
            labels.append((place, f"{name}, {way}"))
            place += 1
        place += 0.6
    axes.set(yticks=[p for p, _ in labels], xticks=[], xlim=(0, 1.1))
    axes.set_yticklabels([text for _, text in labels], fontsize=9, color=INK)
    axes.invert_yaxis()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontsize=10, color=INK, loc="left")
    return figure
