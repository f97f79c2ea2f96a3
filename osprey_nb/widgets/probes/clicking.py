"""A click, the three masks that SAM gives for it, and what a model says of each (notebook 09).

    x, y ─► segmenter.predict ─► three masks, small to large ─► session.describe, one batch ─► panels
"""

from __future__ import annotations

from dataclasses import dataclass

import ipywidgets
from matplotlib.figure import Figure

from osprey_nb.diagrams import Panel, prompted
from osprey_nb.segment import LEVELS

from .stateful import StatefulProbe


@dataclass(frozen=True)
class ClickState:
    """Where the click is, in pixels of the picture."""

    x: float
    y: float


def click_figure(segmenter, session, state: ClickState) -> Figure:
    """The click, and what it gives: the three masks of `segmenter`, which has the picture, each with its score and the answer
    of `session` (`model.read(image)`). ValueError for a click outside the picture."""
    point = (state.x, state.y)
    found = segmenter.predict([point])
    texts = session.describe(found.masks) if found.masks.any((1, 2)).all() else [""] * len(found.masks)
    panels = [Panel("your click", None, [point])]
    for level, mask, score, text in zip(LEVELS, found.masks, found.scores, texts, strict=True):
        panels.append(Panel(f"{level}, score {score:.2f}\n{text}", mask, [point]))
    figure = prompted(session.image, panels)
    for axes in figure.axes[1:]:  # behind them is the sheet
        axes.set_gid("picture")
    return figure


class ClickProbe(StatefulProbe):
    """Move a click over a picture: see the three masks it may mean, and what a model says of each.

    `segmenter` from `load_segmenter`; `session` from `model.read(image)`. The segmenter reads the session's picture.
    """

    hint = "Click a picture."
    notice = (
        "The whole stays the same while the click wanders over a thing; "
        "the smaller masks follow the click. On bare ground the scores fall."
    )

    def __init__(self, segmenter, session, start: ClickState | None = None):
        self.segmenter, self.session = segmenter, session
        segmenter.set_image(session.image)
        width, height = session.image.size
        state = start or ClickState(width / 2, height / 2)

        def slider(key, name, most):
            look = {"step": 1, "readout_format": ".0f", "description": name, "continuous_update": False}
            return ipywidgets.FloatSlider(getattr(state, key), min=0, max=most, **look)

        controls = {"x": slider("x", "left–right", width), "y": slider("y", "up–down", height)}
        super().__init__("Probe: what does a click mean?", state, controls, [list(controls)])

    def pointed(self, place, start, end):
        return {"x": end[0], "y": end[1]}

    def static(self) -> Figure:
        return click_figure(self.segmenter, self.session, self.state)
