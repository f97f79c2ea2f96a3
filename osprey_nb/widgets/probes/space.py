"""Regions of many pictures as points: which are alike to the model, and on which level (notebooks 03 and 04).

    regions of many pictures ─► mask tokens N×D ──┐
                             ─► spatial tokens    ├─ less their mean ─┬─► PCA ─► N×2, a map
                             ─► pooled res2…res5 ─┘                   └─► cosine ─► nearest neighbours, two regions compared

All vectors lose the mean of all regions first: what every region has says nothing about any.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import ipywidgets
import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from osprey_nb.data.kinds import COLOUR_TONES
from osprey_nb.diagrams.drawing import COLOURS, INK, SOFT, bare, new_sheet
from osprey_nb.images import load_image
from osprey_nb.masks import box_of, to_masks

from .asked import check_choice, still
from .panels import TONE, part, write
from .stateful import StatefulProbe

SPACES = ("mask token", "spatial token", "res2", "res3", "res4", "res5")
TONES = dict(zip(SPACES, (COLOURS["mask"], COLOURS["spatial"], *["#F3CF80"] * 4), strict=True))
NEAREST = 5
MOST_NAMES = 22  # in the legend
MARGIN = 4  # pixels around a region in its crop


@dataclass(frozen=True)
class SpaceState:
    """The chosen region and the one it is compared with, in which space they are drawn, and which label gives the colours."""

    chosen: int = 0
    other: int = 1
    space: str = "mask token"
    label: str = "kind"


@dataclass(frozen=True)
class Regions:
    """N regions: their crops (h×w×3 uint8), their labels by name, and their vectors by space, N×C, the mean taken off."""

    crops: list[np.ndarray]
    labels: dict[str, list[str]]
    vectors: dict[str, np.ndarray]


def scene_pictures(scenes: Iterable) -> list[tuple]:
    """Scenes to what `read_regions` takes: each object is a region with its kind, colour and pattern."""
    return [
        (scene.image, [thing.mask for thing in scene.objects],
         {name: [getattr(thing, name) for thing in scene.objects] for name in ("kind", "colour", "pattern")})
        for scene in scenes
    ]  # fmt: skip


def read_regions(model, pictures: Sequence[tuple[object, object, Mapping[str, Sequence[str]]]]) -> Regions:
    """Read pictures: (image, masks, labels) each, labels a list for each name. ValueError where they do not agree."""
    checked = []
    for number, (image, masks, labels) in enumerate(pictures, 1):
        image = load_image(image)
        masks = to_masks(masks, size=(image.height, image.width))
        if any(len(given) != len(masks) for given in labels.values()) or set(labels) != set(pictures[0][2]):
            raise ValueError(f"Picture {number} has {len(masks)} regions; give each picture the same labels, one a region.")
        checked.append((image, masks, labels))
    if sum(len(masks) for _, masks, _ in checked) < 3:
        raise ValueError("A map needs three regions at least; give more pictures.")
    crops, found = [], {space: [] for space in SPACES}
    extractor = model.mask_extractor
    with still(model), torch.no_grad():
        for image, masks, _ in checked:
            features = model.encoder(model.processor.image(image)[None].to(model.device, model.dtype))
            regions = [torch.from_numpy(masks)]
            tokens = [rows[0] for rows in extractor(features, regions)]
            for space, rows in zip(SPACES, [*tokens, *extractor.pool(features, regions)], strict=True):
                found[space].append(rows.float().cpu().numpy())
            crops += [_crop(np.asarray(image), mask) for mask in masks]
    vectors = {space: np.concatenate(rows) for space, rows in found.items()}
    labels = {name: [text for _, _, given in checked for text in given[name]] for name in checked[0][2]}
    return Regions(crops, labels, {space: rows - rows.mean(0) for space, rows in vectors.items()})


def flat(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """N×C to the N×2 map along the two directions in which they differ most, and the shares of their variance (2)."""
    centred = vectors - vectors.mean(0)
    _, lengths, directions = np.linalg.svd(centred, full_matrices=False)
    directions = directions[:2]
    # The sign of a direction is arbitrary: fix it, so that the map is the same on every machine.
    directions = directions * np.sign(directions[np.arange(2), np.abs(directions).argmax(1)])[:, None]
    return centred @ directions.T, lengths[:2] ** 2 / max((lengths**2).sum(), 1e-12)


def cosines(vectors: np.ndarray, chosen: int) -> np.ndarray:
    """N: the cosine of each of N×C with the chosen one; 0 where one of the two is 0."""
    lengths = np.linalg.norm(vectors, axis=1)
    return vectors @ vectors[chosen] / np.maximum(lengths * lengths[chosen], 1e-12)


def neighbours(vectors: np.ndarray, chosen: int, count: int = NEAREST) -> list[int]:
    """The regions most like the chosen one, itself left out."""
    order = np.argsort(-cosines(vectors, chosen), kind="stable")
    return [int(i) for i in order if i != chosen][:count]


def space_figure(regions: Regions, state: SpaceState) -> Figure:
    """The map of a space, the chosen region with its nearest neighbours there, and two regions compared in every space."""
    for name in ("chosen", "other"):
        check_choice(name, getattr(state, name), len(regions.crops))
    if state.space not in regions.vectors or state.label not in regions.labels:
        spaces, labels = ", ".join(regions.vectors), ", ".join(regions.labels)
        raise ValueError(f"space is {state.space!r}, label {state.label!r}; use one of {spaces}, and of {labels}.")
    vectors, names = regions.vectors[state.space], regions.labels[state.label]
    near = neighbours(vectors, state.chosen)
    figure, _ = new_sheet(11.6, 5.75)
    places, shares = flat(vectors)
    write(figure, 0.15, 5.5, f"{len(names)} regions by their {_called(state.space)} · coloured by {state.label}", 12)
    axes = part(figure, 0.15, 0.45, 4.6, 4.75)
    axes.set_gid("map")
    colours = _colours(names)
    axes.scatter(*places.T, c=[colours[name] for name in names], s=34, edgecolors=INK, linewidths=0.4)
    for i in near:
        axes.plot(*places[[state.chosen, i]].T, color=SOFT, linewidth=1, zorder=0.5)
    for i, mark in ((state.chosen, "A"), (state.other, "B")):
        axes.scatter(*places[i], s=170, facecolors="none", edgecolors=INK, linewidths=2)
        edge = withStroke(linewidth=3, foreground="white")
        look = {"fontsize": 11, "weight": "bold", "color": INK, "path_effects": [edge]}
        axes.annotate(mark, places[i], (9, 7), textcoords="offset points", **look)
    axes.margins(0.08)
    bare(axes)
    write(figure, 0.15, 0.25, f"PCA: the two directions hold {shares.sum():.0%} of the variance", 8.5, TONE)
    for i, (name, colour) in enumerate(list(colours.items())[:MOST_NAMES]):
        dot = part(figure, 4.9, 5.05 - 0.215 * i, 0.14, 0.14)
        dot.scatter(0.5, 0.5, s=45, color=[colour], edgecolors=INK, linewidths=0.4)
        write(figure, 5.1, 5.12 - 0.215 * i, name, 8.5)

    _picture(figure, 6.5, 3.55, 1.35, regions.crops[state.chosen], f"A: {_name(regions, state.chosen)}")
    write(figure, 8.1, 5.12, f"its nearest by {_called(state.space)}, with their cosine", 9)
    alike = cosines(vectors, state.chosen)
    for k, i in enumerate(near):
        x = 8.1 + 0.68 * k
        _picture(figure, x, 4.2, 0.6, regions.crops[i], f"{alike[i]:.2f}", f"nearest {k}")
        write(figure, x + 0.3, 4.08, names[i], 7.5, INK if names[i] == names[state.chosen] else "#B3261E", ha="center")

    _picture(figure, 6.5, 1.35, 1.35, regions.crops[state.other], f"B: {_name(regions, state.other)}")
    bars = part(figure, 9.15, 0.45, 2.2, 2.65)
    for i, (space, rows) in enumerate(regions.vectors.items()):
        value = float(cosines(rows, state.chosen)[state.other])
        bars.barh(i, value, color=TONES[space], height=0.66)
        bars.text(max(value, 0) + 0.04, i, f"{value:.2f}", va="center", fontsize=8.5, color=INK)
    bars.axvline(0, color=SOFT, linewidth=1)
    bars.set(xlim=(-1, 1.3), ylim=(5.6, -0.6), yticks=range(6), yticklabels=SPACES)
    bars.set_title("A and B: cosine in each space", fontsize=9, color=INK, loc="left")
    return figure


def _called(space: str) -> str:
    return f"{space}s" if "token" in space else f"pooled {space}"


def _name(regions: Regions, i: int) -> str:
    return " ".join(regions.labels[name][i] for name in ("colour", "kind") if name in regions.labels) or f"region {i + 1}"


def _colours(names: Sequence[str]) -> dict[str, tuple]:
    """A colour for each name: its own where it names one, else one of twenty."""
    ordered = sorted(set(names))
    if set(ordered) <= set(COLOUR_TONES):
        return {name: tuple(x / 255 for x in COLOUR_TONES[name][0]) for name in ordered}
    return {name: colormaps["tab20"](i % 20) for i, name in enumerate(ordered)}


def _crop(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The square around a region, as much of it as the picture has, what is not the region pale."""
    left, top, right, bottom = box_of(mask)
    half = max(right - left, bottom - top) / 2 + MARGIN
    x, y = (left + right) / 2, (top + bottom) / 2
    rows = slice(max(0, int(y - half)), int(y + half) + 1)
    columns = slice(max(0, int(x - half)), int(x + half) + 1)
    shown = np.where(mask[..., None], image, 255 - (255 - image) * 0.45)
    return shown[rows, columns].astype(np.uint8)


