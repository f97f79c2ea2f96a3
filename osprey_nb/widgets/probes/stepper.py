"""An answer written a token at a time, and what each layer would say (notebooks 05 and 08).

    a  striped  brown ┃ ?          the position of the last token, D numbers after each layer
                      │
       after layer 1 … L ─► final norm ─► lm_head ─► V logits ─► softmax(logits / temperature) ─► the next token
                    └──── logit lens: the same two steps for the layers before the last ────┘
"""

from __future__ import annotations

from dataclasses import dataclass

import ipywidgets
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from osprey_nb.diagrams.drawing import COLOURS, INK, SOFT, new_sheet, picture
from osprey_nb.prompt import SHORT

from .asked import Asked, check_choice, still
from .panels import PALE, TONE, part, place, write
from .stateful import StatefulProbe, region_control

TOP = 8  # words with a bar
MOST_LAYERS, MOST_STEPS = 9, 8  # drawn
CHANGED = ("final_logit_softcapping", "logit_scale", "logits_scaling")  # families that change logits after lm_head


@dataclass(frozen=True)
class StepState:
    """Which region, how many tokens of its answer are written, and the temperature of the next word's probabilities."""

    region: int = 0
    step: int = 0
    temperature: float = 1.0


def next_words(logits: Tensor, temperature: float, count: int) -> list[tuple[int, float]]:
    """The `count` likeliest tokens of V logits with their probabilities, at a temperature above 0."""
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; it must be above 0.")
    chances = (logits.float() / temperature).softmax(-1).topk(min(count, len(logits)))
    return list(zip(chances.indices.tolist(), chances.values.tolist(), strict=True))


def final_norm(llm, embeds: Tensor) -> nn.Module:
    """The module that makes the last hidden state, found by what it gives: families call it by many names."""
    made: list[tuple[nn.Module, Tensor]] = []

    def keep(module, _, out):
        if torch.is_tensor(out):
            made.append((module, out))

    with still(llm), torch.no_grad():  # takes the hooks away again
        for module in llm.base_model.modules():
            module.register_forward_hook(keep)
        last = llm.base_model(inputs_embeds=embeds, use_cache=False).last_hidden_state
    found = [module for module, out in made if out is last]
    if not found:
        raise ValueError(f"{type(llm).__name__} has no final norm that can be found; the logit lens needs it.")
    return found[0]  # the innermost of them ends first


def lens(llm, embeds: Tensor, count: int) -> Tensor:
    """(L + 1)×count×V logits at the last `count` positions of 1×T×D: of the embeddings, then after each of L layers.

    The last row is what the LLM itself gives. ValueError for families that scale or cap their logits.
    """
    if any(getattr(llm.config, name, None) not in (None, 1.0) for name in CHANGED):
        raise ValueError(f"{type(llm).__name__} changes its logits after lm_head; the logit lens does not follow it there.")
    with still(llm), torch.no_grad():
        norm = final_norm(llm, embeds)
        out = llm(inputs_embeds=embeds, output_hidden_states=True, use_cache=False)
        before = torch.stack(out.hidden_states[:-1])[:, 0, -count:]
        logits = llm.get_output_embeddings()(norm(before))
    return torch.cat([logits, out.logits[:, -count:]]).float().cpu()


def stepper_figure(asked: Asked, looked: Tensor, state: StepState) -> Figure:
    """The answer so far, the likeliest next words, and what each layer would say at every step.

    `looked` is `lens` at the positions that write the A tokens of the region's answer: (L + 1)×A×V.
    """
    mask = asked.mask(state.region)
    answer = asked.answer(mask)
    check_choice("step", state.step, len(answer))
    words = asked.words(answer)
    figure, sheet = new_sheet(11.6, 5.4)
    write(figure, 0.15, 5.15, f"Step {state.step + 1} of {len(answer)}: what comes after what is written?", 12)
    x, first = 0.15, max(0, state.step - MOST_STEPS)
    if first:
        write(figure, x, 4.7, "…", 11)
        x += 0.3
    for i, word in enumerate(words[first:], first):
        width = 0.22 + 0.088 * len(word)
        if x + width > 11.2:
            write(figure, x, 4.7, "…", 11)
            break
        now, written = i == state.step, i < state.step
        fill = COLOURS["mask"] if now else "#EEF1F4" if written else "none"
        frame = {"edgecolor": COLOURS["mask"] if now else SOFT, "linewidth": 1.2, "linestyle": "-" if i <= state.step else ":"}
        sheet.add_patch(Rectangle((x, 4.53), width, 0.34, facecolor=fill, **frame))
        look = {"ha": "center", "va": "center", "fontsize": 10, "color": INK if i <= state.step else TONE}
        sheet.text(x + width / 2, 4.7, word, parse_math=False, **look)
        place(figure, f"step {i}", x, 4.53, width, 0.34)
        x += width + 0.07

    picture(figure, 0.15, 1.3, 2.5, asked.image, mask, title="the region")
    axes = part(figure, 3.75, 0.6, 2.3, 3.4)
    found = next_words(looked[-1, state.step], state.temperature, TOP)
    for i, (token, chance) in enumerate(found):
        axes.barh(i, chance, color=COLOURS["mask"] if token == answer[state.step] else PALE, height=0.66)
        axes.text(chance + 0.02, i, f"{chance:.1%}" if chance >= 5e-4 else "< 0.1%", va="center", fontsize=9, color=INK)
    axes.set(xlim=(0, 1.3), ylim=(TOP - 0.4, -0.6), yticks=range(len(found)))
    axes.set_yticklabels([asked.word(token) for token, _ in found], fontsize=9.5, parse_math=False)
    axes.set_title(f"the next word, at temperature {state.temperature:g}", fontsize=9, color=INK, loc="left")
    _lens(part(figure, 7.5, 0.6, 3.95, 3.4), asked, looked, words, state.step)
    write(figure, 0.15, 0.2, "Orange: the word that was written. Blue: the surer, the darker.", 8.5, TONE)
    return figure


