"""What becomes of a drawn mask: its pixels, and its bytes in each form (notebook 01)."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass

import ipywidgets
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from osprey_nb.masks import to_polygons, to_rle
from osprey_nb.viz import ALARM, INK, SOFT

from ..canvas import MaskCanvas
from ..pointed import PointedFigure
from .controls import APART, heading

COMMON, MISSED, EXTRA = "#E69F00", ALARM, "#0072B2"


@dataclass(frozen=True)
class BrushReading:
    """A mask beside the one that was meant: pixels, runs, what both share (IoU), and bytes in each form."""

    pixels: int
    runs: int
    iou: float
    bytes: dict[str, int]


def read_brush(mask: np.ndarray, meant: np.ndarray) -> BrushReading:
    """Both H×W bool. An IoU of 0 is given for two empty masks."""
    png = io.BytesIO()
    Image.fromarray(mask).save(png, format="PNG", optimize=True)
    counts, polygons = to_rle(mask, compressed=False)["counts"], to_polygons(mask)
    sizes = {
        "array of bool": mask.size,
        "polygons, JSON": len(json.dumps(polygons)),
        "RLE, list of counts": len(json.dumps(counts)),
        "PNG, 1 bit a pixel": len(png.getvalue()),
        "RLE, compressed": len(to_rle(mask)["counts"]),
    }
    iou = float((mask & meant).sum() / max((mask | meant).sum(), 1))
    return BrushReading(int(mask.sum()), len(counts), iou, sizes)


def brush_figure(image: np.ndarray, mask: np.ndarray, meant: np.ndarray) -> Figure:
    """The drawn mask against the one that was meant, and its bytes in each form. `image` H×W×3, the masks H×W bool."""
    reading = read_brush(mask, meant)
    height, width = mask.shape
    figure = Figure(figsize=(11.5, 3.9), dpi=90)
    axes = figure.add_axes([0.01, 0.02, 0.32, 0.84])
    pixels = 255 - (255 - image.mean(2, keepdims=True).repeat(3, 2)) * 0.45
    for where, colour in ((mask & meant, COMMON), (meant & ~mask, MISSED), (mask & ~meant, EXTRA)):
        rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
        pixels[where] = 0.35 * pixels[where] + 0.65 * rgb
    axes.imshow(pixels.astype(np.uint8), extent=(0, width, height, 0), interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(f"IoU {reading.iou:.2f}   ·   {reading.pixels:,} pixels, {reading.runs:,} runs", fontsize=10, color=INK)
    legend = figure.add_axes([0.35, 0.02, 0.12, 0.84])
    legend.set_axis_off()
    for i, (colour, text) in enumerate(((COMMON, "you and the mask"), (MISSED, "missed"), (EXTRA, "too much"))):
        legend.text(0, 0.62 - 0.12 * i, "■", color=colour, fontsize=14, va="center")
        legend.text(0.16, 0.62 - 0.12 * i, text, color=INK, fontsize=9, va="center")

    bars = figure.add_axes([0.63, 0.1, 0.33, 0.76])
    names, sizes = list(reading.bytes), list(reading.bytes.values())
    bars.barh(names, sizes, color=[SOFT] + ["#7CA6C4"] * (len(names) - 1), height=0.62)
    bars.invert_yaxis()
    bars.set(xscale="log", xlim=(1, 12 * max(sizes)), xticks=[])
    bars.minorticks_off()
    for i, size in enumerate(sizes):
        bars.text(size * 1.25, i, f"{size:,}", va="center", fontsize=9, color=INK)
    bars.tick_params(length=0, labelsize=9, labelcolor=INK)
    for spine in bars.spines.values():
        spine.set_visible(False)
    bars.set_title("the same mask in bytes, on a logarithmic scale", fontsize=10, color=INK)
    return figure


class BrushProbe(ipywidgets.VBox):
    """Draw over a thing; see what you caught of it, and how many bytes your mask takes in each form.

    `image` H×W×3 uint8; `meant` H×W bool, the mask to compare with. All regions that are drawn count as one.
    """

    def __init__(self, image: np.ndarray, meant: np.ndarray):
        self.image, self.meant = image, meant
        self.canvas = MaskCanvas(image, height=360, title="Draw over the thing")
        self.canvas.on_stroke(lambda region: self._draw())
        title = "Probe: what is your mask, and what does it weigh?"
        self.picture = PointedFigure(alt=title)
        super().__init__([heading(title), self.canvas, self.picture], layout=APART)
        self._draw()

    def _draw(self) -> None:
        self.picture.show(self.static())

    def static(self) -> Figure:
        """The present mask as a figure, for readers without a kernel."""
        drawn = np.any([np.zeros_like(self.meant), *self.canvas.masks], axis=0)
        return brush_figure(self.image, drawn, self.meant)
