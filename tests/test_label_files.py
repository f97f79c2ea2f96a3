"""Label maps in files: what leaves comes back, and what does not fit is refused before anything changes."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from osprey_nb.widgets.canvas import MaskCanvas
from osprey_nb.widgets.label_files import coco_of, png_of, read_labels

H, W = 40, 60


@pytest.fixture
def labels():
    labels = np.zeros((H, W), np.uint8)
    labels[2:20, 3:30], labels[10:35, 31:50], labels[36:, :9] = 2, 5, 9
    return labels


def png(values, mode=None) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values, mode).save(buffer, format="PNG")
    return buffer.getvalue()


def test_coco_is_what_pycocotools_reads(labels):
    found = json.loads(json.dumps(coco_of(labels, {5: "a clock", 9: "a clock"})))
    assert [a["id"] for a in found["annotations"]] == [2, 5, 9]
    assert [a["name"] for a in found["annotations"]] == ["region 2", "a clock", "a clock"]
    assert found["categories"] == [{"id": 1, "name": "region 2"}, {"id": 2, "name": "a clock"}]
    for annotation in found["annotations"]:
        mask = labels == annotation["id"]
        np.testing.assert_array_equal(coco.decode(annotation["segmentation"]), mask)
        assert annotation["area"] == mask.sum()
        x, y, w, h = annotation["bbox"]
        assert mask[y : y + h, x : x + w].sum() == mask.sum()


def test_what_is_saved_comes_back(labels, tmp_path):
    canvas = MaskCanvas(np.zeros((H, W, 3), np.uint8))
    canvas.load(json.dumps(coco_of(labels, {5: "a clock"})).encode())
    for name in ("mine.json", "mine.png"):
        canvas.save(tmp_path / name)
        other = MaskCanvas(np.zeros((H, W, 3), np.uint8))
        other.load(tmp_path / name)
        np.testing.assert_array_equal(other._labels, labels)
        assert other.names == ({5: "a clock"} if name == "mine.json" else {})
    assert Image.open(tmp_path / "mine.png").convert("RGB").getpixel((5, 5)) != (0, 0, 0)  # it looks like regions
    with pytest.raises(ValueError, match="neither .json"):
        canvas.save(tmp_path / "mine.jpg")


def test_other_forms_of_png_are_read(labels):
    opaque = np.full_like(labels, 255)
    grey, as_a_browser = np.dstack([labels] * 3), np.dstack([labels, labels, labels, opaque])
    for data in (png_of(labels), png(labels), png(grey), png(as_a_browser)):
        found, names = read_labels(data, (H, W))
        np.testing.assert_array_equal(found, labels)
        assert names == {}
    mask = ((labels == 2) * 255).astype(np.uint8)
    np.testing.assert_array_equal(read_labels(png(mask), (H, W))[0], labels == 2)


def changed(**changes):
    annotation = {"id": 1, "image_id": 1, "segmentation": [[1, 1, 9, 1, 9, 9]], "name": "x"}
    data = {"images": [{"id": 1, "width": W, "height": H}], "annotations": [annotation]} | changes
    return json.dumps(data).encode()


def test_polygons_and_large_ids_are_numbered_anew():
    annotations = [{"id": 900 + i, "segmentation": [[10 * i, 1, 10 * i + 8, 1, 10 * i + 8, 9, 10 * i, 9]]} for i in range(3)]
    labels, names = read_labels(changed(annotations=annotations), (H, W))
    assert [int((labels == n).sum()) for n in (1, 2, 3)] == [64, 64, 64] and names == {}


@pytest.mark.parametrize(("data", "message"), [
    (b"hello", "neither a PNG nor JSON"), (b"[1, 2]", "not COCO's"), (b"{}", "not COCO's"),
    (changed(annotations=[{"id": 1}]), "not COCO's"), (changed(images=[{}, {}]), "about 2 pictures"),
    (changed(images=[{"width": W, "height": 99}]), "60×99 pixels; this one has 60×40"),
    (changed(annotations=[{"id": i} for i in range(10)]), "10 annotations"),
    (changed(annotations=[{"id": 1, "segmentation": [[100, 100, 200, 100, 200, 200]]}]), "leaves the image"),
    (png(np.zeros((5, 5), np.uint8)), "5×5 pixels"), (png(np.full((H, W), 77, np.uint8)), "the value 77"),
    (png(np.random.default_rng(0).integers(0, 9, (H, W, 3)).astype(np.uint8)), "coloured picture"),
    (png_of(np.zeros((H, W), np.uint8))[:60], "cannot be read"),
])  # fmt: skip
def test_a_file_that_does_not_fit_is_refused_and_nothing_changes(labels, data, message):
    canvas = MaskCanvas(np.zeros((H, W, 3), np.uint8))
    canvas.load(png_of(labels))
    canvas._message(None, {"kind": "open", "name": "x"}, [data])
    assert message in canvas._notice
    np.testing.assert_array_equal(canvas._labels, labels)
    with pytest.raises(ValueError, match=message):
        read_labels(data, (H, W))
    with pytest.raises(FileNotFoundError, match="no file at"):
        read_labels("nowhere.json", (H, W))
