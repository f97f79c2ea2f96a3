"""The way of a picture and a region through Osprey (notebooks 00 and 03)."""

from __future__ import annotations

import textwrap

from matplotlib.figure import Figure

from .arrays import principal_colours
from .drawing import COLOURS, INK, arrow, box, chips, new_sheet, picture


def question(image, mask) -> Figure:
    """What notebook 03 asks: a picture (H×W×3 uint8), a region (H×W bool). How does the LLM get to see it?"""
    figure, axes = new_sheet(11.0, 2.5)
    picture(figure, 0.1, 0.1, 2.2, image, mask, title="")
    arrow(axes, (2.4, 1.25), (3.0, 1.25))
    box(axes, 3.05, 0.85, 2.2, 0.8, "the mask extractor\n(this notebook)", COLOURS["mask"], "#FFF7E6", 11)
    pair = (1.45, "mask", "mask token", "#FFE3A8"), (0.6, "spatial", "spatial token", "#B5E3D2")
    for y, kind, text, fill in pair:
        arrow(axes, (5.3, 1.25), (5.95, y + 0.24), COLOURS[kind])
        box(axes, 6.0, y, 1.6, 0.48, text, COLOURS[kind], fill, 11)
        arrow(axes, (7.65, y + 0.24), (8.35, 1.25), COLOURS[kind])
    box(axes, 8.4, 0.85, 1.0, 0.8, "LLM", INK, "#E4E7EB", 13, weight="bold")
    arrow(axes, (9.45, 1.25), (9.85, 1.25))
    axes.text(9.95, 1.25, "“a …”", fontsize=15, va="center", color=INK, style="italic")
    return figure


