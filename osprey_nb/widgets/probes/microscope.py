"""From a mask to its token, cell by cell (notebook 03).

    a cell of a level ─► its patch of the picture
                      ─► its share of the pooled mean      share = its weight / the weights of all cells
                      ─► how like its features are to the mean that it is part of

The same point on the four levels: a cell of res2 is 4 pixels of what the encoder reads, a cell of res5 is 32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ipywidgets
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from osprey_nb.diagrams.drawing import COLOURS, INK, bare, new_sheet, picture
from osprey_nb.viz import ALARM

from .asked import check_choice
from .features import LEVELS
from .panels import TONE, part, write
from .pooling import likeness, read_levels
from .stateful import StatefulProbe


@dataclass(frozen=True)
class MicroscopeState:
    """A cell: its level, 0 to 3 for res2 to res5, its row and its column."""

    level: int = 2
    row: int = 0
    column: int = 0


@dataclass(frozen=True)
class CellReading:
    """A cell under a mask: where it is, its share of the pooled mean, and the cosine of its features with that mean.

    `patch` is (left, top, right, bottom) in pixels of the picture.
    """

    row: int
    column: int
    patch: tuple[float, float, float, float]
    share: float
    likeness: float


def cells_at(state: MicroscopeState, sizes: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Row and column, on each level, of the cell that holds the middle of the chosen one. `sizes` are (rows, columns)."""
    check_choice("level", state.level, len(sizes))
    rows, columns = sizes[state.level]
    check_choice("row", state.row, rows)
    check_choice("column", state.column, columns)
    y, x = (state.row + 0.5) / rows, (state.column + 0.5) / columns
    return [(int(y * rows), int(x * columns)) for rows, columns in sizes]


def read_cells(
    features: Sequence[torch.Tensor], mask: np.ndarray, state: MicroscopeState, resize: str = "threshold"
) -> list[CellReading]:
    """The chosen cell, and the one around its middle on each other level. `features` C×H×W each, `mask` H×W bool."""
    height, width = mask.shape
    found = []
    for feature, pooled, (row, column) in zip(
        features, read_levels(list(features), mask, resize), cells_at(state, [x.shape[1:] for x in features]), strict=True
    ):
        rows, columns = feature.shape[1:]
        h, w = height / rows, width / columns
        patch = (column * w, row * h, (column + 1) * w, (row + 1) * h)
        alike = likeness(feature[:, row, column].float().numpy(), pooled.vector)
        found.append(CellReading(row, column, patch, float(pooled.share[row, column]), alike))
    return found


def microscope_figure(
    image: np.ndarray, features: Sequence[torch.Tensor], mask: np.ndarray, state: MicroscopeState, resize: str = "threshold"
) -> Figure:
    """The picture with the chosen cell, and for each level the cells' shares, and the patch of the cell at that place."""
    cells = read_cells(features, mask, state, resize)
    levels = read_levels(list(features), mask, resize)
    height, width = mask.shape
    figure, _ = new_sheet(11.6, 5.75)
    now = cells[state.level]
    write(figure, 0.15, 5.5, f"A cell of {LEVELS[state.level]}, row {now.row + 1}, column {now.column + 1}: "
          f"{now.share:.1%} of the pooled mean", 12)  # fmt: skip
    picture(figure, 0.15, 2.75, 2.35, image, mask, title="the mask, and the cell")
    left, top, right, bottom = now.patch
    frame = (left / width, top / height), (right - left) / width, (bottom - top) / height
    for colour, line in (("white", 3.5), (ALARM, 1.8)):
        figure.axes[-1].add_patch(Rectangle(*frame, fill=False, edgecolor=colour, linewidth=line))
    pale = 255 - (255 - image.mean(2, keepdims=True).repeat(3, 2)) * 0.55
    for i, (cell, level) in enumerate(zip(cells, levels, strict=True)):
        x, chosen = 2.85 + 2.2 * i, i == state.level
        rows, columns = level.share.shape
        axes = part(figure, x, 3.0, 2.0, 2.0)
        axes.set_gid(LEVELS[i])
        axes.imshow(pale.astype(np.uint8), extent=(0, columns, rows, 0))
        tint = np.zeros((rows, columns, 4))
        tint[..., :3] = (0.9, 0.62, 0)
        tint[..., 3] = 0.9 * level.share / max(level.share.max(), 1e-9)
        axes.imshow(tint, extent=(0, columns, rows, 0), interpolation="nearest")
        for colour, line in (("white", 3.5), (ALARM, 1.8)):
            axes.add_patch(Rectangle((cell.column, cell.row), 1, 1, fill=False, edgecolor=colour, linewidth=line))
        bare(axes)
        axes.set(xlim=(0, columns), ylim=(rows, 0))
        note = f"res{i + 2}: {level.cells} of {rows * columns} cells count" if level.cells else f"res{i + 2}: vanished"
        axes.set_title(note, fontsize=9, color=INK if level.cells else ALARM, weight="bold" if chosen else "normal", pad=4)

        axes = part(figure, x + 0.25, 0.95, 1.5, 1.5)
        axes.imshow(image, extent=(0, width, height, 0), interpolation="nearest")
        framed = np.pad(mask.astype(float), 1)
        xs, ys = np.arange(-1, width + 1) + 0.5, np.arange(-1, height + 1) + 0.5
        for colour, line in (("white", 3), (COLOURS["mask"], 1.6)):
            axes.contour(xs, ys, framed, [0.5], colors=colour, linewidths=line)
        left, top, right, bottom = cell.patch
        axes.set(xlim=(left, right), ylim=(bottom, top))
        bare(axes)
        axes.set_title(f"its patch: {right - left:.3g} × {bottom - top:.3g} pixels", fontsize=9, color=INK, pad=4)
        share = f"{cell.share:.1%} of the mean" if cell.share else "not in the mean"
        write(figure, x + 1.0, 0.72, share, 9.5, INK if cell.share else TONE, ha="center", weight="bold")
        write(figure, x + 1.0, 0.5, f"cosine with the mean {cell.likeness:.2f}", 8.5, TONE, ha="center")
    rule = {"threshold": "a touched cell counts fully", "soft": "a cell counts by its covered share"}[resize]
    above = "Above: each level's cells,\nthe darker the more they count.\nBelow: what the framed cell covers."
    write(figure, 0.15, 2.3, above, 9, va="top")
    write(figure, 0.15, 1.35, f"{resize}:\n{rule}", 9, TONE, va="top")
    return figure


