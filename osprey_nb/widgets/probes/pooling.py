"""What each level of the encoder sees of a mask (notebook 03)."""

from __future__ import annotations

from dataclasses import dataclass

import ipywidgets
import numpy as np
import torch
from matplotlib.figure import Figure

from osprey_nb.mask_extractor import mask_pool

from .stateful import StatefulProbe

ORANGE, GREY, INK, ALARM = "#E69F00", "#9AA5B1", "#1F2933", "#C0392B"
CHANNELS_SHOWN = 40


@dataclass(frozen=True)
class ProbeState:
    """A region to probe with. Everything is in pixels of the picture; `size` is the diameter or the side."""

    x: float
    y: float
    size: float
    shape: str = "disc"  # or "square"
    resize: str = "threshold"  # or "soft"


@dataclass(frozen=True)
class LevelReading:
    """What mask pooling does on one level.

    `share` H×W is each cell's part of the mean: it sums to 1, or to 0 if the mask has vanished. `vector` C is
    the pooled vector.
    """

    share: np.ndarray
    vector: np.ndarray

    @property
    def cells(self) -> int:
        """The number of cells that count."""
        return int((self.share > 0).sum())


def probe_mask(state: ProbeState, height: int, width: int) -> np.ndarray:
    """The H×W bool mask of a state. A pixel belongs to it when its centre does. It may be empty."""
    if state.shape not in ("disc", "square"):
        raise ValueError(f'shape is {state.shape!r}; use "disc" or "square"')
    ys, xs = np.ogrid[:height, :width]
    dy, dx = np.abs(ys + 0.5 - state.y), np.abs(xs + 0.5 - state.x)
    if state.shape == "disc":
        return dx**2 + dy**2 < (state.size / 2) ** 2
    return (dx < state.size / 2) & (dy < state.size / 2)


