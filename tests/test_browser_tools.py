"""Clicks, names, files, other pictures and large ones, in a real browser on the static page of test_browser_canvas."""

import base64
import json

import numpy as np
import pytest
from playwright.sync_api import expect
from test_browser_canvas import Page, covered, disc, show  # noqa: F401  (show is a fixture)

from osprey_nb.data.scenes import make_scene
from osprey_nb.masks import box_of
from osprey_nb.segment import load_segmenter
from osprey_nb.widgets.canvas import MaskCanvas, decode_runs, encode_runs
from osprey_nb.widgets.label_files import read_labels
from osprey_nb.widgets.studio import Studio


def text(value) -> str:
    return base64.b64encode(value).decode()


def reply(page: Page) -> None:
    """Python answers the last message, and the browser gets what it says."""
    page.widget._message(None, page.page.evaluate("messages.at(-1)"), [])
    page.widget.wait(60)
    said = dict(page.widget._candidates)
    said["items"] = [{**item, "runs": text(item["runs"])} for item in said["items"]]
    page.page.evaluate("said => fromPython('_candidates', said)", said)


@pytest.fixture
def scene():
    return make_scene(3, 256, "eval")


@pytest.fixture
def clicking(show, scene):  # noqa: F811
    page = show(widget=MaskCanvas(scene.image, segmenter=load_segmenter("tiny", "cpu")))
    page.get("tool-point").click()
    return page


def test_a_click_is_shown_then_taken_as_one_stroke(clicking):
    page = clicking
    page.click((92, 86))
    assert page.get("candidates-say").text_content() == "Looking …"
    reply(page)
    masks = [decode_runs(item["runs"], (256, 256)).astype(bool) for item in page.widget._candidates["items"]]
    best = max(range(3), key=lambda i: page.widget._candidates["items"][i]["score"])
    assert page.get(f"candidate-{best + 1}").get_attribute("aria-pressed") == "true"
    assert page.painted((92, 86)) > 0 and page.sent == []  # seen, not drawn
    only_whole = np.argwhere(masks[2] & ~masks[0])[0][::-1] + 0.5
    page.get("candidate-1").hover()
    assert page.painted(only_whole) == 0  # the wheel alone
    page.get("candidate-3").hover()
    assert page.painted(only_whole) > 0
    page.get("candidate-3").click()
    assert len(page.sent) == 1
    np.testing.assert_array_equal(page.labels == 1, masks[2])
    assert not page.get("candidates").is_visible()
    page.key("Control+z")
    assert not page.labels.any()


def test_shift_says_not_this_and_a_drag_is_a_box(clicking, scene):
    page = clicking
    train = next(thing for thing in scene.objects if thing.kind == "train").mask
    page.page.keyboard.down("Shift")
    page.click((50, 60))
    page.page.keyboard.up("Shift")
    assert "first on what belongs" in page.get("candidates-say").text_content()
    assert page.page.evaluate("messages") == []
    page.key("Escape")
    page.click((50, 60))
    page.page.mouse.click(*page.at((90, 40)), button="right")
    asked = page.page.evaluate("messages")
    assert [(m["labels"], m["box"]) for m in asked] == [([1], None), ([1, 0], None)]
    np.testing.assert_allclose(asked[-1]["points"], [(50, 60), (90, 40)], atol=0.6)
    page.key("Control+z")  # takes the click back, and asks again
    assert page.page.evaluate("messages.at(-1)")["labels"] == [1]
    page.key("Escape")
    x0, y0, x1, y1 = box_of(train)
    page.drag((x0, y0), (x1, y1))
    last = page.page.evaluate("messages.at(-1)")
    assert last["points"] == [] and np.abs(np.subtract(last["box"], (x0, y0, x1, y1))).max() <= 1
    reply(page)
    page.key("Enter")
    taken = page.labels == 1
    assert (taken & train).sum() > 0.8 * (taken | train).sum()


