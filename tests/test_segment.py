"""Clicks and boxes to masks: SAM of every size behind one interface, and what it refuses."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy import ndimage
from segment_anything import sam_model_registry
from segment_anything.modeling import MaskDecoder
from segment_anything.modeling.common import LayerNorm2d

from osprey_nb.data.scenes import make_scene
from osprey_nb.evaluate.segmenting import innermost
from osprey_nb.segment import (
    Candidates,
    SamSegmenter,
    checked_prompt,
    distinct,
    load_segmenter,
    sam_of,
    tree_of,
)
from osprey_nb.tiny_sam import CHANNELS, FINE, MIDDLE, Enlarge, build_tiny, folded, unfolded
from osprey_nb.train import sam as training


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    return build_tiny()


@pytest.fixture(scope="module", params=["sam", "classic"])
def segmenter(request, tiny):
    segmenter = SamSegmenter(tiny, "random") if request.param == "sam" else load_segmenter("classic")
    with pytest.raises(ValueError, match="call set_image first"):
        segmenter.predict([(3, 4)])
    with pytest.raises(ValueError, match="call set_image first"):
        segmenter.everything()
    segmenter.set_image(make_scene(3, (96, 144)).image)
    return segmenter


def test_one_click_gives_three_masks_small_to_large(segmenter):
    found = segmenter.predict([(70, 40)])
    assert found.masks.shape == (3, 96, 144) and found.masks.dtype == bool
    areas = found.masks.sum((1, 2))
    assert (np.diff(areas) >= 0).all() and ((found.scores >= 0) & (found.scores <= 1)).all()


def test_a_box_or_two_clicks_give_one(segmenter):
    assert segmenter.predict(box=(20, 20, 60, 70)).masks.shape == (1, 96, 144)
    assert segmenter.predict([(70, 40), (10, 10)], [1, 0]).masks.shape == (1, 96, 144)
    assert segmenter.predict([(70, 40), (80, 40)], several=True).masks.shape == (3, 96, 144)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ({}, "Nothing to go by"),
        ({"points": [(5, 5)], "labels": [0]}, "Nothing to go by"),
        ({"points": [(200, 5)]}, r"\(200, 5\) lies outside the picture, which is 144×96"),
        ({"points": [(float("nan"), 5)]}, "lies outside"),
        ({"points": [5, 5]}, "list of"),
        ({"points": [(5, 5)], "labels": [1, 0]}, "for 1 points"),
        ({"points": [(5, 5)], "labels": [2]}, "give 1"),
        ({"box": (10, 10, 10, 40)}, "box"),
        ({"box": (10, 10, 400, 40)}, "box"),
    ],
)
def test_what_no_picture_can_answer_is_refused(segmenter, prompt, message):
    with pytest.raises(ValueError, match=message):
        segmenter.predict(**prompt)


def test_a_local_click_changes_what_it_is_connected_with():
    segmenter, scene = load_segmenter("tiny", "cpu"), make_scene(3, (192, 256), "eval")
    segmenter.set_image(scene.image)
    points = [innermost(scene.objects[0].mask)]
    before = segmenter.predict(points).logits[-1]
    points.append(innermost(scene.objects[1].mask))
    anew = segmenter.predict(points, mask_input=before).logits[0]
    found = segmenter.predict(points, mask_input=before, local=True)
    changed = found.logits[0] != before
    assert np.array_equal(found.logits[0], np.where(changed, anew, before))
    x, y = (np.array(points[1]) // 2).astype(int)
    pieces, count = ndimage.label(changed, np.ones((3, 3)))
    assert changed[y, x] and count == 1
    flips = ndimage.label((anew > 0) != (before > 0), np.ones((3, 3)))[0]
    near = flips[y - 1 : y + 2, x - 1 : x + 2]
    elsewhere = (flips > 0) & ~np.isin(flips, near[near > 0]) & ~ndimage.binary_dilation(changed, np.ones((3, 3)))
    assert elsewhere.any() and (found.logits[0] == before)[elsewhere].all()
    assert found.masks.shape == (1, 192, 256)
    assert (found.masks[0][::2, ::2] == (found.logits[0][:96] > 0)).mean() > 0.98
    with pytest.raises(ValueError, match="local says that a click changes a mask"):
        segmenter.predict(points, local=True)


def test_classic_clicks_hold_the_place_and_leave_out_what_is_outside():
    segmenter = load_segmenter("classic")
    scene = make_scene(3, 128)
    segmenter.set_image(scene.image)
    masks = segmenter.predict([(64.5, 20.5)]).masks
    assert masks[:, 20, 64].all()
    assert (masks[0] <= masks[1]).all() and (masks[1] <= masks[2]).all()
    assert not segmenter.predict([(64, 20), (5, 120)], [1, 0]).masks[0, 120, 5]


def test_everything_holds_no_mask_twice(segmenter):
    found = segmenter.everything()
    for i, mask in enumerate(found.masks):
        for other in found.masks[:i]:
            assert (mask & other).sum() < 0.85 * (mask | other).sum()


def test_distinct_and_tree():
    masks = np.zeros((5, 40, 50), bool)
    masks[0, 5:35, 5:35] = True  # a bicycle
    masks[1, 20:32, 8:20] = True  # its wheel
    masks[2, 24:28, 12:16] = True  # the hub
    masks[3, 5:35, 5:34] = True  # the bicycle again
    masks[4, 0, 0] = True  # a speck
    found = distinct(Candidates(masks, np.arange(5.0)))
    assert found.scores.tolist() == [0, 1, 2]
    assert tree_of(found.masks) == [None, 0, 1]
    assert distinct(Candidates(masks, np.arange(5.0)), smallest=0).scores.tolist() == [0, 1, 2, 4]
    masks[4] = False  # as a click on bare ground may give
    assert distinct(Candidates(masks, np.arange(5.0)), smallest=0).scores.tolist() == [0, 1, 2]


def test_released_layouts_load_and_others_are_named(tmp_path, tiny):
    torch.manual_seed(1)
    weights = sam_model_registry["vit_b"]().state_dict()
    path = tmp_path / "mine.pth"
    torch.save(weights, path)
    loaded = load_segmenter(path, "cpu")
    assert loaded.predictor.model.image_encoder.img_size == 1024
    for key, value in loaded.predictor.model.state_dict().items():
        assert torch.equal(value, weights[key]), key
    path.write_bytes(path.read_bytes()[:1_000_000])
    with pytest.raises(ValueError, match="mine.pth cannot be read as weights"):
        load_segmenter(path)
    with pytest.raises(ValueError, match="its ViT has width 32"):
        sam_of({"image_encoder.pos_embed": torch.zeros(1, 4, 4, 32)})
    with pytest.raises(ValueError, match="does not fit"):
        sam_of({key: value for key, value in tiny.state_dict().items() if "neck" not in key})
    with pytest.raises(FileNotFoundError):
        load_segmenter(tmp_path / "nothing.pth")


def test_prompt_labels_default_to_inside():
    points, labels, box = checked_prompt([(1, 2), (3, 4)], None, None, (10, 10))
    assert labels.tolist() == [1, 1] and box is None and points.shape == (2, 2)


# --- its training ------------------------------------------------------------------------------------------------------------


class Half(torch.nn.Module):
    """What the decoder asks of the enlarged cells; the other half it asks of the ladder's finest step."""

    def forward(self, x):
        return x[..., :FINE]


