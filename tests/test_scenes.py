"""The synthetic world: seeds, splits, held-out pairs, exact masks."""

import hashlib

import numpy as np
import pytest

from osprey_nb.data import scenes
from osprey_nb.data.drawings import SHAPES
from osprey_nb.data.graph import SceneGraph, overlap
from osprey_nb.data.kinds import COLOUR_TONES
from osprey_nb.data.scenes import (
    BACKGROUNDS,
    COLOURS,
    HELD_OUT,
    KINDS,
    PATTERNS,
    SIZES,
    compose,
    make_scene,
    render,
)


def digest(graphs) -> str:
    return hashlib.sha256(repr(graphs).encode()).hexdigest()[:16]


def alone(spec, size=128):
    return render(SceneGraph("room", 0, (spec,)), size).objects[0]


def test_world_is_as_rich_as_promised():
    assert len(KINDS) >= 16 and len(COLOURS) >= 8 and len(PATTERNS) >= 4 and len(BACKGROUNDS) >= 5
    assert SIZES == ("small", "medium", "large")
    assert all(2 <= len(parts) <= 6 for parts in KINDS.values())
    seen = [compose(seed) for seed in range(400)]
    objects = [spec for graph in seen for spec in graph.objects]
    for field, words in (("kind", KINDS), ("colour", COLOURS), ("pattern", PATTERNS), ("size", SIZES)):
        assert {getattr(spec, field) for spec in objects} == set(words)
    assert {graph.background for graph in seen} == set(BACKGROUNDS)
    assert {len(graph.objects) for graph in seen} == {2, 3, 4, 5, 6}


@pytest.mark.parametrize(
    ("split", "compositions", "expected"),
    [
        ("train", "train", "4c42d5efa3de8d5c"),
        ("eval", "train", "3a20d81918865121"),
        ("eval", "held_out", "9996b05d38a15a58"),
        ("eval", "all", "57b3ab13835bb29e"),
    ],
)
def test_graphs_are_the_same_on_every_machine(split, compositions, expected):
    assert digest([compose(seed, split, compositions) for seed in range(40)]) == expected


def test_pixels_and_labels_repeat_byte_for_byte():
    first, second = make_scene(11, 96), make_scene(np.int64(11), np.int64(96))
    scenes.paint.cache_clear()
    third = make_scene(11, 96)
    for other in (second, third):
        assert first.image.tobytes() == other.image.tobytes()
        assert first.labels.tobytes() == other.labels.tobytes()


def test_streams_of_splits_and_compositions_are_disjoint():
    streams = [("train", "train"), ("eval", "train"), ("train", "all"), ("eval", "all"), ("eval", "held_out")]
    seen = [{digest(compose(seed, *stream)) for seed in range(200)} for stream in streams]
    assert len(set.union(*seen)) == 200 * len(streams)


def test_held_out_pairs_cover_every_kind_and_colour_and_leave_enough_to_learn_from():
    pairs = len(KINDS) * len(COLOURS)
    assert 0.08 * pairs <= len(HELD_OUT) <= 0.14 * pairs
    assert {kind for kind, _ in HELD_OUT} == set(KINDS) and {colour for _, colour in HELD_OUT} == set(COLOURS)
    for colour in COLOURS:
        assert sum(other == colour for _, other in HELD_OUT) <= len(KINDS) // 4


def test_held_out_pairs_appear_only_where_asked_for():
    def held(graph):
        return sum((spec.kind, spec.colour) in HELD_OUT for spec in graph.objects)

    for split in ("train", "eval"):
        assert not any(held(compose(seed, split, "train")) for seed in range(500))
        assert all(held(compose(seed, split, "held_out")) == 1 for seed in range(500))
    assert any(held(compose(seed, "eval", "all")) for seed in range(50))


def test_a_scene_never_holds_the_same_kind_and_colour_twice():
    for seed in range(300):
        pairs = [(spec.kind, spec.colour) for spec in compose(seed).objects]
        assert len(set(pairs)) == len(pairs)


def test_masks_are_visible_disjoint_and_made_of_their_parts():
    for seed in range(40):
        scene = make_scene(seed)
        assert scene.image.shape == (128, 128, 3) and scene.image.dtype == np.uint8
        masks = np.stack([obj.mask for obj in scene.objects])
        assert masks.dtype == bool and masks.sum(0).max() == 1, "two objects share a pixel"
        assert ((scene.labels > 0) == masks.any(0)).all()
        for obj in scene.objects:
            pieces = np.stack([scene.labels == label for label in obj.labels])
            assert (pieces.any(0) == obj.mask).all() and pieces.sum(0).max() == 1
            assert {part.name for part in obj.parts} <= set(KINDS[obj.kind])
            for part in obj.parts:
                assert part.mask.sum() >= scenes.MIN_PART and not (part.mask & ~obj.mask).any()
                assert scene.segments[part.label] == (obj.index, part.name)
            left_out = obj.mask & ~np.any([part.mask for part in obj.parts], axis=0)
            assert left_out.sum() < scenes.MIN_PART * (len(KINDS[obj.kind]) - len(obj.parts) or 1)