def test_a_stale_reply_is_dropped_in_the_browser(clicking):
    page = clicking
    page.click((92, 86))
    first = page.page.evaluate("messages.at(-1)")
    page.click((206, 200))
    page.page.evaluate("id => fromPython('_candidates', { id, items: [], error: 'old' })", first["id"])
    assert page.get("candidates-say").text_content() == "Looking …"
    page.key("Escape")
    assert page.page.evaluate("messages.at(-1)") == {"kind": "forget-candidates"}
    page.page.evaluate("id => fromPython('_candidates', { id, items: [], error: 'old' })", first["id"] + 1)
    assert not page.get("candidates").is_visible()


def test_without_a_segmenter_there_is_no_such_tool(show):  # noqa: F811
    page = show()
    assert not page.get("tool-point").is_visible()
    page.click((50, 50))
    page.key("s")
    assert page.get("tool-brush").get_attribute("aria-pressed") == "true"


def test_the_card_of_keys(show):  # noqa: F811
    page = show()
    page.get("tool-help").click()
    assert page.get("help").is_visible() and "undo; with Shift: redo" in page.get("help").text_content()
    page.key("Escape")
    assert not page.get("help").is_visible()
    page.drag((20, 20), (30, 20))
    page.key("?")
    assert page.get("help").is_visible()


def test_invert_and_fill(show):  # noqa: F811
    page = show()
    page.get("region-2").click()
    page.drag((20, 20), (30, 20))
    two = page.labels == 2
    page.get("region-1").click()
    page.drag((80, 60), (90, 60))
    one = page.labels == 1
    page.key("i")
    np.testing.assert_array_equal(page.labels == 1, ~one & ~two)
    np.testing.assert_array_equal(page.labels == 2, two)
    page.key("f")
    np.testing.assert_array_equal(page.labels == 1, ~two)
    page.key("Control+z", "Control+z")
    np.testing.assert_array_equal(page.labels == 1, one)


def test_unfilled_specks_in_a_brushed_area_are_filled(show):  # noqa: F811
    page = show()
    page.get("size").fill("6")
    page.drag(*[(60 + 25 * np.cos(a), 60 + 25 * np.sin(a)) for a in np.linspace(0, 2 * np.pi, 40)])
    assert page.labels[60, 60] == 0
    page.get("tool-fill").click()
    assert page.labels[60, 60] == 1 and (page.labels[disc((120, 160), (60, 60), 24)] == 1).all()


def test_a_region_gets_a_name_and_html_in_it_stays_text(show):  # noqa: F811
    page = show()
    page.get("region-3").click()
    page.get("name").fill('<img src=x onerror="window.hacked = true">')
    page.get("name").press("Enter")
    last = page.page.wait_for_function("messages.find(message => message.kind === 'name')").json_value()
    assert last == {"kind": "name", "region": 3, "text": '<img src=x onerror="window.hacked = true">'}
    page.widget._message(None, last, [])
    page.page.evaluate("names => fromPython('_names', names)", list(page.widget._names))
    assert "onerror" in page.get("region-3").get_attribute("aria-label")
    page.get("region-1").click()
    expect(page.get("name")).to_have_value("")
    page.get("region-3").click()
    expect(page.get("name")).to_have_value(last["text"])
    assert page.get("name").get_attribute("maxlength") == "60"
    assert page.page.evaluate("window.hacked") is None


def test_what_is_drawn_can_be_saved_without_a_kernel_and_python_reads_it(show, tmp_path):  # noqa: F811
    page = show(silent=True)  # nobody answers any more
    page.drag((40, 60), (80, 60))
    page.get("region-4").click()
    page.drag((100, 20), (140, 90))
    page.get("name").fill("a tail")
    page.get("name").press("Enter")
    labels = page.labels
    for button, name in (("save-json", "regions.json"), ("save-png", "regions.png")):
        with page.page.expect_download() as download:
            page.get(button).click()
        assert download.value.suggested_filename == name
        download.value.save_as(tmp_path / name)
        found, names = read_labels(tmp_path / name, (120, 160))
        np.testing.assert_array_equal(found, labels)
    assert json.loads((tmp_path / "regions.json").read_text())["annotations"][1]["name"] == "a tail"
    page.page.wait_for_timeout(4200)
    assert page.get("status").text_content() == "Python does not answer. Save keeps the drawing."


