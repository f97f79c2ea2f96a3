"""What a stage trains, and what that costs, as pictures (notebook 07).

    {stage: {part: learning rate}} ── stages_figure ─> a grid: coloured where a part learns
    {way: {what: GiB}} ────────────── memory_figure ─> a bar for each way
"""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from .drawing import DPI, INK, SOFT
from .training import GRID, PARTS, TONE

KINDS = {"weights": "#5D6875", "gradients": "#D55E00", "AdamW": "#E69F00"}


def stages_figure(stages: Mapping[str, Mapping[str, float]]) -> Figure:
    """A row a stage, a column a part: its learning rate in its colour where it learns, "frozen" in grey where not."""
    height = 0.62 * len(stages) + 0.5
    figure = Figure(figsize=(9.6, height), dpi=DPI, facecolor="white")
    axes = figure.add_axes([0, 0, 1, 1])
    axes.set(xlim=(0, 9.6), ylim=(height, 0))
    axes.axis("off")
    for column, part in enumerate(PARTS):
        axes.text(3.95 + 1.55 * column, 0.28, part.replace("_", " "), ha="center", va="center", color=INK, fontsize=11)
    for row, (stage, trains) in enumerate(stages.items()):
        y = 0.5 + 0.62 * row
        axes.text(0.1, y + 0.28, stage, va="center", color=INK, fontsize=10.5)
        for column, (part, colour) in enumerate(PARTS.items()):
            learns = part in trains
            box = {"facecolor": colour if learns else "#F1F4F7", "edgecolor": colour if learns else GRID}
            axes.add_patch(Rectangle((3.22 + 1.55 * column, y + 0.03), 1.46, 0.5, **box))
            text, tone = (f"{trains[part]:g}", "white") if learns else ("frozen", TONE)
            axes.text(3.95 + 1.55 * column, y + 0.28, text, ha="center", va="center", color=tone, fontsize=10.5)
    return figure


def memory_figure(ways: Mapping[str, Mapping[str, float]], card: float = 80.0) -> Figure:
    """A bar a way, cut into weights, gradients and AdamW's numbers, in GiB; a line where a card of `card` GB ends."""
    height = 0.5 * len(ways) + 0.95
    figure = Figure(figsize=(9.6, height), dpi=DPI, facecolor="white")
    axes = figure.add_axes([0.33, 0.55 / height, 0.62, 1 - 0.95 / height])
    for row, sizes in enumerate(ways.values()):
        left = 0.0
        for kind, size in sizes.items():
            axes.barh(row, size, left=left, color=KINDS[kind], height=0.62, label=kind if row == 0 else None)
            left += size
        axes.text(left, row, f"  {left:,.1f}", va="center", color=INK, fontsize=10)
    end = card * 1e9 / 2**30
    axes.axvline(end, color=INK, linewidth=1, linestyle=":")
    axes.text(end, -0.62, f"a card of {card:g} GB", ha="center", va="bottom", fontsize=9, color=TONE)
    axes.set_yticks(range(len(ways)), list(ways), fontsize=10, color=INK)
    axes.set_ylim(len(ways) - 0.5, -0.55)
    axes.set_xlim(0, 1.12 * max(end, *(sum(sizes.values()) for sizes in ways.values())))
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="both", length=0, labelcolor=INK)
    axes.spines["bottom"].set_color(SOFT)
    axes.set_xlabel("GiB, activations not counted", fontsize=9, color=TONE)
    axes.legend(frameon=False, fontsize=9, loc="upper right", labelcolor=INK)
    return figure