def read_levels(features: list[torch.Tensor], mask: np.ndarray, resize: str) -> list[LevelReading]:
    """Pool `features` (C×H×W each) under one H×W bool mask, and say which cells took part.

    The shares come from `mask_pool` itself: pooling a map that holds a one-hot vector in each cell gives each
    cell's part of the mean. So the picture can't disagree with the package.
    """
    region = torch.from_numpy(mask)[None].float()
    readings = []
    for feature in features:
        height, width = feature.shape[-2:]
        one_hot = torch.eye(height * width).reshape(-1, height, width)
        share = mask_pool(one_hot, region, resize)[0].reshape(height, width)
        readings.append(LevelReading(share.numpy(), mask_pool(feature.float(), region, resize)[0].numpy()))
    return readings


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of two vectors; 0 when one of them is 0."""
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / lengths if lengths else 0.0


def probe_figure(
    image: np.ndarray, features: list[torch.Tensor], state: ProbeState, start: ProbeState | None = None
) -> Figure:
    """The picture with the mask, the cells that count on each level, and the pooled vectors below them.

    With `start`, each vector is compared with the vector of that state, drawn in grey behind it.
    """
    height, width = image.shape[:2]
    mask = probe_mask(state, height, width)
    readings = read_levels(features, mask, state.resize)
    before = read_levels(features, probe_mask(start, height, width), start.resize) if start else readings
    pale = 255 - (255 - image.mean(2, keepdims=True).repeat(3, 2)) * 0.55

    figure = Figure(figsize=(11.5, 4.5), dpi=90)
    columns = 1 + len(features)
    spaces = {"left": 0.03, "right": 0.985, "top": 0.87, "bottom": 0.12, "wspace": 0.1, "hspace": 0.2}
    grid = figure.add_gridspec(2, columns, height_ratios=(1.7, 1), **spaces)
    axes = figure.add_subplot(grid[0, 0], gid="picture")
    axes.imshow(image, extent=(0, width, height, 0))
    tint = np.zeros((height, width, 4))
    tint[mask] = (0.9, 0.62, 0, 0.55)
    axes.imshow(tint, extent=(0, width, height, 0), interpolation="nearest")
    if 0 < mask.sum() < mask.size:
        axes.contour(np.arange(width) + 0.5, np.arange(height) + 0.5, mask, [0.5], colors=INK, linewidths=1)
    axes.set_title(f"your mask: {mask.sum()} pixels, {100 * mask.mean():.2g} %", fontsize=9, color=INK)
    axes.set_axis_off()

    limits = [float(feature.abs().amax()) for feature in features]
    for i, (reading, old) in enumerate(zip(readings, before, strict=True)):
        rows, cols = reading.share.shape
        gone = reading.cells == 0
        axes = figure.add_subplot(grid[0, i + 1], gid=f"res{i + 2}")
        axes.imshow(pale.astype(np.uint8), extent=(0, cols, rows, 0))
        tint = np.zeros((rows, cols, 4))
        tint[..., :3] = (0.9, 0.62, 0)
        tint[..., 3] = 0.85 * reading.share / max(reading.share.max(), 1e-9)
        axes.imshow(tint, extent=(0, cols, rows, 0), interpolation="nearest")
        line = {"color": "white", "linewidth": 0.25 if cols > 16 else 0.6}
        axes.vlines(range(1, cols), 0, rows, **line)
        axes.hlines(range(1, rows), 0, cols, **line)
        axes.set(xlim=(0, cols), ylim=(rows, 0), xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(color=ALARM if gone else GREY, linewidth=2 if gone else 0.8)
        count = "vanished: 0 cells" if gone else f"{reading.cells} of {rows * cols} cells"
        axes.set_title(f"res{i + 2} · {count}", fontsize=9, color=ALARM if gone else INK)

        axes = figure.add_subplot(grid[1, i + 1])
        shown = np.arange(min(CHANNELS_SHOWN, len(reading.vector)))
        if start:
            axes.vlines(shown, 0, old.vector[shown], color=GREY, linewidth=3.4, alpha=0.55)
        axes.vlines(shown, 0, reading.vector[shown], color=ORANGE, linewidth=1.8)
        axes.axhline(0, color=INK, linewidth=0.6)
        top = max(1e-6, float(np.abs(before[i].vector).max()), float(np.abs(reading.vector).max()))
        axes.set(ylim=(-min(1.1 * top, limits[i]), min(1.1 * top, limits[i])), xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set_visible(False)
        note = f"length {np.linalg.norm(reading.vector):.2f}"
        if start:
            note += f"\nlikeness to the start {likeness(reading.vector, old.vector):.2f}"
        axes.set_xlabel(note, fontsize=8.5, color=ALARM if gone else INK)
    axes = figure.add_subplot(grid[1, 0])
    axes.set_axis_off()
    legend = f"The pooled vector of each level:\nits first {CHANNELS_SHOWN} channels, as bars."
    legend += "\nGrey: the vector at the start." if start else ""
    axes.text(0, 0.95, legend, fontsize=9, va="top", color=INK, linespacing=1.5)
    counts = {"threshold": "a touched cell counts fully", "soft": "a cell counts by its covered share"}
    rule = f"{state.resize}: {counts[state.resize]}"
    figure.suptitle(f"Mask pooling · {rule}", fontsize=11, color=INK, y=0.985)
    return figure


class MaskProbe(StatefulProbe):
    """Move and grow a mask over a picture; see the pooled vector of each level change, or not.

    `image` H×W×3 uint8; `features` the four levels of that picture, C×H×W each. Sliders take the arrow keys.
    """

    hint = "Click a picture: the mask goes there."
    notice = "The vector follows what is under the mask, hardly its outline; a small mask vanishes on coarse levels first."

    def __init__(self, image: np.ndarray, features: list[torch.Tensor], start: ProbeState | None = None):
        self.image, self.features = image, [feature.detach() for feature in features]
        height, width = image.shape[:2]
        self.start = start or ProbeState(width / 2, height / 2, min(height, width) / 4)

        def slider(key, name, top):
            look = {"step": 1, "description": name, "readout_format": ".0f"}
            return ipywidgets.FloatSlider(getattr(self.start, key), min=0, max=top, **look)

        def choice(key, options):
            layout = {"width": "auto", "margin": "2px 24px 2px 0"}
            look = {"description": key, "style": {"button_width": "7em"}, "layout": layout}
            return ipywidgets.ToggleButtons(options=options, value=getattr(self.start, key), **look)

        controls = {
            "x": slider("x", "left–right", width),
            "y": slider("y", "up–down", height),
            "size": slider("size", "size", min(height, width)),
            "shape": choice("shape", ["disc", "square"]),
            "resize": choice("resize", ["threshold", "soft"]),
        }
        rows = [("x", "y", "size"), ("shape", "resize")]
        super().__init__("Probe: what does each level see of your mask?", self.start, controls, rows)

    def pointed(self, place, start, end):
        height, width = self.image.shape[:2]
        rows, columns = (height, width) if place == "picture" else self.features[int(place[-1]) - 2].shape[1:]
        return {"x": end[0] / columns * width, "y": end[1] / rows * height}

    def static(self) -> Figure:
        return probe_figure(self.image, self.features, self.state, self.start)
