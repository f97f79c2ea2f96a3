"""overlay and answers_figure: what is drawn where, looked up in the pixels and in the text of the figure."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from osprey_nb import viz

GREY = np.full((60, 90, 3), 128, np.uint8)
LEFT, RIGHT = (np.zeros((60, 90), bool) for _ in range(2))
LEFT[10:50, 5:40] = True
RIGHT[20:40, 55:85] = True


def pixels(figure: Figure) -> np.ndarray:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3] / 255


def written(figure: Figure) -> list[str]:
    texts = [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
    return [text.get_text() for text in texts]


def at(figure: Figure, x: float, y: float) -> np.ndarray:
    """The colour drawn at a pixel of the picture."""
    column, row = figure.axes[0].transData.transform((x, y))
    drawn = pixels(figure)
    return drawn[drawn.shape[0] - 1 - int(row), int(column)]


def test_each_region_has_its_wash_and_the_rest_stays():
    figure = viz.overlay(GREY, [LEFT, RIGHT])
    for mask, number in ((LEFT, 1), (RIGHT, 2)):
        rows, columns = np.nonzero(mask)
        # A point away from the outline and from the number in the middle.
        x, y = columns.min() + 5, rows.min() + 5
        expected = 0.86 * 128 / 255 + 0.14 * np.array(to_rgb(viz.REGION_COLOURS[number - 1]))
        np.testing.assert_allclose(at(figure, x, y), expected, atol=0.03)
    np.testing.assert_allclose(at(figure, 47, 55), 128 / 255, atol=0.01)


def test_the_outline_is_in_the_regions_colour():
    drawn = pixels(viz.overlay(GREY, [LEFT, RIGHT]))
    for colour in viz.REGION_COLOURS[:2]:
        assert (np.abs(drawn - to_rgb(colour)).max(-1) < 0.05).sum() > 200


def test_numbers_stand_inside_their_regions():
    ring = LEFT.copy()
    ring[18:42, 12:33] = False
    axes = viz.overlay(GREY, [ring, RIGHT]).axes[0]
    for text, mask in zip(axes.texts, (ring, RIGHT), strict=True):
        x, y = text.get_position()
        assert mask[int(y), int(x)]


def test_labels_and_title_are_written_as_they_are():
    label = "a $5 house costs more than $4 <b>& is red</b>"
    figure = viz.overlay(GREY, [LEFT, RIGHT], labels=[label, "a tree"], title="Two of $them$")
    text = " ".join(written(figure))
    assert label in text and "a tree" in text and "Two of $them$" in text
    # Between two dollars matplotlib would see mathematics.
    sentences = [text for text in [*figure.texts, *figure.axes[1].texts] if "$" in text.get_text()]
    assert len(sentences) >= 2 and not any(text.get_parse_math() for text in sentences)


def test_long_labels_are_wrapped_and_the_sheet_grows():
    short = viz.overlay(GREY, [LEFT], labels=["a tree"])
    long = viz.overlay(GREY, [LEFT], labels=["a tree beside another tree " * 40])
    assert long.get_figheight() > short.get_figheight() + 1
    assert max(map(len, written(long))) <= 50


def test_answers_keep_the_numbers_of_their_regions():
    answers = {1: {"short": "a tree"}, 3: {"short": "a cat", "detailed": "A cat that sleeps.", "error": "it broke"}}
    figure = viz.answers_figure(GREY, {1: LEFT, 3: RIGHT, 4: RIGHT}, answers)
    assert [t for t in written(figure) if t] == ["1", "3", "4", "1", "a tree", "3", "a cat", "A cat that sleeps.", "it broke"]


def test_a_picture_without_regions():
    figure = viz.overlay(GREY, [])
    assert written(figure) == [] and len(figure.axes) == 1
    np.testing.assert_allclose(at(figure, 45, 30), 128 / 255, atol=0.01)


def test_a_large_picture_keeps_its_coordinates():
    mask = np.zeros((2400, 3600), bool)
    mask[400:2000, 200:1600] = True
    figure = viz.overlay(np.full((2400, 3600, 3), 128, np.uint8), [mask])
    assert at(figure, 400, 600)[0] > 0.53 > at(figure, 2500, 600)[0]


def test_wrong_number_of_labels():
    with pytest.raises(ValueError, match="got 1 labels for 2 regions"):
        viz.overlay(GREY, [LEFT, RIGHT], labels=["a tree"])


def test_colours_are_nine_and_come_again():
    assert len(set(viz.REGION_COLOURS)) == 9
    assert viz.region_colour(1) == viz.region_colour(10) != viz.region_colour(2)


def test_no_pyplot():
    import subprocess
    import sys

    code = (
        "import sys, numpy as np; from osprey_nb import viz; "
        "viz.overlay(np.zeros((9, 9, 3), np.uint8), (1, 1, 5, 5), ['x']); sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_many_texts_stand_in_columns():
    many = viz.overlay(GREY, [LEFT, RIGHT] * 24, [f"label {n}" for n in range(48)])
    few = viz.overlay(GREY, [LEFT, RIGHT], ["label 0", "label 1"])
    places = {text.get_text(): text.get_position() for text in many.axes[1].texts if text.get_text().startswith("label")}
    assert len(places) == 48 and len({x for x, _ in places.values()}) == 3
    assert places["label 0"][0] < places["label 47"][0] and min(y for _, y in places.values()) > 0
    assert many.get_size_inches()[1] < 9 and few.get_size_inches()[0] < many.get_size_inches()[0] / 1.9
