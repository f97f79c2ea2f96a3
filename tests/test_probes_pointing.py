"""Figures that can be clicked and dragged: where a point lies, what each probe makes of it, and what a browser may send."""

import math

import ipywidgets
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from osprey_nb.data.scenes import make_scene
from osprey_nb.segment import load_segmenter
from osprey_nb.widgets import probes
from osprey_nb.widgets.pointed import PointedFigure


@pytest.fixture(scope="module")
def scene():
    return make_scene(2, 128, split="eval")


@pytest.fixture(scope="module")
def masks(scene):
    return np.stack([thing.mask for thing in scene.objects])


@pytest.fixture(scope="module")
def levels(tiny, scene):
    with torch.no_grad():
        return [level[0] for level in tiny.encoder(tiny.processor.image(scene.image)[None])]


def touch(probe, place: str, start, end=None) -> None:
    """As the browser does: a message with fractions of the figure. `start` and `end` are fractions of the place."""
    (_, left, top, width, height) = next(found for found in probe.picture.places if found[0] == place)
    start, end = ([left + x * width, top + y * height] for x, y in (start, end or start))
    seq = probe.picture._pointer["seq"] + 1
    probe.picture.set_state({"_pointer": {"seq": seq, "start": start, "end": end}})
    assert probe.picture._done == seq


def inside(mask) -> tuple[float, float]:
    """A point of a mask, as far as can be from its edge, as shares of the picture's sides."""
    from scipy.ndimage import distance_transform_edt

    row, column = np.unravel_index(distance_transform_edt(mask).argmax(), mask.shape)
    return (column + 0.5) / mask.shape[1], (row + 0.5) / mask.shape[0]


# --- the figure -------------------------------------------------------------------------------------------------------


def two_places() -> Figure:
    figure = Figure(figsize=(4, 2), dpi=100)
    figure.add_axes([0, 0, 0.5, 1], gid="left").set(xlim=(0, 10), ylim=(20, 0))
    figure.add_axes([0.25, 0.5, 0.1, 0.1], gid="on it").set(xlim=(0, 1), ylim=(0, 1))
    figure.add_axes([0.5, 0, 0.5, 1]).set(xlim=(0, 1))  # has no name
    figure.add_axes([0.6, 0, 0.4, 1], gid="square").imshow(np.zeros((4, 4)), extent=(0, 4, 4, 0))
    return figure


def test_points_come_in_the_units_of_the_axes():
    picture, heard = PointedFigure(), []
    picture.on_point(lambda *what: heard.append(what))
    picture.show(two_places())
    assert bytes(picture.value).startswith(b"\x89PNG") and [place[0] for place in picture.places] == ["left", "on it", "square"]
    picture.point((0.1, 0.25))
    picture.point((0.1, 0.25), (0.9, 0.5))  # ends outside of its place
    picture.point((0.3, 0.45))
    picture.point((0.55, 0.5))
    name, start, end = heard[0]
    assert name == "left" and start == end == pytest.approx((2, 5))
    assert heard[1][0] == "left" and heard[1][2] == pytest.approx((18, 10))
    assert heard[2][0] == "on it" and heard[2][1] == pytest.approx((0.5, 0.5))
    assert len(heard) == 3  # nothing where no place is
    # a picture keeps its shape: it takes 1.6 inches square of the 1.6 × 2 that it was given
    _, left, top, width, height = picture.places[2]
    assert (left, width, height) == pytest.approx((0.6, 0.4, 0.8)) and top == pytest.approx(0.1)
    picture.point((0.6 + 0.4 / 8, 0.1 + 0.8 * 7 / 8))
    assert heard[3][0] == "square" and heard[3][1] == pytest.approx((0.5, 3.5))


def test_another_figure_has_other_places():
    picture, heard = PointedFigure(), []
    picture.show(two_places())
    picture.on_point(lambda *what: heard.append(what[0]))
    figure = Figure()
    figure.add_axes([0, 0, 1, 1], gid="all")
    picture.show(figure)
    picture.point((0.1, 0.1))
    assert heard == ["all"] and [place[0] for place in picture.places] == ["all"]


