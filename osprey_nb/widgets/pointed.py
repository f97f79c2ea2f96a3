"""A figure in which a reader can click and drag.

    Figure ──► PNG, and the places that can be pointed at ──► browser
    listener(name, start, end) ◄── fractions of the figure ◄──┘       start and end in the units of the axes

A place is axes with a gid: `axes.set_gid("map")`. A click starts and ends at one point; a drag ends anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import anywidget
import traitlets
from matplotlib.figure import Figure

from ..viz import to_png

HERE = Path(__file__).parent
Point = tuple[float, float]


class PointedFigure(anywidget.AnyWidget):
    """Shows a figure. `on_point` says who hears of clicks and drags; `alt` is read out by screen readers."""

    _esm = HERE / "pointed.js"
    _css = HERE / "pointed.css"
    value = traitlets.Bytes(b"").tag(sync=True)  # a PNG file
    alt = traitlets.Unicode("").tag(sync=True)
    places = traitlets.List([]).tag(sync=True)  # (name, left, top, width, height), fractions of the figure
    _pointer = traitlets.Dict({"seq": 0}).tag(sync=True)
    _done = traitlets.Int(0).tag(sync=True)

    def __init__(self, alt: str = "") -> None:
        self._units, self._listeners = [], []
        super().__init__(alt=alt)

    def show(self, figure: Figure) -> None:
        """Draw a figure in place of the last. Of places that overlap, the one that was added last counts."""
        png = to_png(figure)  # only then do the axes know where they are
        self._units, places = [], []
        for axes in figure.axes:
            if axes.get_gid():
                left, bottom, width, height = axes.get_position().bounds
                places.append([axes.get_gid(), left, 1 - bottom - height, width, height])
                self._units.append(axes.transData.inverted().frozen())
        self._size = figure.bbox.size
        with self.hold_sync():
            self.places, self.value = places, png

    def on_point(self, listener: Callable[[str, Point, Point], None]) -> None:
        """`listener(name, start, end)` is called after each click or drag that begins in a place."""
        self._listeners.append(listener)

    def point(self, start: Point, end: Point | None = None) -> None:
        """What a click or drag from `start` to `end` does: fractions of the figure from its upper left corner.

        Nothing happens where no place is. ValueError for anything but two numbers each.
        """
        start, end = _checked(start), _checked(start if end is None else end)
        (across, down), found = start, None
        for number, (_, left, top, width, height) in enumerate(self.places):
            if left <= across <= left + width and top <= down <= top + height:
                found = number
        if found is None:
            return
        wide, high = self._size
        ends = [self._units[found].transform((x * wide, (1 - y) * high)).tolist() for x, y in (start, end)]
        for listener in self._listeners:
            listener(self.places[found][0], *map(tuple, ends))

    @traitlets.observe("_pointer")
    def _pointed(self, change) -> None:
        try:
            ends = _checked(change["new"]["start"]), _checked(change["new"]["end"])
        except (KeyError, TypeError, ValueError):
            return  # not from our own page
        try:
            self.point(*ends)
        finally:
            self._done += 1


def _checked(point: Sequence[float]) -> Point:
    x, y = map(float, point)
    if not (math.isfinite(x) and math.isfinite(y)):
        raise ValueError(f"A point is {point}; give two finite numbers.")
    return x, y
