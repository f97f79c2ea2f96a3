"""Watch a model learn while it trains (notebook 07).

    begin, step, end ──► entries ─────► numbers, curves       at most every 2 s
        (train/watch.py)    │
                            └─ model ─► what it says of each region, from the first step to now

    live = LiveTraining(model, image, masks)
    live                                        # shows it; then, in the next cell, train with it among the watchers

Looking takes time from training, so it is rationed: after a look that took t seconds the next one of its kind waits 20·t at
least. A prediction changes nothing: neither the mode of any part nor the random numbers that training draws.
"""

from __future__ import annotations

import base64
import html
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import ipywidgets
import torch
from IPython.display import HTML
from matplotlib.figure import Figure
from torch import nn

from ..diagrams import rates, training_figure
from ..diagrams.training import calm
from ..images import load_image
from ..masks import to_masks
from ..viz import overlay, region_colour, to_png

COLUMNS = 6  # of predictions: the first, the newest, and some between
PATIENCE = 20  # looking takes a twentieth of the time at most
LONGEST = 300  # characters of an answer or an error
NOTICE = (
    "What to notice: the dark line should fall, and fall ever more slowly. A new stage may begin higher: it asks something "
    "new. When loss and gradient norm leap up together, the learning rate is too high."
)
STYLE = """<style>
.osprey-live { line-height: 1.45; max-width: 1100px; }
.osprey-live img { max-width: 100%; height: auto; border-radius: 6px; display: block; }
.osprey-live .note { opacity: .8; margin: 6px 0; }
.osprey-live .numbers { display: flex; flex-wrap: wrap; align-items: baseline; gap: 2px 22px; margin: 2px 0 8px;
  font-variant-numeric: tabular-nums; }
.osprey-live .numbers b { font-size: 1.15em; }
.osprey-live .beside { display: flex; flex-wrap: wrap; gap: 18px; align-items: flex-start; }
.osprey-live .wide { overflow-x: auto; flex: 1 1 30em; min-width: 0; }
.osprey-live table { border-collapse: collapse; }
.osprey-live caption { text-align: left; font-weight: 600; padding: 0 0 4px; }
.osprey-live th, .osprey-live td { text-align: left; vertical-align: top; padding: 5px 12px 5px 0; min-width: 6em;
  max-width: 20em; border-top: 1px solid rgba(128, 128, 128, .45); overflow-wrap: anywhere; }
.osprey-live th[scope=row] { min-width: 3em; white-space: nowrap; }
.osprey-live thead th { border-top: none; font-weight: 600; }
.osprey-live .same { opacity: .68; }
.osprey-live .error { border-left: 4px solid #d9483b; padding-left: 10px; }
.osprey-live .dot { display: inline-block; width: .8em; height: .8em; border-radius: 50%; margin-right: .45em;
  border: 1px solid rgba(255, 255, 255, .8); }
</style>"""


@dataclass(frozen=True)
class Prediction:
    """What the model said after `step` steps of all stages: an answer for each region, or the error that came instead."""

    step: int
    answers: tuple[str, ...] = ()
    error: str = ""


