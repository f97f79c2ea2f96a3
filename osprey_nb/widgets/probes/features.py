"""What the cells of a feature map hold: colours of likeness, and the patches nearest to one cell (notebook 02)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ipywidgets
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from osprey_nb.diagrams import principal_colours
from osprey_nb.viz import ALARM, INK

from .asked import check_choice
from .stateful import StatefulProbe

LEVELS = ("res2", "res3", "res4", "res5")
NEAREST = 8


@dataclass(frozen=True)
class FeatureState:
    """A point of the picture (pixels) and the level on which its cell is looked at, 0 to 3 for res2 to res5.

    `shown`: "colours", the three directions in which the cells differ most, or "channel", the one of that number (from 0).
    """

    x: float
    y: float
    level: int = 2
    shown: str = "colours"
    channel: int = 0


@dataclass(frozen=True)
class Patch:
    """A cell of another picture: which picture, its row and column, and the cosine of its features with the chosen cell's."""

    picture: int
    row: int
    column: int
    likeness: float


def cell_of(state: FeatureState, grid: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """Row and column of the cell under a point; `grid` and `size` are (rows, columns) of the map and of the picture."""
    row, column = int(state.y / size[0] * grid[0]), int(state.x / size[1] * grid[1])
    return min(max(row, 0), grid[0] - 1), min(max(column, 0), grid[1] - 1)


def likeness_map(feature: torch.Tensor, cell: tuple[int, int]) -> np.ndarray:
    """C×H×W to H×W: the cosine of each cell's features with those of one cell, the mean of the map taken off first."""
    units = _units(feature)
    return torch.einsum("chw,c->hw", units, units[:, cell[0], cell[1]]).numpy()


def nearest_patches(feature: torch.Tensor, cell: tuple[int, int], others: Sequence[torch.Tensor], count: int) -> list[Patch]:
    """The cells of other pictures' maps (C×H×W each) that are most like one cell of `feature`; one of each picture."""
    middle = feature.mean((1, 2), keepdim=True)
    wanted = F.normalize((feature - middle)[:, cell[0], cell[1]], dim=0)
    found = []
    for number, other in enumerate(others):
        likeness = torch.einsum("chw,c->hw", F.normalize(other - middle, dim=0), wanted)
        row, column = divmod(int(likeness.argmax()), likeness.shape[1])
        found.append(Patch(number, row, column, float(likeness[row, column])))
    return sorted(found, key=lambda patch: -patch.likeness)[:count]


def feature_figure(
    image: np.ndarray, features: Sequence[torch.Tensor], state: FeatureState,
    gallery: Sequence[tuple[np.ndarray, Sequence[torch.Tensor]]] = (),
) -> Figure:
    """A picture (H×W×3), one of its levels in colours, how like every cell is to the chosen one, and the nearest patches.

    `features` are the four levels, C×H×W each; `gallery` holds other pictures with theirs. ValueError for a channel that isn't
    there.
    """  # fmt: skip
    height, width = image.shape[:2]
    feature = features[state.level]
    rows, columns = feature.shape[1:]
    row, column = cell_of(state, (rows, columns), (height, width))
    figure = Figure(figsize=(11.5, 5.6 if gallery else 4.0), dpi=90)
    top = 0.34 if gallery else 0.02
    likeness = likeness_map(feature, (row, column))
    if state.shown == "colours":
        title, inside, look = f"{feature.shape[0]} channels as colours", principal_colours(feature.numpy()), {}
    else:
        check_choice("channel", state.channel, len(feature))
        inside, look = feature[state.channel].numpy(), {"cmap": "viridis"}
        title = f"channel {state.channel}, here {inside[row, column]:.2f} ({inside.min():.2f} … {inside.max():.2f})"
    shown = (
        (f"the picture; a cell of {LEVELS[state.level]} is outlined", image, (0, width, height, 0), {}),
        (f"{LEVELS[state.level]}: {title}", inside, None, look),
        ("how like each cell is to it", likeness, None, {"cmap": "magma", "vmin": -1, "vmax": 1}),
    )
    for i, (title, pixels, extent, look) in enumerate(shown):
        axes = figure.add_axes([0.01 + 0.33 * i, top, 0.31, 0.9 - top], gid="picture" if extent else "cells")
        axes.imshow(pixels, extent=extent or (0, columns, rows, 0), interpolation="nearest", **look)
        w, h = (width / columns, height / rows) if extent else (1, 1)
        for colour, line in (("white", 3.5), (ALARM, 1.8)):
            axes.add_patch(Rectangle((column * w, row * h), w, h, fill=False, edgecolor=colour, linewidth=line))
        axes.set_title(title, fontsize=10, color=INK)
        axes.set_axis_off()
    if not gallery:
        return figure
    figure.text(0.01, 0.3, "Most like it in other pictures, one patch of each:", fontsize=10, color=INK, va="center")
    for i, patch in enumerate(
        nearest_patches(feature, (row, column), [levels[state.level] for _, levels in gallery], NEAREST)
    ):
        other = gallery[patch.picture][0]
        size = other.shape[0] / rows, other.shape[1] / columns
        around = max(1.0, 32 / size[0])  # a cell of the finest level alone is too small to be seen
        axes = figure.add_axes([0.01 + 0.123 * i, 0.03, 0.113, 0.21])
        axes.imshow(other, interpolation="nearest", extent=(0, other.shape[1], other.shape[0], 0))
        x, y = (patch.column + 0.5) * size[1], (patch.row + 0.5) * size[0]
        axes.set(xlim=(x - around * size[1] / 2, x + around * size[1] / 2))
        axes.set(ylim=(y + around * size[0] / 2, y - around * size[0] / 2))
        axes.set_title(f"{patch.likeness:.2f}", fontsize=9, color=INK, pad=3)
        axes.set(xticks=[], yticks=[])
    return figure


class FeatureProbe(StatefulProbe):
    """Move a point over a picture, choose a level: see which cells hold the like, here and in other pictures.

    The level is drawn as colours, or one channel of it.

    `image` H×W×3 uint8; `features` its four levels, C×H×W each; `gallery` other pictures with theirs.
    """

    hint = "Click the picture or a map."
    notice = "A fine level finds cells of one colour or edge, a coarse one cells of one thing. Most channels name nothing."

    def __init__(self, image: np.ndarray, features, gallery=(), start: FeatureState | None = None):
        self.image, self.features = image, [feature.detach() for feature in features]
        self.gallery = [(other, [feature.detach() for feature in levels]) for other, levels in gallery]
        height, width = image.shape[:2]
        state = start or FeatureState(width / 2, height / 2)

        def slider(key, name, most):
            look = {"step": 1, "readout_format": ".0f", "description": name, "continuous_update": False}
            return ipywidgets.FloatSlider(getattr(state, key), min=0, max=most - 1, **look)

        options = [(name, i) for i, name in enumerate(LEVELS)]
        controls = {
            "x": slider("x", "left–right", width), "y": slider("y", "up–down", height),
            "level": ipywidgets.ToggleButtons(options=options, value=state.level, description="level",
                                              style={"button_width": "5em"}),
            "shown": ipywidgets.ToggleButtons(options=["colours", "channel"], value=state.shown, description="shown",
                                              style={"button_width": "6em"}),
            "channel": ipywidgets.IntSlider(state.channel, min=0, max=len(self.features[state.level]) - 1,
                                            description="channel", continuous_update=False),
        }  # fmt: skip
        super().__init__("Probe: what does a cell know?", state, controls, [["x", "y", "level"], ["shown", "channel"]])

    def follow(self, changes):
        if "level" not in changes:
            return changes
        check_choice("level", changes["level"], len(self.features))
        return {"channel": min(self.state.channel, len(self.features[changes["level"]]) - 1)} | changes

    def fit(self) -> None:
        self.controls["channel"].max = len(self.features[self.state.level]) - 1

    def pointed(self, place, start, end):
        rows, columns = self.image.shape[:2] if place == "picture" else self.features[self.state.level].shape[1:]
        height, width = self.image.shape[:2]
        return {"x": min(end[0] / columns * width, width - 1), "y": min(end[1] / rows * height, height - 1)}

    def static(self) -> Figure:
        return feature_figure(self.image, self.features, self.state, self.gallery)


def _units(feature: torch.Tensor) -> torch.Tensor:
    return F.normalize(feature - feature.mean((1, 2), keepdim=True), dim=0)
