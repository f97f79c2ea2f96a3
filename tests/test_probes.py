"""osprey_nb.widgets.probes: values on hand-made tensors, and the widget that shows them."""

import numpy as np
import pytest
import torch
from playwright.sync_api import expect

from osprey_nb.data.record import Record
from osprey_nb.masks import to_rle
from osprey_nb.widgets import probes
from osprey_nb.widgets.probes import MaskProbe, ProbeState, likeness, probe_figure, probe_mask, read_levels


@pytest.fixture
def picture():
    """A grey 64×64 picture with a red right half; four levels, channel 0 is 'right half', channel 1 is 1."""
    image = np.full((64, 64, 3), 120, np.uint8)
    image[:, 32:] = (200, 30, 30)
    levels = []
    for side in (16, 8, 4, 2):
        level = torch.ones(2, side, side)
        level[0, :, : side // 2] = 0
        levels.append(level)
    return image, levels


def test_masks_of_a_state():
    square = probe_mask(ProbeState(x=4, y=2, size=2, shape="square"), 6, 8)
    assert square.shape == (6, 8) and square.dtype == bool
    assert square.sum() == 4 and square[1:3, 3:5].all()
    disc = probe_mask(ProbeState(x=10, y=10, size=10), 20, 20)
    assert abs(disc.sum() - np.pi * 25) < 4
    assert not disc[5, 5] and disc[5, 10]
    assert probe_mask(ProbeState(x=4, y=4, size=0), 8, 8).sum() == 0
    with pytest.raises(ValueError, match="disc"):
        probe_mask(ProbeState(4, 4, 2, shape="star"), 8, 8)


def test_a_level_is_read_as_the_package_pools_it(picture):
    _, levels = picture
    mask = np.zeros((64, 64), bool)
    mask[:, 24:40] = True  # half on the left, half on the right
    for reading, level in zip(read_levels(levels, mask, "soft"), levels, strict=True):
        assert reading.share.shape == level.shape[1:]
        assert reading.share.sum() == pytest.approx(1, abs=1e-5)
        np.testing.assert_allclose(reading.vector, [0.5, 1.0], atol=1e-5)
    fine, *_, coarse = read_levels(levels, mask, "threshold")
    assert fine.cells == 16 * 4
    assert coarse.cells == 0  # the coarsest cells read columns 15, 16, 47 and 48 only


def test_a_small_mask_vanishes_or_owns_a_cell(picture):
    _, levels = picture
    between = np.zeros((64, 64), bool)
    between[20:28, 20:28] = True
    assert [r.cells for r in read_levels(levels, between, "threshold")] == [4, 4, 1, 0]
    gone = read_levels(levels, between, "threshold")[3]
    assert (gone.vector == 0).all() and (gone.share == 0).all()
    assert read_levels(levels, between, "soft")[3].cells == 1
    one = np.zeros((64, 64), bool)
    one[15, 47] = True
    owner = read_levels(levels, one, "threshold")[3]
    assert owner.share.tolist() == [[0, 1], [0, 0]] and owner.vector.tolist() == [1, 1]


def test_likeness():
    assert likeness(np.array([1.0, 0]), np.array([3.0, 0])) == pytest.approx(1)
    assert likeness(np.array([1.0, 0]), np.array([0, 2.0])) == 0
    assert likeness(np.zeros(2), np.ones(2)) == 0


def words(figure) -> str:
    titles = [text for axes in figure.axes for text in (axes.get_title(), axes.get_xlabel())]
    return " | ".join([figure.get_suptitle(), *titles])


def test_the_figure_says_what_each_level_sees(picture):
    image, levels = picture
    text = words(probe_figure(image, levels, ProbeState(x=24, y=24, size=8, shape="square")))
    assert "your mask: 64 pixels" in text and "threshold" in text
    assert "res2 · 4 of 256 cells" in text and "res5 · vanished: 0 cells" in text
    start = ProbeState(x=48, y=24, size=8, shape="square")
    moved = words(probe_figure(image, levels, ProbeState(x=8, y=24, size=8, shape="square"), start))
    assert "likeness to the start 0.71" in moved  # (0, 1) against (1, 1)


def test_the_widget_follows_its_sliders(picture):
    image, levels = picture
    probe = MaskProbe(image, levels, ProbeState(x=48, y=24, size=8))
    before = bytes(probe.picture.value)
    assert before.startswith(b"\x89PNG")
    probe.controls["x"].value = 12
    assert probe.state == ProbeState(x=12, y=24, size=8)
    assert bytes(probe.picture.value) != before
    probe.controls["resize"].value = "soft"
    assert "soft" in words(probe.static())
    assert "likeness to the start" in words(probe.static())


CELL = """
import numpy as np, torch
from osprey_nb.widgets.probes import MaskProbe, ProbeState
levels = [torch.ones(2, side, side) for side in (16, 8, 4, 2)]
MaskProbe(np.full((64, 64, 3), 120, np.uint8), levels, ProbeState(x=20, y=20, size=8))
"""


def test_the_arrow_keys_move_it_in_a_browser(lab, browser):
    lab.write("probe.ipynb", CELL)
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    try:
        lab.open(page, "probe.ipynb")
        page.locator(".jp-CodeCell .cm-content").first.click()
        page.keyboard.press("Shift+Enter")
        picture = page.locator(".jp-OutputArea-output img")
        picture.wait_for(timeout=60_000)
        before = picture.get_attribute("src")
        page.locator(".jp-OutputArea-output .noUi-handle").first.focus()
        page.keyboard.press("ArrowRight")
        expect(picture).not_to_have_attribute("src", before, timeout=30_000)
        expect(page.locator(".widget-readout").first).to_have_text("21")
    finally:
        page.close()


def test_a_drawn_mask_is_read_against_the_one_that_was_meant():
    meant, drawn = np.zeros((40, 50), bool), np.zeros((40, 50), bool)
    meant[10:20, 10:20] = True
    drawn[10:20, 10:15] = drawn[30, 30] = True
    reading = probes.read_brush(drawn, meant)
    assert reading.pixels == 51 and reading.iou == pytest.approx(50 / 101)
    assert reading.runs == len(to_rle(drawn, compressed=False)["counts"])
    assert reading.bytes["array of bool"] == 2000 and reading.bytes["RLE, compressed"] == len(to_rle(drawn)["counts"])
    nothing = probes.read_brush(drawn & False, meant & False)
    assert nothing.iou == 0 and nothing.bytes["polygons, JSON"] == 2


def test_the_brush_probe_follows_the_canvas():
    image, meant = np.full((40, 50, 3), 90, np.uint8), np.zeros((40, 50), bool)
    meant[10:20, 10:20] = True
    probe = probes.BrushProbe(image, meant)
    before = probe.picture.value
    assert probe.static().axes[0].get_title().startswith("IoU 0.00")
    probe.canvas.set_masks([meant[:, ::-1], meant])
    assert probe.picture.value != before
    assert probe.static().axes[0].get_title() == "IoU 0.50   ·   200 pixels, 41 runs"


def test_the_cell_under_a_point():
    at = probes.cell_of
    assert at(probes.FeatureState(0, 0), (4, 8), (64, 64)) == (0, 0)
    assert at(probes.FeatureState(63.9, 63.9), (4, 8), (64, 64)) == (3, 7)
    assert at(probes.FeatureState(40, 17), (4, 8), (64, 64)) == (1, 5)
    assert at(probes.FeatureState(900, -3), (4, 8), (64, 64)) == (0, 7)  # outside: the nearest cell


def test_like_cells_are_found_here_and_in_other_pictures():
    feature = torch.zeros(3, 2, 3)
    feature[0, 0, 0], feature[0, 1, 2], feature[1, 0, 1] = 2.0, 5.0, 1.0
    likeness = probes.likeness_map(feature, (0, 0))
    assert likeness[0, 0] == pytest.approx(1) and likeness[1, 2] > 0.9 and likeness[0, 1] < 0.3
    others = [torch.zeros(3, 2, 3) for _ in range(3)]
    others[1][0, 1, 1] = 4.0
    others[2][2, 0, 2] = 4.0
    best, *rest = probes.nearest_patches(feature, (0, 0), others, 2)
    assert (best.picture, best.row, best.column) == (1, 1, 1) and best.likeness > 0.9
    assert len(rest) == 1 and rest[0].likeness < best.likeness


def test_the_feature_probe_moves_and_changes_levels(picture):
    image, levels = picture
    levels = [level + 0.01 * torch.randn(level.shape, generator=torch.Generator().manual_seed(0)) for level in levels]
    probe = probes.FeatureProbe(image, levels, [(image, levels)] * 9)
    titles = [axes.get_title() for axes in probe.static().axes]
    assert titles[1] == "res4: 2 channels as colours" and len(titles) == 3 + 8
    before = probe.picture.value
    probe.controls["level"].value = 0
    assert probe.state.level == 0 and probe.picture.value != before
    probe.move(x=60, y=5)
    assert (probe.controls["x"].value, probe.controls["y"].value) == (60, 5)
    assert len(probes.FeatureProbe(image, levels).static().axes) == 3


def test_positions_carry_the_loss_of_their_labels(tiny):
    sample = tiny.processor.text([("What is <region1>?", "a cat")], 1, inline=True)
    tokens, loss = probes.positions(tiny.processor, sample["input_ids"], sample["labels"])
    assert len(tokens) == len(loss) == len(sample["input_ids"]) + 63
    assert [text.strip() for (_, text), own in zip(tokens, loss, strict=True) if own] == ["a", "cat", "</s>"]
    assert [kind for kind, _ in tokens].count("image") == 64
    assert not any(probes.positions(tiny.processor, sample["input_ids"])[1])


def test_the_token_probe_leaves_out_turns_and_says_when_nothing_fits(tiny):
    masks = np.ones((2, 8, 8), bool)
    turns = [("What is <region1>?", "a cat"), ("What is <region2>?", "a dog")]
    records = [Record("a", "first", np.zeros((8, 8, 3), np.uint8), masks, turns, inline=True)]
    probe = probes.TokenProbe(tiny.processor, records)
    assert probe.said.value == "All turns fit." and "7 carry loss" in str(probe.static().axes[0].texts[-1])
    probe.controls["limit"].value = 125
    assert "left out" in probe.said.value and "3 carry loss" in str(probe.static().axes[0].texts[-1])
    shown = probe.picture.value
    probe.controls["limit"].value = 80
    assert "too long" in probe.said.value and probe.picture.layout.display == "none"
    probe.controls["limit"].value = 125
    assert probe.picture.layout.display == "" and probe.picture.value == shown


def test_the_positions_of_a_prompt(tiny):
    tokens = probes.prompt_tokens(tiny, "Is <region1> like <region2>?", 2)
    kinds = [kind for kind, _ in tokens]
    assert kinds.count("image") == tiny.config.num_image_tokens
    assert kinds.count("mask") == kinds.count("spatial") == 2
    assert all(kinds[i + 1] == "spatial" for i, kind in enumerate(kinds) if kind == "mask")
    text = "".join(text if kind == "text" else f"[{kind}]" for kind, text in tokens)
    assert "Is [mask][spatial] like [mask][spatial]?" in text.replace("  ", " ")
    batch = tiny.processor.text([("Is <region1> like <region2>?", None)], 2, inline=True)["input_ids"]
    assert len(tokens) == len(batch) + tiny.config.num_image_tokens - 1


def test_swapped_tokens(tiny, monkeypatch):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (96, 96, 3), np.uint8)
    masks = np.zeros((2, 96, 96), bool)
    masks[0, 10:60, 10:50] = masks[1, 50:90, 40:90] = True
    seen, splice = [], tiny.splice
    monkeypatch.setattr(tiny, "splice", lambda *a, **k: seen.append(a[2]) or splice(*a, **k))
    answers = probes.swap_tokens(tiny, image, masks)
    mask_tokens, spatial_tokens = (torch.cat(rows) for rows in seen[0])
    assert [len(row) for row in answers] == [2, 2]
    first, second = mask_tokens[[0, 2]]
    here, there = spatial_tokens[[0, 1]]
    assert torch.equal(mask_tokens, torch.stack([first, first, second, second]))
    assert torch.equal(spatial_tokens, torch.stack([here, there, here, there]))
    assert not torch.equal(first, second) and not torch.equal(here, there)
    assert [answers[0][0], answers[1][1]] == tiny.describe(image, list(masks))