@pytest.mark.parametrize("start", [None, [0.1], [0.1, 0.1, 0.1], ["a", "b"], [math.nan, 0.1], [math.inf, 0.1], {"x": 1}, 0.1])
def test_what_is_not_a_point_is_not_heard(start):
    picture, heard = PointedFigure(), []
    picture.show(two_places())
    picture.on_point(lambda *what: heard.append(what))
    picture.set_state({"_pointer": {"seq": 1, "start": start, "end": [0.1, 0.1]}})
    picture.set_state({"_pointer": {"seq": 2}})
    assert not heard
    picture.set_state({"_pointer": {"seq": 3, "start": [0.1, 0.1], "end": [0.1, 0.1]}})
    assert len(heard) == 1


# --- each probe -------------------------------------------------------------------------------------------------------


def test_a_click_on_a_region_asks_about_it(tiny, scene, masks):
    for kind in (probes.AttentionProbe, probes.StepperProbe, probes.SaliencyProbe, probes.SwitchProbe):
        probe = kind(tiny, scene.image, masks)
        shown = probe.picture.value
        touch(probe, "picture", inside(masks[2]))
        assert probe.state.region == probe.controls["region"].value == 2 and probe.picture.value != shown
        touch(probe, "picture", inside(~masks.any(0)))  # bare ground
        assert probe.state.region == 2 and probe.hint in probe.children[0].value and probe.hint in probe.picture.alt


def test_the_smallest_region_under_a_point(tiny, scene, masks):
    asked = probes.Asked(tiny, scene.image, np.stack([np.ones_like(masks[0]), masks[0]]))
    assert asked.region_at(inside(masks[0])) == {"region": 1} and asked.region_at(inside(~masks[0])) == {"region": 0}
    assert asked.region_at((-0.1, 0.5)) == asked.region_at((0.5, 1.0)) == {}


def test_a_word_a_layer_and_a_head(tiny, scene, masks):
    probe = probes.AttentionProbe(tiny, scene.image, masks)
    words = probe.asked.words(probe.asked.answer(masks[0]))
    assert sum(place[0].startswith("word ") for place in probe.picture.places) == len(words)
    touch(probe, "word 2", (0.5, 0.5))
    assert probe.state.word == probe.controls["word"].value == 2
    layers, heads = len(probe.controls["layer"].options) - 1, len(probe.controls["head"].options) - 1
    touch(probe, "heads", (0.5 / heads, 1 - 0.5 / layers))  # lower left: the last layer, the first head
    assert (probe.state.layer, probe.state.head) == (layers - 1, 0)


def test_a_step_of_the_answer(tiny, scene, masks):
    probe = probes.StepperProbe(tiny, scene.image, masks)
    touch(probe, "step 3", (0.5, 0.5))
    assert probe.state.step == probe.controls["step"].value == probe.play.value == 3


def test_a_switch(tiny, scene, masks):
    probe = probes.SwitchProbe(tiny, scene.image, masks)
    touch(probe, "res3", (0.1, 0.5))
    assert probe.state.off == ("res3",) and probe.controls["res3"].value is False
    touch(probe, "res3", (0.1, 0.5))
    assert probe.state.off == ()


def test_a_mask_is_dragged(tiny, scene, masks):
    probe = probes.WhatIfProbe(tiny, scene.image, masks)
    touch(probe, "after", (0.5, 0.5), (0.75, 0.25))
    touch(probe, "after", (0.1, 0.1), (0.1, 0.2))
    assert (probe.state.right, probe.state.down) == (32, -32 + 13)
    touch(probe, "after", (0.1, 0.1), (0.1, 9))  # far out of the figure
    assert probe.state.down == probe.controls["down"].value == 128 and probe.said.layout.display == "none"
    touch(probe, "before", inside(masks[1]))
    assert probe.state == probes.WhatIfState(1, 1)