def test_an_object_in_front_takes_its_pixels_from_the_one_behind():
    occluding = 0
    for seed in range(60):
        scene = make_scene(seed)
        for a, relation, b in scene.relations:
            if relation == "in front of":
                front, back = (alone(scene.graph.objects[i]).mask for i in (a, b))
                shared = front & back
                assert a > b and shared.any()
                if a == len(scene.objects) - 1:
                    assert scene.objects[a].mask[shared].all() and not scene.objects[b].mask[shared].any()
                    occluding += 1
    assert occluding >= 3, "occlusion should be common enough to be learnt"


def test_most_of_every_object_can_be_seen():
    for seed in range(120):
        for obj in make_scene(seed).objects:
            whole = alone(obj.spec).mask.sum()
            assert obj.mask.sum() >= 0.5 * whole, (seed, obj.kind)
            assert whole >= 150, (seed, obj.kind)


def test_size_words_are_true_of_the_picture():
    longest = {size: [] for size in SIZES}
    for seed in range(60):
        for spec in compose(seed).objects:
            rows, columns = np.nonzero(alone(spec).mask)
            longest[spec.size].append(max(np.ptp(rows), np.ptp(columns)) + 1)
    # two pixels of grace for the outline and the tilt
    assert max(longest["small"]) < min(longest["medium"]) + 2
    assert max(longest["medium"]) < min(longest["large"]) + 2
    assert np.median(longest["small"]) + 8 < np.median(longest["medium"]) < np.median(longest["large"]) - 8


def test_the_colour_of_the_pixels_is_nearest_to_the_word():
    """The median pixel of an object's main ink is closer to its own colour than to any other."""
    mains = np.array([main for main, _ in COLOUR_TONES.values()], float)
    right, total = 0, 0
    for seed in range(60):
        scene = make_scene(seed)
        for obj in scene.objects:
            pixels = scene.image[obj.mask].astype(float)
            votes = np.argmin(((pixels[:, None] - mains) ** 2).sum(-1), axis=1)
            # outlines are dark: leave them out of the vote
            votes = votes[pixels.max(1) > 110]
            right += COLOURS[np.bincount(votes, minlength=len(COLOURS)).argmax()] == obj.colour
            total += 1
    assert right / total > 0.85


def test_labels_lie_on_the_picture():
    spec = scenes.ObjectSpec("mushroom", "yellow", "plain", "large", 500, 530, 480, 100, 7, False, (0, 0, 0))
    scene = render(SceneGraph("night sky", 0, (spec,)), 128)
    bare = scenes.paint("night sky", 0, 128, 128).astype(float)
    brighter = (scene.image.astype(float) - bare).max(-1) > 25  # the shadow only darkens
    assert (brighter & ~scene.objects[0].mask).sum() < 20


def test_masks_and_graph_do_not_depend_on_the_resolution():
    for seed in range(6):
        small, large = make_scene(seed, 128), make_scene(seed, 384)
        assert small.graph == large.graph
        for one, other in zip(small.objects, large.objects, strict=True):
            reduced = other.mask.reshape(128, 3, 128, 3).mean((1, 3)) > 0.5
            union = (one.mask | reduced).sum()
            assert (one.mask & reduced).sum() / union > 0.9


def test_another_aspect_ratio_keeps_the_shapes():
    graph = compose(5)
    square, wide = render(graph, 128), render(graph, (128, 256))
    assert wide.image.shape == (128, 256, 3) and wide.labels.shape == (128, 256)
    for one, other in zip(square.objects, wide.objects, strict=True):
        widths = [np.ptp(np.nonzero(alone(obj.spec, size).mask)[1]) for obj, size in ((one, 128), (other, (128, 256)))]
        assert abs(widths[0] - widths[1]) <= 1


def test_relations_come_in_pairs_and_agree_with_the_picture():
    opposite = {"left of": "right of", "above": "below", "in front of": "behind"}
    opposite |= {value: key for key, value in opposite.items()}
    for seed in range(60):
        scene = make_scene(seed)
        relations = set(scene.relations)
        for a, relation, b in relations:
            assert (b, opposite[relation], a) in relations
            one, other = (scene.graph.objects[i] for i in (a, b))
            if relation in ("left of", "above"):
                assert one.x < other.x if relation == "left of" else one.y < other.y
            if relation == "in front of":
                assert overlap(one.box, other.box)


def test_every_drawing_fills_its_frame():
    for kind, shapes in SHAPES.items():
        corners = np.concatenate([shape.points for shape in shapes])
        assert np.ptp(corners, axis=0).max() == pytest.approx(1, abs=1e-4), kind
        assert np.allclose(corners.max(0) + corners.min(0), 0, atol=1e-4), kind


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: compose(1, split="test"), "'test'"),
        (lambda: compose(1, compositions="some"), "'some'"),
        (lambda: compose(-1), "-1"),
        (lambda: compose(1.5), "1.5"),
        (lambda: make_scene(1, size=8), "8"),
    ],
)
def test_errors_name_what_was_given(call, named):
    with pytest.raises(ValueError, match=named):
        call()
