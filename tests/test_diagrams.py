"""osprey_nb.diagrams: the figures say what their arrays say."""

import io

import numpy as np
import pytest

from osprey_nb import diagrams


def words(figure) -> list[str]:
    axes = figure.axes
    found = [text.get_text() for a in axes for text in a.texts] + [a.get_title() for a in axes]
    return found + [text.get_text() for text in figure.texts]


def test_number_grids():
    figure = diagrams.number_grids(("red", [[1, 8], [0.25, 3]]), ("mask", [[0, 1], [1, 0]]), signs="×")
    text = words(figure)
    assert [a.get_title() for a in figure.axes] == ["red", "mask"]
    assert text.count("8") == 1 and ".25" in text and "×" in text
    with pytest.raises(ValueError, match="index one channel"):
        diagrams.number_grids(("feature", np.zeros((2, 4, 4))))


def test_like_cells_get_like_colours():
    feature = np.zeros((5, 4, 4))
    feature[:, :, 2:] = np.arange(1, 6)[:, None, None]
    colours = diagrams.principal_colours(feature)
    assert colours.shape == (4, 4, 3) and colours.min() >= 0 and colours.max() <= 1
    assert np.ptp(colours[:, :2], axis=(0, 1)).max() < 1e-9
    assert np.abs(colours[0, 0] - colours[0, 3]).max() > 0.9
    np.testing.assert_array_equal(colours, diagrams.principal_colours(feature.copy()))
    assert np.isfinite(diagrams.principal_colours(np.ones((2, 3, 3)))).all()  # nothing differs


def test_pipeline_shows_the_sizes_the_question_and_the_sentence():
    image, mask = np.zeros((32, 32, 3), np.uint8), np.zeros((32, 32), bool)
    mask[:10, :10] = True
    levels = [np.random.default_rng(i).normal(size=(3 + i, 16 >> i, 16 >> i)) for i in range(4)]
    figure = diagrams.pipeline(image, mask, levels, "What is <region1> here?", r"a red $\frac{fish$")
    figure.savefig(io.BytesIO())  # a model may write anything: it is never read as a formula
    text = " ".join(words(figure))
    assert r"$\frac{fish$" in text
    assert "res2 · 3×16×16" in text and "res5 · 6×2×2" in text and "16 image tokens" in text
    assert "What is" in text and "here?" in text and "<region1>" not in text


def test_token_strip_counts_positions():
    image = [("image", "")] * 64
    tokens = [("text", "Look: "), *image, ("text", "at"), ("mask", "mask"), ("spatial", "spatial")]
    text = words(diagrams.token_strip(tokens))
    assert "64 image tokens" in text and "1 … 64" in text
    assert "66" in text and "67" in text and "68 positions in all" in text
    with pytest.raises(ValueError, match="sound"):
        diagrams.token_strip([("sound", "beep")])


def test_a_long_prompt_stays_on_the_sheet():
    figure = diagrams.token_strip([("text", f"word{i}") for i in range(150)])
    (axes,) = figure.axes
    width, height = axes.get_xlim()[1], axes.get_ylim()[1]
    for patch in axes.patches:
        box = patch.get_window_extent().transformed(axes.transData.inverted())
        assert -0.01 <= box.x0 and box.x1 <= width + 0.01 and -0.01 <= box.y0 and box.y1 <= height + 0.01


def test_who_sees_whom_has_a_colour_for_what_all_see():
    rows = np.array([-1, -1, 0, 0, 1])
    sees = np.tril((rows == rows[:, None]) | (rows == -1))
    figure = diagrams.who_sees_whom(sees, rows)
    assert [x.get_text() for x in figure.axes[0].get_yticklabels()] == ["the beginning", "row 1", "row 2"]
    pixels = figure.axes[0].images[0].get_array()
    assert (pixels[4, 2] == 1).all() and (pixels[0, 1] == 1).all()  # another row, a later place
    assert (pixels[4, 0] == pixels[3, 1]).all() and (pixels[4, 4] == pixels[3, 2]).all()
    assert (pixels[4, 0] != pixels[4, 4]).any()
    with pytest.raises(ValueError, match="4 places"):
        diagrams.who_sees_whom(sees, rows[:4])


def test_question_and_extractor():
    image, mask = np.zeros((32, 32, 3), np.uint8), np.ones((32, 32), bool)
    assert "spatial token" in words(diagrams.question(image, mask))
    text = words(diagrams.extractor([(40, 32), (80, 16), (160, 8), (320, 4)], 256, 28, 192))
    assert "res5   320×4×4" in text and "mean → 320" in text and "flatten → 784" in text
    assert "mask token\nR × 192" in text and "into the prompt, at <mask><pos>" in text


