"""The canvas in a real browser, on a static page: what the hand does, and the pixels that come of it.

No server and no kernel: tests/page.js gives the widget a small model object. Every mask it would send is read by
Python's own `MaskCanvas`, so both ends of the wire are the real ones.
"""

import base64
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import expect

from osprey_nb.widgets.canvas import MaskCanvas, decode_runs
from osprey_nb.widgets.studio import Studio

PAGE = Path(__file__).parent / "page.js"
FRAMES = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
LOCAL = {"_esm", "_css", "_image", "_drawing", "_candidates", "layout", "tooltip", "tabbable"}


class Page:
    """A page with one widget on it. Points are in image pixels."""

    def __init__(self, browser, widget, ratio=1, silent=False, dark=False):
        self.widget = widget
        self.context = browser.new_context(viewport={"width": 900, "height": 1400}, device_scale_factor=ratio)
        self.page = self.context.new_page()
        self.errors = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        body = f"<body data-jp-theme-light={'false' if dark else 'true'}></body>"
        # Like JupyterLab on 127.0.0.1 a secure context: some of what the pointer tells is missing elsewhere.
        self.page.route("**/*", lambda route: route.fulfill(body=body, content_type="text/html"))
        self.page.goto("https://localhost/")
        self.page.add_script_tag(path=PAGE)
        state = {key: value for key, value in widget.get_state().items() if key not in LOCAL}
        state = {key: value for key, value in state.items() if not key.startswith(("_view", "_model", "_dom"))}
        state["_candidates"] = {"id": 0, "items": []}
        state["_drawing"] = {"seq": widget._drawing["seq"]}
        data = {"image": widget._image, "runs": widget._drawing["runs"]}
        if not widget._base64:
            data = {key: base64.b64encode(value).decode() for key, value in data.items()}
        self.page.evaluate(
            "setup => mount(setup)",
            {"esm": widget._esm, "css": widget._css, "state": state, "bytes": data, "silent": silent},
        )
        self.page.locator("[data-ready]").wait_for()

    def get(self, testid, view=0):
        """What has this test id. The widget draws once a frame, so what was done before is seen by then."""
        self.page.evaluate(FRAMES)
        return self.page.get_by_test_id(testid).nth(view)

    def at(self, point, view=0):
        """Where an image point is on the screen."""
        box = self.get("stage", view).bounding_box()
        height, width = self.widget._size
        return box["x"] + point[0] / width * box["width"], box["y"] + point[1] / height * box["height"]

    def drag(self, *points, view=0, button="left"):
        self.page.mouse.move(*self.at(points[0], view))
        self.page.mouse.down(button=button)
        for point in points[1:]:
            self.page.mouse.move(*self.at(point, view), steps=4)
        self.page.mouse.up(button=button)

    def click(self, *points):
        for point in points:
            self.page.mouse.click(*self.at(point))

    def key(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)

    @property
    def sent(self):
        return self.page.evaluate("sent")

    @property
    def labels(self) -> np.ndarray:
        """The label map that Python holds after the last message."""
        last = self.sent[-1]
        runs = last["runs"] if self.widget._base64 else memoryview(base64.b64decode(last["runs"]))
        self.widget.set_state({"_drawing": {"seq": last["seq"], "runs": runs}})
        assert self.widget._notice == "" and self.widget._saved == last["seq"]
        return self.widget._labels

    def painted(self, point, view=0):
        """The alpha of the overlay over an image point; 0 is bare. Waits for the frame."""
        self.page.evaluate(FRAMES)
        return self.page.evaluate(
            """([point, size, view]) => {
                const canvas = document.querySelectorAll(".osprey-overlay")[view];
                const [x, y] = point.map((v, i) => Math.floor(v / size[i] * [canvas.width, canvas.height][i]));
                return canvas.getContext("2d").getImageData(x, y, 1, 1).data[3];
            }""",
            [list(point), self.widget._size[::-1], view],
        )


