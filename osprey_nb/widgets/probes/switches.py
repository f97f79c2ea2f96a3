"""Switch off what a region token is made of, and ask again (notebook 03).

    res2 ─╱ ─► pooled ─► Linear ─┐                        off: the pooled vector is 0,
    res3 ─── ─► pooled ─► Linear ─┤                       as where a mask vanishes on that level
    res4 ─── ─► pooled ─► Linear ─┼ sum ─► mask token ─┐
    res5 ─── ─► pooled ─► Linear ─┘                    ├► the LLM ─► answer
    outline ─╱ ─► MLP ─────────────────► spatial token ┤  off: 0
    picture ─── ─► projector ──────────► image tokens ─┘  off: 0
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ipywidgets
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch

from osprey_nb.diagrams.drawing import COLOURS, INK, new_sheet, picture
from osprey_nb.prompt import SHORT

from .asked import Asked, Pair, still
from .panels import AFTER, BEFORE, TONE, legend, part, place, quoted, word_bars, write
from .stateful import StatefulProbe, region_control

LEVELS = ("res2", "res3", "res4", "res5")
SWITCHES = (*LEVELS, "spatial", "image")
NAMES = {"spatial": "spatial token", "image": "image tokens"}
MOST_WORDS = 12


@dataclass(frozen=True)
class SwitchState:
    """Which region, and what is on: the four levels of its mask token, its spatial token, the picture's own tokens."""

    region: int = 0
    res2: bool = True
    res3: bool = True
    res4: bool = True
    res5: bool = True
    spatial: bool = True
    image: bool = True

    @property
    def off(self) -> tuple[str, ...]:
        return tuple(name for name in SWITCHES if not getattr(self, name))


def switched(asked: Asked, mask: np.ndarray, off: Sequence[str]) -> tuple[Pair, torch.Tensor]:
    """The pair of one H×W mask (1×D each) and the image tokens (1×N×D) without what is `off`, names of `SWITCHES`."""
    unknown = set(off) - set(SWITCHES)
    if unknown:
        raise ValueError(f"There is no switch {sorted(unknown)[0]!r}; use {', '.join(SWITCHES)}.")
    extractor = asked.model.mask_extractor
    with still(asked.model), torch.no_grad():
        pooled = extractor.pool(asked.features, [torch.as_tensor(mask)[None]])
        kept = [x * (name not in off) for name, x in zip(LEVELS, pooled, strict=True)]
        mask_token, (_, spatial) = extractor.mask_token(kept), asked.pair(mask[None])
    return (mask_token, spatial * ("spatial" not in off)), asked.seen * ("image" not in off)


def losses(asked: Asked, mask: np.ndarray) -> dict[str, float]:
    """How much of the usual answer's log-likelihood is lost when one thing alone is off, for each of `SWITCHES`."""
    answer = asked.answer(mask)
    each = [switched(asked, mask, off) for off in ((), *((name,) for name in SWITCHES))]
    pair = tuple(torch.cat([pair[i] for pair, _ in each]) for i in (0, 1))
    with still(asked.model), torch.no_grad():
        scores = asked.likelihoods(pair, answer, torch.cat([seen for _, seen in each])).sum(-1)
    return dict(zip(SWITCHES, (scores[0] - scores[1:]).tolist(), strict=True))


