"""Which pixels of the picture and of the mask an answer hangs on (notebooks 02, 03 and 08).

    gradient    picture, mask ─► log-likelihood of the answer ─► its slope for each pixel: what a tiny change would do
    occlusion   a cell made grey, or cut from the mask ─► log-likelihood ─► what is lost: what a large change does

Both look at the whole way: the picture is encoded anew, and both tokens of the region change with it. The slope of the mask
passes mask pooling only where that is soft; under the published threshold all that is left is the way of the spatial token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ipywidgets
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from torch import Tensor

from osprey_nb.diagrams.drawing import COLOURS, INK, new_sheet, picture
from osprey_nb.projector import image_tokens
from osprey_nb.prompt import SHORT

from .asked import Asked, check_choice, still
from .panels import TONE, heat, legend, quoted, write
from .stateful import StatefulProbe, region_control

CELLS = 6  # rows and columns of what occlusion hides; CELLS² pictures are read
AT_ONCE = 12  # pictures side by side


@dataclass(frozen=True)
class SaliencyState:
    """Which region, `word` of its answer (its index, or "all"), and `method`: "gradient" or "occlusion"."""

    region: int = 0
    word: int | str = "all"
    method: str = "gradient"


@dataclass(frozen=True)
class Saliency:
    """Maps of the picture and of the mask. Gradient: S×S of lengths over channels, and H×W signed. Occlusion: cells, signed."""

    picture: np.ndarray
    mask: np.ndarray


def answer_likelihoods(asked: Asked, pixels: Tensor, masks: Tensor, answer: Sequence[int]) -> Tensor:
    """R×A log-likelihoods of an answer's tokens, all the way from R×3×S×S pixels and R×H×W masks. Gradients flow."""
    model = asked.model
    features = model.encoder(pixels)
    mask_tokens, spatial_tokens = (torch.cat(rows) for rows in model.mask_extractor(features, list(masks[:, None])))
    seen = model.projector(image_tokens(features[2]))
    return asked.likelihoods((mask_tokens, spatial_tokens), answer, seen)


def gradient(asked: Asked, mask: np.ndarray, word: int | str = "all") -> Saliency:
    """The slope of the log-likelihood of the answer about an H×W mask, or of one of its words. No weight gets a gradient."""
    answer = asked.answer(mask)
    pixels = asked.pixels.detach().clone().requires_grad_()
    region = torch.as_tensor(mask, dtype=pixels.dtype, device=pixels.device)[None].requires_grad_()
    with still(asked.model), torch.enable_grad():
        likely = answer_likelihoods(asked, pixels, region, answer)[0]
        of_pixels, of_mask = torch.autograd.grad(_chosen(likely, word), (pixels, region))
    return Saliency(of_pixels[0].float().norm(dim=0).cpu().numpy(), of_mask[0].float().cpu().numpy())


def occlusion(asked: Asked, mask: np.ndarray, cells: int = CELLS) -> tuple[np.ndarray, np.ndarray]:
    """What hiding each cell takes from the log-likelihood of each of A tokens: two cells×cells×A arrays, picture and mask.

    A cell of the picture becomes the mean colour of the encoder's training; a cell of the mask is cut out. Where there is
    nothing to cut, or nothing would be left, the loss is 0.
    """
    answer = asked.answer(mask)
    whole = torch.as_tensor(mask).to(asked.pixels)
    hidden, cut, cuts = [], [], []
    for row in range(cells):
        for column in range(cells):
            pixels, region = asked.pixels[0].clone(), whole.clone()
            pixels[(slice(None), *_cell(row, column, cells, pixels.shape[1:]))] = 0
            hidden.append(pixels)
            region[_cell(row, column, cells, region.shape)] = 0
            if region.any() and not torch.equal(region, whole):
                cut.append(region)
                cuts.append((row, column))
    with still(asked.model), torch.no_grad():
        usual = answer_likelihoods(asked, asked.pixels, whole[None], answer)
        of_picture = torch.cat([
            answer_likelihoods(asked, torch.stack(some), whole.expand(len(some), -1, -1), answer)
            for some in (hidden[i : i + AT_ONCE] for i in range(0, len(hidden), AT_ONCE))
        ])  # fmt: skip
        of_mask = torch.zeros(cells, cells, len(answer))
        if cut:  # the picture stays: only the region's tokens change
            lost = usual - asked.likelihoods(asked.pair(torch.stack(cut)), answer)
            of_mask[tuple(torch.tensor(cuts).T)] = lost.cpu()
    return (usual - of_picture).reshape(cells, cells, -1).cpu().numpy(), of_mask.numpy()