def pipeline(image, mask, levels, question: str, answer: str) -> Figure:
    """The whole of Osprey with the arrays of one region.

    image H×W×3 uint8, mask H×W bool, levels: four C×H×W arrays res2 … res5, question with `<region1>` in it.
    The levels are coloured by `principal_colours`; the outline on each is the same region.
    """
    figure, axes = new_sheet(12.0, 5.5)
    blue, orange, green, grey = (COLOURS[k] for k in ("image", "mask", "spatial", "text"))
    height, width = levels[2].shape[-2:]
    count = f"{height * width} image tokens"
    shades = principal_colours(levels[2]).reshape(-1, 3)[:: max(1, height * width // 12)][:12]

    picture(figure, 0.25, 2.75, 2.3, image, mask, title="1 · a picture, and your region")
    arrow(axes, (2.62, 4.04), (3.28, 4.04))
    axes.text(6.47, 5.25, "2 · the encoder sees it four times, from fine to coarse", ha="center", fontsize=9)
    for i, level in enumerate(levels):
        x = 3.35 + 1.62 * i
        title = f"res{i + 2} · {level.shape[0]}×{level.shape[1]}×{level.shape[2]}"
        picture(figure, x, 3.35, 1.38, principal_colours(level), mask, title=title)
        arrow(axes, (x + 0.69, 3.3), (x + 0.69, 2.82), orange)
    pooling = "3 · mask pooling: on each level, the mean of the cells under the region"
    box(axes, 3.35, 2.32, 6.24, 0.46, pooling, orange, "#FFF7E6", 9)

    axes.plot([7.85, 7.85, 9.72, 9.72], [3.32, 3.05, 3.05, 4.04], color=blue, linewidth=1.3)
    arrow(axes, (9.72, 4.04), (9.95, 4.04), blue)
    box(axes, 9.98, 3.72, 1.72, 0.64, f"projector\n{height}×{width} cells of res4", blue, "#EAF3FA", 8.5)
    arrow(axes, (10.84, 3.69), (10.84, 3.4), blue)
    chips(axes, 10.0, 2.98, 0.36, shades)
    axes.text(10.84, 2.9, count, ha="center", va="top", fontsize=8, color=blue)

    # The sequence: image tokens, words, the region's pair where it stands in the question.
    before, _, after = question.partition("<region1>")
    x, y, h = 0.45, 0.55, 0.46
    axes.text(x, y + h + 0.1, "4 · one sequence of tokens", fontsize=9, color=INK)
    chips(axes, x, y, h, shades)
    axes.text(x + 0.84, y - 0.08, count, ha="center", va="top", fontsize=8, color=blue)
    x, centre = x + 1.85, {}
    words = {"text": "#EEF1F4", "mask": "#FFE3A8", "spatial": "#B5E3D2"}
    pair = [("mask", "mask", 0.72), ("spatial", "spatial", 0.72)]
    for kind, text, w in [("text", before, 2.1), *pair, ("text", after, 1.9)]:
        lines = textwrap.wrap(text.strip(), 26)
        text = "\n".join(lines if len(lines) <= 2 else [lines[0], lines[1] + " …"])
        box(axes, x, y, w, h, text, COLOURS[kind], words[kind], 8)
        centre[kind] = x + w / 2
        x += w + 0.1
    arrow(axes, (centre["mask"], 2.28), (centre["mask"], y + h + 0.05), orange)
    axes.text(centre["mask"] + 0.1, 1.9, "mask token: what is there", fontsize=8, color="#8A5A00")
    axes.plot([1.4, 1.4], [2.7, 2.24], color=green, linewidth=1.3)
    box(axes, 0.45, 1.8, 1.9, 0.44, "outline and place → MLP", green, "#E8F6F1", 8.5)
    axes.plot([2.35, 2.9, 2.9, centre["spatial"]], [2.02, 2.02, 1.5, 1.5], color=green, linewidth=1.3)
    arrow(axes, (centre["spatial"], 1.5), (centre["spatial"], y + h + 0.05), green)
    axes.text(centre["spatial"] + 0.1, 1.45, "spatial token: where, which outline", fontsize=8, color=green)

    arrow(axes, (x - 0.08, y + h / 2), (8.62, y + h / 2))
    box(axes, 8.65, y - 0.06, 0.85, 0.58, "LLM", INK, "#E4E7EB", 11, weight="bold")
    arrow(axes, (9.53, y + h / 2), (9.85, y + h / 2))
    sentence = "\n".join(textwrap.wrap(answer, 24)[:5])
    box(axes, 9.88, y - 0.34, 1.95, 1.14, sentence, INK, "#FFFDF5", 10, style="italic")
    axes.text(10.85, y + 0.88, "5 · a sentence", ha="center", fontsize=9, color=INK)
    return figure


def extractor(levels: list[tuple[int, int]], width: int, spatial_size: int, llm_width: int) -> Figure:
    """What notebook 03 builds, with its sizes. `levels` holds (channels, side of the grid) of res2 … res5."""
    figure, axes = new_sheet(12.0, 4.8)
    orange, green, grey = COLOURS["mask"], COLOURS["spatial"], COLOURS["text"]
    box(axes, 0.2, 1.15, 1.35, 1.0, "mask\nR × h × w\n0 or 1", INK, "#FFFDF5", 10)
    for i, (channels, side) in enumerate(levels):
        y = 3.95 - 0.72 * i
        box(axes, 2.15, y, 1.75, 0.52, f"res{i + 2}   {channels}×{side}×{side}", grey, "#EEF1F4", 9)
        box(axes, 4.35, y, 1.55, 0.52, f"mean → {channels}", orange, "#FFF7E6", 9)
        box(axes, 6.35, y, 1.55, 0.52, f"Linear → {width}", orange, "#FFF7E6", 9)
        arrow(axes, (3.93, y + 0.26), (4.32, y + 0.26), grey)
        arrow(axes, (5.93, y + 0.26), (6.32, y + 0.26), orange)
        arrow(axes, (7.93, y + 0.26), (8.37, 2.98 + 0.07 * (1.5 - i)), orange)
    axes.text(5.12, 4.55, "mask pooling", ha="center", fontsize=10, color=INK)
    axes.text(2.98, 4.55, "features", ha="center", fontsize=10, color=INK)
    # The mask goes to every level: one line up, beside the boxes, into the column of means.
    axes.plot([1.6, 4.12, 4.12], [1.5, 1.5, 4.21], color=INK, linewidth=1.3, linestyle=(0, (2, 2)))
    axes.plot([4.12] * 4, [4.21 - 0.72 * i for i in range(4)], "o", color=INK, markersize=4)
    axes.text(2.15, 1.56, "resized to each level", fontsize=8, color=grey)
    box(axes, 8.4, 2.72, 0.5, 0.5, "Σ", orange, "#FFF7E6", 13)
    arrow(axes, (8.93, 2.97), (9.17, 2.97), orange)
    box(axes, 9.2, 2.72, 1.2, 0.5, f"Linear → {llm_width}", orange, "#FFF7E6", 8.5)
    arrow(axes, (9.8, 3.25), (9.8, 3.6), orange)
    box(axes, 9.0, 3.63, 1.6, 0.62, f"mask token\nR × {llm_width}", orange, "#FFE3A8", 10, weight="bold")
    axes.text(9.8, 4.4, "what is under the mask", ha="center", fontsize=8, color=grey)

    arrow(axes, (0.88, 1.12), (0.88, 0.78), INK)
    box(axes, 0.2, 0.22, 1.35, 0.52, f"resize {spatial_size}×{spatial_size}", green, "#E8F6F1", 9)
    box(axes, 2.4, 0.22, 1.75, 0.52, f"flatten → {spatial_size**2}", green, "#E8F6F1", 9)
    box(axes, 5.0, 0.22, 2.4, 0.52, f"MLP, 3 Linear, ReLU → {llm_width}", green, "#E8F6F1", 9)
    for a, b in ((1.58, 2.37), (4.18, 4.97), (7.43, 8.97)):
        arrow(axes, (a, 0.48), (b, 0.48), green)
    box(axes, 9.0, 0.17, 1.6, 0.62, f"spatial token\nR × {llm_width}", green, "#B5E3D2", 10, weight="bold")
    axes.text(9.8, 0.92, "where it is, and its outline", ha="center", fontsize=8, color=grey)
    for y, colour in ((3.94, orange), (0.48, green)):
        arrow(axes, (10.63, y), (11.12, y), colour)
    box(axes, 11.15, 0.17, 0.6, 4.08, "into the prompt, at <mask><pos>", INK, "#E4E7EB", 10, rotation=90)
    return figure