def test_a_file_is_opened_by_python(show, tmp_path):  # noqa: F811
    page = show()
    labels = np.zeros((120, 160), np.uint8)
    labels[10:50, 20:90] = 6
    other = MaskCanvas(np.zeros((120, 160, 3), np.uint8))
    other.set_masks([labels == 6])
    other.save(tmp_path / "mine.json")
    with page.page.expect_file_chooser() as chooser:
        page.get("open-open").click()
    chooser.value.set_files(tmp_path / "mine.json")
    page.page.wait_for_function("messages.length > 0")
    message, data = page.page.evaluate("async () => [messages[0], Array.from(new Uint8Array(files[0]))]")
    page.widget._message(None, message, [memoryview(bytes(data))])
    assert page.widget._notice == "" and (page.widget.regions[1] == (labels == 6)).all()


TOUCH = """([kind, id, x, y, type]) => document.querySelector(".osprey-stage").dispatchEvent(new PointerEvent(kind, {
    pointerId: id, clientX: x, clientY: y, pointerType: type, isPrimary: id === 1, button: 0, buttons: 1, bubbles: true,
}))"""


@pytest.fixture
def touch(show):  # noqa: F811
    page = show()
    # A made-up pointer cannot be captured: the browser knows of no such finger.
    page.page.evaluate("document.querySelector('.osprey-stage').setPointerCapture = () => {}")
    return page, lambda kind, finger, point, type="touch": page.page.evaluate(TOUCH, [f"pointer{kind}", finger, *point, type])


def test_two_fingers_zoom_and_move_and_draw_nothing(touch):
    page, finger = touch
    (ax, ay), (bx, by) = page.at((60, 60)), page.at((100, 60))
    apart = bx - ax
    finger("down", 1, (ax, ay))
    finger("move", 1, (ax + 2, ay))
    finger("down", 2, (bx, by))
    finger("move", 1, (ax - apart / 2, ay))
    finger("move", 2, (bx + apart / 2, by))
    assert 190 <= int(page.get("zoom").text_content().split()[0]) <= 210
    finger("up", 2, (bx, by))
    finger("move", 1, (ax + 40, ay))
    finger("up", 1, (ax, ay))
    assert page.sent == []  # the finger that stays draws nothing
    finger("down", 1, (ax, ay))
    finger("move", 1, (bx, by))
    finger("up", 1, (bx, by))
    assert len(page.sent) == 1  # one finger draws


def test_a_finger_draws_and_after_a_pen_it_only_moves_the_picture(touch):
    page, finger = touch
    for y, type in ((30, "touch"), (60, "pen"), (90, "touch")):
        for kind, x in (("down", 40), ("move", 80), ("up", 80)):
            finger(kind, 1, page.at((x, y)), type)
    assert len(page.sent) == 2
    assert page.labels[[30, 60, 90], 60].tolist() == [1, 1, 0]


def test_zoom_stays_under_the_pointer(show):  # noqa: F811
    page = show()
    page.page.mouse.move(*page.at((120, 30)))
    page.page.keyboard.down("Control")
    page.page.mouse.wheel(0, -300)
    page.page.keyboard.up("Control")
    expect(page.get("zoom")).not_to_have_text("100 %")
    page.get("size").fill("3")
    page.page.mouse.click(*page.at((120, 30)))
    np.testing.assert_allclose(covered(page.labels, 1), (118.5, 28.5, 121.5, 31.5), atol=1)


def another_picture(page: Page, size) -> None:
    """Python sets another picture: all that changes comes in one message."""
    widget = page.widget
    widget.set_image(np.full((*size, 3), 90, np.uint8))
    state = {key: getattr(widget, key) for key in ("_size", "_names", "_generation", "_image_type", "_saved", "_notice")}
    drawing = {"seq": widget._drawing["seq"], "runs": text(widget._drawing["runs"])}
    page.page.evaluate("change => another(change)", {**state, "_image": text(widget._image), "_drawing": drawing})