def saliency_figure(asked: Asked, found: Saliency, state: SaliencyState) -> Figure:
    """The region with its answer, and what of the picture and of the mask the answer, or one word, hangs on."""
    mask = asked.mask(state.region)
    answer = asked.answer(mask)
    if state.word != "all":
        check_choice("word", state.word, len(answer))
    what = quoted(asked.text(answer), 70) if state.word == "all" else quoted(asked.word(answer[state.word]))
    figure, _ = new_sheet(11.6, 4.75)
    write(figure, 0.15, 4.5, f"What {what} hangs on · {state.method}", 12)
    picture(figure, 0.15, 0.6, 3.4, asked.image, mask, title=quoted(asked.text(answer), 44))
    titles = {
        "gradient": ("slope by the picture's pixels", "slope by the mask's pixels"),
        "occlusion": ("lost when a cell is hidden", "lost when a cell is cut from the mask"),
    }[state.method]
    for i, (values, title) in enumerate(zip((found.picture, found.mask), titles, strict=True)):
        x = 4.1 + 3.8 * i
        if state.method == "gradient":  # a few pixels are far above all others
            top = float(np.quantile(np.abs(values), 0.995))
        else:
            top = max(float(np.abs(values).max()), 0.1)
        heat(figure, x, 0.6, 3.4, asked.image, values, mask, title, top)
        if state.method == "occlusion":
            _numbers(figure.axes[-1], values, top)
    meaning = {
        "gradient": {"blue: a change here counts; more mask here is for it": COLOURS["image"],
                     "orange: more mask here is against it": "#E67300"},
        "occlusion": {"blue: without this cell it is less likely": COLOURS["image"],
                      "orange: without this cell it is likelier": "#E67300"},
    }[state.method]  # fmt: skip
    legend(figure, 4.1, 0.3, meaning)
    write(figure, 0.15, 0.3, "numbers: log-likelihood that is lost" if state.method == "occlusion" else "", 8.5, TONE)
    return figure


def _numbers(axes, values: np.ndarray, top: float) -> None:
    """What each cell takes, where it is not next to nothing."""
    rows, columns = values.shape
    for (row, column), value in np.ndenumerate(values):
        if abs(value) >= 0.05:
            at = (column + 0.5) / columns, (row + 0.5) / rows
            colour = "white" if abs(value) > 0.4 * top else INK
            edge = withStroke(linewidth=2.5, foreground=COLOURS["image"] if colour == "white" else "white", alpha=0.7)
            axes.text(*at, f"{value:.1f}", ha="center", va="center", fontsize=9, color=colour, zorder=3, path_effects=[edge])


def _chosen(likely, word: int | str):
    """The sum over the last axis, or one word of it."""
    if word == "all":
        return likely.sum(-1)
    check_choice("word", word, likely.shape[-1])
    return likely[..., word]


def _cell(row: int, column: int, cells: int, size: Sequence[int]) -> tuple[slice, slice]:
    return tuple(slice(i * n // cells, (i + 1) * n // cells) for i, n in zip((row, column), size, strict=True))


class SaliencyProbe(StatefulProbe):
    """Choose a region, a word of its answer and a method: see which parts of picture and mask it hangs on.

    `image` H×W×3 uint8, PIL or path; `masks` whatever `to_masks` takes.
    """

    hint = "Click a region."
    notice = (
        "Hiding anything outside the region changes little: the answer hangs on what is under the mask. "
        "The two methods ask different questions, so their maps differ."
    )

    def __init__(self, model, image, masks, question: str = SHORT, start: SaliencyState | None = None):
        self.asked, self._found = Asked(model, image, masks, question), {}
        state = start or SaliencyState()
        methods = ["gradient", "occlusion"]
        controls = {
            "region": region_control(len(self.asked.masks), state.region),
            "method": ipywidgets.ToggleButtons(options=methods, value=state.method, description="method"),
            "word": ipywidgets.SelectionSlider(options=self._words(state.region), value=state.word, description="word"),
        }
        super().__init__("Probe: what does an answer hang on?", state, controls, [["region"], ["method", "word"]])

    def follow(self, changes):
        return {"word": "all"} | changes if "region" in changes else changes  # another answer, other words

    def fit(self) -> None:
        self.controls["word"].options = self._words(self.state.region)

    def pointed(self, place, start, end):
        return self.asked.region_at(end)

    def _words(self, region: int) -> list[tuple[str, int | str]]:
        words = self.asked.words(self.asked.answer(self.asked.mask(region)))
        return [("all", "all"), *((f"{i} · {word}", i - 1) for i, word in enumerate(words, 1))]

    def static(self) -> Figure:
        state, mask = self.state, self.asked.mask(self.state.region)
        if state.method == "gradient":
            return saliency_figure(self.asked, gradient(self.asked, mask, state.word), state)
        if state.region not in self._found:
            self._found[state.region] = occlusion(self.asked, mask)
        found = Saliency(*(_chosen(lost, state.word) for lost in self._found[state.region]))
        return saliency_figure(self.asked, found, state)