def _picture(figure: Figure, x: float, y: float, size: float, crop: np.ndarray, title: str, name: str = "") -> None:
    axes = part(figure, x, y, size, size)
    axes.set_gid(name)
    axes.imshow(crop, interpolation="nearest")
    bare(axes)
    axes.set_title(title, fontsize=9 if size > 1 else 8, color=INK, pad=3)


class SpaceProbe(StatefulProbe):
    """Choose a region on a map of many: see its crop, its nearest neighbours, and how like it is to another on each level.

    `regions` is what `read_regions` gives. Sliders take the arrow keys.
    """

    hint = "Click a region on the map: A. Drag from one to another: A and B."
    notice = (
        "Nearest by pooled res2 are things of one colour, by res3 things of one kind, by the spatial token things of one place "
        "and outline. The mask token holds colour and kind."
    )

    def __init__(self, regions: Regions, start: SpaceState | None = None):
        self.regions = regions
        state, most = start or SpaceState(label=next(iter(regions.labels))), len(regions.crops) - 1

        def slider(key, name):
            look = {"min": 0, "max": most, "description": name, "continuous_update": False}
            return ipywidgets.IntSlider(getattr(state, key), **look)

        controls = {
            "chosen": slider("chosen", "A"), "other": slider("other", "B"),
            "space": ipywidgets.Dropdown(options=SPACES, value=state.space, description="space"),
            "label": ipywidgets.Dropdown(options=list(regions.labels), value=state.label, description="coloured by"),
        }  # fmt: skip
        super().__init__("Probe: which regions are alike?", state, controls, [["chosen", "other"], ["space", "label"]])

    def pointed(self, place, start, end):
        vectors = self.regions.vectors[self.state.space]
        if place != "map":
            return {"chosen": neighbours(vectors, self.state.chosen)[int(place.split()[1])]}
        places, _ = flat(vectors)
        span = np.ptp(places, 0) + 1e-12  # the map is as high as it is wide, whatever its units
        first, last = (int(np.linalg.norm((places - point) / span, axis=1).argmin()) for point in (start, end))
        return {"chosen": first} if first == last else {"chosen": first, "other": last}

    def static(self) -> Figure:
        return space_figure(self.regions, self.state)
