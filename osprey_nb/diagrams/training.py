"""A training run as curves and numbers (notebook 07).

    entries ─┬─ training_figure ─> loss, gradient norms and learning rate over the steps, one stage after another
             └─ rates ───────────> samples a second, seconds left, share of waiting
    {run: entries} ── runs_figure ─> the smoothed loss of several runs

An entry is a dict, one for each optimizer step: "stage" (name), "step" (from 1 in each stage), "loss", "lr", "seconds" and
"samples" (since the stage began), "waited" (seconds of those in which no batch was ready), "spent" (share of the stage's
budget, 0 to 1) and now and then "norms" (part → norm of its gradient). Old logs hold the first four only.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from .drawing import COLOURS, DPI, INK, SOFT

WINDOW = 20.0  # seconds; what rates are taken over
DRAWN = 800  # stretches of a curve that are drawn; a sheet has no room for more
GRID, TONE = "#E4E9EE", "#5D6875"
PALE = "#A9CBE3"
PARTS = {
    "encoder": COLOURS["image"], "mask_extractor": COLOURS["mask"], "projector": COLOURS["spatial"], "llm": COLOURS["text"],
}  # fmt: skip
SPARE = ("#CC79A7", "#56B4E9", "#8C6D31", "#1F2933")  # for other parts
NAME_ROWS = 4  # of names of stages
LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#1F2933", "#8C6D31")


def smoothed(values: Sequence[float], decay: float = 0.95) -> np.ndarray:
    """The exponential mean of N values up to each of them, N float64: each step back counts `decay` times as much.

    The bias of the first ones is corrected: they are means of what is there, not drawn to 0. Raises ValueError unless
    0 <= decay < 1.
    """
    if not 0 <= decay < 1:
        raise ValueError(f"decay is {decay}; it must be at least 0 and below 1")
    result, total, weight = np.empty(len(values)), 0.0, 0.0
    for i, value in enumerate(values):
        total, weight = decay * total + value, decay * weight + 1
        result[i] = total / weight
    return result


def calm(losses: Sequence[float]) -> np.ndarray:
    """The N losses of a stage, `smoothed` over a thirtieth of them, 2 to 20: a short stage would lag behind a longer mean."""
    return smoothed(losses, 1 - 1 / min(max(len(losses) / 30, 2), 20))


def rates(entries: Sequence[Mapping]) -> dict[str, float | None]:
    """How fast the stage of the last entry goes, from its last 20 seconds; None for what cannot be known yet.

    "samples_per_s"; "waiting", the share of the time (0 to 1) in which no batch was ready; "seconds_left" of this stage.
    """
    result: dict[str, float | None] = {"samples_per_s": None, "waiting": None, "seconds_left": None}
    last = entries[-1] if entries else {}
    if "seconds" not in last:
        return result
    # After a resume `samples` begins at 0 again and `seconds` does not: only differences are true.
    first = None
    for entry in reversed(entries[:-1]):
        if entry["stage"] != last["stage"]:
            break
        if first is not None and entry["seconds"] < last["seconds"] - WINDOW:
            break
        first = entry
    if first is None and last["step"] == 1:
        first = {"seconds": 0.0, "samples": 0, "waited": 0.0, "spent": 0.0}
    if first is None or last["seconds"] <= first["seconds"]:
        return result

    def gained(key: str) -> float:
        return last[key] - first[key]

    if "samples" in last:
        result["samples_per_s"] = gained("samples") / gained("seconds")
    if "waited" in last:
        result["waiting"] = gained("waited") / gained("seconds")
    if "spent" in last and gained("spent") > 0:
        result["seconds_left"] = max(0.0, 1 - last["spent"]) * gained("seconds") / gained("spent")
    return result


def training_figure(entries: Sequence[Mapping]) -> Figure:
    """The loss of every step (pale) and smoothed (dark), the norm of the gradient of each part, the learning rate.

    Stages stand one after another; a line of dots and a name mark where each begins. Loss and norms have a log axis: equal
    heights are equal ratios. Without norms in the entries there is no panel for them. No entries at all give empty axes.
    """
    stages = _stages(entries)
    normed = {name: [e for e in found if e.get("norms")] for name, found in stages.items()}
    parts = sorted({part for found in normed.values() for e in found for part in e["norms"]}, key=_part_order)
    starts, end = _starts(stages)

    heights = {"loss": 2.75, "norms": 1.5, "rate": 0.95}  # inches
    if not parts:
        del heights["norms"]
    width, left, right, gap, foot = 11.0, 0.85, 0.35, 0.42, 0.55
    limits = (min(starts.values(), default=0), max(end, 2))
    names = _named(starts, limits, left, width - right)
    head = 0.42 + 0.19 * max((row + 1 for *_, row in names), default=0)
    total = head + sum(heights.values()) + gap * (len(heights) - 1) + foot
    figure = Figure(figsize=(width, total), dpi=DPI, facecolor="white")
    panels, top = {}, total - head
    for name, height in heights.items():
        box = [left / width, (top - height) / total, (width - left - right) / width, height / total]
        panels[name] = figure.add_axes(box)
        top -= height + gap
    for axes in panels.values():
        _plain(axes)
        axes.set_xlim(limits)

    loss = panels["loss"]
    xs, raw = _joined(stages, starts, lambda found: [e["loss"] for e in found])
    _, dark = _joined(stages, starts, lambda found: calm([e["loss"] for e in found]))
    _line(loss, xs, raw, color=PALE, linewidth=0.7, label="each step")
    _line(loss, xs, dark, color=COLOURS["image"], linewidth=2.2, label="smoothed")
    _log_axis(loss)
    _head(loss, "loss", 2)

    if parts:
        axes = panels["norms"]
        spare = iter(SPARE)
        for part in parts:
            xs, norms = _joined(normed, starts, lambda found, part=part: [e["norms"].get(part, np.nan) for e in found])
            name = part.replace("_", " ")
            colour = PARTS.get(part) or next(spare, SOFT)
            _line(axes, xs, norms, color=colour, linewidth=1.1, label=name)
        _log_axis(axes)
        _head(axes, "gradient norm", len(parts))

    xs, lr = _joined(stages, starts, lambda found: [e["lr"] for e in found])
    _line(panels["rate"], xs, lr, color=INK, linewidth=1.6)
    panels["rate"].set_ylim(bottom=0)
    panels["rate"].yaxis.set_major_locator(MaxNLocator(3))
    panels["rate"].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    _head(panels["rate"], "learning rate", 0)
    panels["rate"].set_xlabel("step", fontsize=10, color=INK)

    for i, axes in enumerate(panels.values()):
        for start in list(starts.values())[1:]:
            axes.axvline(start, color=SOFT, linewidth=1, linestyle=(0, (1, 2)), zorder=0.5)
        if i < len(panels) - 1:
            axes.tick_params(labelbottom=False)
    for name, x, row in names:
        y = 1 - (0.17 + 0.19 * row) / total
        figure.text(x / width, y, name, fontsize=9, color=TONE, va="center", parse_math=False)
    return figure


def runs_figure(runs: Mapping[str, Sequence[Mapping]]) -> Figure:
    """The smoothed loss of several runs (name → entries) over their steps, one colour each; a dot where a stage begins.

    Raises ValueError when no run has an entry.
    """
    runs = {name: entries for name, entries in runs.items() if entries}
    if not runs:
        raise ValueError("no run has an entry to draw; give at least one run with a log")
    width, height = 11.0, max(4.2, 1.3 + 0.25 * len(runs))
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    axes = figure.add_axes([0.85 / width, 0.6 / height, (width - 3.6) / width, (height - 1.05) / height])
    _plain(axes)
    longest = 2
    for i, (name, entries) in enumerate(runs.items()):
        stages = _stages(entries)
        starts, end = _starts(stages)
        xs, ys = _joined(stages, starts, lambda found: calm([e["loss"] for e in found]))
        style = ("-", (0, (4, 1.5)), (0, (1, 1)))[i // len(LINES) % 3]
        colour = LINES[i % len(LINES)]
        label = _short(name, 52)
        _line(axes, xs, ys, color=colour, linestyle=style, linewidth=2, label=textwrap.fill(label, 27))
        begins = np.r_[True, np.isnan(ys[:-1])]
        axes.plot(xs[begins], ys[begins], "o", color=colour, markersize=4.5, markeredgecolor="white", markeredgewidth=0.8)
        longest = max(longest, end)
    axes.set_xlim(0, longest)
    axes.margins(y=0.06)
    _log_axis(axes)
    axes.set_xlabel("step", fontsize=10, color=INK)
    axes.set_title("smoothed loss   ·   a dot: a stage begins", fontsize=11, color=INK, loc="left", pad=8)
    names = axes.legend(loc="upper left", bbox_to_anchor=(1.015, 1.02), frameon=False, fontsize=10, labelcolor=INK)
    for text in names.get_texts():
        text.set_parse_math(False)
    return figure


def _stages(entries: Iterable[Mapping]) -> dict[str, list[Mapping]]:
    """The entries of each stage, in the order in which the stages come."""
    stages: dict[str, list[Mapping]] = {}
    for entry in entries:
        stages.setdefault(entry["stage"], []).append(entry)
    return stages


def _starts(stages: Mapping[str, Sequence[Mapping]]) -> tuple[dict[str, int], int]:
    """How many steps came before each stage, and all of them. The first one's count starts where its entries do."""
    starts, behind = {}, 0
    for name, found in stages.items():
        starts[name] = behind
        behind += max(e["step"] for e in found)
    return starts, behind


