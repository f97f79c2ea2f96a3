"""From annotations to the five files: what rules say is true, what models say is filtered, what was paid for is kept."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from osprey_nb.cli import main
from osprey_nb.data.check import check
from osprey_nb.data.curate import FILES, curate, read_facts, yes_or_no
from osprey_nb.data.index import open_rows
from osprey_nb.data.readers import FORMATS
from osprey_nb.data.teachers import Endpoint, Model, Rules, brief, cost, local_model, seen_from, where

SAMPLES = Path(__file__).resolve().parents[1] / "data_samples"
SIZE = {"height": 100, "width": 200}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("OSPREY_NB_CACHE", str(tmp_path / "cache"))


def box(x, y, w=40, h=30):
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def annotation(category, x, y, **more):
    return {"image_id": 1, "category_id": category, "segmentation": box(x, y), "iscrowd": 0, **more}


@pytest.fixture
def annotated(tmp_path):
    """A dog left of a cat, a wheel of a car, a crowd of people, a speck, a mask that is none; and their captions."""
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", **SIZE}],
        "annotations": [
            annotation(1, 0, 60, attributes=["brown", "wet"], caption="It wags."), annotation(2, 150, 60), annotation(5, 80, 0),
            annotation(4, 70, 60, iscrowd=1), annotation(2, 0, 0, segmentation=box(1, 1, 2, 2)),
            annotation(2, 0, 0, segmentation=[]),
        ],
        "categories": [
            {"id": 1, "name": "dog", "supercategory": "animal"}, {"id": 2, "name": "cat", "supercategory": "animal"},
            {"id": 3, "name": "hot dog", "supercategory": "food"}, {"id": 4, "name": "person", "supercategory": "person"},
            {"id": 5, "name": "car:wheel", "supercategory": "vehicle"}, {"id": 6, "name": "cake", "supercategory": "food"},
        ],
    }  # fmt: skip
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))
    captions = tmp_path / "captions.json"
    said = [{"image_id": 1, "id": 1, "caption": "A dog looks at a cat. "}]
    captions.write_text(json.dumps({**content, "annotations": said}))
    return path, captions


@pytest.fixture
def facts(annotated):
    rows = open_rows(annotated[0], progress=False)
    return read_facts(rows[0], rows, ["A dog looks at a cat."])


def test_facts(facts):
    dog, cat, wheel = facts.things
    assert (dog.category, dog.group, dog.attributes, dog.caption) == ("dog", "animal", ("brown", "wet"), "It wags.")
    assert (wheel.category, wheel.part) == ("car", "wheel")
    assert dog.box == pytest.approx((0, 0.6, 0.2, 0.9)) and dog.share == pytest.approx(0.06)
    assert facts.present == {"dog", "cat", "person", "car"}  # the crowd is there, too
    assert seen_from(dog, cat) == "to the left of" and seen_from(cat, dog) == "to the right of"
    assert seen_from(wheel, cat) == "above" or seen_from(wheel, cat) == "to the left of"
    assert seen_from(dog, dog) == "" and where(dog) == "at the bottom left" and where(wheel) == "at the top"


def test_a_no_is_certain(facts):
    groups = {"animal": {"dog", "cat"}, "food": {"hot dog", "cake"}, "person": {"person"}, "vehicle": {"car"}}
    for seed in range(50):
        turns = yes_or_no(facts, facts.things[:2], groups, np.random.default_rng(seed))
        assert sorted(answer for _, answer in turns) == ["No", "No", "Yes", "Yes"]
        for question, answer in turns:
            if answer == "No":  # not the other animal, not what stands in the picture, not a dog for a hot dog
                assert re.search(r" a (cake|hot dog)\?", question) and ("hot dog" not in question or "region2" in question)
    assert yes_or_no(facts, facts.things[:2], {"animal": {"dog", "cat"}}, np.random.default_rng(0)) == []


def test_curated_by_rules_passes_the_check_and_is_the_same_again(shared, tmp_path):
    data = shared / "coco128"
    for name in ("one", "two"):
        result = curate(data / "instances.json", tmp_path / name, Rules(), seed=3, progress=False)
    assert result.filtered.total() == 0
    for name in FILES:
        one, two = (tmp_path / folder / f"{name}.json" for folder in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()
        reader = FORMATS["osprey"](one, data / "images", progress=False)
        assert len(reader) == result.records[name]
        checked = check(reader, progress=False)
        assert checked.findings == []
        if name == FILES[-1]:
            assert checked.answers["Yes"] == checked.answers["No"] > 200
    assert result.records["osprey_part_level"] == 0 and min(result.records[n] for n in FILES if "part" not in n) > 70


def test_what_the_rules_say_is_true_of_drawn_scenes(tmp_path):
    curate(SAMPLES / "instances.json", tmp_path, Rules(), progress=False)
    truth = open_rows(SAMPLES / "instances.json", progress=False)
    by_name = {row["image"]["file_name"]: row["annotations"] for row in truth}
    asked = 0
    for record in FORMATS["osprey"](tmp_path / "osprey_lvis_positive_negative.json", SAMPLES / "images", progress=False):
        here = {truth.categories[a["category_id"]] for a in by_name[record.image.name]}
        for question, answer in record.turns:
            word = re.search(r"an? (\w+)\?", question)[1]
            assert (word in here) == (answer == "Yes")
            asked += 1
    assert asked > 300
    for record in FORMATS["osprey"](tmp_path / "osprey_conversation.json", SAMPLES / "images", progress=False):
        (x1, y1), (x2, y2) = (np.argwhere(mask).mean(0)[::-1] for mask in record.masks[:2])
        for _, answer in record.turns:
            if answer == "<region1> is to the left of <region2>.":
                assert x1 < x2 + 20
            if answer == "<region1> is below <region2>.":
                assert y1 > y2 - 20


def test_parts_attributes_and_captions_are_used(annotated, tmp_path):
    path, captions = annotated
    said = ""
    for seed in range(8):
        curate(path, tmp_path / str(seed), Rules(), captions, seed=seed, progress=False)
        said += "".join((tmp_path / str(seed) / f"{name}.json").read_text() for name in FILES)
    for words in ("car:wheel", "Which part of a car is <region1>?", "a brown dog", "A dog looks at a cat.", "It wags."):
        assert words in said, words
    assert "person" not in said.replace("a person?", "")  # a crowd is no region


class Says:
    """A teacher that says what it is told to."""

    def __init__(self, *turns):
        self.turns = turns

    def write(self, kind, facts, things, rng):
        return list(self.turns)


def test_filters(annotated, tmp_path):
    teacher = Says(
        ("What is <region1>?", "a dog"), ("What is <region1>?", "A dog!"), ("What is <region9>?", "a dog"), ("And it?", " "),
        ("Where?", "Its box is at 0.25."), ("How?", "The caption says so."),
    )  # fmt: skip
    result = curate(annotated[0], tmp_path / "out", teacher, progress=False)
    (record,) = json.loads((tmp_path / "out" / "osprey_conversation.json").read_text())
    assert [turn["value"] for turn in record["conversations"]] == ["What is <region1>?", "a dog"]
    assert set(result.filtered) == {
        "said before", "names a region that there isn't", "empty", "speaks of boxes, captions or annotations",
    }  # fmt: skip
    assert "answers left out: said before" in str(result)


def test_nothing_is_overwritten_and_other_formats_are_refused(annotated, tmp_path):
    curate(annotated[0], tmp_path / "out", Rules(), progress=False)
    with pytest.raises(FileExistsError, match="nothing is overwritten"):
        curate(annotated[0], tmp_path / "out", Rules(), progress=False)
    with pytest.raises(ValueError, match="needs annotations in the COCO format"):
        curate(SAMPLES / "osprey_short_form.json", tmp_path / "other", Rules(), progress=False)


# --- language models: a real server, a real transformers model ------------------------------------------------


@pytest.fixture
def server():
    """A small server of the chat interface. `replies` are (status, text), the last of them for ever."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            server.seen.append((self.path, self.headers.get("Authorization"), body))
            status, text = server.replies.pop(0) if len(server.replies) > 1 else server.replies[0]
            data = json.dumps({"choices": [{"message": {"content": text}}]} if status == 200 else {"error": text}).encode()
            self.send_response(status)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.seen, server.replies = [], []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def endpoint(server, tmp_path, **options):
    url = f"http://127.0.0.1:{server.server_port}/v1/"
    return Endpoint(url, "small", tmp_path / "answers.jsonl", per_minute=1e6, wait=0.01, **options)