class LiveTraining(ipywidgets.VBox):
    """A watcher for notebooks: a line of numbers, the curves, and what the model says of fixed regions while it learns.

    `image` and `masks` in any form that `model.describe` takes; without a model there are only numbers and curves. `every` and
    `predict_every` are the least seconds from one look to the next. An error of the model is shown and ends nothing. Outside
    of Jupyter nothing is shown; `entries`, `predictions` and `static()` are there all the same. With weights that several
    processes share out (FSDP, DeepSpeed) give no model: `describe` would wait for the others.
    Raises ValueError when only some of model, image and masks are given.
    """

    def __init__(self, model=None, image=None, masks=None, every: float = 2.0, predict_every: float = 10.0):
        given = [name for name, value in (("model", model), ("image", image), ("masks", masks)) if value is not None]
        if 0 < len(given) < 3:
            raise ValueError(f"got only {' and '.join(given)}; predictions need a model, an image and masks")
        self.model, self.every, self.predict_every = model, every, predict_every
        self.entries: list[Mapping] = []
        self.predictions: list[Prediction] = []
        self._stage, self._behind = "", 0  # its name; steps of the stages before it
        self._due = {"curves": 0.0, "words": 0.0}
        parts = {"numbers": numbers_html([]), "curves": ""}
        if model is not None:
            self._image = load_image(image)
            self._masks = to_masks(masks, size=(self._image.height, self._image.width))
            count = len(self._masks)
            self._picture = image_html(overlay(self._image, self._masks), f"The picture with {count} numbered regions", 280)
            parts |= {"picture": self._picture, "words": ""}
        self.parts = {name: ipywidgets.HTML(_live(text)) for name, text in parts.items()}
        beside = ipywidgets.HBox([self.parts[name] for name in ("picture", "words") if name in parts])
        beside.layout = {"flex_flow": "row wrap", "max_width": "1100px"}
        for part, flex in zip(beside.children, ("0 0 300px", "1 1 30em"), strict=False):
            part.layout = {"flex": flex, "min_width": "0"}
        title = ipywidgets.HTML(STYLE + _live('<b style="font-size: 15px">Training, live</b>'))
        super().__init__([title, self.parts["numbers"], self.parts["curves"], beside])

    def begin(self, name: str, done: int) -> None:
        """A stage begins, `done` of its steps are behind it. What is known of later ones is forgotten: they come again."""
        self.entries = [entry for entry in self.entries if entry["stage"] != name or entry["step"] <= done]
        before = {entry["stage"]: entry["step"] for entry in self.entries if entry["stage"] != name}
        self._stage, self._behind = name, sum(before.values())
        now = self._behind + done
        self.predictions = [prediction for prediction in self.predictions if prediction.step <= now]
        if not self.predictions:
            self._predict(now)
        self._draw()

    def step(self, entry: Mapping) -> None:
        """A step is made; see train/watch.py for what an entry holds."""
        self.entries.append(entry)
        if time.perf_counter() >= self._due["words"]:
            self._predict(self._behind + entry["step"])
        if time.perf_counter() >= self._due["curves"]:
            self._draw()

    def end(self) -> None:
        """The stage is over: show where it ended."""
        if self.entries:
            self._predict(self._behind + self.entries[-1]["step"])
        self._draw()

    def static(self) -> HTML:
        """The same as it stands now, for readers without a kernel."""
        parts = "<b>Training</b>" + numbers_html(self.entries) + self._curves()
        if self.model is not None:
            parts += f'<div class="beside">{self._picture}{words_html(self.predictions, len(self._masks))}</div>'
        return HTML(STYLE + _live(parts))

    def _draw(self) -> None:
        with self._rationed("curves", self.every):
            self.parts["numbers"].value = _live(numbers_html(self.entries))
            self.parts["curves"].value = _live(self._curves())

    def _curves(self) -> str:
        return image_html(training_figure(self.entries), curves_text(self.entries)) + f'<p class="note">{NOTICE}</p>'

    def _predict(self, step: int) -> None:
        if self.model is None or (self.predictions and self.predictions[-1].step == step):
            return
        with self._rationed("words", self.predict_every):
            try:
                with undisturbed(self.model):
                    prediction = Prediction(step, tuple(self.model.describe(self._image, self._masks, detail="short")))
            except Exception as error:  # a model that is half trained may fail in any way; training goes on
                prediction = Prediction(step, error=f"{type(error).__name__}: {error}")
            self.predictions = thinned([*self.predictions, prediction])
            self.parts["words"].value = _live(words_html(self.predictions, len(self._masks)))

    @contextmanager
    def _rationed(self, what: str, least: float) -> Iterator[None]:
        start = time.perf_counter()
        yield
        now = time.perf_counter()
        self._due[what] = now + max(least, PATIENCE * (now - start))


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """`model` in eval mode; after it every part is in the mode it was in, and torch's random numbers stand where they stood."""
    modes = {module: module.training for module in model.modules()}
    devices = {parameter.device for parameter in model.parameters() if parameter.device.type == "cuda"}
    try:
        with torch.random.fork_rng(devices=list(devices)):
            model.eval()
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def thinned(predictions: Sequence[Prediction]) -> list[Prediction]:
    """At most 6 of them: the first, the last, and between them those that leave the smallest gaps."""
    kept = list(predictions)
    while len(kept) > COLUMNS:
        del kept[min(range(1, len(kept) - 1), key=lambda i: kept[i + 1].step - kept[i - 1].step)]
    return kept


