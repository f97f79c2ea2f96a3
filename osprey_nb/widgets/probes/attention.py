"""Where the LLM looks while it writes a word (notebook 08).

    positions   system … image image image … question mask spatial … a red ┃ bicycle
                                                                       └── the position that writes "bicycle"
    its row of the attention, T shares that sum to 1 ─► over the picture, over the region's two tokens, over the words

A word is written by the position *before* it: that one's row is shown. Attention rollout multiplies the layers: each is half
its mean attention, half itself (the residual path), so it says from where something can have come through all layers.

Attention is taken in a pass of its own that writes it out ("eager"), beside the model's usual one; the logits of both agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ipywidgets
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from osprey_nb.diagrams.drawing import COLOURS, INK, new_sheet
from osprey_nb.prefix import LOCK
from osprey_nb.prompt import SHORT
from osprey_nb.viz import ALARM

from .asked import Asked, check_choice, still
from .panels import TONE, heat, part, place, quoted, write
from .stateful import StatefulProbe, region_control

GROUPS = {"image tokens": "image", "mask token": "mask", "spatial token": "spatial", "the words before": "text",
          "answer so far": "text"}  # fmt: skip


@dataclass(frozen=True)
class AttentionState:
    """Which region, which token of its answer, which layer and head (from 0).

    `layer="rollout"` goes through all layers; `head="mean"` is the mean of a layer's heads.
    """

    region: int = 0
    word: int = 0
    layer: int | str = "rollout"
    head: int | str = "mean"


@dataclass(frozen=True)
class AttentionReading:
    """`layers` holds H×T×T for each layer that attends: row t, column s is the share that t gives s. `logits` is T×V."""

    layers: list[Tensor]
    logits: Tensor


def read_attention(llm, embeds: Tensor) -> AttentionReading:
    """Read a sequence, 1×T×D, with the attention written out. The LLM is afterwards as it was, after an error too.

    Raises ValueError for a family whose layers give no attention (Mamba).
    """
    config = llm.config
    with LOCK, still(llm), torch.no_grad():  # the way to attend is set in the config; a studio may answer beside us
        usual, config._attn_implementation = config._attn_implementation, "eager"
        try:
            out = llm(inputs_embeds=embeds, output_attentions=True, use_cache=False)
        finally:
            config._attn_implementation = usual
    layers = [layer[0].float().cpu() for layer in getattr(out, "attentions", None) or () if layer is not None]
    if not layers:
        raise ValueError(f"{type(llm).__name__} gives no attention: its layers keep a state instead. Ask an LLM that attends.")
    return AttentionReading(layers, out.logits[0].float().cpu())


def rollout(layers: Sequence[Tensor]) -> Tensor:
    """T×T: attention through all layers. Each layer, H×T×T, counts as half the mean of its heads and half the identity."""
    through = torch.eye(layers[0].shape[-1])
    for layer in layers:
        through = (layer.mean(0) + torch.eye(len(through))) / 2 @ through
    return through


def attention_row(layers: Sequence[Tensor], position: int, layer: int | str, head: int | str) -> np.ndarray:
    """T shares of one position. As in `AttentionState`. ValueError for one that isn't there."""
    if layer == "rollout":
        return rollout(layers)[position].numpy()
    check_choice("layer", layer, len(layers))
    rows = layers[layer][:, position]
    if head == "mean":
        return rows.mean(0).numpy()
    check_choice("head", head, len(rows))
    return rows[head].numpy()


def grouped(row: np.ndarray, kinds: Sequence[str], answer_from: int) -> dict[str, float]:
    """What each group of positions gets of a row; the answer begins at position `answer_from`. The shares sum to 1."""
    names = {"image": "image tokens", "mask": "mask token", "spatial": "spatial token"}
    groups = dict.fromkeys(GROUPS, 0.0)
    for i, (share, kind) in enumerate(zip(row, kinds, strict=True)):
        groups["answer so far" if i >= answer_from else names.get(kind, "the words before")] += float(share)
    return groups


