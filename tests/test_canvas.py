"""The canvas on Python's side: masks in and out, and every message that a browser could send."""

import base64
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright._impl._driver import compute_driver_executable

from osprey_nb.data.scenes import make_scene
from osprey_nb.segment import Candidates, load_segmenter
from osprey_nb.widgets.canvas import CANVAS_FILES, MaskCanvas, bundle, decode_runs, encode_runs

H, W = 40, 60


@pytest.fixture
def canvas():
    return MaskCanvas(np.full((H, W, 3), 200, dtype=np.uint8))


def labels_with(*boxes) -> np.ndarray:
    """A label map with boxes (region, y0, y1, x0, x1)."""
    labels = np.zeros((H, W), dtype=np.uint8)
    for region, y0, y1, x0, x1 in boxes:
        labels[y0:y1, x0:x1] = region
    return labels


def from_browser(canvas, seq, runs) -> None:
    """A stroke arrives, in the very form in which the kernel gets it: a memoryview inside the state."""
    runs = memoryview(runs) if isinstance(runs, bytes) else runs
    canvas.set_state({"_drawing": {"seq": seq, "runs": runs}})


def test_geometry_in_javascript():
    node, _ = compute_driver_executable()  # Playwright brings one, so nobody has to install it
    tests = sorted(map(str, (Path(__file__).parent / "js").glob("*.test.mjs")))
    result = subprocess.run([node, "--test", *tests], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert "# pass 0" not in result.stdout


def test_runs_describe_any_label_map():
    rng = np.random.default_rng(0)
    for size in [(1, 1), (3, 7), (H, W)]:
        labels = rng.integers(0, 10, size).astype(np.uint8)
        np.testing.assert_array_equal(decode_runs(encode_runs(labels), size), labels)
    assert np.frombuffer(encode_runs(np.uint8([[0, 0, 3], [3, 0, 0]])), "<u4").tolist() == [0, 2, 3, 2, 0, 2]


def test_a_stroke_becomes_masks(canvas):
    labels = labels_with((2, 3, 9, 5, 20), (7, 20, 30, 40, 60))
    from_browser(canvas, 1, encode_runs(labels))
    assert list(canvas.regions) == [2, 7]
    assert [mask.dtype for mask in canvas.masks] == [bool, bool]
    np.testing.assert_array_equal(canvas.masks[0], labels == 2)
    np.testing.assert_array_equal(canvas.masks[1], labels == 7)
    assert canvas._saved == 1 and canvas._notice == ""
    assert len(canvas._drawing["runs"]) == len(encode_runs(labels))


def test_callbacks_hear_which_region_was_drawn_or_erased(canvas):
    heard = []
    canvas.on_stroke(heard.append)
    from_browser(canvas, 1, encode_runs(labels_with((3, 0, 9, 0, 9))))
    from_browser(canvas, 2, encode_runs(labels_with((3, 0, 9, 0, 9), (1, 20, 25, 0, 9))))
    from_browser(canvas, 3, encode_runs(labels_with((1, 20, 25, 0, 9))))
    from_browser(canvas, 4, encode_runs(labels_with((1, 20, 25, 0, 9))))  # nothing changed
    assert heard == [3, 1, 3]


def test_a_failing_callback_is_shown_and_the_mask_is_kept(canvas):
    def fail(region):
        raise KeyError("my own mistake")

    heard = []
    canvas.on_stroke(fail)
    canvas.on_stroke(heard.append)
    from_browser(canvas, 1, encode_runs(labels_with((1, 0, 9, 0, 9))))
    assert "KeyError" in canvas._notice and "my own mistake" in canvas._notice
    assert len(canvas.masks) == 1 and heard == [1]


GOOD = encode_runs(labels_with((1, 0, 9, 0, 9)))
PAIRS = np.frombuffer(GOOD, "<u4")
BAD = {
    "another image's size": (9, encode_runs(np.zeros((H, W + 1), np.uint8)), "2440 pixels, the image has 2400"),
    "too short": (9, GOOD[:-8], "the image has 2400"),
    "half a run": (9, GOOD[:-4], "bytes are no runs"),
    "empty": (9, b"", "0 bytes"),
    "a flood": (9, bytes(8 * H * W + 8), "bytes are no runs"),
    "region 10": (9, np.where(PAIRS == 1, 10, PAIRS).astype("<u4").tobytes(), "no region 10"),
    "an overflowing length": (9, np.array([0, 2**32 - 1, 0, H * W + 1], "<u4").tobytes(), "the image has 2400"),
    "an old stroke": (4, GOOD, "does not follow 4"),
    "a number as text": ("9", GOOD, "does not follow 4"),
    "a float number": (9.5, GOOD, "does not follow 4"),
    "runs as a list": (9, [0, 2400], "came as list"),
    "runs as bad base64": (9, "no base64!", "refused"),
}


@pytest.mark.parametrize("seq, runs, message", BAD.values(), ids=BAD)
def test_a_bad_message_is_refused_and_shown(canvas, seq, runs, message):
    labels = labels_with((5, 10, 20, 10, 20))
    from_browser(canvas, 4, encode_runs(labels))
    heard = []
    canvas.on_stroke(heard.append)
    from_browser(canvas, seq, runs)
    assert "refused" in canvas._notice and message in canvas._notice
    np.testing.assert_array_equal(canvas.masks, [labels == 5])
    assert heard == []
    # The browser is told what Python holds, with a number that both go on from.
    assert canvas._drawing == {"seq": 5, "runs": encode_runs(labels)} and canvas._saved == 5
    from_browser(canvas, 6, GOOD)
    assert canvas._notice == "" and list(canvas.regions) == [1]


@pytest.mark.parametrize("junk", [None, 7, "text", [], {}, {"seq": 1}, {"seq": 1, "runs": GOOD, "more": 1}])
def test_a_message_of_another_shape_is_refused(canvas, junk):
    canvas.set_state({"_drawing": junk})
    assert "refused" in canvas._notice and canvas.masks == []


def test_masks_from_python(canvas):
    heard = []
    canvas.on_stroke(heard.append)
    first, second = labels_with((1, 0, 10, 0, 10)) > 0, labels_with((1, 5, 20, 5, 20)) > 0
    canvas.set_masks([first, second])
    np.testing.assert_array_equal(canvas.regions[1], first & ~second)  # a pixel has one label: the later one
    np.testing.assert_array_equal(canvas.regions[2], second)
    assert canvas._drawing["seq"] == 1 == canvas._saved
    np.testing.assert_array_equal(decode_runs(canvas._drawing["runs"], (H, W)) == 2, second)
    from_browser(canvas, 1, GOOD)  # was on its way meanwhile
    assert "changed meanwhile" in canvas._notice and list(canvas.regions) == [1, 2]
    canvas.set_masks([])
    assert canvas.masks == [] and heard == [2, 2]


def test_masks_that_do_not_fit_are_refused(canvas):
    with pytest.raises(ValueError, match="nine|9"):
        canvas.set_masks([labels_with((1, i, i + 1, 0, 9)) > 0 for i in range(10)])
    with pytest.raises(ValueError, match="40×60"):
        canvas.set_masks([np.ones((5, 5), bool)])
    assert canvas.masks == []


def test_the_picture_goes_reduced_and_the_masks_do_not():
    canvas = MaskCanvas(np.zeros((1000, 5000, 3), np.uint8))
    assert canvas._image_type == "image/jpeg" and len(canvas._image) < 200_000
    assert canvas._size == [1000, 5000]
    labels = np.zeros((1000, 5000), np.uint8)
    labels[999, 4999] = 1
    from_browser(canvas, 1, encode_runs(labels))
    assert canvas.masks[0].shape == (1000, 5000) and canvas.masks[0][999, 4999]


def test_base64_where_binary_messages_get_lost():
    canvas = MaskCanvas(np.zeros((H, W, 3), np.uint8), encoding="base64")
    assert isinstance(canvas._image, str) and isinstance(canvas._drawing["runs"], str)
    from_browser(canvas, 1, base64.b64encode(GOOD).decode())
    np.testing.assert_array_equal(canvas.masks, [decode_runs(GOOD, (H, W)) == 1])
    with pytest.raises(ValueError, match="base64"):
        MaskCanvas(np.zeros((H, W, 3), np.uint8), encoding="text")


def test_a_reader_without_a_kernel_sees_a_picture(canvas):
    canvas.set_masks([labels_with((1, 0, 20, 0, 20)) > 0])
    data, _ = canvas._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert "application/vnd.jupyter.widget-view+json" in data
    empty = MaskCanvas(canvas.image)._repr_mimebundle_()[0]["image/png"]
    assert empty != data["image/png"], "the region is drawn"


def test_the_module_is_one_file_without_imports():
    esm = bundle(*CANVAS_FILES)
    assert "\nimport " not in esm and esm.count("\nexport ") == 3  # mountCanvas, followPicture and the widget
    assert "http://" not in esm.replace("http://www.w3.org/2000/svg", "") and "https://" not in esm
    assert "innerHTML" not in esm


# --- names, clicks, another picture


@pytest.mark.parametrize(("region", "name", "message"), [
    (1, "x" * 10_000, "at most 60 characters; this one has 10000"), (0, "a", "no region 0"), (10, "a", "no region 10"),
    ("2", "a", "no region '2'"), (True, "a", "no region True"),
])  # fmt: skip
def test_a_name_that_does_not_fit_is_refused_and_shown(canvas, region, name, message):
    canvas.rename(2, "  a   clock ")
    canvas._message(None, {"kind": "name", "region": region, "text": name}, [])
    assert message in canvas._notice and canvas.names == {2: "a clock"}


def test_a_name_of_html_stays_text(canvas):
    evil = "<img src=x onerror=alert(1)>"
    canvas._message(None, {"kind": "name", "region": 3, "text": evil}, [])
    assert canvas.names == {3: evil} and canvas._notice == ""
    canvas.set_masks([np.ones((H, W), bool)])
    assert canvas.to_coco()["annotations"][0]["name"] == "region 1"


@pytest.mark.parametrize("content", [None, "x", {}, {"kind": "fly"}, {"kind": "segment"}, {"kind": "name", "region": 1}])
def test_a_message_that_nobody_knows_is_shown(canvas, content):
    canvas._message(None, content, [])
    assert canvas._notice


class Slow:
    """A segmenter that answers when it is let: the clicked column, and all from it to the right."""

    def __init__(self):
        self.gate, self.pictures, self.asked, self.fail = threading.Semaphore(0), [], [], None

    def set_image(self, image):
        self.pictures.append(image)

    def predict(self, points, labels, box):
        self.asked.append((points, labels, box))
        assert self.gate.acquire(timeout=20)
        if self.fail:
            raise self.fail
        x = int(points[0][0])
        masks = np.zeros((2, H, W), bool)
        masks[0, :, x], masks[1, :, x:] = True, True
        return Candidates(masks, np.array([0.5, 0.9]))


def click(canvas, number, *points, labels=None, box=None):
    content = {"kind": "segment", "id": number, "points": list(points), "labels": labels or [1] * len(points), "box": box}
    canvas._message(None, content, [])


def test_a_click_brings_candidates_and_draws_nothing():
    segmenter = Slow()
    canvas = MaskCanvas(np.zeros((H, W, 3), np.uint8), segmenter=segmenter)
    assert canvas._clicks
    click(canvas, 7, (20, 5))
    assert canvas._candidates == {"id": 7, "items": [], "busy": True}
    segmenter.gate.release()
    canvas.wait(20)
    assert canvas._candidates["id"] == 7 and [item["text"] for item in canvas._candidates["items"]] == ["50%", "90%"]
    masks = [decode_runs(item["runs"], (H, W)) for item in canvas._candidates["items"]]
    assert [int(mask.sum()) for mask in masks] == [H, H * (W - 20)]
    assert not canvas._labels.any()
    segmenter.gate.release()
    click(canvas, 8, (30, 5), (40, 5), labels=[1, 0])
    canvas.wait(20)
    assert len(segmenter.pictures) == 1 and segmenter.asked[-1] == ([(30, 5), (40, 5)], [1, 0], None)


def test_a_stale_reply_is_dropped():
    segmenter = Slow()
    canvas = MaskCanvas(np.zeros((H, W, 3), np.uint8), segmenter=segmenter)
    for number, x in ((1, 10), (2, 20), (3, 30)):
        click(canvas, number, (x, 5))
    for _ in range(3):
        segmenter.gate.release()
    canvas.wait(20)
    assert canvas._candidates["id"] == 3
    assert len(segmenter.asked) < 3 and segmenter.asked[-1][0] == [(30, 5)]  # what is overtaken is not even asked


def test_a_reply_that_nobody_waits_for_any_more_is_dropped():
    segmenter = Slow()
    canvas = MaskCanvas(np.zeros((H, W, 3), np.uint8), segmenter=segmenter)
    click(canvas, 4, (40, 5))
    canvas._message(None, {"kind": "forget-candidates"}, [])
    segmenter.gate.release()
    canvas.wait(20)
    assert canvas._candidates == {"id": 4, "items": [], "busy": True}


def test_a_segmenter_that_raises_is_shown_and_the_next_click_works():
    segmenter = Slow()
    canvas = MaskCanvas(np.zeros((H, W, 3), np.uint8), segmenter=segmenter)
    canvas.set_masks([np.ones((H, W), bool)])
    segmenter.fail = RuntimeError("out of memory")
    for number in (1, 2):
        segmenter.gate.release()
        click(canvas, number, (10, 5))
        canvas.wait(20)
        said, segmenter.fail = canvas._candidates, None
        assert said["error"] == ("RuntimeError: out of memory" if number == 1 else "")
    assert canvas._labels.all()
    canvas._message(None, {"kind": "segment", "id": 3, "points": [[1, 1]] * 41, "labels": [1] * 41, "box": None}, [])
    assert "41 clicks are too many" in canvas._notice
    click(MaskCanvas(np.zeros((H, W, 3), np.uint8)), 1, (1, 1))  # no segmenter: said, not raised


def test_the_shipped_segmenter_finds_what_is_clicked():
    scene = make_scene(3, 256, "eval")
    canvas = MaskCanvas(scene.image, segmenter=load_segmenter("tiny", "cpu"))
    click(canvas, 1, (206, 200))
    canvas.wait(60)
    snail = next(thing for thing in scene.objects if thing.kind == "snail").mask
    masks = [decode_runs(item["runs"], (256, 256)).astype(bool) for item in canvas._candidates["items"]]
    assert max((mask & snail).sum() / (mask | snail).sum() for mask in masks) > 0.8
    click(canvas, 2, box=[400, 0, 500, 9])
    canvas.wait(60)
    assert "leaves the image" in canvas._candidates["error"]


def test_another_picture_begins_anew_and_a_stroke_on_its_way_is_refused(canvas):
    from_browser(canvas, 1, encode_runs(labels_with((2, 3, 9, 5, 20))))
    canvas.rename(2, "a cat")
    canvas.set_image(np.zeros((H, W, 3), np.uint8))  # of the same size, so only the number tells
    assert canvas.regions == {} and canvas.names == {} and canvas._generation == 1
    from_browser(canvas, 2, encode_runs(labels_with((2, 3, 9, 5, 20))))
    assert canvas.regions == {} and "does not follow" in canvas._notice
    canvas.set_image(np.zeros((30, 20, 3), np.uint8))
    from_browser(canvas, canvas._saved + 1, encode_runs(np.zeros((H, W), np.uint8)))
    assert "2400 pixels, the image has 600" in canvas._notice
    assert canvas._size == [30, 20] and canvas.to_coco()["images"][0]["width"] == 20


def test_a_picture_that_cannot_be_opened_changes_nothing(canvas, tmp_path):
    from_browser(canvas, 1, encode_runs(labels_with((2, 3, 9, 5, 20))))
    Image.new("1", (20_000, 20_000)).save(tmp_path / "huge.png")
    huge, missing = tmp_path / "huge.png", tmp_path / "none.png"
    for bad, message in ((huge, "20000×20000|safely"), (missing, "no image"), (b"x", "no image")):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            canvas.set_image(bad)
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            MaskCanvas(bad)
    assert list(canvas.regions) == [2] and canvas._generation == 0
