"""A conversation as the LLM sees it (notebooks 00 and 06)."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from .drawing import COLOURS, INK, SOFT, arrow, box, new_sheet, picture

FILLS = {"image": "#CFE4F2", "mask": "#FFE3A8", "spatial": "#B5E3D2", "text": "#EEF1F4"}
MEANINGS = {"image": "image", "mask": "mask token", "spatial": "spatial token", "text": "text"}
LOSS = "#B3261E"


def token_strip(tokens: list[tuple[str, str]], loss: Sequence[bool] | None = None) -> Figure:
    """A prompt as the LLM sees it. `tokens` holds (kind, text) pairs; kinds: image, mask, spatial, text.

    Each token is a chip in the colour of its kind. A run of image tokens is one block: they are many. `loss` says of each
    token whether the model is trained to write it: a red line below. Raises ValueError for another kind, or a `loss` of
    another length.
    """
    if loss is not None and len(loss) != len(tokens):
        raise ValueError(f"got {len(loss)} flags of loss for {len(tokens)} tokens; give one for each")
    runs: list[tuple[str, list[str]]] = []
    for kind, text in tokens:
        if kind not in COLOURS:
            raise ValueError(f"kind of token is {kind!r}; use one of {', '.join(COLOURS)}")
        if kind == "image" and runs and runs[-1][0] == "image":
            runs[-1][1].append(text)
        else:
            runs.append((kind, [text]))
    width, line, gap = 11.5, 0.62, 0.06
    placed, x, row, position = [], 0.1, 0, 0
    for kind, texts in runs:
        label = f"{len(texts)} image tokens" if kind == "image" else texts[0].replace("\n", "↵")
        w = 3.4 if kind == "image" else 0.2 + 0.085 * max(len(label), 1)
        if x + w > width - 0.1:
            x, row = 0.1, row + 1
        placed.append((kind, label, len(texts), x, row, w, position))
        x, position = x + w + gap, position + len(texts)
    height = (row + 1) * line + 0.55
    figure, axes = new_sheet(width, height)
    for kind, label, count, x, row, w, start in placed:
        y = height - 0.5 - row * line
        if kind == "image":
            for k in range(count):
                sliver = (x + w * k / count, y), w / count * 0.8, 0.34
                axes.add_patch(Rectangle(*sliver, color=COLOURS["image"], alpha=0.35))
        box(axes, x, y, w, 0.34, label, COLOURS[kind], "none" if kind == "image" else FILLS[kind], 8)
        if kind != "text":
            place = f"{start}" if count == 1 else f"{start} … {start + count - 1}"
            axes.text(x + w / 2, y + 0.36, place, ha="center", va="bottom", fontsize=6.5, color=COLOURS[kind])
        if loss is not None and any(loss[start : start + count]):
            axes.plot([x + 0.04, x + w - 0.04], [y - 0.06] * 2, color=LOSS, linewidth=2.5, solid_capstyle="butt")
    x = _legend(axes)
    total = f"{position} positions in all"
    if loss is not None:
        axes.plot([x, x + 0.16], [0.18] * 2, color=LOSS, linewidth=2.5)
        axes.text(x + 0.22, 0.18, "carries loss", va="center", fontsize=8, color=INK)
        total += f", {sum(map(bool, loss))} carry loss"
    axes.text(width - 0.1, 0.18, total, ha="right", va="center", fontsize=8, color=INK)
    return figure


def batch(rows: Sequence[tuple[Sequence[str], Sequence[bool]]], title: str = "") -> Figure:
    """A batch as a grid: `rows` holds, for each sample, the kinds of its positions and whether they carry loss.

    What is left of the longest row is padding. Text that carries loss is red.
    """
    longest = max(len(kinds) for kinds, _ in rows)
    filled = sum(len(kinds) for kinds, _ in rows)
    width, line = 11.5, 0.26
    height = len(rows) * line + 0.9
    figure, axes = new_sheet(width, height)
    cell = (width - 0.2) / longest
    for r, (kinds, loss) in enumerate(rows):
        y = height - 0.45 - (r + 1) * line
        outer = Rectangle((0.1, y), cell * longest, line * 0.8, facecolor="white", edgecolor=SOFT, linewidth=0.6, hatch="////")
        axes.add_patch(outer)
        for k, (kind, carries) in enumerate(zip(kinds, loss, strict=True)):
            colour = LOSS if carries else {**COLOURS, "text": "#D5DAE0"}[kind]
            axes.add_patch(Rectangle((0.1 + k * cell, y), cell, line * 0.8, facecolor=colour, linewidth=0))
    padding = 1 - filled / (longest * len(rows))
    head = f"{title + ': ' if title else ''}{len(rows)} × {longest} positions, {padding:.0%} of them padding"
    axes.text(0.1, height - 0.25, head, fontsize=10, color=INK, va="center")
    x = _legend(axes)
    axes.add_patch(Rectangle((x, 0.1), 0.16, 0.16, facecolor=LOSS))
    axes.text(x + 0.22, 0.18, "text that carries loss", va="center", fontsize=8, color=INK)
    axes.add_patch(Rectangle((x + 2.1, 0.1), 0.16, 0.16, facecolor="white", edgecolor=SOFT, hatch="////"))
    axes.text(x + 2.32, 0.18, "padding", va="center", fontsize=8, color=INK)
    return figure


def instruction(image, mask, question: str, answer: str) -> Figure:
    """What notebook 06 built: a picture (H×W×3) with a region (H×W bool), the turn about it, its tokens, the batch."""
    figure, axes = new_sheet(11.8, 3.4)
    picture(figure, 0.15, 0.55, 2.3, image, mask)
    axes.text(1.3, 3.0, "annotation: a mask, a name", ha="center", fontsize=9, color=INK)
    arrow(axes, (2.5, 1.7), (2.95, 1.7))
    axes.text(4.35, 3.0, "record: a question, an answer", ha="center", fontsize=9, color=INK)
    box(axes, 3.0, 1.75, 2.7, 1.05, "\n".join(textwrap.wrap(question, 30)[:4]), COLOURS["text"], FILLS["text"], 9)
    box(axes, 3.0, 0.55, 2.7, 1.05, "\n".join(textwrap.wrap(answer, 30)[:4]), LOSS, "#FBEAE8", 9)
    arrow(axes, (5.75, 1.7), (6.2, 1.7))
    axes.text(7.75, 3.0, "tokens and labels", ha="center", fontsize=9, color=INK)
    kinds = ["text"] * 2 + ["image"] * 6 + ["text"] * 2 + ["mask", "spatial"] + ["text"] * 8
    for n, kind in enumerate(kinds):
        x, y = 6.25 + n % 10 * 0.3, 2.0 - n // 10 * 0.62
        axes.add_patch(Rectangle((x, y), 0.25, 0.34, facecolor=FILLS[kind], edgecolor=COLOURS[kind]))
        if n >= 15:
            axes.plot([x, x + 0.25], [y - 0.07] * 2, color=LOSS, linewidth=2.5)
    axes.text(7.75, 0.85, "red: what the model must write;\nthe others have the label −100", ha="center", fontsize=8, color=INK)
    arrow(axes, (9.3, 1.7), (9.75, 1.7))
    axes.text(10.7, 3.0, "batch", ha="center", fontsize=9, color=INK)
    for row, (filled, loss) in enumerate(((9, 3), (9, 2), (8, 3), (8, 1))):
        for n in range(9):
            empty = n >= filled
            colour = "white" if empty else LOSS if n >= filled - loss else COLOURS["image"] if 1 <= n <= 3 else "#D5DAE0"
            look = {"facecolor": colour, "edgecolor": SOFT if empty else "white", "linewidth": 0.8}
            axes.add_patch(Rectangle((9.8 + 0.2 * n, 2.3 - 0.42 * row), 0.2, 0.3, **look))
    axes.text(10.7, 0.62, "to Osprey.forward", ha="center", fontsize=9, color=INK)
    return figure


def _legend(axes) -> float:
    """The kinds of token along the foot of a sheet; returns where it ends."""
    x = 0.1
    for kind, meaning in MEANINGS.items():
        axes.add_patch(Rectangle((x, 0.1), 0.16, 0.16, facecolor=FILLS[kind], edgecolor=COLOURS[kind]))
        axes.text(x + 0.22, 0.18, meaning, va="center", fontsize=8, color=INK)
        x += 0.5 + 0.085 * len(meaning)
    return x