def test_loss_is_marked_below_the_tokens_that_carry_it():
    tokens = [("text", "Hi"), *[("image", "")] * 4, ("text", "a"), ("text", "dog")]
    figure = diagrams.token_strip(tokens, [False] * 5 + [True, True])
    assert "7 positions in all, 2 carry loss" in words(figure)
    assert len(figure.axes[0].lines) == 3  # two tokens, one in the legend
    assert "7 positions in all" in words(diagrams.token_strip(tokens))
    with pytest.raises(ValueError, match="2 flags of loss for 7 tokens"):
        diagrams.token_strip(tokens, [True, False])


def test_a_batch_says_how_much_is_padding():
    rows = [(["image", "text", "mask", "spatial"], [False, True, False, False]), (["text"], [True])]
    text = words(diagrams.batch(rows, "two"))
    assert "two: 2 × 4 positions, 38% of them padding" in text


def test_runs_show_every_pixel_and_every_run():
    mask = np.array([[0, 1], [1, 1]], bool)
    text = words(diagrams.runs(mask, [1, 3]))
    assert [text.count(str(n)) for n in (0, 2)] == [1, 1] and text.count("3") == 2 and text.count("1") == 2
    assert "the runs: zeros, ones, zeros, …" not in words(diagrams.runs(mask))


def test_polygons_are_measured_against_the_mask():
    image, mask = np.zeros((20, 20, 3), np.uint8), np.zeros((20, 20), bool)
    mask[5:15, 5:15] = True
    half = mask.copy()
    half[10:] = False
    text = words(diagrams.polygons(image, mask, [("all", [[5, 5, 15, 5, 15, 15, 5, 15]], mask), ("half", [], half)]))
    assert "IoU 1.000" in text and "IoU 0.500" in text


def test_outline_pointing_and_instruction():
    image, mask = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), bool)
    mask[2:5, 2:5] = True
    corners = [2, 2, 5, 2, 5, 5, 2, 5]
    (axes,) = diagrams.outline(corners, mask).axes
    np.testing.assert_array_equal(axes.lines[-1].get_xydata().ravel(), corners)
    assert {"strokes", "RLE", "mask token"} <= {w.split("(")[-1].strip(")") for w in words(diagrams.pointing(image, mask))}
    assert "What is this?" in words(diagrams.instruction(image, mask, "What is this?", r"a $\frac{dog"))


def test_heatmaps_curve_and_shares():
    figure = diagrams.heatmaps(("one", [[0, 1], [2, 3]]), ("two", [[5.0]]))
    assert [a.get_title() for a in figure.axes[1:]] == ["one", "two"]
    with pytest.raises(ValueError, match="index one channel"):
        diagrams.heatmaps(("cube", np.zeros((2, 2, 2))))
    (axes,) = diagrams.curve([3.0, 1.0, 2.0], "loss", window=2).axes
    np.testing.assert_allclose(axes.lines[1].get_xydata(), [[2, 2.0], [3, 1.5]])
    assert len(diagrams.curve([1.0], "short").axes[0].lines) == 1
    text = words(diagrams.shares({"kind": {"before": 0.05, "after": 0.4}}))
    assert "5%" in text and "40%" in text
    several = diagrams.shares({"kind": {"before": [0.1, 0.3], "after": [0.4, 0.4]}})
    assert "20%" in words(several) and "40%" in words(several)
    assert [len(dots.get_offsets()) for dots in several.axes[0].collections] == [2, 2]  # a dot for each run


def test_pyramid_has_a_row_for_each_encoder():
    levels = [np.random.default_rng(i).normal(size=(3 + i, 8 >> i, 8 >> i)) for i in range(4)]
    titles = words(diagrams.pyramid(np.zeros((8, 8, 3), np.uint8), {"new": levels, "old": levels}))
    assert titles.count("res5 · 6×1×1") == 2 and {"new", "old"} <= set(titles)


def test_stages_show_what_learns_and_how_fast():
    text = words(diagrams.stages_figure({"one": {"llm": 1e-5}, "two": {"projector": 0.001, "mask_extractor": 2e-5}}))
    assert text.count("frozen") == 5 and {"one", "two", "1e-05", "0.001", "2e-05", "mask extractor"} <= set(text)


def test_memory_bars_stand_end_to_end_beside_the_card():
    figure = diagrams.memory_figure({"all": {"weights": 20, "gradients": 30, "AdamW": 60}, "some": {"weights": 20}}, card=80)
    (axes,) = figure.axes
    assert [(bar.get_x(), bar.get_width()) for bar in axes.patches] == [(0, 20), (20, 30), (50, 60), (0, 20)]
    assert axes.lines[0].get_xdata()[0] == pytest.approx(80e9 / 2**30)
    assert {"  110.0", "  20.0", "a card of 80 GB"} <= {label.get_text() for label in axes.texts}