def _joined(stages: Mapping[str, Sequence[Mapping]], starts: Mapping[str, int], of) -> tuple[np.ndarray, np.ndarray]:
    """Steps counted through all stages, and `of(entries of a stage)`; NaN between stages, where the line breaks."""
    xs, ys = [], []
    for name, found in stages.items():
        xs += [*(starts[name] + e["step"] for e in found), np.nan]
        ys += [*of(found), np.nan]
    return np.array(xs[:-1], dtype=float), np.array(ys[:-1], dtype=float)


def _line(axes, xs: np.ndarray, ys: np.ndarray, **look) -> None:
    """A line that breaks at NaN; a point with none beside it is a dot."""
    xs, ys = _thinned(xs, ys)
    gap = np.isnan(np.r_[np.nan, ys, np.nan])
    alone = np.flatnonzero(gap[:-2] & gap[2:] & ~gap[1:-1])
    dots = {"marker": ".", "markersize": 6, "markevery": alone.tolist()} if len(alone) else {}
    axes.plot(xs, ys, **dots, **look)


def _thinned(xs: np.ndarray, ys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest of every few points, so that no peak is lost; breaks stay, and so does the last point."""
    few = len(xs) // DRAWN
    if few < 2:
        return xs, ys
    keep = np.isnan(ys)
    keep[[0, -1]] = True
    full = len(ys) // few * few
    blocks = ys[:full].reshape(-1, few)
    first = np.arange(len(blocks)) * few
    for lowest in (np.where(np.isnan(blocks), np.inf, blocks).argmin(1), np.where(np.isnan(blocks), -np.inf, blocks).argmax(1)):
        keep[first + lowest] = True
    return xs[keep], ys[keep]


def _part_order(part: str) -> tuple[int, str]:
    order = list(PARTS)
    return (order.index(part) if part in order else len(order), part)


def _plain(axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(color=SOFT, linewidth=0.8)
    axes.tick_params(labelsize=9, labelcolor=INK, color=SOFT, which="both")
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def _log_axis(axes) -> None:
    """A log axis with plain numbers; without numbers where there is nothing to show."""
    values = np.concatenate([line.get_ydata() for line in axes.lines])
    values = values[np.isfinite(values) & (values > 0)]
    if not len(values):
        axes.set_yticks([])
        return
    low, high = values.min() / 1.08, values.max() * 1.08
    axes.set_yscale("log", nonpositive="mask")
    axes.set_ylim(low, high)
    ratio = high / low
    if ratio < 3:  # too narrow for marks at 1, 2 and 5
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    else:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if ratio < 40 else (1, 3) if ratio < 1000 else (1,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.minorticks_off()


def _head(axes, title: str, names: int) -> None:
    """A title at the left, the names of the lines at the right of it."""
    axes.set_title(title, fontsize=11, color=INK, loc="left", pad=5)
    if names:
        legend = axes.legend(
            loc="lower right", bbox_to_anchor=(1.005, 0.98), ncols=names, frameon=False, fontsize=9, labelcolor=INK,
            handlelength=1.4, columnspacing=1.4, borderaxespad=0.1,
        )  # fmt: skip
        for text, line in zip(legend.get_texts(), legend.get_lines(), strict=True):
            text.set_parse_math(False)
            line.set(linewidth=2.4, marker="")


def _named(starts: Mapping[str, int], limits, left: float, right: float) -> list[tuple[str, float, int]]:
    """(name, inches from the left, row) of each stage, above its beginning, in the first row with room; few are left out."""
    ends, found = [0.0] * NAME_ROWS, []
    for name, start in starts.items():
        text = _short(name, 40)
        at = left + (right - left) * (start - limits[0]) / (limits[1] - limits[0])
        length = 0.074 * len(text) + 0.15
        x = min(at, right - length)
        row = next((row for row, end in enumerate(ends) if end <= x), None)
        if row is not None:
            ends[row] = x + length
            found.append((text, x, row))
    return found


def _short(name: str, width: int) -> str:
    """On one line, at most `width` characters."""
    name = " ".join(name.split())
    return name if len(name) <= width else name[: width - 1] + "…"
