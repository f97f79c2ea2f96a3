"""The look of what stands around a probe's figure: a title with a hint, a notice, controls with their names beside them."""

from __future__ import annotations

import html

import ipywidgets

APART = {"grid_gap": "4px"}  # the layout of a probe: what it is made of does not touch


def heading(title: str, hint: str = "") -> ipywidgets.HTML:
    """The title of a probe, and what a click or a drag does."""
    title, hint = html.escape(title, quote=False), html.escape(hint, quote=False)
    return ipywidgets.HTML(f'<b style="font-size: 15px">{title}</b>' + (f"&ensp;{hint}" if hint else ""))


def notice(text: str) -> ipywidgets.HTML:
    """What to look for, below the figure."""
    return ipywidgets.HTML(f'<div style="line-height: 1.45"><i>Notice:</i> {html.escape(text, quote=False)}</div>')


def beside(control: ipywidgets.DOMWidget) -> ipywidgets.DOMWidget:
    """The same control with its whole name before it, as wide as it needs, away from the next one."""
    control.layout.margin = "2px 24px 2px 0"
    if not isinstance(control, ipywidgets.Checkbox):
        control.style.description_width = "initial"
    if isinstance(control, ipywidgets.ToggleButtons):  # ipywidgets puts the name of these above them
        control.layout.width = "auto"
        control.add_class("widget-inline-hbox")
    return control