def attention_figure(asked: Asked, reading: AttentionReading, state: AttentionState) -> Figure:
    """Where the position looks that writes the chosen word: over the picture, in groups, by layer and head, and over words.

    `reading` is that of `asked.embeds` of the region with its whole answer.
    """
    mask = asked.mask(state.region)
    answer = asked.answer(mask)
    check_choice("word", state.word, len(answer))
    tokens, start = asked.positions(answer), len(asked.positions())
    position, kinds = start + state.word - 1, [kind for kind, _ in tokens]
    row = attention_row(reading.layers, position, state.layer, state.head)
    seen = np.array([share for share, kind in zip(row, kinds, strict=True) if kind == "image"])

    after = len(kinds) - kinds[::-1].index("image")
    chips = _chips(tokens[after:])
    low = 0.36 * chips[-1][2]  # inches for lines of words below the first
    figure, sheet = new_sheet(11.6, 5.3 + low)
    how = "all layers (rollout)" if state.layer == "rollout" else f"layer {state.layer + 1}"
    if state.layer != "rollout":
        how += ", mean of its heads" if state.head == "mean" else f", head {state.head + 1}"
    write(figure, 0.15, 5.05 + low, f"Where it looks when it writes {quoted(asked.word(answer[state.word]))} · {how}", 12)
    title, even = f"image tokens: {seen.sum():.0%} in all", 1 / seen.size
    heat(figure, 0.15, 1.2 + low, 3.3, asked.image, seen.reshape(asked.grid), mask, title, max(seen.max(), even))

    groups = grouped(row, kinds, start)
    axes = part(figure, 4.95, 1.45 + low, 2.3, 2.95)
    for i, (name, share) in enumerate(groups.items()):
        axes.barh(i, share, color=COLOURS[GROUPS[name]], height=0.6, alpha=1 if i < 4 else 0.55)
        axes.text(share + 0.02, i, f"{share:.0%}", va="center", fontsize=9, color=INK)
    axes.set(xlim=(0, 1.25), ylim=(4.6, -0.6), yticks=range(5), yticklabels=list(groups))
    axes.set_title("shares of its attention", fontsize=9, color=INK, loc="left")
    _layers_and_heads(part(figure, 8.25, 1.6 + low, 3.1, 2.8), reading.layers, position, kinds, state)

    for word, (_, _, line, x, width) in enumerate(chips, after - start):
        if word >= 0:  # of the answer
            place(figure, f"word {word}", x, 0.62 + low - 0.36 * line, width, 0.27)
    for i, ((kind, label, line, x, width), share) in enumerate(zip(chips, row[after:], strict=True)):
        y = 0.75 + low - 0.36 * line
        look = {"facecolor": COLOURS[kind], "alpha": 0.08 + 0.62 * min(1.0, float(share) / 0.25), "linewidth": 0}
        sheet.add_patch(Rectangle((x, y - 0.13), width, 0.27, **look))
        if i == position - after:
            sheet.add_patch(Rectangle((x, y - 0.13), width, 0.27, fill=False, edgecolor=ALARM, linewidth=1.8))
        sheet.text(x + width / 2, y, label, ha="center", va="center", fontsize=8, color=INK, parse_math=False)
    write(figure, 0.15, 0.22, "The darker a word, the more it is looked at. Red frame: the position that writes.", 8.5, TONE)
    return figure


def _chips(tokens: Sequence[tuple[str, str]]) -> list[tuple[str, str, int, float, float]]:
    """(kind, label, line, x, width) of each token, in inches."""
    x, line, chips = 0.15, 0, []
    for kind, text in tokens:
        label = text.strip().replace("\n", "↵") or "↵"
        width = 0.16 + 0.078 * len(label)
        if x + width > 11.5:
            x, line = 0.15, line + 1
        chips.append((kind, label, line, x, width))
        x += width + 0.05
    return chips