PAIRS = 'Sure: [{"question": "What is <region1>?", "answer": "a brown dog"}] Done.'


def test_an_endpoint_retries_keeps_and_goes_on(server, tmp_path, facts, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    server.replies = [(429, "slow down"), (500, "oh"), (200, PAIRS)]
    teacher = Model(endpoint(server, tmp_path))
    turns = teacher.write("osprey_conversation", facts, facts.things, None)
    assert turns == [("What is <region1>?", "a brown dog")] and teacher.ask.asked == 3
    path, authorization, body = server.seen[0]
    assert path == "/v1/chat/completions" and authorization == "Bearer secret" and body["model"] == "small"
    assert body["messages"][0]["content"] == brief("osprey_conversation", facts, facts.things)
    assert "secret" not in (tmp_path / "answers.jsonl").read_text()
    with open(tmp_path / "answers.jsonl", "a") as file:
        file.write('{"key": "torn')  # killed while writing
    again = Model(endpoint(server, tmp_path))
    assert again.write("osprey_conversation", facts, facts.things, None) == turns and again.ask.asked == 0
    again.write("osprey_short_form", facts, facts.things, None)
    assert len(endpoint(server, tmp_path)._answers) == 2


@pytest.mark.parametrize(("reply", "tries", "message"), [
    ((401, "no such key"), 1, "401 .*no such key.* after 1 tries"), ((503, "busy"), 3, "503 .*busy.* after 3 tries"),
])  # fmt: skip
def test_an_endpoint_that_refuses(server, tmp_path, reply, tries, message):
    server.replies = [reply]
    with pytest.raises(RuntimeError, match=message):
        endpoint(server, tmp_path, retries=2)("hello")
    assert len(server.seen) == tries


def test_no_server_at_all(tmp_path):
    with pytest.raises(RuntimeError, match="the same command goes on from there"):
        Endpoint("http://127.0.0.1:9", "small", tmp_path / "a.jsonl", retries=1, wait=0.01, per_minute=1e6)("hello")


def test_requests_keep_their_distance(server, tmp_path, monkeypatch):
    server.replies, waits = [(200, "x")], []
    slow = endpoint(server, tmp_path)
    slow.per_minute = 1
    monkeypatch.setattr("osprey_nb.data.teachers.time.sleep", waits.append)
    slow("one")
    slow("two")
    assert waits[0] == 0 and 50 < waits[1] <= 60


def test_what_is_no_list_of_pairs_is_counted(facts):
    for said in ("I cannot do that.", "[1, 2]", '[{"question": "x"}]', "[{"):
        teacher = Model(lambda text, said=said: said)
        assert teacher.write("osprey_short_form", facts, facts.things, None) == [] and teacher.refused == 1


def test_a_brief_tells_all_that_is_known(facts):
    text = brief("osprey_detail_description", facts, facts.things)
    assert "A dog looks at a cat." in text and "<region3>: car:wheel" in text
    assert "<region1>: dog (brown; wet; It wags.), box (0.0, 0.6, 0.2, 0.9)" in text


def test_a_local_model(tmp_path, tiny, facts):
    tokenizer = tiny.processor.tokenizer
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(tokenizer), **sizes)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "lm")
    tokenizer.save_pretrained(tmp_path / "lm")
    ask = local_model(str(tmp_path / "lm"), max_new_tokens=8)
    said = ask("What is it?")
    assert isinstance(said, str) and said == ask("What is it?")
    assert Model(ask).write("osprey_short_form", facts, facts.things, None) == []  # random weights write no JSON


def test_cost():
    assert cost(["x" * 4000] * 1000, price_in=2.0, price_out=10.0) == pytest.approx(2.0 + 3.0)


def test_on_the_command_line(annotated, server, tmp_path, capsys):
    path, captions = map(str, annotated)
    arguments = ["curate", path, "--captions", captions, "--out", str(tmp_path / "out")]
    url = f"http://127.0.0.1:{server.server_port}/v1"
    assert main([*arguments, "--teacher", url, "--model", "small", "--estimate", "2,10"]) == 0
    said = capsys.readouterr().out
    assert "4 requests" in said and not server.seen and not (tmp_path / "out").exists()
    assert main([*arguments, "--teacher", url]) == 2 and "--model" in capsys.readouterr().err
    server.replies = [(200, PAIRS)]
    assert main([*arguments, "--teacher", url, "--model", "small"]) == 0
    assert len(server.seen) == 4 and "osprey_conversation" in capsys.readouterr().out
    assert main(arguments) == 2 and "nothing is overwritten" in capsys.readouterr().err
    assert main(["curate", path, "--out", str(tmp_path / "rules")]) == 0
    assert main(["curate", path, "--out", str(tmp_path / "x"), "--teacher", "local:none/such"]) == 2