def _lens(axes, asked: Asked, looked: Tensor, words: list[str], step: int) -> None:
    """Layers upward, steps to the right: the word that each layer would say."""
    last = len(looked) - 1
    layers = np.unique(np.linspace(0, last, min(MOST_LAYERS, last + 1)).round().astype(int))
    first = max(0, min(step - MOST_STEPS // 2, len(words) - MOST_STEPS))
    shown = looked[:, first : first + MOST_STEPS].softmax(-1)
    best = shown.max(-1)
    axes.imshow(best.values[layers].numpy(), cmap="Blues", vmin=0, vmax=1.25, aspect="auto", origin="lower")
    columns = shown.shape[1]
    longest = 8 if columns > 5 else 11
    for row, layer in enumerate(layers):
        for column in range(columns):
            word = asked.word(int(best.indices[layer, column]))
            word = word if len(word) <= longest else word[: longest - 1] + "…"
            chance = best.values[layer, column]
            look = {"ha": "center", "va": "center", "fontsize": 8.5 if columns <= 5 else 7}
            axes.text(column, row, word, color="white" if chance > 0.75 else INK, parse_math=False, **look)
    names = {0: "embedding", last: f"layer {last}: said"}
    axes.set(yticks=range(len(layers)), yticklabels=[names.get(layer, f"after layer {layer}") for layer in layers])
    axes.set(xticks=range(columns), xticklabels=range(first + 1, first + columns + 1))
    axes.set_xlabel("step", fontsize=9, color=INK, labelpad=2)
    frame = Rectangle((step - first - 0.5, -0.5), 1, len(layers), fill=False, edgecolor=COLOURS["mask"], linewidth=2.4)
    frame.set_clip_on(False)
    axes.add_patch(frame)
    axes.set_title("logit lens: what each layer would say", fontsize=9, color=INK, loc="left")


class StepperProbe(StatefulProbe):
    """Write an answer a token at a time; see the likeliest next words at a temperature, and what each layer would say.

    `image` H×W×3 uint8, PIL or path; `masks` whatever `to_masks` takes. "Play" goes through the answer.
    """

    hint = "Click a word to go there, or a region."
    notice = (
        "The embedding repeats the word that was read. After one layer most words are there, after three nearly all. "
        "Temperature changes how sure the model is, never which word comes first."
    )

    def __init__(self, model, image, masks, question: str = SHORT, start: StepState | None = None):
        self.asked, self._looked = Asked(model, image, masks, question), {}
        state = start or StepState()
        most = len(self._lens(state.region)[0]) - 1
        look = {"interval": 900, "description": "write", "layout": {"margin": "2px 16px 2px 0"}}
        self.play = ipywidgets.Play(state.step, min=0, max=most, **look)
        controls = {
            "region": region_control(len(self.asked.masks), state.region),
            "step": ipywidgets.IntSlider(state.step, min=0, max=most, description="step", readout=False),
            "temperature": ipywidgets.FloatSlider(state.temperature, min=0.1, max=3, step=0.1, description="temperature"),
        }
        rows = [["region"], ["step", "temperature"]]
        super().__init__("Probe: how does an answer come about?", state, controls, rows)
        ipywidgets.link((self.play, "value"), (self.controls["step"], "value"))
        self.children[2].children = (self.play, *self.children[2].children)

    def follow(self, changes):
        if "region" not in changes:
            return changes
        return {"step": min(self.state.step, len(self._lens(changes["region"])[0]) - 1)} | changes  # another answer

    def fit(self) -> None:
        self.play.max = self.controls["step"].max = len(self._lens(self.state.region)[0]) - 1

    def pointed(self, place, start, end):
        return self.asked.region_at(end) if place == "picture" else {"step": int(place.split()[1])}

    def _lens(self, region: int) -> Tensor:
        if region not in self._looked:
            mask = self.asked.mask(region)
            answer = self.asked.answer(mask)
            embeds = self.asked.embeds(self.asked.pair(mask[None]), answer[:-1])
            self._looked[region] = lens(self.asked.model.llm, embeds, len(answer))
        return self._looked[region]

    def static(self) -> Figure:
        return stepper_figure(self.asked, self._lens(self.state.region), self.state)