@pytest.fixture
def show(browser):
    pages = []

    def show(size=(120, 160), kind=MaskCanvas, **options):
        image = np.full((*size, 3), 210, dtype=np.uint8)
        widget = options.pop("widget", None) or kind(image)
        pages.append(Page(browser, widget, **options))
        return pages[-1]

    yield show
    for page in pages:
        page.context.close()
        assert page.errors == []


def covered(labels, region):
    """(x0, y0, x1, y1) around a region."""
    ys, xs = np.nonzero(labels == region)
    return xs.min(), ys.min(), xs.max() + 1, ys.max() + 1


def disc(size, centre, radius):
    ys, xs = np.mgrid[: size[0], : size[1]] + 0.5
    return np.hypot(xs - centre[0], ys - centre[1]) <= radius


def test_a_stroke_is_sent_once_and_is_what_was_drawn(show):
    page = show()
    page.get("size").fill("20")
    page.drag((40, 60), (80, 60), (120, 60))
    assert len(page.sent) == 1
    labels = page.labels
    expected = disc((120, 160), (40, 60), 10) | disc((120, 160), (120, 60), 10)
    expected[50:70, 40:120] = True
    assert ((labels == 1) != expected).mean() < 0.002  # the mouse moves in whole screen pixels
    assert page.painted((80, 60)) > 0 and page.painted((80, 90)) == 0
    expect(page.get("status")).to_have_text("Saved in Python")


@pytest.mark.parametrize("size, ratio", [((300, 90), 1), ((90, 300), 1), ((300, 90), 2), ((700, 1000), 2)])
def test_no_dead_area_and_no_offset_whatever_the_shape_and_the_screen(show, size, ratio):
    page = show(size, ratio=ratio)
    height, width = size
    stage = page.get("stage").bounding_box()
    assert stage["width"] / stage["height"] == pytest.approx(width / height, rel=0.02)
    page.get("size").fill("3")
    corners = [(2, 2), (width - 2, 2), (2, height - 2), (width - 2, height - 2)]
    for corner in corners:
        page.click(corner)
    labels = page.labels
    for x, y in corners:
        assert labels[y - 2 : y + 2, x - 2 : x + 2].any(), (x, y)
        assert page.painted((x, y)) > 0
    backing = page.page.evaluate("document.querySelector('.osprey-overlay').width")
    assert backing == round(stage["width"] * ratio)  # crisp: one canvas pixel a screen pixel


def test_box_polygon_and_lasso(show):
    page = show()
    page.key("Tab")
    page.get("tool-box").click()
    page.drag((100, 80), (40, 20))
    assert covered(page.labels, 1) == pytest.approx((40, 20, 100, 80), abs=1)
    page.key("2", "p")
    page.click((110, 20), (150, 20), (150, 60), (110, 60))
    assert len(page.sent) == 1, "an open polygon is not yet a stroke"
    page.click((110, 20))  # its first corner closes it
    assert covered(page.labels, 2) == pytest.approx((110, 20, 150, 60), abs=1)
    assert (page.labels == 2).sum() == pytest.approx(1600, rel=0.06)
    page.key("3")
    page.drag((20, 90), (60, 90), (60, 115), (20, 115))  # a lasso closes when let go
    assert covered(page.labels, 3) == pytest.approx((20, 90, 60, 115), abs=1)
    assert len(page.sent) == 3


def test_a_polygon_adds_or_cuts_and_can_be_taken_back(show):
    page = show()
    page.get("tool-polygon").click()
    page.click((20, 20), (100, 20), (100, 100), (20, 100))
    page.key("Enter")
    page.click((90, 40), (140, 40), (140, 60), (90, 60))
    page.key("Enter")
    assert covered(page.labels, 1) == pytest.approx((20, 20, 140, 100), abs=1)  # added
    page.key("x")
    page.click((40, 40), (60, 40), (60, 60), (40, 60))
    page.key("Enter")
    labels = page.labels
    assert labels[50, 50] == 0 and labels[50, 70] == 1 and labels[30, 50] == 1  # cut
    page.key("f")
    assert page.labels[50, 50] == 1  # the hole is filled
    count = len(page.sent)
    page.click((30, 30), (50, 30), (50, 50))
    page.key("Control+z")  # takes back a corner of the open polygon, no stroke
    assert len(page.sent) == count
    page.key("Escape")
    page.key("Enter")
    assert len(page.sent) == count


