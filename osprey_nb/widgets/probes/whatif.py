"""The same question with another mask: the answer and the probabilities of its words, before and after (notebooks 03 and 08).

    mask ─► moved, grown or shrunk, or another object's ─► answer ─┐
      │                                                            ├► each word of both answers: how likely with either mask?
      └────────────────────── as it was ──────────────► answer ────┘
"""

from __future__ import annotations

from dataclasses import dataclass

import ipywidgets
import numpy as np
from matplotlib.figure import Figure
from scipy.ndimage import distance_transform_edt, shift

from osprey_nb.diagrams.drawing import COLOURS, SOFT, new_sheet, picture
from osprey_nb.prompt import SHORT
from osprey_nb.viz import ALARM

from .asked import Asked, check_choice
from .panels import AFTER, BEFORE, TONE, legend, part, quoted, word_bars, write
from .stateful import StatefulProbe, region_control

MOST_WORDS = 12  # with bars


@dataclass(frozen=True)
class WhatIfState:
    """The mask of `region` before; after: that of `instead`, grown by pixels (shrunk below 0), then moved by pixels."""

    region: int = 0
    instead: int = 0
    grow: int = 0
    right: int = 0
    down: int = 0


@dataclass(frozen=True)
class Change:
    """Two masks, their answers as token ids, and the probability of each token of both answers with either mask.

    `of_first` and `of_second` are 2×A: row 0 with the mask before, row 1 after. An empty mask has no answer, and no second.
    """

    mask: np.ndarray
    answers: tuple[list[int], list[int]]
    of_first: np.ndarray
    of_second: np.ndarray


def changed_mask(mask: np.ndarray, grow: float = 0, right: int = 0, down: int = 0) -> np.ndarray:
    """H×W bool: every pixel within `grow` of the mask (below 0: not within -grow of what is outside), then moved."""
    if grow > 0:
        mask = distance_transform_edt(~mask) <= grow
    elif grow < 0:
        mask = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1] > -grow
    return shift(mask.astype(np.uint8), (down, right), order=0, cval=0).astype(bool)


def change(asked: Asked, state: WhatIfState) -> Change:
    """Ask with both masks. ValueError for a region that isn't there."""
    before = asked.mask(state.region)
    check_choice("instead", state.instead, len(asked.masks))
    after = changed_mask(asked.masks[state.instead], state.grow, state.right, state.down)
    first = asked.answer(before)
    if not after.any():
        return Change(after, (first, []), asked.chances(asked.pair(before[None]), first), np.zeros((2, 0)))
    second, pair = asked.answer(after), asked.pair(np.stack([before, after]))
    return Change(after, (first, second), asked.chances(pair, first), asked.chances(pair, second))


def whatif_figure(asked: Asked, state: WhatIfState) -> Figure:
    """Both masks with their answers, and the words of both answers with their probabilities."""
    now = change(asked, state)
    first, second = now.answers
    figure, _ = new_sheet(11.6, 4.6)
    write(figure, 0.15, 4.35, "What if the mask were another?", 12)
    shown = (("before", asked.masks[state.region], first, BEFORE), ("after", now.mask, second, AFTER))
    for i, (name, mask, answer, colour) in enumerate(shown):
        x = 0.15 + 2.95 * i
        title = f"{name}: {mask.sum():,} pixels"
        picture(figure, x, 1.15, 2.75, asked.image, mask if mask.any() else None, COLOURS["mask"], title)
        figure.axes[-1].set_gid(name)
        said, tone = (quoted(asked.text(answer)), colour) if mask.any() else ("empty: nothing to ask about", ALARM)
        write(figure, x, 1.03, said, 10, TONE if tone == SOFT else tone, 30, va="top", weight="bold")
    same = first == second or not second
    panels = [("the words of the answer" if same else "the words of the answer before", first, now.of_first)]
    if not same:
        panels.append(("the words of the answer after", second, now.of_second))
    height = 2.75 if same else 1.1
    for i, (title, answer, chances) in enumerate(panels):
        axes = part(figure, 6.5, 1.15 + (0 if same else 1.65 * (1 - i)), 4.9, height)
        ways = dict(zip(("before", "after"), chances[:, :MOST_WORDS], strict=False))
        title += f", the first {MOST_WORDS}" if len(answer) > MOST_WORDS else ""
        word_bars(axes, asked.words(answer[:MOST_WORDS]), ways, f"{title}: probability in %")
    legend(figure, 6.6, 0.35, {"with the mask before": BEFORE, "with the mask after": AFTER})
    return figure


class WhatIfProbe(StatefulProbe):
    """Move a mask, grow or shrink it, or take another object's: see the answer and its words' probabilities change.

    `image` H×W×3 uint8, PIL or path; `masks` whatever `to_masks` takes. Moves and growth are in pixels of the picture.
    """

    hint = "Drag the mask on the right picture. Click a region on the left one."
    notice = (
        "Grown or shrunk by a few pixels, colour and kind stay. Moved by half its width a region is mostly named as before; "
        "by its whole width mostly as something else."
    )

    def __init__(self, model, image, masks, question: str = SHORT, start: WhatIfState | None = None):
        self.asked = Asked(model, image, masks, question)
        state, (height, width) = start or WhatIfState(), self.asked.masks.shape[1:]

        def slider(key, name, most):
            look = {"description": name, "continuous_update": False}
            return ipywidgets.IntSlider(getattr(state, key), min=-most, max=most, **look)

        instead = region_control(len(self.asked.masks), state.instead)
        instead.description = "mask of"
        controls = {
            "region": region_control(len(self.asked.masks), state.region), "instead": instead,
            "grow": slider("grow", "grow", max(4, min(height, width) // 8)),
            "right": slider("right", "right", width), "down": slider("down", "down", height),
        }  # fmt: skip
        super().__init__("Probe: what if the mask were another?", state, controls, [list(controls)[:2], list(controls)[2:]])

    def follow(self, changes):
        if "region" not in changes:
            return changes
        return {"instead": changes["region"], "grow": 0, "right": 0, "down": 0} | changes  # begin with its own mask

    def pointed(self, place, start, end):
        if place == "before":
            return self.asked.region_at(end)
        height, width = self.asked.masks.shape[1:]
        right = self.state.right + round((end[0] - start[0]) * width)
        down = self.state.down + round((end[1] - start[1]) * height)
        return {"right": min(max(right, -width), width), "down": min(max(down, -height), height)}

    def static(self) -> Figure:
        return whatif_figure(self.asked, self.state)
