"""to_masks: each form a region comes in, each refusal; the codecs against pycocotools."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image
from pycocotools import mask as coco

from osprey_nb.masks import area, box_of, from_rle, stroke_mask, to_masks, to_polygons, to_rle

# pycocotools 2.0.11 has not followed numpy 2's __array__ yet.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SIZE = (8, 12)
MASK = np.zeros(SIZE, bool)
MASK[2:5, 3:9] = True
OTHER = np.zeros(SIZE, bool)
OTHER[6, 0] = True
POLYGON = [3, 2, 9, 2, 9, 5, 3, 5]
TRIANGLE = [[1.0, 1.0, 9.0, 2.0, 4.0, 7.0]]

binary = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=20))


def same(masks, *expected):
    got = to_masks(masks, SIZE)
    assert got.dtype == bool and got.shape == (len(expected), *SIZE)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "region",
    [
        MASK,
        MASK.astype(np.uint8),
        MASK.astype(np.uint8) * 255,
        MASK.astype(np.int64),
        MASK.tolist(),
        MASK.astype(int).tolist(),
        (MASK.astype(int) * 255).tolist(),
        tuple(map(tuple, MASK.astype(int).tolist())),
        torch.from_numpy(MASK),
        Image.fromarray(MASK),
        Image.fromarray(MASK.astype(np.uint8) * 255),
        [POLYGON],
        {"segmentation": [POLYGON], "category_id": 3},
        to_rle(MASK),
        to_rle(MASK) | {"counts": to_rle(MASK)["counts"].encode()},
        to_rle(MASK, compressed=False),
        (3, 2, 9, 5),
        [3.0, 2.0, 9.0, 5.0],
        np.array([3, 2, 9, 5]),
    ],
)
def test_every_form_alone_and_in_a_list(region):
    same(region, MASK)
    same([region, OTHER], MASK, OTHER)
    same([OTHER, region, region], OTHER, MASK, MASK)


def test_stacks_and_lists_keep_their_order():
    same(np.stack([MASK, OTHER]), MASK, OTHER)
    same([OTHER, MASK], OTHER, MASK)
    same([(3, 2, 9, 5), (0, 6, 1, 7)], MASK, OTHER)
    same([[POLYGON], [[0, 6, 1, 6, 1, 7, 0, 7]]], MASK, OTHER)


def test_cocos_list_of_polygons_is_one_region():
    same([POLYGON, [0, 6, 1, 6, 1, 7, 0, 7]], MASK | OTHER)


@pytest.mark.parametrize("size", [(8, 12), (6, 4), (5, 3), (1, 8)])
def test_nested_lists_are_masks_and_nothing_else_becomes_one(size):
    mask = np.zeros(size, bool)
    mask[0, :2] = True
    for given_list in (mask.tolist(), [mask.tolist()], np.where(mask, 255, 0).tolist()):
        np.testing.assert_array_equal(to_masks(given_list, size), mask[None])
    np.testing.assert_array_equal(to_masks([mask.tolist(), (~mask).tolist()], size), [mask, ~mask])
    corner = np.zeros(size, bool)
    corner[0, 0] = True
    np.testing.assert_array_equal(to_masks([[0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0]], size), corner[None])
    np.testing.assert_array_equal(to_masks([(0.0, 0.0, 1.0, 1.0)] * size[0], size), [corner] * size[0])


def test_polygons_and_boxes_of_zeros_and_ones():
    corner, square = np.zeros(SIZE, bool), [0, 0, 1, 0, 1, 1, 0, 1]
    corner[0, 0] = True
    same([square], corner)
    same([square, square], corner)
    same([[0, 0, 1, 1], [0, 0, 1, 1]], corner, corner)
    big = to_masks([[0, 0, 255, 0, 255, 255], [0, 0, 0, 255, 255, 255]], (256, 256))
    assert big.shape == (1, 256, 256) and big.sum() > 60_000


@pytest.mark.parametrize("size", [(6, 4), (1, 8)])
def test_a_list_that_may_be_a_mask_boxes_or_a_polygon(size):
    mask = np.zeros(size, int)
    mask[:, 2:] = 1
    for given_list in (mask.tolist(), [mask.tolist()]):
        with pytest.raises(ValueError, match=r"which may be a mask, boxes or a polygon; give .* np.array\(mask\)"):
            to_masks(given_list, size)


def test_png_files(tmp_path):
    Image.fromarray(MASK.astype(np.uint8) * 255).save(tmp_path / "a.png")
    Image.fromarray(MASK).save(tmp_path / "b.png")
    same(tmp_path / "a.png", MASK)
    same([str(tmp_path / "b.png"), tmp_path / "a.png"], MASK, MASK)


def test_a_size_that_no_picture_has(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # as people set it who read large files
    with pytest.raises(ValueError, match="100,000×100,000 pixels; no picture is"):
        to_masks((0, 0, 5, 5), size=(100_000, 100_000))
    assert to_masks((0, 0, 5, 5), size=(9, 9)).sum() == 25


def test_the_result_is_a_copy():
    given_mask = MASK.copy()
    to_masks([given_mask], SIZE)[0, 0, 0] = True
    np.testing.assert_array_equal(given_mask, MASK)


@pytest.mark.parametrize(
    ("region", "error", "words"),
    [
        (np.zeros(SIZE, bool), ValueError, "region 2 is empty"),
        (to_rle(np.zeros(SIZE, bool)), ValueError, "region 2 is empty"),
        (MASK[:, :-1], ValueError, r"region 2 is 8×11 .* the image is 8×12"),
        (to_rle(MASK.T), ValueError, r"region 2 is 12×8 .* the image is 8×12"),
        (MASK[:, :-1].tolist(), ValueError, r"region 2 is 8×11 .* the image is 8×12"),
        ((MASK[:-1].astype(int) * 255).tolist(), ValueError, r"region 2 is 7×12 .* the image is 8×12"),
        (MASK.astype(np.float32), TypeError, "region 2 has dtype float32; expected bool"),
        (MASK.astype(float).tolist(), TypeError, "region 2 has dtype float64; expected bool"),
        (np.where(MASK, 0.9, 0.1).tolist(), TypeError, r"region 2 has dtype float64.*from probabilities: p > 0.5"),
        (np.indices(SIZE)[1].tolist(), ValueError, "region 2 has the values 0, 1, 2, 3, 4, 5, …"),
        (np.full(SIZE, np.nan), TypeError, "region 2 has dtype float64 with NaN"),
        (torch.from_numpy(MASK).float(), TypeError, "region 2 has dtype float32"),
        (MASK.astype(np.uint8) * 7, ValueError, "region 2 has the values 0, 7; expected 0/1 or 0/255"),
        (np.arange(96).reshape(SIZE), ValueError, "region 2 has the values 0, 1, 2, 3, 4, 5, …"),
        (MASK[None], ValueError, r"\(1, 8, 12\) for region 2; expected H×W"),
        (
            (3, 2, 13, 5),
            ValueError,
            r"box of region 2, \(3, 2, 13, 5\), leaves the image.*12 wide and 8 high",
        ),
        ((-1, 2, 9, 5), ValueError, "leaves the image"),
        ((3, 2, 9, 9), ValueError, "leaves the image"),
        ((9, 2, 3, 5), ValueError, r"box of region 2, \(9, 2, 3, 5\), ends before it begins"),
        ((3, 5, 9, 5), ValueError, "ends before it begins"),
        ((3, 2, 9, float("nan")), ValueError, "four finite numbers"),
        ((3.1, 2.1, 3.4, 2.4), ValueError, "region 2 is empty"),
        ((3, 2, 9), ValueError, "region 2 is a list of 3 numbers; a box has four"),
        ([[3, 2, 9, 2]], ValueError, "polygon of region 2 has 4 numbers; expected .* three points"),
        ([[3, 2, 9, 2, 9, 5, 3]], ValueError, "polygon of region 2 has 7 numbers"),
        (
            [[3, 2, 9, 2, 9, 50]],
            ValueError,
            r"polygon of region 2 reaches from \(3, 2\) to \(9, 50\) and leaves",
        ),
        ([[3, 2, 9, 2, 9, float("nan")]], ValueError, "polygon of region 2 has NaN"),
        (
            {"size": [8, 12], "counts": [10, 5]},
            ValueError,
            "region 2 has RLE counts for 15 pixels.*8×12 has 96",
        ),
        ({"size": [8, 12], "counts": ""}, ValueError, "region 2 has RLE counts for 0 pixels"),
        ({"size": [8, 12], "counts": "9o"}, ValueError, "region 2 has RLE counts that end in the middle"),
        ({"size": [8, 12], "counts": "}}}~~"}, ValueError, "region 2 has RLE counts with a character"),
        ({"size": [8, 12], "counts": [100, -4]}, ValueError, "no list of run lengths"),
        ({"size": [8, 12], "counts": [50.5, 45.5]}, ValueError, "no list of run lengths"),
        ({"bbox": [1, 2, 3, 4]}, ValueError, r"region 2 is a dict with \['bbox'\]; an RLE has"),
        ("nowhere.png", FileNotFoundError, "no mask of region 2 at nowhere.png"),
        (Image.new("RGB", (12, 8)), ValueError, "region 2 is a picture of mode RGB; save it as grey"),
        (3.5, TypeError, "got float for region 2; expected an H×W bool array"),
    ],
)
def test_refusals_name_the_region_and_what_to_do(region, error, words):
    with pytest.raises(error, match=words):
        to_masks([MASK, region], SIZE)


@pytest.mark.parametrize("nothing", [None, [], (), np.zeros((0, *SIZE), bool)])
def test_no_masks_at_all(nothing):
    with pytest.raises(ValueError, match="no masks; point at one region"):
        to_masks(nothing, SIZE)
    assert to_masks(nothing, SIZE, may_be_none=True).shape == (0, *SIZE)


def test_containers_that_hold_no_regions():
    with pytest.raises(TypeError, match="got int for the masks"):
        to_masks(5, SIZE)
    with pytest.raises(ValueError, match=r"shape \(2, 1, 8, 12\); expected H×W or R×H×W"):
        to_masks(np.zeros((2, 1, *SIZE), bool), SIZE)


def test_a_damaged_png(tmp_path):
    path = tmp_path / "mask.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 2, (64, 64), np.uint8) * 255).save(path)
    path.write_bytes(path.read_bytes()[:120])
    with pytest.raises(ValueError, match="region 1.*damaged"):
        to_masks(path, (64, 64))


def test_the_whole_picture_is_a_box():
    same((0, 0, 12, 8), np.ones(SIZE, bool))


def test_polygons_may_overshoot_by_a_rounding():
    same([[-0.6, 0, 12.4, 0, 12.4, 8.7, -0.6, 8.7]], np.ones(SIZE, bool))


def test_stroke():
    # A dot between four pixels: their centres are 0.71 away, those of the next ring 1.58 and 2.12.
    assert stroke_mask([(6, 4)], 1.5, SIZE).sum() == 4
    assert stroke_mask([(6, 4)], 1.6, SIZE).sum() == 12
    np.testing.assert_array_equal(
        stroke_mask([(3.5, 4.5), (7.5, 4.5)], 0.5, SIZE)[4, 2:9], [0, 1, 1, 1, 1, 1, 0]
    )


def test_stroke_outside_and_wrong():
    assert not stroke_mask([(-50, -50), (-40, -50)], 3, SIZE).any()
    with pytest.raises(ValueError, match="radius of 0"):
        stroke_mask([(6, 4)], 0, SIZE)
    with pytest.raises(ValueError, match=r"shape \(3,\); expected points"):
        stroke_mask([1, 2, 3], 2, SIZE)
    with pytest.raises(ValueError, match="expected points"):
        stroke_mask([(1, float("nan"))], 2, SIZE)


@given(
    st.lists(st.tuples(st.floats(-5, 25), st.floats(-5, 25)), min_size=1, max_size=4),
    st.floats(0.6, 6),
)
@settings(max_examples=60, deadline=None)
def test_stroke_is_every_pixel_within_the_radius(points, radius):
    mask = stroke_mask(points, radius, (16, 20))
    # The same, by walking along the path in small steps.
    path = np.concatenate(
        [np.linspace(a, b, 200) for a, b in zip(points, points[1:] or points, strict=False)], axis=0
    )
    rows, columns = np.indices(mask.shape)
    centre = np.stack([columns + 0.5, rows + 0.5], -1).reshape(-1, 1, 2)
    distance = np.sqrt(((centre - path) ** 2).sum(-1)).min(1).reshape(mask.shape)
    assert mask[distance < radius - 1e-2].all() and not mask[distance > radius + 0.1].any()


@given(binary)
@settings(max_examples=200, deadline=None)
def test_rle_round_trips_and_equals_pycocotools(mask):
    compressed, plain = to_rle(mask), to_rle(mask, compressed=False)
    assert json.loads(json.dumps([compressed, plain])) == [compressed, plain]
    np.testing.assert_array_equal(coco.decode(compressed), mask)
    np.testing.assert_array_equal(coco.decode(coco.frPyObjects(plain, *mask.shape)), mask)
    np.testing.assert_array_equal(from_rle(compressed), mask)
    np.testing.assert_array_equal(from_rle(plain), mask)


@given(binary)
@settings(max_examples=200, deadline=None)
def test_polygons_round_trip_exactly_holes_included(mask):
    polygons = to_polygons(mask)
    if not mask.any():
        assert polygons == []
        return
    drawn = coco.decode(coco.merge(coco.frPyObjects(polygons, *mask.shape)))
    np.testing.assert_array_equal(drawn, mask)
    np.testing.assert_array_equal(to_masks([polygons], mask.shape)[0], mask)


@given(st.lists(st.tuples(st.floats(0, 20), st.floats(0, 16)), min_size=3, max_size=9))
@settings(max_examples=100, deadline=None)
def test_polygons_are_drawn_as_pycocotools_draws_them(points):
    polygon = [float(value) for point in points for value in point]
    expected = coco.decode(coco.merge(coco.frPyObjects([polygon], 16, 20))).astype(bool)
    if expected.any():
        np.testing.assert_array_equal(to_masks([[polygon]], (16, 20))[0], expected)


@given(binary.filter(np.any))
@settings(max_examples=100, deadline=None)
def test_box_and_area_equal_pycocotools(mask):
    x0, y0, x1, y1 = box_of(mask)
    rle = to_rle(mask)
    assert [x0, y0, x1 - x0, y1 - y0] == coco.toBbox(rle).tolist()
    assert area(mask) == coco.area(rle)
    assert to_masks([(x0, y0, x1, y1)], mask.shape)[0][mask].all()


def test_box_of_nothing():
    with pytest.raises(ValueError, match="empty"):
        box_of(np.zeros(SIZE, bool))