def switches_figure(asked: Asked, state: SwitchState, lost: dict[str, float] | None = None) -> Figure:
    """What is on, the answer with all and with what is on, its words, and what each switch alone takes.

    `lost` is what `losses` gives of the region; without it, it is worked out.
    """
    mask = asked.mask(state.region)
    usual = asked.answer(mask)
    pair, seen = switched(asked, mask, state.off)
    answer = usual if not state.off else asked.write(pair, seen)[0]
    lost = losses(asked, mask) if lost is None else lost
    figure, sheet = new_sheet(11.6, 4.9)
    off = ", ".join(NAMES.get(name, name) for name in state.off)
    write(figure, 0.15, 4.65, f"Off: {off}" if off else "Everything is on", 12)
    picture(figure, 0.15, 1.45, 2.75, asked.image, mask, title="the region")
    for i, name in enumerate(SWITCHES):
        _switch(sheet, 3.25, 4.0 - 0.45 * i, getattr(state, name), name)
        place(figure, name, 3.2, 3.85 - 0.45 * i, 2.8, 0.3)
    for i, (head, said, tone) in enumerate((("all on", usual, TONE), ("now", answer, AFTER))):
        write(figure, 0.15 + 3.3 * i, 1.05, head, 8.5, TONE)
        write(figure, 0.15 + 3.3 * i, 0.9, quoted(asked.text(said)), 10, tone, 34, va="top", weight="bold")

    chances = np.concatenate([asked.chances(asked.pair(mask[None]), usual), asked.chances(pair, usual, seen)])
    ways = dict(zip(("all on", "now"), chances[:, :MOST_WORDS], strict=True))
    words = asked.words(usual[:MOST_WORDS])
    title = "the words of the usual answer" + (f", the first {MOST_WORDS}" if len(usual) > MOST_WORDS else "")
    word_bars(part(figure, 6.9, 3.05, 4.5, 1.3), words, ways, f"{title}: probability in %")
    axes = part(figure, 8.0, 0.55, 3.0, 1.45)
    top = max(*lost.values(), 1.0)
    for i, name in enumerate(SWITCHES):
        axes.barh(i, max(lost[name], 0), color=_colour(name), height=0.66)
        axes.text(max(lost[name], 0) + 0.02 * top, i, f"{round(lost[name], 1) + 0:.1f}", va="center", fontsize=8.5, color=INK)
    axes.set(xlim=(0, 1.15 * top), ylim=(5.6, -0.6), yticks=range(6))
    axes.set_yticklabels([NAMES.get(name, name) for name in SWITCHES], fontsize=8.5)
    write(figure, 6.9, 2.15, "log-likelihood of the usual answer that is lost when one alone is off", 9)
    legend(figure, 7.0, 0.22, {"all on": BEFORE, "now": AFTER})
    return figure


def _colour(name: str) -> str:
    return COLOURS.get(name, COLOURS["mask"])


def _switch(sheet, x: float, y: float, on: bool, name: str) -> None:
    colour = _colour(name) if on else "#D5DAE0"
    style = "round,pad=0,rounding_size=0.11"
    sheet.add_patch(FancyBboxPatch((x, y - 0.11), 0.46, 0.22, boxstyle=style, facecolor=colour, linewidth=0))
    sheet.add_patch(Circle((x + (0.35 if on else 0.11), y), 0.085, facecolor="white", linewidth=0))
    label = f"{name} of the mask token" if name in LEVELS else NAMES[name]
    sheet.text(x + 0.6, y, label, va="center", fontsize=9.5, color=INK if on else TONE)


class SwitchProbe(StatefulProbe):
    """Switch off levels of the mask token, the spatial token or the picture's tokens: see what becomes of the answer.

    `image` H×W×3 uint8, PIL or path; `masks` whatever `to_masks` takes.
    """

    hint = "Click a switch or a region."
    notice = (
        "Of the four levels a short answer of the tiny model needs res3 most. In a detailed description the spatial token and "
        "the picture's own tokens weigh more than any level. A zero is something that it never saw, so it may hurt anyhow."
    )

    def __init__(self, model, image, masks, question: str = SHORT, start: SwitchState | None = None):
        self.asked, self._lost = Asked(model, image, masks, question), {}
        state = start or SwitchState()
        look = {"indent": False, "layout": {"width": "auto", "margin": "2px 18px 2px 0"}}
        controls = {"region": region_control(len(self.asked.masks), state.region)}
        controls |= {
            name: ipywidgets.Checkbox(getattr(state, name), description=NAMES.get(name, name), **look) for name in SWITCHES
        }
        super().__init__("Probe: what does each part of a region bring?", state, controls, [["region"], SWITCHES])

    def pointed(self, place, start, end):
        return self.asked.region_at(end) if place == "picture" else {place: not getattr(self.state, place)}

    def static(self) -> Figure:
        region = self.state.region
        if region not in self._lost:
            self._lost[region] = losses(self.asked, self.asked.mask(region))
        return switches_figure(self.asked, self.state, self._lost[region])
