"""Probes of features and regions: space, microscope, quiz, channels. Values by hand, and widgets that follow their controls."""

import numpy as np
import pytest
import torch
from test_probes_answers import words

from osprey_nb.data.scenes import make_scene
from osprey_nb.mask_extractor import mask_pool
from osprey_nb.widgets import probes


@pytest.fixture(scope="module")
def scenes():
    return [make_scene(i, 128, split="eval") for i in range(8)]


@pytest.fixture(scope="module")
def regions(tiny, scenes):
    return probes.read_regions(tiny, probes.scene_pictures(scenes))


@pytest.fixture(scope="module")
def levels(tiny, scenes):
    with torch.no_grad():
        return [level[0] for level in tiny.encoder(tiny.processor.image(scenes[2].image)[None])]


# --- the space of regions ---------------------------------------------------------------------------------------------


def test_the_vectors_are_those_of_the_model(tiny, scenes, regions):
    count = sum(len(scene.objects) for scene in scenes)
    assert len(regions.crops) == count and {len(rows) for rows in regions.vectors.values()} == {count}
    assert regions.labels["kind"][:4] == [thing.kind for thing in scenes[0].objects]
    features = tiny.encoder(tiny.processor.image(scenes[0].image)[None])
    masks = torch.from_numpy(np.stack([thing.mask for thing in scenes[0].objects]))
    with torch.no_grad():
        (tokens,), (spatial,) = tiny.mask_extractor(features, [masks])
        pooled = mask_pool(features[1][0], masks.float(), "soft")
    for space, rows in (("mask token", tokens), ("spatial token", spatial), ("res3", pooled)):
        found = regions.vectors[space]
        assert np.abs(found.mean(0)).max() < 1e-4  # the mean is taken off: differences stay
        np.testing.assert_allclose(found[1] - found[0], (rows[1] - rows[0]).detach(), atol=1e-4)


def test_the_map_keeps_what_differs_most():
    rng = np.random.default_rng(0)
    flat = np.stack([5 * rng.standard_normal(50), rng.standard_normal(50)], 1)
    turn = np.linalg.qr(rng.standard_normal((6, 6)))[0][:2]
    places, shares = probes.flat(flat @ turn + 3)
    assert places.shape == (50, 2) and shares.sum() == pytest.approx(1) and shares[0] > 0.9
    far = np.linalg.norm(flat[:, None] - flat[None], axis=-1)
    np.testing.assert_allclose(np.linalg.norm(places[:, None] - places[None], axis=-1), far, atol=1e-9)
    assert probes.flat(np.ones((4, 3)))[1].tolist() == [0, 0]  # nothing differs


def test_neighbours_by_cosine():
    vectors = np.array([[1.0, 0], [0, 2], [3, 1], [-1, 0], [0, 0]])
    assert probes.cosines(vectors, 0) == pytest.approx([1, 0, 3 / 10**0.5, -1, 0])
    assert probes.neighbours(vectors, 0, 3) == [2, 1, 4]
    assert probes.neighbours(vectors, 4, 9) == [0, 1, 2, 3]


def test_things_of_one_kind_are_near_on_res3_of_one_colour_on_res2(tiny):
    """What the notice below the probe says: in many pictures, where there is something to find."""
    regions = probes.read_regions(tiny, probes.scene_pictures([make_scene(i, 128, split="eval") for i in range(40)]))
    for space, label, least in (("res3", "kind", 0.7), ("res2", "colour", 0.7)):
        rows, names = regions.vectors[space], regions.labels[label]
        paired = [i for i, name in enumerate(names) if names.count(name) > 1]
        assert np.mean([names[probes.neighbours(rows, i, 1)[0]] == names[i] for i in paired]) > least


def test_a_crop_is_the_region_with_the_rest_pale(scenes, regions):
    thing, crop = scenes[0].objects[0], regions.crops[0]
    inside = {tuple(pixel) for pixel in scenes[0].image[thing.mask]}
    assert inside <= {tuple(pixel) for pixel in crop.reshape(-1, 3)} and max(crop.shape) < 128


def test_regions_that_do_not_agree_are_refused(tiny, scenes):
    (image, masks, labels), *rest = probes.scene_pictures(scenes[:2])
    with pytest.raises(ValueError, match="Picture 2 has 5 regions"):
        probes.read_regions(tiny, [(image, masks, labels), (rest[0][0], rest[0][1], labels)])
    with pytest.raises(ValueError, match="three regions at least"):
        probes.read_regions(tiny, [(image, masks[:2], {"kind": ["a", "b"]})])