def test_eraser_and_brush_have_their_own_sizes(show):
    page = show()
    page.get("size").fill("30")
    page.drag((40, 60), (120, 60))
    page.get("tool-erase").click()
    page.get("size").fill("6")
    page.drag((80, 30), (80, 90))
    labels = page.labels
    assert labels[60, 80] == 0 and labels[60, 70] == 1 and labels[60, 90] == 1
    page.get("tool-brush").click()
    assert page.get("size").input_value() == "30"
    page.key("e")
    assert page.get("size").input_value() == "6"


def test_undo_and_redo_go_by_stroke_and_survive_tools(show):
    page = show()
    states = []
    for key, region, start in [("b", "1", (20, 20)), ("r", "2", (60, 20)), ("e", "1", (20, 20)), ("b", "3", (100, 80))]:
        page.get("stage").focus()
        page.key(key, region)
        page.drag(start, (start[0] + 25, start[1] + 25))
        states.append(page.labels.copy())
    for before in states[-2::-1]:
        page.key("Control+z", "p", "]")  # changing tool and size neither wipes nor undoes anything
        np.testing.assert_array_equal(page.labels, before)
    page.key("Control+z")
    assert not page.labels.any()
    expect(page.get("tool-undo")).to_be_disabled()
    for after in states:
        page.key("Control+Shift+Z")
        np.testing.assert_array_equal(page.labels, after)
    page.key("Control+z")
    page.get("tool-redo").click()
    np.testing.assert_array_equal(page.labels, states[-1])


def test_clear_one_region_or_all(show):
    page = show()
    page.drag((20, 20), (40, 20))
    page.key("2")
    page.drag((20, 80), (40, 80))
    page.get("tool-clear").click()
    assert set(np.unique(page.labels)) == {0, 1}
    page.get("tool-clear-all").click()
    assert not page.labels.any()
    page.get("tool-undo").click()
    assert set(np.unique(page.labels)) == {0, 1}


def test_keys_choose_tools_regions_and_sizes(show):
    page = show()
    page.get("stage").focus()
    for key, tool in [("e", "erase"), ("r", "box"), ("p", "polygon"), ("b", "brush")]:
        page.key(key)
        assert page.get(f"tool-{tool}").get_attribute("aria-pressed") == "true"
    size = int(page.get("size").input_value())
    page.key("]")
    assert int(page.get("size").input_value()) > size
    page.key("[", "[", "[")
    assert int(page.get("size").input_value()) < size
    page.key("9")
    expect(page.get("region-9")).to_have_attribute("aria-pressed", "true")
    page.drag((50, 50), (60, 50))
    assert set(np.unique(page.labels)) == {0, 9}
    page.key("r")
    page.page.mouse.move(*page.at((10, 10)))
    page.page.mouse.down()
    page.page.mouse.move(*page.at((90, 90)))
    page.key("Escape")  # lets an open box go
    page.page.mouse.up()
    assert len(page.sent) == 1


def test_only_the_first_button_draws_and_the_middle_one_moves_the_picture(show):
    page = show()
    page.drag((40, 40), (80, 80), button="right")
    page.drag((40, 40), (80, 80), button="middle")
    assert page.sent == []
    page.get("stage").focus()
    page.key("+", "+", "+")
    page.drag((80, 60), (80, 61))  # in the middle of the picture, where zooming moves nothing
    assert page.labels[60, 80] == 1
    page.drag((80, 60), (120, 60), button="middle")
    assert len(page.sent) == 1
    page.drag((120, 60), (120, 61))  # the same place of the picture, now elsewhere on the screen
    assert covered(page.labels, 1) == pytest.approx((76, 56, 84, 65), abs=2)
    page.key("0")
    assert page.painted((80, 60)) > 0 and page.painted((120, 60)) == 0