@pytest.mark.parametrize("size", [(200, 100), (60, 240), (120, 160)])
def test_no_brush_offset_after_the_image_changes(show, size):  # noqa: F811
    page = show()
    page.drag((40, 60), (80, 60))
    assert page.labels.any()
    another_picture(page, size)
    page.page.locator("[data-ready]").wait_for()
    page.get("size").fill("10")
    height, width = size
    page.drag((width / 2 - 15, height / 2), (width / 2 + 15, height / 2))
    np.testing.assert_allclose(
        covered(page.labels, 1), (width / 2 - 20, height / 2 - 5, width / 2 + 20, height / 2 + 5), atol=1.01
    )


def test_an_image_replaced_mid_stroke_ends_the_stroke_and_breaks_nothing(show):  # noqa: F811
    page = show()
    page.page.mouse.move(*page.at((40, 60)))
    page.page.mouse.down()
    page.page.mouse.move(*page.at((80, 60)), steps=3)
    another_picture(page, (90, 130))
    page.page.mouse.move(*page.at((100, 60)), steps=3)
    page.page.mouse.up()
    assert page.sent == []
    page.page.locator("[data-ready]").wait_for()
    page.drag((20, 20), (50, 20))
    assert page.labels[20, 30] == 1 and page.labels.shape == (90, 130)


def test_the_mask_is_kept_when_the_tab_is_switched(show):  # noqa: F811
    page = show()
    page.drag((40, 60), (80, 60))
    page.page.evaluate("document.body.style.display = 'none'")
    page.page.wait_for_timeout(50)
    page.page.evaluate("document.body.style.display = ''")
    page.page.wait_for_timeout(50)
    assert page.painted((60, 60)) > 0
    page.drag((40, 100), (80, 100))
    assert page.labels[60, 60] == 1 and page.labels[100, 60] == 1


def script_per_frame(page: Page, *points) -> float:
    """Milliseconds of script for each frame of a drag, as the browser counts them."""
    session = page.context.new_cdp_session(page.page)
    session.send("Performance.enable")

    def spent():
        metrics = {m["name"]: m["value"] for m in session.send("Performance.getMetrics")["metrics"]}
        return metrics["ScriptDuration"], page.page.evaluate("window.frames_")

    page.page.evaluate("""() => {
        window.frames_ = 0;
        const count = () => { window.frames_ += 1; requestAnimationFrame(count); };
        requestAnimationFrame(count);
    }""")
    page.page.mouse.move(*page.at(points[0]))
    page.page.mouse.down()
    page.page.mouse.move(*page.at(points[0]), steps=2)
    script, frames = spent()
    for point in points[1:]:
        page.page.mouse.move(*page.at(point), steps=25)
    after, last = spent()
    page.page.mouse.up()
    assert last - frames > 10
    return 1000 * (after - script) / (last - frames)


