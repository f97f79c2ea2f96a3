"""A probe whose controls change a state: the state is drawn anew whenever one moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import ipywidgets
from matplotlib.figure import Figure

from osprey_nb.viz import to_png


class StatefulProbe(ipywidgets.VBox):
    """`controls` are named as the fields of `state`, a dataclass; `rows` are names of controls that stand side by side.

    A subclass sets what its `static` needs, and calls this last. `notice` says below the figure what to look for.
    """

    notice = ""

    def __init__(self, title: str, state, controls: Mapping[str, ipywidgets.Widget], rows: Sequence[Sequence[str]]):
        self.state, self.controls = state, dict(controls)
        for name, control in self.controls.items():
            control.observe(lambda change, name=name: self._controlled(name, change["new"]), "value")
        self.picture = ipywidgets.Image(value=to_png(self.static()), layout={"max_width": "100%"})
        layout = {"flex_flow": "row wrap"}
        lines = [ipywidgets.HBox([self.controls[name] for name in row], layout=layout) for row in rows]
        title, notice = ipywidgets.HTML(f"<b>{title}</b>"), ipywidgets.HTML(f"<i>Notice:</i> {self.notice}")
        super().__init__([title, *lines, self.picture, notice])

    def move(self, **changes) -> None:
        """Change the state, draw it, and move the controls there. Where it cannot be drawn the old state stays."""
        before, self.state = self.state, replace(self.state, **changes)
        try:
            self.picture.value = to_png(self.static())
        except ValueError:
            self.state = before
            raise
        for name in changes:
            self.controls[name].value = changes[name]

    def static(self) -> Figure:
        """The present state as a figure, for readers without a kernel."""
        raise NotImplementedError

    def _controlled(self, name: str, value) -> None:
        if getattr(self.state, name) != value:  # `move` has set this control itself: nothing is drawn twice
            self.move(**{name: value})


def region_control(count: int, value: int) -> ipywidgets.ToggleButtons:
    """A button for each of `count` regions, numbered from 1."""
    options = [(str(i + 1), i) for i in range(count)]
    layout = {"width": "auto"}
    return ipywidgets.ToggleButtons(
        options=options, value=value, description="region", style={"button_width": "3em"}, layout=layout
    )