def test_buttons_say_what_they_do(show):
    page = show()
    unnamed = page.page.evaluate(
        """() => [...document.querySelectorAll("button, input, [tabindex]")]
            .filter((node) => !node.ariaLabel && !node.textContent.trim()).length"""
    )
    assert unnamed == 0
    assert page.page.locator("[data-lm-suppress-shortcuts]").count() == 1
    assert page.get("tool-erase").get_attribute("title") == "Eraser  (E)"
    page.drag((20, 20), (40, 20))
    assert page.page.evaluate("document.activeElement.dataset.testid") == "stage"  # the keys are ours
    assert "pixels" in page.get("region-1").get_attribute("aria-label")


def test_a_second_view_shows_the_same_and_both_draw(show):
    page = show()
    page.drag((40, 40), (80, 40))
    page.page.evaluate("view()")
    page.page.locator("[data-ready]").nth(1).wait_for()
    assert page.painted((60, 40), view=1) > 0
    page.drag((40, 90), (80, 90), view=1)
    assert page.painted((60, 90), view=0) > 0
    assert (page.labels[[40, 90], 60] == 1).all()
    page.get("tool-undo").click()  # one history for both
    assert page.painted((60, 90), view=0) == page.painted((60, 90), view=1) == 0


def test_masks_from_python_are_shown_and_can_be_undone(show):
    page = show()
    page.drag((40, 90), (80, 90))
    page.labels  # noqa: B018  Python reads the stroke
    mask = np.zeros((120, 160), bool)
    mask[10:50, 10:50] = True
    page.widget.set_masks([mask])
    drawing = {"seq": page.widget._drawing["seq"], "runs": base64.b64encode(page.widget._drawing["runs"]).decode()}
    page.page.evaluate("value => fromPython('_drawing', value)", drawing)
    assert page.painted((30, 30)) > 0 and page.painted((60, 90)) == 0
    page.get("tool-undo").click()
    labels = page.labels
    assert labels[90, 60] == 1 and labels[30, 30] == 0


def test_a_refusal_and_a_busy_kernel_are_shown(show):
    page = show(silent=True)
    page.drag((40, 40), (80, 40))
    expect(page.get("status")).to_have_attribute("data-state", "sending")
    page.page.evaluate("fromPython('_notice', '<b>refused</b>: the runs do not fit')")
    expect(page.get("notice")).to_have_text("<b>refused</b>: the runs do not fit")


def test_regions_do_not_flicker_when_something_appears_below(show):
    page = show()
    page.drag((40, 60), (80, 60))
    least = page.page.evaluate(
        """async () => {
            const canvas = document.querySelector(".osprey-overlay");
            const alpha = () => canvas.getContext("2d").getImageData(canvas.width * 0.375, canvas.height / 2, 1, 1).data[3];
            const seen = [];
            fromPython("_notice", "Something to say");
            for (let i = 0; i < 6; i++) {
                await new Promise((done) => requestAnimationFrame(done));
                seen.push(alpha()); // before the widget draws in this frame: what the last one showed
            }
            return Math.min(...seen);
        }"""
    )
    assert least > 0 and page.get("notice").is_visible()


def test_a_large_picture_keeps_its_own_resolution(show):
    page = show((3000, 4000))
    page.get("size").fill("40")
    page.drag((1000, 1000), (3000, 2000))
    labels = page.labels
    assert labels.shape == (3000, 4000)
    length = np.hypot(2000, 1000)
    assert (labels == 1).sum() == pytest.approx(length * 40 + np.pi * 400, rel=0.02)
    assert page.painted((2000, 1500)) > 0


