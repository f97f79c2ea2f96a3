"""Small arrays as squares with numbers, and features as colours (notebooks 00 and 03)."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from .drawing import DPI, INK


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