def test_the_space_probe_follows_its_controls(regions):
    probe = probes.SpaceProbe(regions)
    text = words(probe.static())
    kinds, vectors = regions.labels["kind"], regions.vectors["mask token"]
    near = probes.neighbours(vectors, 0)
    assert f"A: {regions.labels['colour'][0]} {kinds[0]}" in text and all(kinds[i] in text for i in near)
    assert f"{probes.cosines(vectors, 0)[near[0]]:.2f}" in text
    shown = probe.picture.value
    probe.controls["space"].value = "res2"
    assert probe.picture.value != shown and "by their pooled res2" in words(probe.static())
    probe.controls["label"].value = "colour"
    probe.controls["chosen"].value = 7
    probe.controls["other"].value = 7  # like itself everywhere
    assert words(probe.static()).count("1.00") == 6 and "coloured by colour" in words(probe.static())
    for wrong, message in (({"chosen": 99}, "chosen is 99"), ({"space": "res9"}, "space is 'res9'")):
        with pytest.raises(ValueError, match=message):
            probe.move(**wrong)
    assert probe.state == probes.SpaceState(7, 7, "res2", "colour")


# --- a cell under the microscope --------------------------------------------------------------------------------------


def test_cells_at_one_place():
    sizes = [(32, 32), (16, 16), (8, 8), (4, 4)]
    assert probes.cells_at(probes.MicroscopeState(2, 3, 5), sizes) == [(14, 22), (7, 11), (3, 5), (1, 2)]
    assert probes.cells_at(probes.MicroscopeState(0, 31, 0), sizes) == [(31, 0), (15, 0), (7, 0), (3, 0)]
    for wrong, message in ((4, 0, 0), "level is 4"), ((3, 4, 0), "row is 4"), ((3, 0, -1), "column is -1"):
        with pytest.raises(ValueError, match=message):
            probes.cells_at(probes.MicroscopeState(*wrong), sizes)


def test_shares_and_patches_by_hand():
    """A mask of 64 pixels: one half in one cell of res4, a half in its neighbour."""
    rng = np.random.default_rng(0)
    levels = [torch.from_numpy(rng.standard_normal((5, side, side))).float() for side in (16, 8, 4, 2)]
    mask = np.zeros((64, 64), bool)
    mask[20:28, 12:20] = True
    cells = probes.read_cells(levels, mask, probes.MicroscopeState(2, 1, 0), "soft")
    assert (cells[2].row, cells[2].column, cells[2].patch) == (1, 0, (0, 16, 16, 32))
    assert cells[2].share == pytest.approx(0.5) and cells[3].share == pytest.approx(1)
    pooled = mask_pool(levels[2], torch.from_numpy(mask)[None].float(), "soft")[0]
    expected = torch.cosine_similarity(levels[2][:, 1, 0], pooled, dim=0).item()
    assert cells[2].likeness == pytest.approx(expected, abs=1e-5) and cells[3].likeness == pytest.approx(1, abs=1e-5)
    # all the cells of a level make the mean: shares times features
    total = sum(
        probes.read_cells(levels, mask, probes.MicroscopeState(1, row, column), "soft")[1].share * levels[1][:, row, column]
        for row, column in np.ndindex(8, 8)
    )
    torch.testing.assert_close(total, mask_pool(levels[1], torch.from_numpy(mask)[None].float(), "soft")[0], atol=1e-5, rtol=0)


def test_the_microscope_moves_between_levels(scenes, levels):
    mask = scenes[2].objects[0].mask
    probe = probes.MicroscopeProbe(scenes[2].image, levels, mask, "soft")
    rows, columns = np.nonzero(mask)
    assert probe.state == probes.MicroscopeState(2, int(rows.mean() / 16), int(columns.mean() / 16))  # the mask's middle
    cell = probes.read_cells(levels, mask, probe.state, "soft")[2]
    assert f"{cell.share:.1%} of the pooled mean" in words(probe.static())
    shown = probe.picture.value
    probe.controls["level"].value = 0
    assert probe.controls["row"].max == 31 and probe.state.row // 4 == cell.row and probe.picture.value != shown
    probe.controls["column"].value = 31
    assert "not in the mean" in words(probe.static())
    probe.controls["level"].value = 3
    assert (probe.controls["row"].max, probe.controls["column"].max) == (3, 3) and probe.state.column == 3
    with pytest.raises(ValueError, match="level is 4"):
        probe.move(level=4)
    with pytest.raises(ValueError, match="0 pixels"):
        probes.MicroscopeProbe(scenes[2].image, levels, mask & False)


# --- the quiz ---------------------------------------------------------------------------------------------------------