class MicroscopeProbe(StatefulProbe):
    """Choose a cell of a level: see its patch of the picture, and its share of the pooled mean, on all four levels.

    `image` H×W×3 uint8; `features` its four levels, C×H×W each; `mask` H×W bool; `resize` as in `mask_pool`.
    """

    hint = "Click a cell of a level, or the picture."
    notice = (
        "At the edge of the mask a fine cell is in or out, a coarse one holds mask and background at once: "
        "its patch shows what else goes into the mean."
    )

    def __init__(self, image: np.ndarray, features, mask: np.ndarray, resize="threshold", start: MicroscopeState | None = None):
        if mask.shape != image.shape[:2] or not mask.any():
            raise ValueError(f"The mask is {mask.shape} with {int(mask.sum())} pixels; give {image.shape[:2]} with some.")
        self.image, self.mask, self.resize = image, mask, resize
        self.features = [feature.detach().float().cpu() for feature in features]
        ys, xs = np.nonzero(mask)
        rows, columns = self.features[2].shape[1:]
        middle = int(ys.mean() / len(mask) * rows), int(xs.mean() / mask.shape[1] * columns)
        state = start or MicroscopeState(2, *middle)
        rows, columns = self.features[state.level].shape[1:]
        look = {"min": 0, "continuous_update": False, "readout": False}  # they count from 0, the figure from 1
        options = [(name, i) for i, name in enumerate(LEVELS)]
        buttons = {"style": {"button_width": "5em"}, "description": "level"}
        controls = {
            "level": ipywidgets.ToggleButtons(options=options, value=state.level, **buttons),
            "row": ipywidgets.IntSlider(state.row, max=rows - 1, description="row", **look),
            "column": ipywidgets.IntSlider(state.column, max=columns - 1, description="column", **look),
        }
        super().__init__("Probe: what goes into a mask token?", state, controls, [["level"], ["row", "column"]])

    def follow(self, changes):
        if "level" not in changes:
            return changes
        sizes = [feature.shape[1:] for feature in self.features]
        check_choice("level", changes["level"], len(sizes))
        row, column = cells_at(self.state, sizes)[changes["level"]]  # the cell there that holds the middle of the present one
        return {"row": row, "column": column} | changes

    def fit(self) -> None:
        for name, count in zip(("row", "column"), self.features[self.state.level].shape[1:], strict=True):
            self.controls[name].max = count - 1

    def pointed(self, place, start, end):
        level = self.state.level if place == "picture" else LEVELS.index(place)
        rows, columns = self.features[level].shape[1:]
        x, y = (end[0] * columns, end[1] * rows) if place == "picture" else end
        return {"level": level, "row": min(max(int(y), 0), rows - 1), "column": min(max(int(x), 0), columns - 1)}

    def static(self) -> Figure:
        return microscope_figure(self.image, self.features, self.mask, self.state, self.resize)