def nine_regions(height, width) -> np.ndarray:
    ys, xs = np.mgrid[:height, :width]
    return (1 + (3 * ys // height) * 3 + (3 * xs // width)).astype(np.uint8)


def test_a_stroke_stays_within_its_frame(show):  # noqa: F811
    canvas = MaskCanvas(np.full((1536, 2048, 3), 120, np.uint8))
    canvas._replace(nine_regions(1536, 2048))
    page = show(widget=canvas)
    assert script_per_frame(page, (200, 200), (1800, 300), (1700, 1400), (300, 1200)) <= 8


def test_nine_regions_on_twelve_megapixels_do_not_freeze(show):  # noqa: F811
    canvas = MaskCanvas(np.full((3000, 4000, 3), 120, np.uint8))
    canvas._replace(nine_regions(3000, 4000))
    page = show(widget=canvas)
    assert script_per_frame(page, (400, 400), (3600, 600), (3500, 2800)) <= 12
    page.get("region-9").click()
    start = page.page.evaluate("performance.now()")
    page.drag((500, 500), (1500, 500))
    assert page.page.evaluate("performance.now()") - start < 2000  # not "seconds of freeze"
    labels = page.labels
    assert labels[500, 1000] == 9 and set(np.unique(labels)) == set(range(1, 10))


# --- the studio's bar


class Silent:
    """A model that says nothing; the studio's bar needs none."""

    def read(self, image):
        return self

    def describe(self, masks, detail="short", stream=True):
        return iter([(i, "a thing") for i in range(len(masks))])


@pytest.fixture
def studio(show):  # noqa: F811
    return show(widget=Studio(Silent(), np.full((120, 160, 3), 210, np.uint8)))


def test_the_bar_asks_for_pictures_everything_and_files(studio, tmp_path):
    page = studio
    page.get("sample").select_option(label="Drawing 2")
    page.get("path").fill("my cat.jpg")
    page.get("path").press("Enter")
    page.get("everything").click()
    page.get("export-py").click()
    assert page.page.evaluate("messages") == [
        {"kind": "sample", "number": 5}, {"kind": "path", "path": "my cat.jpg"}, {"kind": "everything"},
        {"kind": "export", "form": "py"},
    ]  # fmt: skip
    (tmp_path / "<b>.png").write_bytes(b"12345")
    with page.page.expect_file_chooser() as chooser:
        page.get("open-picture").click()
    chooser.value.set_files(tmp_path / "<b>.png")
    page.page.wait_for_function("messages.at(-1).kind === 'picture'")
    assert page.page.evaluate("[messages.at(-1).name, files[0].byteLength]") == ["<b>.png", 5]


def test_earlier_pictures_warning_and_times_are_shown_as_text(studio):
    page = studio
    assert not page.get("history").is_visible() and not page.get("banner").is_visible()
    evil = '<img src=x onerror="window.hacked = true">'
    page.page.evaluate("text => { fromPython('_history', [text]); fromPython('_banner', text); }", evil)
    page.page.evaluate("fromPython('_unlike', true)")
    page.page.evaluate("fromPython('_times', { read: 11.3, first: 4.25, whole: 23, answers: 2 })")
    assert page.get("banner").text_content() == evil and "osprey-unlike" in page.get("banner").get_attribute("class")
    assert page.get("times").text_content() == "Picture read once: 11 ms · first word: 4.3 ms · 2 whole answers: 23 ms"
    page.get("history").select_option(label=evil)
    assert page.page.evaluate("messages.at(-1)") == {"kind": "reopen", "number": 0}
    assert page.page.evaluate("window.hacked") is None


def test_everything_is_a_tree_from_which_regions_are_taken(studio):
    page = studio
    masks = np.zeros((3, 120, 160), np.uint8)
    masks[0, 10:90, 10:60], masks[1, 20:40, 20:40], masks[2, 30:110, 100:150] = 1, 1, 1
    words = ["a <b>house</b>", "its door", "a tree"]
    items = [{"runs": text(encode_runs(m)), "words": w, "depth": d} for m, w, d in zip(masks, words, (0, 1, 0), strict=True)]
    page.page.evaluate("items => fromPython('_candidates', { id: 'everything', items })", items)
    assert [page.get(f"candidate-{i}").text_content() for i in (1, 2, 3)] == words
    page.get("candidate-1").hover()
    assert page.painted((50, 80)) > 0 and page.sent == []
    page.get("candidate-1").click()
    page.get("candidate-3").click()
    labels = page.labels
    np.testing.assert_array_equal(labels == 1, masks[0] == 1)
    np.testing.assert_array_equal(labels == 2, masks[2] == 1)  # each thing a region of its own
    page.get("candidates-cancel").click()
    expect(page.get("candidates")).to_be_hidden()


def test_a_file_from_python_is_downloaded(studio):
    page = studio
    with page.page.expect_download() as download:
        page.page.evaluate("""() => custom({ kind: "file", name: "session.json", type: "application/json" },
            [new DataView(new TextEncoder().encode("{}").buffer)])""")
    assert download.value.suggested_filename == "session.json"