def test_questions_have_one_truth_and_three_near_misses(scenes):
    questions = probes.scene_questions(scenes)
    assert len(questions) == len(scenes)
    for question, scene in zip(questions, scenes, strict=True):
        thing = next(x for x in scene.objects if (x.mask == question.mask).all())
        true = question.answers[question.truth]
        assert thing.kind in true and thing.colour in true and (thing.pattern in true or thing.pattern == "plain")
        near = [set(answer.split()) for i, answer in enumerate(question.answers) if i != question.truth]
        assert sum(thing.kind in answer for answer in near) == sum(thing.colour in answer for answer in near) == 2
    assert len({question.truth for question in questions}) > 1
    assert probes.scene_questions(scenes)[3].answers == questions[3].answers != probes.scene_questions(scenes, 1)[3].answers


def test_the_verdict_is_the_models(tiny, scenes):
    (question,) = probes.scene_questions(scenes[:1])
    verdict, session = probes.judge(tiny, question), tiny.read(question.image)
    assert verdict.said == session.describe([question.mask])[0]
    alone = [session.score([question.mask], [answer]).item() for answer in question.answers]
    assert verdict.scores == pytest.approx(alone, abs=1e-3) and verdict.choice == int(np.argmax(alone))
    assert verdict.shares == pytest.approx(np.exp(alone) / np.exp(alone).sum(), abs=1e-4)


def test_bad_questions_are_refused(tiny, scenes):
    image, mask = scenes[0].image, scenes[0].objects[0].mask
    with pytest.raises(ValueError, match="four different"):
        probes.Question(image, mask, ("a cat", "a dog", "a cat", "a car"), 0)
    with pytest.raises(ValueError, match="truth is 4"):
        probes.Question(image, mask, ("a", "b", "c", "d"), 4)
    with pytest.raises(ValueError, match="one pixel or more"):
        probes.Question(image, mask[1:], ("a", "b", "c", "d"), 0)
    with pytest.raises(ValueError, match="no questions"):
        probes.QuizProbe(tiny, [])


def test_the_quiz_counts_and_shows_the_truth_only_afterwards(tiny, scenes):
    questions = probes.scene_questions(scenes[:3])
    probe = probes.QuizProbe(tiny, questions)
    text = words(probe.static())
    assert "Question 1 of 3" in text and "true" not in text and "%" not in text and "Unasked" not in text
    assert probe.before.disabled and not probe.after.disabled
    wrong = (questions[0].truth + 1) % 4
    probe.buttons[wrong].click()
    text = words(probe.static())
    assert "you 0" in text and "your choice" in text and "true" in text
    assert probe.verdicts[0].said in text.replace("\n", " ") and all(button.disabled for button in probe.buttons)
    probe.choose(questions[0].truth)  # too late
    assert probe.state.choices == (wrong, None, None)
    probe.after.click()
    assert "true" not in words(probe.static()) and not probe.buttons[0].disabled
    shown = probe.picture.value
    probe.buttons[questions[1].truth].click()
    text = words(probe.static())
    assert "you 1" in text and "of 2" in text and "true · your choice" in text
    model = sum(probe.verdicts[i].choice == questions[i].truth for i in (0, 1))
    assert probes.tally(questions, probe.verdicts, probe.state) == (1, model, 2) and probe.picture.value != shown
    probe.before.click()
    assert probe.state.question == 0 and "your choice" in words(probe.static())
    with pytest.raises(ValueError, match="answer is 4"):
        probe.choose(4)
    assert "Probe:" in probe.children[0].value and probe.notice in probe.children[-1].value


# --- channels of the pyramid ------------------------------------------------------------------------------------------


def test_the_feature_probe_shows_one_channel(scenes, levels):
    probe = probes.FeatureProbe(scenes[2].image, levels, start=probes.FeatureState(40, 60, level=3))
    shown = probe.picture.value
    probe.controls["shown"].value = "channel"
    probe.controls["channel"].value = 200
    axes = probe.static().axes[1]
    assert probe.picture.value != shown and axes.get_title().startswith("res5: channel 200, here ")
    np.testing.assert_array_equal(np.asarray(axes.images[0].get_array()), levels[3][200])
    probe.controls["level"].value = 0  # only 32 channels there
    assert probe.state.channel == probe.controls["channel"].max == 31
    with pytest.raises(ValueError, match="channel is 32"):
        probe.move(channel=32)
    assert probe.state.channel == 31
    with pytest.raises(ValueError, match="level is 4"):
        probe.move(level=4)
    probe.move(shown="colours")
    assert "32 channels as colours" in probe.static().axes[1].get_title()