def test_a_cell_of_a_level(scene, levels, masks):
    probe = probes.FeatureProbe(scene.image, levels)
    touch(probe, "picture", (0.3, 0.8))
    assert (probe.state.x, probe.state.y) == pytest.approx((0.3 * 128, 0.8 * 128))
    touch(probe, "cells", (0.9, 0.1))
    assert (probe.state.x, probe.state.y) == pytest.approx((0.9 * 128, 0.1 * 128))
    microscope = probes.MicroscopeProbe(scene.image, levels, masks[0])
    touch(microscope, "res2", (0.99, 0.01))
    assert microscope.state == probes.MicroscopeState(0, 0, 31) and microscope.controls["column"].max == 31
    touch(microscope, "res5", (0.3, 0.6))
    assert microscope.state == probes.MicroscopeState(3, 2, 1)
    touch(microscope, "picture", (1.0, 1.0))
    assert microscope.state == probes.MicroscopeState(3, 3, 3)


def test_a_mask_follows_a_click(scene, levels):
    probe = probes.MaskProbe(scene.image, levels)
    touch(probe, "picture", (0.25, 0.5))
    assert (probe.state.x, probe.state.y) == pytest.approx((32, 64))
    touch(probe, "res5", (0.5, 0.75))
    assert (probe.state.x, probe.state.y) == pytest.approx((64, 96))


def test_a_click_for_the_segmenter(tiny, scene, masks):
    probe = probes.ClickProbe(load_segmenter("tiny"), tiny.read(scene.image))
    assert len(probe.picture.places) == 4
    touch(probe, "picture", inside(masks[1]))  # of places of one name the first is touched
    assert (probe.state.x / 128, probe.state.y / 128) == pytest.approx(inside(masks[1]))
    assert probe.state.x == probe.controls["x"].value


def test_a_region_of_the_map(tiny):
    scenes = [make_scene(i, 128, split="eval") for i in range(4)]
    regions = probes.read_regions(tiny, probes.scene_pictures(scenes))
    probe = probes.SpaceProbe(regions)
    axes = next(axes for axes in probe.static().axes if axes.get_gid() == "map")
    dots = axes.collections[0].get_offsets()
    across, up = axes.get_xlim(), axes.get_ylim()

    def at(i):
        return (dots[i, 0] - across[0]) / np.ptp(across), (up[1] - dots[i, 1]) / np.ptp(up)

    touch(probe, "map", at(5))
    assert (probe.state.chosen, probe.state.other) == (5, 1)
    touch(probe, "map", at(7), at(9))
    assert (probe.state.chosen, probe.state.other) == (7, 9)
    near = probes.neighbours(regions.vectors["mask token"], 7)
    touch(probe, "nearest 2", (0.5, 0.5))
    assert probe.state.chosen == probe.controls["chosen"].value == near[2]


def test_an_answer_of_the_quiz(tiny, scene):
    probe = probes.QuizProbe(tiny, probes.scene_questions([scene]))
    touch(probe, "2", (0.5, 0.5))
    assert probe.state.choices[0] == 2 and not probe.picture.places  # the first answer counts


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_a_model_that_raises_is_shown_and_nothing_moves(tiny, scene, masks, monkeypatch):
    probe = probes.WhatIfProbe(tiny, scene.image, masks)
    shown, state = probe.picture.value, probe.state

    def fail(*_, **__):
        raise RuntimeError("<b>out of</b> memory" + "!" * 5000)

    with monkeypatch.context() as patched:
        patched.setattr(probe.asked, "answer", fail)
        probe.controls["grow"].value = 3
        assert probe.said.layout.display == "" and probe.said.value.startswith("RuntimeError: <b>out of</b> memory!")
        assert isinstance(probe.said, ipywidgets.Label) and len(probe.said.value) <= 300  # a Label shows no HTML
        assert (probe.state, probe.controls["grow"].value, probe.picture.value) == (state, 0, shown)
        touch(probe, "after", (0.5, 0.5), (0.6, 0.5))
        assert probe.state == state
    probe.controls["grow"].value = 3
    assert probe.state.grow == 3 and probe.picture.value != shown and probe.said.layout.display == "none"