def test_the_decoder_is_segment_anythings_but_for_what_the_ladder_adds(tiny):
    torch.manual_seed(0)
    embeddings = tiny.image_encoder(torch.randn(2, 3, 256, 256))
    points = torch.tensor([[[30.0, 40]], [[90, 9]], [[100, 200]], [[5, 70]]])
    sparse, dense = tiny.prompt_encoder((points, torch.ones(4, 1)), None, None)
    places = tiny.prompt_encoder.get_dense_pe()
    own = tiny.mask_decoder
    masks, iou = own.predict_masks(embeddings, places, sparse, dense)
    assert masks.shape == (4, 4, 128, 128) and iou.shape == (4, 4)
    for i in range(4):  # alone, as among prompts on several pictures
        one = own.predict_masks(embeddings[i // 2, None], places, sparse[i : i + 1], dense[i : i + 1])
        torch.testing.assert_close(masks[i : i + 1], one[0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(iou[i : i + 1], one[1], rtol=1e-4, atol=1e-4)

    theirs = MaskDecoder(transformer_dim=CHANNELS, transformer=own.transformer)
    for name in ("iou_token", "mask_tokens", "iou_prediction_head"):
        setattr(theirs, name, getattr(own, name))
    heads = own.output_hypernetworks_mlps
    theirs.output_hypernetworks_mlps = torch.nn.ModuleList(torch.nn.Sequential(head, Half()) for head in heads)
    first, norm, act, second, _ = own.output_upscaling
    as_sam = LayerNorm2d(MIDDLE)
    as_sam.load_state_dict(norm.state_dict())
    theirs.output_upscaling = torch.nn.Sequential(first, as_sam, act, second, act)
    without = embeddings[:1].clone()
    without[:, CHANNELS:] = 0
    expected = theirs.predict_masks(without[:, :CHANNELS], places, sparse[:1], dense[:1])
    for mine, their in zip(own.predict_masks(without, places, sparse[:1], dense[:1]), expected, strict=True):
        torch.testing.assert_close(mine, their, rtol=1e-4, atol=1e-4)
    assert (masks[:1] - expected[0]).abs().max() > 1e-3  # and what it adds is not nothing


def test_what_the_ladder_saw_lands_where_it_was_seen(tiny):
    picture = torch.randn(1, FINE, 128, 128)
    fine = folded(picture, 2)
    assert torch.equal(fine[0, :FINE, 5, 7], picture[0, :, 20, 28])
    assert torch.equal(fine[0, 6 * FINE : 7 * FINE, 5, 7], picture[0, :, 21, 30])  # 6 = right half, then bottom row and left
    assert torch.equal(unfolded(fine, 2), picture)


def test_a_mask_so_far_is_what_further_clicks_change(tiny):
    torch.manual_seed(0)
    so_far, points = 5 * torch.randn(2, 1, 128, 128), (torch.tensor([[[30.0, 40]], [[90, 9]]]), torch.ones(2, 1))
    with torch.no_grad():
        embeddings = tiny.image_encoder(torch.randn(1, 3, 256, 256))
        sparse, dense = tiny.prompt_encoder(points, None, so_far)
        read = embeddings, tiny.prompt_encoder.get_dense_pe(), sparse
        masks, _ = tiny.mask_decoder.predict_masks(*read, dense)
        anew, _ = tiny.mask_decoder.predict_masks(*read, dense[:, :CHANNELS])
    torch.testing.assert_close(masks - anew, so_far.expand_as(masks), rtol=1e-4, atol=1e-4)


def test_each_step_of_the_ladder_is_added_at_its_own_place():
    torch.manual_seed(0)
    enlarge, seen = Enlarge(), torch.randn(2, 32 * 32, CHANNELS)
    middle, fine = torch.randn(1, MIDDLE, 64, 64), torch.randn(1, FINE, 128, 128)

    def places(middle, fine):
        cells = enlarge(seen, torch.cat([folded(middle, 1), folded(fine, 2)], 1))  # two prompts on one picture
        return unfolded(cells.flatten(2).transpose(1, 2).unflatten(2, (32, 32)), 2)

    before = places(middle, fine)
    for step, (y, x), changed, halves in ((0, (20, 45), (slice(40, 42), slice(90, 92)), 1), (1, (37, 90), (37, 90), 2)):
        other = [middle.clone(), fine.clone()]
        other[step][0, :, y, x] += 1
        moved = (places(*other) != before).unflatten(1, (2, FINE)).any(2)  # enlarged, and as the ladder saw it
        where = torch.zeros(128, 128, dtype=torch.bool)
        where[changed] = True
        for half in range(2):
            assert (moved[:, half] == (where if half < halves else False)).all(), (step, half)


def test_clicks_know_their_piece_part_and_object():
    torch.manual_seed(0)
    picture, piece, owner = training.in_pieces(5)
    scene = make_scene(5, 256)
    assert (picture == scene.image).all()
    points, targets, known = training.clicks(torch.from_numpy(piece)[None], torch.from_numpy(owner)[None], 64)
    assert 40 < known.sum() < 64
    for (x, y), three in zip(points[known].int().tolist(), targets[known], strict=True):
        label = scene.labels[y, x]
        thing = scene.segments[label][0]
        for target, drawn in ((three[1], scene.labels == label), (three[2], scene.objects[thing].mask)):
            assert (target > 0.5).sum().item() == pytest.approx(drawn.sum() / 4, rel=0.25, abs=6)
        assert (three[0] <= three[1]).all() and (three[1] <= three[2]).all()


def test_loose_boxes_are_around_their_targets():
    torch.manual_seed(0)
    target = torch.zeros(200, 128, 128)
    target[:, 30:50, 60:90] = 1
    boxes = training.loose_boxes(target)
    middle = torch.tensor([120.0, 60, 180, 100]) - 0.5
    assert (boxes.mean(0) - middle).abs().max() < 1 and 1 < boxes.std(0).max() < 5


def test_a_click_goes_where_the_mask_is_wrong():
    logits, target = torch.full((1, 128, 128), -5.0), torch.zeros(1, 128, 128)
    target[0, 10:12, 20:22] = 1
    at, inside = training.wrong_places(logits, target)
    assert inside.item() == 1 and 40 <= at[0, 0] <= 44 and 20 <= at[0, 1] <= 24
    at, inside = training.wrong_places(-logits, target * 0)
    assert inside.item() == 0


def test_a_further_click_goes_into_the_thick_of_what_is_wrong():
    """A blob that is missing, not the many wrong places along the edge; where missing and surplus lie close, neither hides."""
    torch.manual_seed(0)
    target, found = torch.zeros(2, 60, 128, 128), torch.zeros(2, 60, 128, 128)
    target[:, :, 20:100, 20:60] = 1
    found[:, :, 20:100, 21:61] = 1  # a column too far to the right: 160 places are wrong
    target[0, :, 40:52, 90:102] = 1  # 144 more
    found[1, :, 40:52, 90:102] = 1
    for missing, t, f in zip((True, False), target, found, strict=True):
        at, inside = training.wrong_places(10 * f - 5, t)
        blob = ((at[:, 0] / 2 - 95.5).abs() < 7) & ((at[:, 1] / 2 - 45.5).abs() < 7)
        assert blob.float().mean() > 0.95 and (inside[blob] == missing).all()
    at, inside = training.wrong_places(10 * found[0, :, :, :80] - 5, target[0, :, :, :80])  # the edge alone
    assert ((at[:, 0] == 40.5) == inside).all() and ((at[:, 0] == 120.5) == ~inside).all()


def test_further_clicks_are_off_as_a_hand_is_and_some_go_on_without_a_mask(tiny, monkeypatch):
    meant, given, dense = [], [], []

    def wrong_places(*maps, place=training.wrong_places):
        meant.append(place(*maps))
        return meant[-1]

    def as_tokens(sam, at, inside, embed=training.as_tokens):
        given.append(at)
        return embed(sam, at, inside)

    def decode(*read, predict=tiny.mask_decoder.predict_masks):
        dense.append(read[-1])
        return predict(*read)

    monkeypatch.setattr(training, "wrong_places", wrong_places)
    monkeypatch.setattr(training, "as_tokens", as_tokens)
    interactive = training.Interactive(training.Naming(tiny, training.Pieces([training.in_pieces(5)])), 60)
    interactive.decode = decode
    torch.manual_seed(0)
    with torch.no_grad():
        interactive(torch.arange(1))
    assert len(dense) == training.ROUNDS == 3 and len(given) == 3
    for (at, _), clicked in zip(meant, given[1:], strict=True):
        assert len(at) == 60 // training.FOLLOWED
        assert 1.2 < (clicked - at).std() < 1.8 and (clicked - at).mean().abs() < 0.5
    kept = [each[:, CHANNELS:].flatten(1).any(1) for each in dense[1:]]
    assert torch.equal(*kept) and 0.5 < kept[0].float().mean() < 0.95
    blank = tiny.prompt_encoder.no_mask_embed.weight[:, :, None, None].expand(-1, -1, 32, 32)
    assert (dense[1][~kept[0], :CHANNELS] == blank).all()


def test_every_place_has_its_name(tiny):
    """A naming that is sure of the right names has no loss; one of the wrong ones has a high one."""
    naming = training.Naming(tiny, training.Pieces([training.in_pieces(5)]))
    scene = make_scene(5, 256)
    names = np.zeros(scene.labels.shape, int)
    for label, (index, part) in enumerate(scene.segments):
        if label:
            names[scene.labels == label] = 1 + training.NAMES.index((scene.objects[index].kind, part))
    present = np.unique(names)
    assert len(present) <= FINE
    fine = torch.from_numpy(names[::2, ::2, None] == np.pad(present, (0, FINE - len(present)), constant_values=-1))
    with torch.no_grad():
        naming.names.weight.zero_()
        naming.names.bias.fill_(0)
        for channel, name in enumerate(present):
            naming.names.weight[name, channel] = 30
        embeddings = torch.cat([torch.zeros(1, CHANNELS + 4 * MIDDLE, 32, 32), folded(fine.movedim(-1, 0)[None].float(), 2)], 1)
        _, piece, owner = naming.scenes(torch.tensor([0]))
        piece = piece[:, ::2, ::2].repeat_interleave(2, 1).repeat_interleave(2, 2)  # no place of 2×2 pixels with two names
        assert naming.loss(embeddings, piece, owner) < 1e-6
        assert naming.loss(embeddings.flip(-1), piece, owner) > 1


def test_clicks_are_drawn_and_read_as_torch_and_sam_do():
    weights = torch.tensor([[0.0, 3, 0, 1, 0], [2.0, 0, 0, 0, 0]])
    shares = torch.stack([(training.drawn(weights, 4000) == place).float().mean(1) for place in range(5)], 1)
    torch.testing.assert_close(shares, weights / weights.sum(1, keepdim=True), atol=0.03, rtol=0)
    sam, points, inside = build_tiny(), torch.rand(6, 2) * 256, torch.arange(6) % 2 == 0
    theirs = sam.prompt_encoder._embed_points(points[:, None], inside[:, None].long(), pad=False)
    torch.testing.assert_close(training.as_tokens(sam, points, inside), theirs)


def test_training_learns_and_saves(tmp_path):
    made = training.train_sam(out=tmp_path / "sam", steps=6, device="cpu", progress=False)
    record = (tmp_path / "sam" / "run.json").read_text()
    assert '"command": "osprey-nb train sam' in record
    again = load_segmenter(tmp_path / "sam" / "model.safetensors", "cpu")
    for segmenter in (made, again):
        segmenter.set_image(make_scene(1, 256, "eval").image)
    np.testing.assert_allclose(made.predict([(99, 99)]).logits, again.predict([(99, 99)]).logits, atol=0.2)
    lines = [json.loads(line) for line in (tmp_path / "sam" / "log.jsonl").read_text().splitlines()]
    for stage in ("names", "masks"):
        losses = [line["loss"] for line in lines if line["stage"] == stage]
        assert len(losses) == 6 and losses[-1] < losses[0], stage
    with pytest.raises(FileExistsError):
        training.train_sam(out=tmp_path / "sam", steps=1)
    training.train_sam(out=tmp_path / "on", steps=2, start=tmp_path / "sam", device="cpu", progress=False)
    on = [json.loads(line) for line in (tmp_path / "on" / "log.jsonl").read_text().splitlines()]
    assert lines[0]["norms"].keys() == {"sam", "names"} and on[0]["norms"].keys() == {"names"}  # the encoder keeps still
    assert on[2]["stage"] == "masks" and on[2]["loss"] < lines[6]["loss"]
    with pytest.raises(ValueError, match="does not fit"):  # of an older layout
        (tmp_path / "old").mkdir()
        width = {"image_encoder.pos_embed": torch.zeros(1, 32, 32, 160)}
        save_file(width, tmp_path / "old" / "model.safetensors")
        training.train_sam(out=tmp_path / "other", steps=1, start=tmp_path / "old", progress=False)
    assert not (tmp_path / "other").exists()
    with pytest.raises(ValueError, match="minutes is 0.5"):
        training.train_sam(0.5, tmp_path / "other")