def numbers_html(entries: Sequence[Mapping]) -> str:
    """The line of numbers: stage, step, smoothed loss, learning rate, samples a second, waiting, time left."""
    if not entries:
        return '<div class="numbers"><span>waiting for the first step …</span></div>'
    last, speed = entries[-1], rates(entries)
    loss = calm([entry["loss"] for entry in entries if entry["stage"] == last["stage"]])[-1]
    shown = {
        "step": f"{last['step']:,}", "loss, smoothed": f"{loss:.3f}", "learning rate": f"{last['lr']:.2g}",
        "samples a second": _known(speed["samples_per_s"], "{:.3g}"), "waiting for data": _known(speed["waiting"], "{:.0%}"),
        "left of this stage": "–" if speed["seconds_left"] is None else duration(speed["seconds_left"]),
    }  # fmt: skip
    spans = "".join(f"<span>{name} <b>{value}</b></span>" for name, value in shown.items())
    return f'<div class="numbers"><span>{_text(str(last["stage"]))}</span>{spans}</div>'


def words_html(predictions: Sequence[Prediction], regions: int) -> str:
    """A table: a row for each of `regions` regions, a column for each prediction. What has not changed is paler."""
    if not predictions:
        return ""
    steps = [f"step {prediction.step:,}" for prediction in predictions]
    if len(steps) > 1:
        steps[-1] = "now, " + steps[-1]
    rows = []
    for region in range(regions):
        cells, before = [], None
        for prediction in predictions:
            if prediction.error:
                if region == 0:
                    cells.append(f'<td class="error" rowspan="{regions}">no answer: {_text(prediction.error)}</td>')
                before = None
                continue
            answer = prediction.answers[region]
            cells.append(f'<td class="same">{_text(answer)}</td>' if answer == before else f"<td>{_text(answer)}</td>")
            before = answer
        dot = f'<span class="dot" style="background:{region_colour(region + 1)}" aria-hidden="true"></span>'
        rows.append(f'<tr><th scope="row">{dot}{region + 1}</th>{"".join(cells)}</tr>')
    head = "".join(f'<th scope="col">{step}</th>' for step in steps)
    return (
        '<div class="wide"><table><caption>What it says of each region (paler: as before)</caption>'
        f'<thead><tr><th scope="col">region</th>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def image_html(figure: Figure, alt: str, width: int = 1100) -> str:
    """A figure as an <img>, `width` CSS pixels wide, with its text. The height is given too: the page does not jump when it is
    drawn anew."""
    across, up = figure.get_size_inches()
    data = base64.b64encode(to_png(figure)).decode()
    size = f'width="{width}" height="{round(width * up / across)}"'
    return f'<img alt="{html.escape(alt)}" {size} decoding="sync" src="data:image/png;base64,{data}">'


def curves_text(entries: Sequence[Mapping]) -> str:
    """What the curves show, in words, for those who do not see them."""
    if not entries:
        return "Curves of the training; there is no step yet"
    losses = calm([entry["loss"] for entry in entries if entry["stage"] == entries[-1]["stage"]])
    return (
        f"Curves of loss, gradient norms and learning rate. In {entries[-1]['stage']} the smoothed loss went "
        f"from {losses[0]:.3g} to {losses[-1]:.3g} in {len(losses):,} steps."
    )


def duration(seconds: float) -> str:
    """Seconds as `8 s`, `3 min 20 s` or `2 h 05 min`."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02} min"


def _live(text: str) -> str:
    return f'<div class="osprey-live">{text}</div>'


def _known(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def _text(words: str) -> str:
    """Words from a model, an error or a file, safe to stand in HTML; long ones are cut."""
    words = words if len(words) <= LONGEST else words[:LONGEST] + " …"
    return html.escape(words) or "<i>nothing</i>"
