"""A probe whose controls change a state: the state is drawn anew whenever one moves, or the figure is pointed at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import ipywidgets
from matplotlib.figure import Figure

from ..pointed import Point, PointedFigure
from .controls import APART, beside, heading, notice

LONGEST = 300  # characters of an error


class StatefulProbe(ipywidgets.VBox):
    """`controls` are named as the fields of `state`, a dataclass; `rows` are names of controls that stand side by side.

    A subclass sets what its `static` needs, and calls this last. `notice` says below the figure what to look for, `hint` above
    it what a click or a drag does.
    """

    notice = ""
    hint = ""

    def __init__(self, title: str, state, controls: Mapping[str, ipywidgets.Widget], rows: Sequence[Sequence[str]]):
        self.state, self._moving = state, False
        self.controls = {name: beside(control) for name, control in controls.items()}
        for name, control in self.controls.items():
            control.observe(lambda change, name=name: self._try(**{name: change["new"]}), "value")
        self.picture = PointedFigure(alt=f"{title} {self.hint}")
        self.picture.show(self.static())
        self.picture.on_point(lambda place, start, end: self._try(**self.pointed(place, start, end)))
        layout = {"flex_flow": "row wrap"}
        lines = [ipywidgets.HBox([self.controls[name] for name in row], layout=layout) for row in rows]
        self.said = ipywidgets.Label(layout={"display": "none"})  # a Label shows no HTML: a model may have written it
        parts = [heading(title, self.hint), *lines, self.said, self.picture, notice(self.notice)]
        super().__init__(parts, layout=APART)

    def move(self, **changes) -> None:
        """Change the state, draw it, and move the controls there. Where it cannot be drawn the old state stays."""
        before = self.state
        try:
            self.state = replace(before, **self.follow(changes))
            self.picture.show(self.static())
        except Exception:
            self.state = before
            raise
        finally:
            self._show_controls()

    def follow(self, changes: dict[str, Any]) -> dict[str, Any]:
        """A subclass adds what else changes with `changes`."""
        return changes

    def fit(self) -> None:
        """A subclass gives its controls the range that the present state has."""

    def pointed(self, place: str, start: Point, end: Point) -> dict[str, Any]:
        """A subclass says what changes after a click (start is end) or a drag in a place of the figure."""
        return {}

    def static(self) -> Figure:
        """The present state as a figure, for readers without a kernel."""
        raise NotImplementedError

    def _try(self, **changes) -> None:
        """What the reader's hand does: an error is said, and nothing moves."""
        if self._moving or not changes:
            return
        error = ""
        try:
            self.move(**changes)
        except Exception as refused:  # whatever a model raises belongs before the reader, not into a log
            error = f"{type(refused).__name__}: {refused}"[:LONGEST]
        self.said.value, self.said.layout.display = error, "" if error else "none"

    def _show_controls(self) -> None:
        self._moving = True  # controls that are moved here move nothing
        try:
            self.fit()
            for name, control in self.controls.items():
                control.value = getattr(self.state, name)
        finally:
            self._moving = False


def region_control(count: int, value: int) -> ipywidgets.ToggleButtons:
    """A button for each of `count` regions, numbered from 1."""
    options = [(str(i + 1), i) for i in range(count)]
    layout = {"width": "auto"}
    return ipywidgets.ToggleButtons(
        options=options, value=value, description="region", style={"button_width": "3em"}, layout=layout
    )
