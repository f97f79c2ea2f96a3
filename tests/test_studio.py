"""The studio without a browser: what is asked of the model, in which order, and what happens when it fails."""

import io
import json
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from osprey_nb.data.scenes import make_scene
from osprey_nb.masks import from_rle
from osprey_nb.widgets.canvas import decode_runs, encode_runs
from osprey_nb.widgets.studio import Studio

H, W = 40, 60
IMAGE = np.full((H, W, 3), 200, dtype=np.uint8)
SECONDS = 30


def box(x0, x1, y0=5, y1=30):
    mask = np.zeros((H, W), dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


LEFT, MIDDLE, RIGHT = box(2, 15), box(20, 35), box(40, 55)


class Talker:
    """Says which columns it was shown, word by word. `gate` holds it back before each word, `fail` makes it raise."""

    def __init__(self):
        self.asked = []
        self.read_pictures = 0
        self.closed = []
        self.gate = None
        self.fail = None
        self.started = threading.Semaphore(0)

    def _say(self, text):
        try:
            for word in text.split():
                self.started.release()
                if self.gate:
                    assert self.gate.acquire(timeout=SECONDS)
                if self.fail:
                    raise self.fail
                yield word + " "
        finally:
            self.closed.append(text)

    def read(self, image):
        self.read_pictures += 1
        return self

    def describe(self, masks, detail="short", stream=True):
        columns = [np.flatnonzero(mask.any(axis=0)) for mask in masks]
        texts = [f"{detail} of columns {c[0]} to {c[-1]}" for c in columns]
        self.asked.append(texts[0] if len(texts) == 1 else texts)
        writers = [self._say(text) for text in texts]
        return ((row, piece) for step in zip(*writers, strict=True) for row, piece in enumerate(step))

    def chat(self, masks, messages, stream=True):
        self.asked.append((len(masks), messages))
        return self._say(f"answer {len(messages)} about <region{len(masks)}>")


@pytest.fixture
def model():
    return Talker()


@pytest.fixture
def studio(model):
    return Studio(model, IMAGE)


def draw(studio, **regions) -> None:
    """A stroke comes in from the browser: draw(studio, r1=LEFT, r2=RIGHT) is the whole picture after it."""
    labels = np.zeros((H, W), dtype=np.uint8)
    for name, mask in regions.items():
        labels[mask] = int(name[1:])
    runs = memoryview(encode_runs(labels))
    studio.set_state({"_drawing": {"seq": studio._saved + 1, "runs": runs}})


def test_each_stroke_brings_a_short_description_word_by_word(studio):
    shown = []
    studio.observe(lambda change: shown.append([a["short"] for a in change["new"]["regions"]]), names="_panel")
    draw(studio, r1=LEFT)
    studio.wait(SECONDS)
    assert studio.answers == {1: {"short": "short of columns 2 to 14"}}
    for grown in ("short", "short of", "short of columns", "short of columns 2", "short of columns 2 to"):
        assert [grown] in shown
    assert studio._notice == ""


def test_only_the_region_that_changed_is_described_anew(studio, model):
    draw(studio, r1=LEFT)
    draw(studio, r1=LEFT, r4=RIGHT)
    studio.wait(SECONDS)
    assert model.asked == ["short of columns 2 to 14", "short of columns 40 to 54"]
    draw(studio, r4=RIGHT)  # region 1 was erased
    studio.wait(SECONDS)
    assert list(studio.answers) == [4] and len(model.asked) == 2


def test_the_picture_is_read_once_before_anything_is_drawn(studio, model):
    studio.wait(SECONDS)
    assert model.read_pictures == 1 and model.asked == []
    draw(studio, r1=LEFT)
    studio.ask("What is it?")
    studio.wait(SECONDS)
    assert model.read_pictures == 1 and len(model.asked) == 2


def test_regions_that_come_together_are_described_together(studio, model):
    studio.set_masks([LEFT, MIDDLE, RIGHT])
    studio.wait(SECONDS)
    assert model.asked == [["short of columns 2 to 14", "short of columns 20 to 34", "short of columns 40 to 54"]]
    assert [studio.answers[n]["short"] for n in (1, 2, 3)] == model.asked[0]


def test_of_regions_that_come_together_the_fresh_ones_go_on(studio, model):
    model.gate = threading.Semaphore(0)
    draw(studio, r1=LEFT, r2=RIGHT)
    assert model.started.acquire(timeout=SECONDS)
    draw(studio, r1=MIDDLE, r2=RIGHT)
    for _ in range(60):
        model.gate.release()
    studio.wait(SECONDS)
    assert model.asked == [["short of columns 2 to 14", "short of columns 40 to 54"], "short of columns 20 to 34"]
    assert studio.answers == {1: {"short": "short of columns 20 to 34"}, 2: {"short": "short of columns 40 to 54"}}


def test_a_picture_that_cannot_be_read_is_tried_again(model):
    refused = [RuntimeError("out of memory"), RuntimeError("out of memory")]

    def read(image):
        if refused:
            raise refused.pop()
        return model

    model.read = read
    studio = Studio(model, IMAGE)
    studio.wait(SECONDS)
    draw(studio, r1=LEFT)
    studio.wait(SECONDS)
    assert studio.answers == {1: {"error": "RuntimeError: out of memory"}}
    studio._message(None, {"kind": "describe", "region": 1}, [])
    studio.wait(SECONDS)
    assert studio.answers == {1: {"short": "short of columns 2 to 14"}}


def test_detail_on_request(studio):
    studio.set_masks([LEFT])
    studio._message(None, {"kind": "detail", "region": 1}, [])
    studio.wait(SECONDS)
    assert studio.answers[1]["detailed"] == "detailed of columns 2 to 14"
    with pytest.raises(ValueError, match="no region 3; drawn: 1"):
        studio.detail(3)


def test_a_new_stroke_cancels_the_stale_answer(studio, model):
    model.gate = threading.Semaphore(0)
    draw(studio, r1=LEFT)
    assert model.started.acquire(timeout=SECONDS)  # the model is at its first word
    draw(studio, r1=MIDDLE)
    draw(studio, r1=RIGHT)
    for _ in range(30):
        model.gate.release()
    studio.wait(SECONDS)
    assert studio.answers == {1: {"short": "short of columns 40 to 54"}}
    assert model.asked == ["short of columns 2 to 14", "short of columns 40 to 54"], "the one between never ran"
    assert model.closed[0] == "short of columns 2 to 14"
    assert 29 - model.gate._value < 8, "the stale answer stopped at once"


@pytest.mark.parametrize(
    "error, words",
    [
        (ValueError("the prompt is longer than the context; ask less"), "The prompt is longer than the context; ask less"),
        (RuntimeError("out of memory"), "RuntimeError: out of memory"),
        (KeyError("res5"), "KeyError: 'res5'"),
    ],
)
def test_an_error_appears_in_the_panel_and_the_next_stroke_works(studio, model, error, words):
    model.fail = error
    draw(studio, r1=LEFT)
    studio.wait(SECONDS)
    assert studio.answers == {1: {"error": words}}
    assert studio._panel["regions"][0]["busy"] == []
    model.fail = None
    studio._message(None, {"kind": "describe", "region": 1}, [])  # "Try again"
    draw(studio, r1=LEFT, r2=RIGHT)
    studio.wait(SECONDS)
    assert studio.answers == {1: {"short": "short of columns 2 to 14"}, 2: {"short": "short of columns 40 to 54"}}


def test_a_conversation_counts_regions_as_the_model_does(studio, model):
    draw(studio, r2=LEFT, r5=RIGHT)
    studio.ask("Is <Region 05> above region 2?")
    studio.wait(SECONDS)
    studio.ask("Why?")
    studio.wait(SECONDS)
    first, second = [asked for asked in model.asked if isinstance(asked, tuple)]
    assert first == (2, [{"role": "user", "content": "Is <region2> above <region1>?"}])
    assert [message["role"] for message in second[1]] == ["user", "assistant", "user"]
    assert second[1][1]["content"] == "answer 1 about <region2>"
    assert studio.conversation[1]["content"] == "answer 1 about <region5>"


def test_the_model_is_given_only_what_the_talk_names(studio, model):
    draw(studio, r1=LEFT, r2=RIGHT)
    for question in ("What colour is region 2?", "And <region1>?"):
        studio.ask(question)
        studio.wait(SECONDS)
    studio.forget()
    studio.ask("What are they?")
    studio.wait(SECONDS)
    one, both, all_of_them = [asked for asked in model.asked if isinstance(asked, tuple)]
    assert one == (1, [{"role": "user", "content": "What colour is <region1>?"}])
    assert both[0] == 2 and [message["content"] for message in both[1]] == [
        "What colour is <region2>?", "answer 1 about <region2>", "And <region1>?",
    ]
    assert all_of_them[0] == 2
    assert studio.conversation[0]["content"] == "What are they?"


def test_a_question_about_the_picture_needs_no_region(studio, model):
    for question in ("What do you see in this picture?", "What are they?"):
        studio.ask(question)
        studio.wait(SECONDS)
    draw(studio, r1=LEFT)
    studio.forget()
    studio.ask("Is there a cat?")
    studio.wait(SECONDS)
    studio.forget()
    studio.ask("Is there a cat in <region1>?")
    studio.wait(SECONDS)
    assert [asked[0] for asked in model.asked if isinstance(asked, tuple)] == [0, 0, 0, 1]


def test_a_talk_about_the_picture_and_one_about_regions_go_side_by_side(studio, model):
    draw(studio, r1=LEFT, r2=RIGHT)
    talk = ("Where is region 2?", "What do you see in this picture?", "And what else?", "How large is region 1?", "Why?")
    for question in talk:
        studio.ask(question)
        studio.wait(SECONDS)
    given = [(n, [x["content"] for x in messages if x["role"] == "user"]) for n, messages in
             (asked for asked in model.asked if isinstance(asked, tuple))]  # fmt: skip
    assert given == [
        (1, ["Where is <region1>?"]), (0, [talk[1]]), (0, [*talk[1:3]]),
        (2, ["Where is <region2>?", "How large is <region1>?"]),
        (2, ["Where is <region2>?", "How large is <region1>?", "Why?"]),
    ]  # fmt: skip
    assert [turn["content"] for turn in studio.conversation[::2]] == [*talk]  # all of it stays on the page


def test_a_failed_question_does_not_spoil_the_conversation(studio, model):
    draw(studio, r1=LEFT)
    studio.wait(SECONDS)
    model.fail = ValueError("too long")
    studio.ask("What is <region1>?")
    studio.wait(SECONDS)
    assert studio._panel["talk"][0]["error"] == "Too long" and studio.conversation == []
    model.fail = None
    studio.ask("What is <region1>?")
    studio.wait(SECONDS)
    assert [turn["role"] for turn in studio.conversation] == ["user", "assistant"]


def test_changed_regions_begin_a_new_conversation(studio, model):
    draw(studio, r1=LEFT)
    studio.ask("What is it?")
    studio.wait(SECONDS)
    draw(studio, r1=LEFT, r2=RIGHT)  # a region more changes nothing that was said
    assert len(studio.conversation) == 2
    model.gate = threading.Semaphore(30)
    draw(studio, r1=MIDDLE, r2=RIGHT)
    assert studio.conversation == [] and studio._panel["since"] == 1
    studio.ask("And now?")
    studio.wait(SECONDS)
    assert model.asked[-1] == (2, [{"role": "user", "content": "And now?"}])
    studio.forget()
    assert studio._panel["talk"] == []


def test_a_question_about_regions_that_change_stops(studio, model):
    draw(studio, r1=LEFT)
    studio.wait(SECONDS)
    while model.started.acquire(blocking=False):
        pass
    model.gate = threading.Semaphore(0)
    studio.ask("What is it?")
    assert model.started.acquire(timeout=SECONDS)
    draw(studio, r1=RIGHT)
    for _ in range(30):
        model.gate.release()
    studio.wait(SECONDS)
    assert "regions changed" in studio._panel["talk"][0]["error"]
    assert studio.answers[1]["short"] == "short of columns 40 to 54"


@pytest.mark.parametrize(
    "content, words",
    [
        ({"kind": "ask", "text": "  "}, "A question has 1 to 2000 characters"),
        ({"kind": "ask", "text": "x" * 2001}, "this one has 2001"),
        ({"kind": "ask", "text": "Is <region7> red?"}, "no region 7; drawn: 1"),
        ({"kind": "ask", "text": "Is <region07> red?"}, "no region 7; drawn: 1"),
        ({"kind": "ask", "text": "Is <region one> red?"}, "<region one> names no region"),
        ({"kind": "ask", "text": "Is <Region0> red?"}, "<Region0> names no region"),
        ({"kind": "ask", "text": "What is <mask>?"}, "The question holds <mask>. Write <region1>"),
        ({"kind": "detail", "region": [1]}, "no region [1]"),
        ({"kind": "detail", "region": 9}, "no region 9"),
        ({"kind": "describe"}, "no region None"),
    ],
)
def test_a_wrong_request_is_shown(studio, content, words):
    draw(studio, r1=LEFT)
    studio.wait(SECONDS)
    studio._message(None, content, [])
    said = [exchange["error"] for exchange in studio._panel["talk"]] + [studio._notice]
    assert any(words in text.replace("There is", "there is") for text in said)
    assert studio.conversation == []
    if content["kind"] == "ask":
        assert studio._panel["talk"][0]["question"] == content["text"]  # still there to be mended


def test_asking_for_a_region_before_drawing(studio, model):
    with pytest.raises(ValueError, match="no region 1; drawn: none"):
        studio.ask("What is <region1>?")
    assert model.asked == [] and studio.conversation == []


def test_one_thread_and_only_while_there_is_work(studio, model):
    model.gate = threading.Semaphore(0)
    for region in (LEFT, RIGHT, LEFT):
        draw(studio, r1=region, r2=MIDDLE)
    assert sum(thread.name == "osprey-studio" for thread in threading.enumerate()) == 1
    thread = studio._worker._thread
    for _ in range(60):
        model.gate.release()
    studio.wait(SECONDS)
    thread.join(SECONDS)
    assert not thread.is_alive() and studio._worker._thread is None


def test_the_banner_says_what_the_model_was_trained_on(model):
    assert Studio(model, IMAGE)._banner == ""
    model.config = type("Config", (), {"trained_on": "drawings only"})
    assert Studio(model, IMAGE)._banner == "This model was trained on drawings only."


def test_the_static_twin_shows_the_answers(studio):
    studio.set_masks([LEFT, RIGHT])
    studio.wait(SECONDS)
    texts = [text.get_text() for axes in studio.static().axes for text in axes.texts]
    assert "short of columns 2 to 14" in texts and "short of columns 40 to 54" in texts


def test_the_shipped_model_speaks_in_the_studio(tiny):
    from osprey_nb.data.scenes import make_scene

    scene = make_scene(3, size=128, split="eval")
    studio = Studio(tiny, scene.image)
    studio.set_masks([scene.objects[0].mask])
    studio.wait(SECONDS)
    assert studio.answers == {1: {"short": tiny.describe(scene.image, [scene.objects[0].mask])[0]}}
    assert "photograph" in studio._banner
    studio.ask("What is <region1>?")
    studio.wait(SECONDS)
    assert studio.conversation[1]["content"]


def test_trying_again_repeats_what_failed(studio, model):
    draw(studio, r1=LEFT)
    studio.wait(SECONDS)
    model.fail = RuntimeError("no more memory")
    studio.detail(1)
    studio.wait(SECONDS)
    (card,) = studio._panel["regions"]
    assert (card["short"], card["detailed"], card["failed"]) == ("short of columns 2 to 14", "", "detailed")
    model.fail = None
    studio._message(None, {"kind": "describe", "region": 1, "detail": card["failed"]}, [])
    studio.wait(SECONDS)
    assert studio.answers[1] == {"short": "short of columns 2 to 14", "detailed": "detailed of columns 2 to 14"}


def test_an_error_late_in_a_conversation_tells_the_way_out(studio, model):
    draw(studio, r1=LEFT)
    studio.ask("What is <region1>?")
    studio.wait(SECONDS)
    model.fail = ValueError("the prompt needs 1100 tokens; this model reads 1024")
    studio.ask("And why?")
    studio.wait(SECONDS)
    assert "begin a new conversation" in studio._panel["talk"][-1]["error"]


# --- pictures, everything, files


def test_another_picture_keeps_the_one_before(studio, model):
    draw(studio, r1=LEFT, r2=RIGHT)
    studio.rename(2, "the right one")
    studio.wait(SECONDS)
    studio.ask("What is <region1>?")
    studio.wait(SECONDS)
    before = studio.answers, studio.conversation
    studio.set_image(np.zeros((30, 50, 3), np.uint8))
    studio.wait(SECONDS)
    assert studio.answers == {} and studio.conversation == [] and studio.regions == {}
    assert studio._history == ["2 regions on a picture"] and model.read_pictures == 2
    studio.set_masks([np.ones((30, 50), bool)])
    studio.wait(SECONDS)
    studio.reopen(0)
    studio.wait(SECONDS)
    assert (studio.answers, studio.conversation) == before
    assert studio.names == {2: "the right one"} and (studio.regions[1] == LEFT).all()
    assert studio._history == ["1 regions on a picture"] and studio._size == [H, W]
    asked = len(model.asked)
    studio.ask("And <region2>?")
    studio.wait(SECONDS)
    assert len(model.asked) == asked + 1 and len(studio.conversation) == 4
    with pytest.raises(ValueError, match="no picture 5"):
        studio.reopen(5)


def test_an_answer_to_an_earlier_picture_is_dropped(studio, model):
    studio.wait(SECONDS)
    model.gate = threading.Semaphore(0)
    draw(studio, r1=LEFT)
    assert model.started.acquire(timeout=SECONDS)
    studio.set_image(np.zeros((30, 50, 3), np.uint8))
    for _ in range(20):
        model.gate.release()
    studio.wait(SECONDS)
    assert studio.answers == {} and studio._panel["regions"] == []


@pytest.mark.parametrize(("content", "buffers", "words"), [
    ({"kind": "path", "path": " nowhere.jpg "}, [], "No image at nowhere.jpg"),
    ({"kind": "picture", "name": "x.jpg"}, [b"nothing"], "The file is no image"),
    ({"kind": "sample", "number": "x"}, [], "No image at x"),
    ({"kind": "reopen", "number": 0}, [], "There is no picture 0"),
    ({"kind": "export", "form": "exe"}, [], "not as .exe"),
    ({"kind": "picture"}, [], "Nothing here is called 'picture'"),
])  # fmt: skip
def test_what_cannot_be_opened_is_shown_and_nothing_is_lost(studio, content, buffers, words):
    draw(studio, r1=LEFT)
    studio.wait(SECONDS)
    before = studio.answers
    studio._message(None, content, buffers)
    studio.wait(SECONDS)
    assert words in studio._notice and studio.answers == before and studio._size == [H, W]


def test_pictures_come_as_files_paths_and_drawings(studio, tmp_path):
    buffer = io.BytesIO()
    Image.new("RGB", (70, 50), "red").save(buffer, format="PNG")
    (tmp_path / "red.png").write_bytes(buffer.getvalue())
    studio._message(None, {"kind": "picture", "name": "<b>.png"}, [memoryview(buffer.getvalue())])
    assert (studio._size, studio.source) == ([50, 70], "<b>.png")
    studio._message(None, {"kind": "path", "path": str(tmp_path / "red.png")}, [])
    assert (studio._size, studio.source) == ([50, 70], str(tmp_path / "red.png"))
    studio._message(None, {"kind": "sample", "number": 5}, [])
    assert (studio._size, studio.source) == ([512, 512], "drawing 5")
    studio.wait(SECONDS)


@pytest.fixture(scope="module")
def real(tiny):
    """A studio with tiny and tiny SAM over a drawing, all of it described."""
    studio = Studio(tiny, 3)
    studio.set_masks([thing.mask for thing in make_scene(3, 512, "eval").objects[:2]])
    studio.ask("What kind of object is <region2>?")
    studio.wait(SECONDS)
    return studio


def test_everything_is_found_and_described(real):
    real.everything()
    real.wait(60)
    items = real._candidates["items"]
    words = [item["words"] for item in items]
    assert real._candidates["id"] == "everything" and any("clock" in text for text in words)
    assert items[0]["depth"] == 0 and max(item["depth"] for item in items) >= 1
    mask = decode_runs(items[0]["runs"], (512, 512)).astype(bool)
    assert real.model.describe(real.image, [mask]) == words[:1]
    assert sorted(real.regions) == [1, 2]  # nothing is drawn before it is taken
    real._segmenter, whole = None, real._segmenter
    real.everything()
    real.wait(60)
    assert "AttributeError" in real._candidates["error"]
    real._segmenter = whole


def test_times_say_where_the_milliseconds_go(real):
    assert set(real._times) == {"read", "first", "whole", "answers"}
    assert 0 < real._times["first"] <= real._times["whole"] and real._times["read"] > 0


def test_the_warning_is_for_pictures_that_are_unlike(tiny, shared):
    studio = Studio(tiny, 3)
    studio.wait(SECONDS)
    assert not studio._unlike and "synthetic drawings" in studio._banner
    studio.set_image(sorted((shared / "coco128" / "images").iterdir())[0])
    studio.wait(SECONDS)
    assert studio._unlike and studio._banner.startswith("This picture is unlike those it knows")
    studio.set_image(5)
    studio.wait(SECONDS)
    assert not studio._unlike and "unlike" not in studio._banner


def test_a_session_goes_out_as_json_png_and_code_that_runs(real, tmp_path):
    for name in ("talk.json", "talk.png", "talk.py"):
        real.export(tmp_path / name)
    said = json.loads((tmp_path / "talk.json").read_text())
    assert said["model"] == "tiny" and said["picture"] == {"source": "drawing 3", "width": 512, "height": 512}
    assert [region["short"] for region in said["regions"]] == [real.answers[n]["short"] for n in (1, 2)]
    assert (from_rle(said["regions"][1]["segmentation"]) == real.regions[2]).all()
    assert said["conversation"] == real.conversation
    assert Image.open(tmp_path / "talk.png").size[0] > 300
    run = subprocess.run([sys.executable, tmp_path / "talk.py"], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    for text in (*(real.answers[n]["short"] for n in (1, 2)), real.conversation[1]["content"]):
        assert text in run.stdout
    with pytest.raises(ValueError, match="not as .txt"):
        real.export(tmp_path / "talk.txt")


def test_what_is_said_of_the_picture_is_the_same_first_last_and_as_code(real, tmp_path):
    question = "What do you see in this picture?"
    real.ask(question)
    real.wait(SECONDS)
    assert [turn["content"] for turn in real.conversation[::2]][-1] == question and len(real.conversation) > 2
    answer = real.conversation[-1]["content"]
    alone = [{"role": "user", "content": question}]
    assert answer == real.model.chat(real.image, None, alone)  # as if nobody had spoken before
    real.export(tmp_path / "talk.py")
    run = subprocess.run([sys.executable, tmp_path / "talk.py"], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert f"{question}\n    {answer}" in run.stdout


def test_code_brings_a_picture_that_has_no_path(model, tmp_path):
    rng = np.random.default_rng(0)
    studio = Studio(model, rng.integers(0, 255, (H, W, 3), np.uint8))
    draw(studio, r1=LEFT)
    studio.rename(1, "it's \"mine\"\n# <b>")
    studio.wait(SECONDS)
    studio.export(tmp_path / "talk.py")
    code = (tmp_path / "talk.py").read_text().split("model = ")[0]
    space = {}
    exec(code, space)
    np.testing.assert_array_equal(np.asarray(space["image"]), np.asarray(studio.image))
    assert (space["masks"][0] == LEFT).all()


def test_the_browser_is_sent_the_file(studio, monkeypatch):
    sent = []
    monkeypatch.setattr(studio, "send", lambda content, buffers=None: sent.append((content, buffers)))
    draw(studio, r1=LEFT)
    studio.wait(SECONDS)
    studio._message(None, {"kind": "export", "form": "json"}, [])
    (content, (data,)) = sent[0]
    assert content == {"kind": "file", "name": "session.json", "type": "application/json"}
    assert json.loads(data)["regions"][0]["short"] == studio.answers[1]["short"]