def test_drawing_with_the_keyboard_alone(show):
    page = show()
    page.get("stage").focus()
    page.key("r", "Enter", *["Shift+ArrowRight"] * 2, *["Shift+ArrowDown"] * 2, "Enter")  # a tenth of 160 pixels a step
    assert covered(page.labels, 1) == (80, 60, 112, 92)
    page.key("2", "b", *["Shift+ArrowLeft"] * 5, "Enter")
    x0, y0, x1, y1 = covered(page.labels, 2)
    assert x0 < 112 - 80 < x1 and y0 < 92 < y1
    page.key("p", "Enter", "Shift+ArrowUp", "Enter", "Shift+ArrowRight", "Enter", "Enter")  # the last corner twice closes
    assert len(page.sent) == 3 and (page.labels == 2).sum() > (y1 - y0) * (x1 - x0)


def test_the_keyboard_stays_after_a_click_on_clear(show):
    page = show()
    page.drag((40, 60), (120, 60))
    page.get("tool-clear").click()
    assert not page.labels.any()
    page.key("Control+z")
    assert page.labels.any()


def test_a_palm_beside_the_pen_draws_nothing(show):
    page = show()
    page.page.evaluate("""([x, y]) => {
        const stage = document.querySelector(".osprey-stage");
        stage.setPointerCapture = () => {};
        const at = (kind, id, dx, dy) => stage.dispatchEvent(new PointerEvent(kind, {
            pointerId: id, isPrimary: true, button: 0, clientX: x + dx, clientY: y + dy, bubbles: true, pointerType: "pen" }));
        at("pointerdown", 7, 0, 0);
        at("pointerdown", 8, 200, 100);
        at("pointermove", 8, 220, 100);
        at("pointerup", 8, 220, 100);
        at("pointermove", 7, 30, 0);
        at("pointerup", 7, 30, 0);
    }""", list(page.at((40, 30))))
    assert len(page.sent) == 1
    assert covered(page.labels, 1)[3] < 50


def test_a_stroke_goes_on_when_python_sets_the_masks_meanwhile(show):
    page = show()
    page.page.mouse.move(*page.at((40, 60)))
    page.page.mouse.down()
    page.page.mouse.move(*page.at((60, 60)))
    page.widget.set_masks([])
    runs = base64.b64encode(page.widget._drawing["runs"]).decode()
    page.page.evaluate("([seq, runs]) => fromPython('_drawing', {seq, runs})", [page.widget._drawing["seq"], runs])
    page.page.mouse.move(*page.at((100, 60)))
    page.page.mouse.up()
    assert len(page.sent) == 1 and page.labels[60, 90] == 1  # what is on the screen is what Python has


def test_the_opacity_goes_both_ways(show):
    page = show()
    page.get("opacity").fill("80")
    assert page.page.evaluate("model.get('opacity')") == 0.8
    page.page.evaluate("fromPython('opacity', 0.2)")
    expect(page.get("opacity")).to_have_value("20")


# --- the studio


def test_title_and_height_follow_python(show):
    page = show()
    before = page.get("stage").bounding_box()
    page.page.evaluate("fromPython('title', 'Mark the wheels <b>')")
    page.page.evaluate("fromPython('height', 240)")
    after = page.get("stage").bounding_box()
    assert page.page.locator(".osprey-title").text_content() == "Mark the wheels <b>"
    assert before["height"] == pytest.approx(480, abs=1) and after["height"] == pytest.approx(240, abs=1)
    page.drag((40, 60), (80, 60))
    assert page.labels[60, 60] == 1 and page.labels[90, 60] == 0


def test_base64_draws_the_same_as_binary(show):
    drawn = []
    for encoding in ("binary", "base64"):
        page = show(kind=lambda image, encoding=encoding: MaskCanvas(image, encoding=encoding))
        page.drag((40, 60), (80, 60), (120, 90))
        drawn.append(page.labels)
    assert isinstance(page.sent[-1]["runs"], str) and drawn[0].any()
    assert (drawn[0] == drawn[1]).all()


