"""The drawings of the course: arrays in, a matplotlib figure out; knows no model (notebooks 00 and 03).

    number_grids    small tensors as coloured squares with their numbers
    question        a picture, a region, two tokens: what notebook 03 asks
    pipeline        image → res2 … res5 → mask pooling → tokens → LLM → sentence, from real arrays
    token_strip     one prompt as the LLM sees it: image, mask, spatial and text tokens
    extractor       what notebook 03 builds

One colour for one thing, everywhere: image tokens blue, mask token orange, spatial token green, text grey.
"""

from __future__ import annotations

import textwrap

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

COLOURS = {"image": "#0072B2", "mask": "#E69F00", "spatial": "#009E73", "text": "#6B7280"}
INK, SOFT, PAPER = "#1F2933", "#9AA5B1", "#F5F7FA"
DPI = 100


def _bare(axes) -> None:
    """No ticks, a thin frame."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(color=SOFT, linewidth=0.8)


def number_grids(*titled, signs: str = "", cmap: str = "Blues") -> Figure:
    """2-D arrays side by side as squares with numbers: `number_grids(("red", a), ("mask", b), signs="×")`.

    `signs` holds one character for each gap ("×=", "→"). Arrays within 0..1 are drawn as masks, in the mask's
    colour; the others share one colour scale. Raises ValueError for an array that is not 2-D.
    """
    arrays = [(title, np.asarray(array, dtype=float)) for title, array in titled]
    for title, array in arrays:
        if array.ndim != 2:
            raise ValueError(
                f"{title!r} has shape {array.shape}; number_grids draws H×W arrays: index one channel"
            )
    top = max([np.abs(a).max() for _, a in arrays if a.max() > 1], default=1.0)
    cell = 0.52 if max(max(a.shape) for _, a in arrays) <= 4 else 0.4
    heights = [a.shape[0] * cell for _, a in arrays]
    widths = [a.shape[1] * cell for _, a in arrays]
    gap, head = 0.75, 0.5
    total_w = sum(widths) + gap * (len(arrays) - 1) + 0.2
    total_h = max(heights) + head + 0.1
    figure = Figure(figsize=(total_w, total_h), dpi=DPI)
    x = 0.1
    for i, (title, array) in enumerate(arrays):
        y = (max(heights) - heights[i]) / 2 + 0.05
        axes = figure.add_axes([x / total_w, y / total_h, widths[i] / total_w, heights[i] / total_h])
        is_mask = array.max() <= 1 and array.min() >= 0
        axes.imshow(array, cmap="Oranges" if is_mask else cmap, vmin=0, vmax=2.2 if is_mask else 1.8 * top)
        for row in range(array.shape[0]):
            for column in range(array.shape[1]):
                value = array[row, column]
                # Leading zeros only make a small cell hard to read.
                text = f"{value:.3g}".replace("0.", ".") if abs(value) < 1 else f"{value:.3g}"
                axes.text(
                    column, row, text, ha="center", va="center", color=INK, fontsize=10 if cell > 0.5 else 8
                )
        axes.set_xticks(np.arange(0.5, array.shape[1] - 1), [])
        axes.set_yticks(np.arange(0.5, array.shape[0] - 1), [])
        axes.grid(color="white", linewidth=1.5)
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set_title(title, fontsize=10, color=INK, pad=6)
        x += widths[i] + gap
        if i < len(signs) and i + 1 < len(arrays):
            figure.text(
                (x - gap / 2) / total_w,
                (max(heights) / 2 + 0.05) / total_h,
                signs[i],
                ha="center",
                va="center",
                fontsize=18,
                color=INK,
            )
    return figure


def principal_colours(feature: np.ndarray) -> np.ndarray:
    """C×H×W features -> H×W×3 colours in 0..1: the three directions in which the cells differ most.

    Cells with like features get like colours. The colours of two levels can't be compared with each other.
    """
    channels, height, width = feature.shape
    cells = feature.reshape(channels, -1).T.astype(np.float64)
    cells = cells - cells.mean(0)
    _, _, directions = np.linalg.svd(cells, full_matrices=False)
    directions = directions[:3]
    # The sign of a direction is arbitrary: fix it, so that the picture is the same on every machine.
    directions = (
        directions * np.sign(directions[np.arange(len(directions)), np.abs(directions).argmax(1)])[:, None]
    )
    colours = np.zeros((len(cells), 3))
    colours[:, : len(directions)] = cells @ directions.T
    low, high = np.percentile(colours, 2, axis=0), np.percentile(colours, 98, axis=0)
    return np.clip((colours - low) / np.maximum(high - low, 1e-9), 0, 1).reshape(height, width, 3)


def _sheet(width: float, height: float):
    """A figure with one axes whose unit is the inch, y upward."""
    figure = Figure(figsize=(width, height), dpi=DPI)
    axes = figure.add_axes([0, 0, 1, 1])
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    return figure, axes


def _box(axes, x, y, w, h, text="", colour=INK, fill="white", size=9, **text_style) -> None:
    """A rounded box with its lower left corner at (x, y) and text in the middle."""
    style = "round,pad=0,rounding_size=0.08"
    axes.add_patch(
        FancyBboxPatch((x, y), w, h, boxstyle=style, edgecolor=colour, facecolor=fill, linewidth=1.3)
    )
    text_style |= {"ha": "center", "va": "center", "fontsize": size, "color": INK, "parse_math": False}
    axes.text(x + w / 2, y + h / 2, text, **text_style)


def _arrow(axes, start, end, colour=INK, bend=0.0) -> None:
    axes.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>",
            mutation_scale=11,
            color=colour,
            linewidth=1.3,
            shrinkA=0,
            shrinkB=0,
            connectionstyle=f"arc3,rad={bend}",
        )
    )


def _picture(figure, sheet, x, y, size, pixels, mask=None, colour=COLOURS["mask"], title="") -> None:
    """An H×W×3 picture in inches on the sheet, with the outline of a mask, its title above."""
    axes = figure.add_axes([x / sheet[0], y / sheet[1], size / sheet[0], size / sheet[1]])
    axes.imshow(pixels, interpolation="nearest", extent=(0, 1, 1, 0))
    if mask is not None:
        # One pixel of background around it, so that a mask that touches the border is closed there too.
        height, width = mask.shape
        framed = np.pad(mask.astype(float), 1)
        xs, ys = (np.arange(-1, width + 1) + 0.5) / width, (np.arange(-1, height + 1) + 0.5) / height
        axes.contour(xs, ys, framed, [0.5], colors="white", linewidths=3.2)
        axes.contour(xs, ys, framed, [0.5], colors=colour, linewidths=1.8)
    axes.set(xlim=(0, 1), ylim=(1, 0))
    _bare(axes)
    axes.set_title(title, fontsize=9, color=INK, pad=4)


def question(image, mask) -> Figure:
    """What notebook 03 asks: a picture (H×W×3 uint8), a region (H×W bool). How does the LLM get to see it?"""
    sheet = (11.0, 2.5)
    figure, axes = _sheet(*sheet)
    _picture(figure, sheet, 0.1, 0.1, 2.2, image, mask, title="")
    _arrow(axes, (2.4, 1.25), (3.0, 1.25))
    _box(axes, 3.05, 0.85, 2.2, 0.8, "the mask extractor\n(this notebook)", COLOURS["mask"], "#FFF7E6", 11)
    pair = (1.45, "mask", "mask token", "#FFE3A8"), (0.6, "spatial", "spatial token", "#B5E3D2")
    for y, kind, text, fill in pair:
        _arrow(axes, (5.3, 1.25), (5.95, y + 0.24), COLOURS[kind])
        _box(axes, 6.0, y, 1.6, 0.48, text, COLOURS[kind], fill, 11)
        _arrow(axes, (7.65, y + 0.24), (8.35, 1.25), COLOURS[kind])
    _box(axes, 8.4, 0.85, 1.0, 0.8, "LLM", INK, "#E4E7EB", 13, weight="bold")
    _arrow(axes, (9.45, 1.25), (9.85, 1.25))
    axes.text(9.95, 1.25, "“a …”", fontsize=15, va="center", color=INK, style="italic")
    return figure


def _chips(axes, x: float, y: float, height: float, shades: np.ndarray) -> None:
    """A row of image tokens, each in the colour of its cell."""
    for k, shade in enumerate(shades):
        axes.add_patch(Rectangle((x + 0.14 * k, y), 0.12, height, fc=shade, ec=COLOURS["image"], linewidth=1))


def pipeline(image, mask, levels, question: str, answer: str) -> Figure:
    """The whole of Osprey with the arrays of one region.

    image H×W×3 uint8, mask H×W bool, levels: four C×H×W arrays res2 … res5, question with `<region1>` in it.
    The levels are coloured by `principal_colours`; the outline on each is the same region.
    """
    sheet = (12.0, 5.5)
    figure, axes = _sheet(*sheet)
    blue, orange, green, grey = (COLOURS[k] for k in ("image", "mask", "spatial", "text"))
    height, width = levels[2].shape[-2:]
    count = f"{height * width} image tokens"
    shades = principal_colours(levels[2]).reshape(-1, 3)[:: max(1, height * width // 12)][:12]

    _picture(figure, sheet, 0.25, 2.75, 2.3, image, mask, title="1 · a picture, and your region")
    _arrow(axes, (2.62, 4.04), (3.28, 4.04))
    axes.text(6.47, 5.25, "2 · the encoder sees it four times, from fine to coarse", ha="center", fontsize=9)
    for i, level in enumerate(levels):
        x = 3.35 + 1.62 * i
        title = f"res{i + 2} · {level.shape[0]}×{level.shape[1]}×{level.shape[2]}"
        _picture(figure, sheet, x, 3.35, 1.38, principal_colours(level), mask, title=title)
        _arrow(axes, (x + 0.69, 3.3), (x + 0.69, 2.82), orange)
    pooling = "3 · mask pooling: on each level, the mean of the cells under the region"
    _box(axes, 3.35, 2.32, 6.24, 0.46, pooling, orange, "#FFF7E6", 9)

    axes.plot([7.85, 7.85, 9.72, 9.72], [3.32, 3.05, 3.05, 4.04], color=blue, linewidth=1.3)
    _arrow(axes, (9.72, 4.04), (9.95, 4.04), blue)
    _box(axes, 9.98, 3.72, 1.72, 0.64, f"projector\n{height}×{width} cells of res4", blue, "#EAF3FA", 8.5)
    _arrow(axes, (10.84, 3.69), (10.84, 3.4), blue)
    _chips(axes, 10.0, 2.98, 0.36, shades)
    axes.text(10.84, 2.9, count, ha="center", va="top", fontsize=8, color=blue)

    # The sequence: image tokens, words, the region's pair where it stands in the question.
    before, _, after = question.partition("<region1>")
    x, y, h = 0.45, 0.55, 0.46
    axes.text(x, y + h + 0.1, "4 · one sequence of tokens", fontsize=9, color=INK)
    _chips(axes, x, y, h, shades)
    axes.text(x + 0.84, y - 0.08, count, ha="center", va="top", fontsize=8, color=blue)
    x, centre = x + 1.85, {}
    words = {"text": "#EEF1F4", "mask": "#FFE3A8", "spatial": "#B5E3D2"}
    pair = [("mask", "mask", 0.72), ("spatial", "spatial", 0.72)]
    for kind, text, w in [("text", before, 2.1), *pair, ("text", after, 1.9)]:
        lines = textwrap.wrap(text.strip(), 26)
        text = "\n".join(lines if len(lines) <= 2 else [lines[0], lines[1] + " …"])
        _box(axes, x, y, w, h, text, COLOURS[kind], words[kind], 8)
        centre[kind] = x + w / 2
        x += w + 0.1
    _arrow(axes, (centre["mask"], 2.28), (centre["mask"], y + h + 0.05), orange)
    axes.text(centre["mask"] + 0.1, 1.9, "mask token: what is there", fontsize=8, color="#8A5A00")
    axes.plot([1.4, 1.4], [2.7, 2.24], color=green, linewidth=1.3)
    _box(axes, 0.45, 1.8, 1.9, 0.44, "outline and place → MLP", green, "#E8F6F1", 8.5)
    axes.plot([2.35, 2.9, 2.9, centre["spatial"]], [2.02, 2.02, 1.5, 1.5], color=green, linewidth=1.3)
    _arrow(axes, (centre["spatial"], 1.5), (centre["spatial"], y + h + 0.05), green)
    axes.text(centre["spatial"] + 0.1, 1.45, "spatial token: where, which outline", fontsize=8, color=green)

    _arrow(axes, (x - 0.08, y + h / 2), (8.62, y + h / 2))
    _box(axes, 8.65, y - 0.06, 0.85, 0.58, "LLM", INK, "#E4E7EB", 11, weight="bold")
    _arrow(axes, (9.53, y + h / 2), (9.85, y + h / 2))
    sentence = "\n".join(textwrap.wrap(answer, 24)[:5])
    _box(axes, 9.88, y - 0.34, 1.95, 1.14, sentence, INK, "#FFFDF5", 10, style="italic")
    axes.text(10.85, y + 0.88, "5 · a sentence", ha="center", fontsize=9, color=INK)
    return figure


def token_strip(tokens: list[tuple[str, str]]) -> Figure:
    """A prompt as the LLM sees it. `tokens` holds (kind, text) pairs; kinds: image, mask, spatial, text.

    Each token is a chip in the colour of its kind. A run of image tokens is one block: they are many.
    Raises ValueError for another kind.
    """
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
    figure, axes = _sheet(width, height)
    fills = {"image": "#CFE4F2", "mask": "#FFE3A8", "spatial": "#B5E3D2", "text": "#EEF1F4"}
    for kind, label, count, x, row, w, start in placed:
        y = height - 0.5 - row * line
        if kind == "image":
            for k in range(count):
                axes.add_patch(
                    Rectangle(
                        (x + w * k / count, y), w / count * 0.8, 0.34, color=COLOURS["image"], alpha=0.35
                    )
                )
        _box(axes, x, y, w, 0.34, label, COLOURS[kind], "none" if kind == "image" else fills[kind], 8)
        if kind != "text":
            place = f"{start}" if count == 1 else f"{start} … {start + count - 1}"
            axes.text(x + w / 2, y + 0.36, place, ha="center", va="bottom", fontsize=6.5, color=COLOURS[kind])
    x = 0.1
    for kind, meaning in (
        ("image", "image"),
        ("mask", "mask token"),
        ("spatial", "spatial token"),
        ("text", "text"),
    ):
        axes.add_patch(Rectangle((x, 0.1), 0.16, 0.16, facecolor=fills[kind], edgecolor=COLOURS[kind]))
        axes.text(x + 0.22, 0.18, meaning, va="center", fontsize=8, color=INK)
        x += 0.5 + 0.085 * len(meaning)
    axes.text(
        width - 0.1, 0.18, f"{position} positions in all", ha="right", va="center", fontsize=8, color=INK
    )
    return figure


def extractor(levels: list[tuple[int, int]], width: int, spatial_size: int, llm_width: int) -> Figure:
    """What notebook 03 builds, with its sizes. `levels` holds (channels, side of the grid) of res2 … res5."""
    figure, axes = _sheet(12.0, 4.8)
    orange, green, grey = COLOURS["mask"], COLOURS["spatial"], COLOURS["text"]
    _box(axes, 0.2, 1.15, 1.35, 1.0, "mask\nR × h × w\n0 or 1", INK, "#FFFDF5", 10)
    for i, (channels, side) in enumerate(levels):
        y = 3.95 - 0.72 * i
        _box(axes, 2.15, y, 1.75, 0.52, f"res{i + 2}   {channels}×{side}×{side}", grey, "#EEF1F4", 9)
        _box(axes, 4.35, y, 1.55, 0.52, f"mean → {channels}", orange, "#FFF7E6", 9)
        _box(axes, 6.35, y, 1.55, 0.52, f"Linear → {width}", orange, "#FFF7E6", 9)
        _arrow(axes, (3.93, y + 0.26), (4.32, y + 0.26), grey)
        _arrow(axes, (5.93, y + 0.26), (6.32, y + 0.26), orange)
        _arrow(axes, (7.93, y + 0.26), (8.37, 2.98 + 0.07 * (1.5 - i)), orange)
    axes.text(5.12, 4.55, "mask pooling", ha="center", fontsize=10, color=INK)
    axes.text(2.98, 4.55, "features", ha="center", fontsize=10, color=INK)
    # The mask goes to every level: one line up, beside the boxes, into the column of means.
    axes.plot([1.6, 4.12, 4.12], [1.5, 1.5, 4.21], color=INK, linewidth=1.3, linestyle=(0, (2, 2)))
    axes.plot([4.12] * 4, [4.21 - 0.72 * i for i in range(4)], "o", color=INK, markersize=4)
    axes.text(2.15, 1.56, "resized to each level", fontsize=8, color=grey)
    _box(axes, 8.4, 2.72, 0.5, 0.5, "Σ", orange, "#FFF7E6", 13)
    _arrow(axes, (8.93, 2.97), (9.17, 2.97), orange)
    _box(axes, 9.2, 2.72, 1.2, 0.5, f"Linear → {llm_width}", orange, "#FFF7E6", 8.5)
    _arrow(axes, (9.8, 3.25), (9.8, 3.6), orange)
    _box(axes, 9.0, 3.63, 1.6, 0.62, f"mask token\nR × {llm_width}", orange, "#FFE3A8", 10, weight="bold")
    axes.text(9.8, 4.4, "what is under the mask", ha="center", fontsize=8, color=grey)

    _arrow(axes, (0.88, 1.12), (0.88, 0.78), INK)
    _box(axes, 0.2, 0.22, 1.35, 0.52, f"resize {spatial_size}×{spatial_size}", green, "#E8F6F1", 9)
    _box(axes, 2.4, 0.22, 1.75, 0.52, f"flatten → {spatial_size**2}", green, "#E8F6F1", 9)
    _box(axes, 5.0, 0.22, 2.4, 0.52, f"MLP, 3 Linear, ReLU → {llm_width}", green, "#E8F6F1", 9)
    for a, b in ((1.58, 2.37), (4.18, 4.97), (7.43, 8.97)):
        _arrow(axes, (a, 0.48), (b, 0.48), green)
    _box(axes, 9.0, 0.17, 1.6, 0.62, f"spatial token\nR × {llm_width}", green, "#B5E3D2", 10, weight="bold")
    axes.text(9.8, 0.92, "where it is, and its outline", ha="center", fontsize=8, color=grey)
    for y, colour in ((3.94, orange), (0.48, green)):
        _arrow(axes, (10.63, y), (11.12, y), colour)
    _box(axes, 11.15, 0.17, 0.6, 4.08, "into the prompt, at <mask><pos>", INK, "#E4E7EB", 10, rotation=90)
    return figure
