"""osprey_nb.widgets.probes.clicking: a click, its three masks, and what is said of each. With the shipped models."""

import pytest

from osprey_nb import Osprey
from osprey_nb.data.scenes import make_scene
from osprey_nb.segment import load_segmenter
from osprey_nb.widgets.probes import ClickProbe, ClickState, click_figure


@pytest.fixture(scope="module")
def probe():
    scene = make_scene(3, 256, "eval")
    session = Osprey.from_pretrained("tiny").eval().read(scene.image)
    return ClickProbe(load_segmenter("tiny", "cpu"), session, ClickState(92, 86))


def test_a_click_shows_what_segmenter_and_model_say(probe):
    found = probe.segmenter.predict([(50, 66)])
    texts = probe.session.describe(found.masks)
    figure = click_figure(probe.segmenter, probe.session, ClickState(50, 66))
    titles = [axes.get_title() for axes in figure.axes[1:]]
    assert titles[0] == "your click"
    for title, level, score, text in zip(titles[1:], ("sub-part", "part", "whole"), found.scores, texts, strict=True):
        assert " ".join(title.split()) == f"{level}, score {score:.2f} {text}"
    assert [tuple(line.get_xydata()[0]) for line in figure.axes[1].lines] == [(50, 66)]


def test_the_probe_moves_with_its_sliders(probe):
    before = probe.picture.value
    probe.controls["x"].value = 200
    probe.controls["y"].value = 200
    assert probe.state == ClickState(200, 200) and probe.picture.value != before
    assert any("snail" in axes.get_title() for axes in probe.static().axes)
    with pytest.raises(ValueError, match="outside the picture"):
        click_figure(probe.segmenter, probe.session, ClickState(300, 10))