def test_a_closed_view_leaves_nothing_behind_and_the_drawing_stays(show):
    page = show()
    one_view = page.page.evaluate("listening()")
    page.drag((40, 60), (80, 60))
    page.page.evaluate("closeView()")
    assert page.page.locator(".osprey-canvas").count() == 0
    page.page.evaluate("fromPython('opacity', 0.9)")  # nobody listens any more, and nothing breaks
    page.page.evaluate("view()")
    assert page.page.evaluate("listening()") == one_view
    page.page.locator("[data-ready]").wait_for()
    page.page.wait_for_function("document.querySelector('.osprey-overlay').width > 1")  # laid out by its observer
    assert page.painted((60, 60)) > 0
    page.drag((40, 100), (80, 100))
    assert page.labels[60, 60] == 1 and page.labels[100, 60] == 1


@pytest.mark.parametrize("width", [700, 880, 1250])
def test_a_wide_picture_stays_in_its_column(show, width):
    page = show(kind=lambda image: Studio(Parrot(), image), size=(200, 420))
    page.page.set_viewport_size({"width": width, "height": 1200})
    page.page.wait_for_timeout(100)
    edge = page.page.evaluate("""() => {
        const left = document.querySelector(".osprey-left"), stage = document.querySelector(".osprey-stage");
        const right = (node) => node.getBoundingClientRect().right;
        return [right(stage), right(left) - parseFloat(getComputedStyle(left).paddingRight)];
    }""")
    assert edge[0] <= edge[1] + 1


EVIL = '<img src=x onerror="window.hacked = true"><script>window.hacked = true</script> <region1>'


class Parrot:
    """Says one text whatever it is asked, to see what the page makes of it."""

    class config:
        trained_on = EVIL

    def read(self, image):
        return self

    def describe(self, masks, detail="short", stream=True):
        yield 0, EVIL

    def chat(self, masks, messages, stream=True):
        yield EVIL


def test_text_of_a_model_is_never_read_as_html(show):
    studio = Studio(Parrot(), np.full((120, 160, 3), 210, dtype=np.uint8))
    mask = np.zeros((120, 160), bool)
    mask[10:50, 10:50] = True
    studio.set_masks([mask])
    studio.detail(1)
    studio.ask(EVIL)
    studio.wait(20)
    page = show(widget=studio)
    for name in ("answer-1-short", "answer-1-detailed", "turn-1-question", "turn-1-answer"):
        assert page.get(name).text_content() == EVIL.replace("<region1>", "region 1"), name
    assert EVIL in page.get("banner").text_content()
    assert page.page.locator("img, script:not([src])").count() <= 1  # tests/page.js itself
    assert page.page.evaluate("window.hacked") is None


def test_what_the_studio_sends_to_python(show):
    studio = Studio(Parrot(), np.full((120, 160, 3), 210, dtype=np.uint8))
    mask = np.zeros((120, 160), bool)
    mask[10:50, 10:50] = True
    studio.set_masks([mask])
    studio.wait(20)
    page = show(widget=studio, dark=True)
    page.get("answer-1-detail").click()
    page.get("mention-1").click()
    page.page.keyboard.type("bigger than 5?")  # letters and digits are text here, no shortcuts
    page.key("Enter")
    messages = page.page.evaluate("messages")
    assert messages == [{"kind": "detail", "region": 1}, {"kind": "ask", "text": "<region1> bigger than 5?"}]
    assert page.get("region-1").get_attribute("aria-pressed") == "true"
    page.get("ready-1").click()
    assert page.page.evaluate("messages").pop() == {"kind": "ask", "text": "Where is <region1>?"}
    for content in messages:
        studio._message(None, content, [])
    studio.wait(20)
    assert [turn["role"] for turn in studio.conversation] == ["user", "assistant"]


def test_an_empty_studio_says_what_to_do(show):
    page = show(kind=lambda image: Studio(Parrot(), image))
    assert page.get("empty").is_visible()
    page.get("ready-1").click()
    assert page.page.evaluate("messages") == [{"kind": "ask", "text": "What do you see in this picture?"}]


def test_the_wire_of_this_file_is_the_real_one(show):
    page = show()
    page.drag((40, 40), (41, 40))
    runs = base64.b64decode(page.sent[-1]["runs"])
    assert (decode_runs(runs, (120, 160)) > 0).sum() > 0