def _layers_and_heads(axes, layers, position: int, kinds, state: AttentionState) -> None:
    region = [i for i, kind in enumerate(kinds) if kind in ("mask", "spatial")]
    table = np.full((len(layers), max(map(len, layers))), np.nan)
    for i, layer in enumerate(layers):
        table[i, : len(layer)] = layer[:, position, region].sum(-1)
    axes.imshow(table, cmap="Oranges", vmin=0, vmax=1, aspect="auto")
    axes.set_gid("heads")
    axes.set_title("to the region's two tokens, by layer and head", fontsize=9, color=INK, loc="left")
    if table.size <= 64:
        for (i, j), share in np.ndenumerate(table):
            axes.text(j, i, f"{share:.0%}", ha="center", va="center", fontsize=8.5, color="white" if share > 0.6 else INK)
    rows, columns = (np.linspace(0, n - 1, min(n, 8)).round().astype(int) for n in table.shape)
    axes.set(xticks=columns, xticklabels=columns + 1, yticks=rows, yticklabels=rows + 1)
    axes.set_xlabel("head", fontsize=9, color=INK, labelpad=2)
    axes.set_ylabel("layer", fontsize=9, color=INK, labelpad=2)
    if state.layer != "rollout":
        first, wide = (-0.5, table.shape[1]) if state.head == "mean" else (state.head - 0.5, 1)
        frame = Rectangle((first, state.layer - 0.5), wide, 1, fill=False, edgecolor=INK, linewidth=2.2, clip_on=False)
        axes.add_patch(frame)


class AttentionProbe(StatefulProbe):
    """Choose a region, a word of its answer, a layer and a head: see where the model looks when it writes that word.

    `image` H×W×3 uint8, PIL or path; `masks` whatever `to_masks` takes. ValueError where the LLM gives no attention.
    """

    hint = "Click a word of the answer, a head, or a region."
    notice = (
        "On the mean of all layers the word that names the kind looks at the mask token most, “a” at the words before it. "
        "In a short answer the picture itself is looked at little."
    )

    def __init__(self, model, image, masks, question: str = SHORT, start: AttentionState | None = None):
        self.asked, self._readings = Asked(model, image, masks, question), {}
        state = start or AttentionState()
        layers = self._reading(state.region).layers
        names = [("rollout", "rollout")] + [(f"{i + 1}", i) for i in range(len(layers))]
        heads = [("mean", "mean")] + [(f"{i + 1}", i) for i in range(max(map(len, layers)))]
        controls = {
            "region": region_control(len(self.asked.masks), state.region),
            "word": ipywidgets.SelectionSlider(options=self._words(state.region), value=state.word, description="word"),
            "layer": ipywidgets.SelectionSlider(options=names, value=state.layer, description="layer"),
            "head": ipywidgets.SelectionSlider(options=heads, value=state.head, description="head"),
        }
        super().__init__("Probe: where does it look when it writes a word?", state, controls, [["region"], list(controls)[1:]])

    def follow(self, changes):
        if "region" not in changes:
            return changes
        return {"word": min(self.state.word, len(self._words(changes["region"])) - 1)} | changes  # another answer

    def fit(self) -> None:
        self.controls["word"].options = self._words(self.state.region)

    def pointed(self, place, start, end):
        if place == "picture":
            return self.asked.region_at(end)
        if place == "heads":
            layer, head = (round(x) for x in reversed(end))
            layers = self._reading(self.state.region).layers
            return {"layer": layer, "head": head} if layer in range(len(layers)) and head in range(len(layers[layer])) else {}
        return {"word": int(place.split()[1])}

    def _words(self, region: int) -> list[tuple[str, int]]:
        words = self.asked.words(self.asked.answer(self.asked.mask(region)))
        return [(f"{i} · {word}", i - 1) for i, word in enumerate(words, 1)]

    def _reading(self, region: int) -> AttentionReading:
        if region not in self._readings:
            mask = self.asked.mask(region)
            embeds = self.asked.embeds(self.asked.pair(mask[None]), self.asked.answer(mask))
            self._readings[region] = read_attention(self.asked.model.llm, embeds)
        return self._readings[region]

    def static(self) -> Figure:
        return attention_figure(self.asked, self._reading(self.state.region), self.state)
