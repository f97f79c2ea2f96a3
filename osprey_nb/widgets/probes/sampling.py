"""The next word, before and after temperature and top-p (notebook 08).

    logits of a step ─► / temperature ─► softmax ─► the likeliest words whose shares reach p ─► rescaled to 1
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import ipywidgets
import torch
from matplotlib.figure import Figure
from torch import Tensor

from osprey_nb.diagrams.drawing import COLOURS, INK, SOFT, box, new_sheet

from .panels import TONE
from .stateful import StatefulProbe

WORDS = 12  # drawn, the likeliest first


@dataclass(frozen=True)
class SamplingState:
    """`word` counts the answer's tokens from 0; `temperature` ≥ 0, 0 is greedy; `top_p` in (0, 1], 1 keeps every word."""

    word: int = 0
    temperature: float = 1.0
    top_p: float = 1.0


def next_token_probabilities(logits: Tensor, temperature: float = 1.0, top_p: float = 1.0) -> Tensor:
    """V logits to V probabilities: divided by the temperature, then only the likeliest whose sum reaches `top_p`.

    A temperature of 0 gives 1 to the likeliest. ValueError for a temperature below 0 or a `top_p` outside (0, 1].
    """
    if temperature < 0:
        raise ValueError(f"temperature is {temperature}; it must be 0 (greedy) or above")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p is {top_p}; it must be above 0 and at most 1")
    if temperature == 0:
        return torch.nn.functional.one_hot(logits.argmax(-1), len(logits)).to(logits.dtype)
    probabilities = (logits.float() / temperature).softmax(-1)
    ordered, index = probabilities.sort(descending=True, stable=True)
    before = ordered.cumsum(-1) - ordered  # the share of all that are likelier
    kept = torch.zeros_like(probabilities).scatter(-1, index, ordered * (before < top_p))
    return kept / kept.sum()


def sampling_figure(logits: Tensor, words: Sequence[str], vocabulary: Callable[[int], str], state: SamplingState) -> Figure:
    """Bars for the likeliest next words: as the model gives them, and as `state` leaves them, with ten draws.

    `logits` is T×V, a row for each token of an answer; `words` are its T texts; `vocabulary` gives the text of any token.
    ValueError for a word that is not there.
    """
    if not 0 <= state.word < len(logits):
        raise ValueError(f"word is {state.word}; the answer's {len(logits)} tokens count from 0 to {len(logits) - 1}")
    given = logits[state.word].float().softmax(-1)
    now = next_token_probabilities(logits[state.word], state.temperature, state.top_p)
    top = given.topk(min(WORDS, len(given))).indices.tolist()
    draws = torch.multinomial(now, 10, replacement=True, generator=torch.Generator().manual_seed(0)).tolist()
    figure, sheet = new_sheet(9.6, 4.6)
    x = 0.2
    for k, word in enumerate(words):
        shown, fill = _shown(word), "#FFE3A8" if k == state.word else "#EEF1F4"
        wide = 0.24 + 0.085 * len(shown)
        box(sheet, x, 4.1, wide, 0.34, shown, COLOURS["mask"] if k == state.word else SOFT, fill)
        x += wide + 0.08
    axes = figure.add_axes([0.16, 0.17, 0.78, 0.66])
    rows = list(range(len(top)))
    axes.barh(rows, given[top], height=0.78, color="none", edgecolor=SOFT, linewidth=1.2, label="as the model gives it")
    axes.barh(rows, now[top], height=0.5, color=COLOURS["image"], label="with this temperature and top-p")
    for row, token in enumerate(top):
        share = float(now[token])
        label = f"{share:.1%}" if share else "left out"
        axes.text(max(share, float(given[token])) + 0.012, row, label, va="center", fontsize=9, color=INK if share else TONE)
    axes.set(yticks=rows, xticks=[], xlim=(0, 1.12), ylim=(len(top) - 0.4, -0.6))
    axes.set_yticklabels([_shown(vocabulary(token)) for token in top], fontsize=9, color=INK, parse_math=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.legend(loc="lower right", fontsize=9, frameon=False)
    drawn = ", ".join(_shown(vocabulary(token)) for token in draws)
    figure.text(0.02, 0.06, f"Ten draws: {drawn}", fontsize=9, color=INK, parse_math=False)
    return figure


class SamplingProbe(StatefulProbe):
    """Choose a word of an answer, move temperature and top-p: see what may be said in its place.

    `logits` T×V of the answer's T tokens, `tokens` those tokens, `tokenizer` to write them.
    """

    notice = (
        "The model is sure of some words and wavers at others. A hot temperature "
        "gives room to words that fit nowhere; top-p takes it back."
    )

    def __init__(self, logits: Tensor, tokens: Sequence[int], tokenizer, start: SamplingState | None = None):
        self.logits, self.vocabulary = logits.detach(), lambda token: tokenizer.decode([token])
        self.words = [self.vocabulary(token) for token in tokens]
        state = start or SamplingState()

        def slider(key, name, least, most):
            look = {"min": least, "max": most, "step": 0.05, "description": name, "continuous_update": False}
            return ipywidgets.FloatSlider(getattr(state, key), **look)

        options = [(f"{k + 1} · {_shown(word)}", k) for k, word in enumerate(self.words)]
        controls = {
            "word": ipywidgets.Dropdown(options=options, value=state.word, description="word"),
            "temperature": slider("temperature", "temperature", 0.0, 5.0),
            "top_p": slider("top_p", "top-p", 0.05, 1.0),
        }
        super().__init__("Probe: what else might it say?", state, controls, [list(controls)])

    def static(self) -> Figure:
        return sampling_figure(self.logits, self.words, self.vocabulary, self.state)


def _shown(word: str) -> str:
    return word.strip().replace("\n", "↵") or "␣"