def test_every_way_has_its_bar():
    bars = diagrams.shares({"kind": {str(n): n / 10 for n in range(7)}}).axes[0].patches
    assert [bar.get_width() for bar in bars] == pytest.approx([n / 10 for n in range(7)])


def test_computed_counts_positions():
    text = words(diagrams.computed(prompt=5, new=3))
    assert "without a cache: 18 positions" in text and "with a cache: 7 positions" in text
    colours = [patch.get_facecolor()[:3] for patch in diagrams.computed(prompt=5, new=3).axes[0].patches]
    assert len(colours) == 2 * 18 and colours.count((1.0, 1.0, 1.0)) == 11  # remembered
    with pytest.raises(ValueError, match="1 or more"):
        diagrams.computed(prompt=0, new=3)


def test_shared_prefix_has_the_beginning_once():
    rows = [["Describe", "mask"], ["Describe", "mask"], ["What is", "mask"]]
    text = words(diagrams.shared_prefix(["system", "image"], rows, {"image": 1024}))
    assert [text.count(piece) for piece in ("system", "image", "mask", "Describe", "1,024")] == [1, 1, 3, 2, 1]
    with pytest.raises(ValueError, match="no rows"):
        diagrams.shared_prefix(["image"], [])


def test_bars_are_as_long_as_their_values():
    figure = diagrams.bars({"slow": 3.0, "fast": 0.25}, "time", "{:.2f} s", most=5)
    assert [bar.get_width() for bar in figure.axes[0].patches] == [3.0, 0.25]
    assert {"3.00 s", "0.25 s"} <= set(words(figure))
    assert figure.axes[0].get_xlim()[1] > 5
    for bad in ({}, {"x": -1}, {"x": float("nan")}):
        with pytest.raises(ValueError, match="0 or more"):
            diagrams.bars(bad)


def test_verdicts_mark_the_largest_of_each_row():
    figure = diagrams.verdicts(["region 1", "region 2"], ["a cat", "$x$"], [[0.9, 0.1], [0.2, 0.8]])
    assert [t.get_text() for t in figure.axes[0].texts if t.get_fontweight() == "bold"] == ["90%", "80%"]
    figure.savefig(io.BytesIO())
    with pytest.raises(ValueError, match=r"\(2, 2\)"):
        diagrams.verdicts(["a"], ["b", "c"], np.ones((2, 2)))


def test_prompted_shows_masks_clicks_and_boxes():
    image, mask = np.full((40, 60, 3), 100, np.uint8), np.zeros((40, 60), bool)
    mask[10:20, 10:30] = True
    panels = [
        diagrams.Panel("a click\n$x$", mask, [(15, 12), (50, 30)], [1, 0]),
        diagrams.Panel("a box", None, box=(5, 6, 25, 36)),
        diagrams.Panel("nothing", np.zeros_like(mask)),
    ]
    figure = diagrams.prompted(image, panels, columns=2)
    figure.savefig(io.BytesIO())
    first, second, third = figure.axes[1:]
    assert [axes.get_title() for axes in figure.axes[1:]] == ["a click\n$x$", "a box", "nothing"]
    assert [text.get_text() for text in first.texts] == ["+", "−"]
    assert [tuple(line.get_xydata()[0]) for line in first.lines] == [(15, 12), (50, 30)]
    shown = first.images[0].get_array()
    assert np.allclose(shown[mask], 100 / 255) and (shown[~mask] > 0.8).all()  # outside it is pale
    assert second.patches[0].get_bbox().extents.tolist() == [5, 6, 25, 36]
    assert third.get_ylim() == (40, 0)
    with pytest.raises(ValueError, match="no panels"):
        diagrams.prompted(image, [])


def test_sam_flow_and_scatter():
    image, mask = np.zeros((32, 32, 3), np.uint8), np.eye(32, dtype=bool)
    panels = [diagrams.Panel(name, mask, [(4, 5)]) for name in ("a wheel", "wheels", "a train")]
    text = words(diagrams.sam_flow(image, np.random.default_rng(0).normal(size=(6, 8, 8)), panels))
    assert {"a wheel", "wheels", "a train", "a click"} <= set(text)
    figure = diagrams.scatter([0.1, 0.5], [0.2, 0.9], "guess", "truth")
    assert figure.axes[0].collections[0].get_offsets().tolist() == [[0.1, 0.2], [0.5, 0.9]]
    assert figure.axes[0].get_xlabel() == "guess" and figure.axes[0].get_ylabel() == "truth"
    with pytest.raises(ValueError, match="pairs"):
        diagrams.scatter([1], [], "a", "b")
