"""Every format the paper trains on, from small samples written by hand in the real schema, with their oddities."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from osprey_nb.data import readers
from osprey_nb.data.readers import FORMATS, RecordError
from osprey_nb.masks import to_rle

SAMPLES = Path(__file__).resolve().parents[1] / "data_samples"
SQUARE = [[2.0, 2.0, 8.0, 2.0, 8.0, 6.0, 2.0, 6.0]]  # 6 wide, 4 high
SIZE = {"height": 10, "width": 20}
LEFT = np.zeros((10, 20), bool)
LEFT[:, :5] = True


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("OSPREY_NB_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a.jpg", "000000000009.jpg", "b_c.jpg"):
        Image.new("RGB", (20, 10)).save(folder / name)
    return folder


def opened(format, content, images, name="osprey_conversation", **options):
    path = images.parent / f"{name}.{'jsonl' if format == 'vcr' else 'json'}"
    text = "\n".join(map(json.dumps, content)) if format == "vcr" else json.dumps(content)
    path.write_text(text, encoding="utf-8")
    return FORMATS[format](path, images, progress=False, **options)


def said(*texts):
    return [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(texts)]


def osprey(*texts, file_name="a.jpg", **more):
    annotation = [{"segmentation": SQUARE}, {"segmentation": to_rle(LEFT)}, {"segmentation": to_rle(LEFT, compressed=False)}]
    return {"file_name": file_name, **SIZE, "annotation": annotation, "conversations": said(*texts), **more}


def coco(annotations, image=None, categories=({"id": 1, "name": "cat"},)):
    image = {"id": 7, "file_name": "a.jpg", **SIZE, **(image or {})}
    annotations = [{"id": i, "image_id": 7, "category_id": 1, "segmentation": SQUARE, "iscrowd": 0, **a}
                   for i, a in enumerate(annotations)]  # fmt: skip
    return {"images": [image], "annotations": annotations, "categories": list(categories)}


def test_osprey_conversation(images):
    (record,) = opened("osprey", [osprey("Is <region1> in <region2>?", "No, <region1> is not. ")], images)
    assert record.turns == [("Is <region1> in <region2>?", "No, <region1> is not.")]
    assert record.source == "osprey_conversation" and not record.inline and record.image == images / "a.jpg"
    assert record.masks.shape == (3, 10, 20) and record.masks[0].sum() == 24
    assert (record.masks[1] == LEFT).all() and (record.masks[2] == LEFT).all()


@pytest.mark.parametrize(("written", "found"), [
    ("COCO_train2014_000000000009.jpg", "000000000009.jpg"), ("b_c.jpg", "b_c.jpg"), ("x_nowhere.jpg", "x_nowhere.jpg"),
])  # fmt: skip
def test_prefixes_of_file_names(images, written, found):
    (record,) = opened("osprey", [osprey("What is <region1>?", "a cat", file_name=written)], images)
    assert record.image == images / found


def test_osprey_detail_description(images):
    row = osprey(description=["<region1>: A cat: grey. ", "<region2>:a dog", "no name"])
    del row["conversations"]
    (record,) = opened("osprey", [row], images, "osprey_detail_description")
    assert [answer for _, answer in record.turns] == ["A cat: grey. ", "a dog", "no name"]
    assert all(f"<region{i}>" in question for i, (question, _) in enumerate(record.turns, 1))


@pytest.mark.parametrize("name", ["osprey_short_form", "osprey_part_level"])
def test_one_word_is_asked_for_once(images, name):
    row = osprey("What is <region1>?", "cat", f"And <region2>? {readers.ONE_WORD}", "dog")
    (record,) = opened("osprey", [row], images, name)
    assert [q for q, _ in record.turns] == [f"What is <region1>? {readers.ONE_WORD}", f"And <region2>? {readers.ONE_WORD}"]
    assert not record.inline


def test_positive_negative_names_its_regions_in_place(images):
    row = osprey("Is <region3> a cat?", "Yes", "Is <region1> a dog?", "No, see <region3>.")
    (record,) = opened("osprey", [row], images, "osprey_lvis_positive_negative")
    assert record.inline and len(record.masks) == 2  # <region2> is never named: in place it has no place
    assert record.turns == [("Is <region2> a cat?", "Yes"), ("Is <region1> a dog?", "No, see <region2>.")]
    assert record.masks[0].sum() == 24 and (record.masks[1] == LEFT).all()


def test_coco_instances(images):
    crowd = {"iscrowd": 1, "segmentation": to_rle(LEFT, compressed=False)}
    names = ({"id": 1, "name": "cat, domestic"}, {"id": 5, "name": "dog"})
    content = coco([{}, crowd, {"category_id": 5, "segmentation": to_rle(LEFT)}], categories=names)
    (record,) = opened("coco", content, images)
    assert {a: m.sum() for (_, a), m in zip(record.turns, record.masks, strict=True)} == {"cat, domestic": 24, "dog": 50}
    assert record.inline and record.source == "coco"
    (many,) = opened("coco", coco([{}] * 50), images, "many")
    assert len(many.turns) == len(many.regions) == 20


@pytest.mark.parametrize(("format", "category"), [("pascal_part", "cat:left ear"), ("part_imagenet", "Quadruped Head")])
def test_parts_answer_with_their_category(images, format, category):
    (record,) = opened(format, coco([{}], categories=({"id": 1, "name": category},)), images)
    assert record.turns[0][1] == category and record.source == format


def test_refcoco_takes_the_caption_of_the_image(images):
    content = coco([{}], image={"caption": "the cat on the left"})
    content["images"].append({"id": 8, "file_name": "a.jpg", **SIZE, "caption": "another"})  # one image, two entries
    content["annotations"].append({**content["annotations"][0], "id": 9, "image_id": 8})
    records = list(opened("refcoco", content, images))
    assert [record.turns[0][1] for record in records] == ["the cat on the left", "another"]
    (many,) = opened("refcoco", coco([{}] * 30, image={"caption": "x"}), images, "many")
    assert len(many.turns) == 15


def test_visual_genome_takes_the_caption_of_each_region(images):
    (record,) = opened("visual_genome", coco([{"caption": f"cat {i}"} for i in range(9)]), images)
    assert len(record.turns) == 3 and {a for _, a in record.turns} < {f"cat {i}" for i in range(9)}


def test_vcr(images):
    metadata = {"boxes": [[0, 0, 5, 10, 0.9], [2, 2, 8, 6, 0.8], [10, 0, 20, 5, 0.7]], **SIZE,
                "segms": [[], [[[2, 2], [8, 2], [8, 6], [2, 6]]], [[[1, 1]]]]}  # fmt: skip
    (images / "a.json").write_text(json.dumps(metadata))
    row = {
        "img_fn": "a.jpg", "metadata_fn": "a.json", "objects": ["person", "cat", "cup"], "question_orig": "Does 2 see 1 ?",
        "answer_orig": "Yes , 2 does , at 10 ' clock .", "rationale_orig": "1 waves 2 times with 3 .",
    }
    (record,) = opened("vcr", [row], images)
    assert record.turns == [
        ("Does <region1> see <region2> ?", "Yes , <region1> does , at 10 ' clock ."),
        ("Why?", "<region2> waves <region1> times with <region3> ."),
    ]
    assert not record.inline and [int(m.sum()) for m in record.masks] == [24, 50, 50]  # a box stands in for no polygon


def test_llava(images):
    row = {"id": "1", "image": "a.jpg", "conversations": said("Describe it.\n<image>", "A cat.", "Why?", "So.")}
    (record,) = opened("llava", [row], images)
    assert record.turns == [("Describe it.", "A cat."), ("Why?", "So.")] and record.masks.shape[0] == 0


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_a_folder_of_ones_own(images, kind):
    Image.fromarray(LEFT.astype(np.uint8) * 255).save(images / "left.png")
    lines = [
        {"image": "a.jpg", "mask": "left.png", "text": "a cat, grey", "question": "Who is this?"},
        {"image": "b_c.jpg", "mask": "left.png", "text": "ein Hund, müde", "question": ""},
        {"image": "a.jpg", "mask": "left.png", "text": "x", "question": "Is <region2> small?"},
    ]
    table = images / f"table.{kind}"
    if kind == "json":
        table.write_text(json.dumps(lines), encoding="utf-8")
    else:
        rows = ["image,mask,text,question", *(f'{x["image"]},{x["mask"]},"{x["text"]}",{x["question"]}' for x in lines)]
        table.write_text("\ufeff" + "\n".join(rows), encoding="utf-8")
    first, second = FORMATS["own"](table)
    assert first.turns == [("Who is this? <region1>", "a cat, grey"), ("Is <region2> small?", "x")]
    assert "<region1>" in second.turns[0][0] and second.turns[0][1] == "ein Hund, müde"
    assert (first.masks == LEFT).all() and first.image == images / "a.jpg"


def test_a_turned_photograph_has_masks_of_its_upright_size(images):
    turned = Image.new("RGB", (10, 20))
    exif = turned.getexif()
    exif[readers.ORIENTATION] = 6
    turned.save(images / "turned.jpg", exif=exif)
    Image.fromarray(LEFT.astype(np.uint8) * 255).save(images / "left.png")
    (images / "t.csv").write_text("image,mask,text\nturned.jpg,left.png,x")
    assert (FORMATS["own"](images / "t.csv")[0].masks == LEFT).all()


def test_own_folder_names_the_line(images):
    (images / "t.csv").write_text("image,mask,text\na.jpg,left.png,x\na.jpg,,y")
    with pytest.raises(ValueError, match=r"t\.csv, line 3: no mask"):
        FORMATS["own"](images / "t.csv")


def test_a_seed_and_a_row_decide_what_is_taken(images):
    content = coco([{"caption": str(i)} for i in range(40)])
    one, again = (opened("visual_genome", content, images, seed=1)[0] for _ in range(2))
    other = opened("visual_genome", content, images, seed=2)[0]
    assert one.turns == again.turns and one.turns != other.turns


@pytest.mark.parametrize(("format", "row", "message"), [
    ("osprey", {"file_name": "a.jpg"}, "row 2: no 'conversations'"),
    ("osprey", osprey("What is <region1>?"), "row 2: a conversation must go human, gpt"),
    ("osprey", [], "row 2"),
    ("llava", {"image": "a.jpg", "conversations": said("a", "b")[::-1]}, "gpt, human"),
])  # fmt: skip
def test_a_bad_row_is_named_and_the_others_are_read(images, format, row, message):
    good = osprey("What is <region1>?", "a cat", image="a.jpg")
    reader = opened(format, [good, row], images)
    assert reader[0].turns
    with pytest.raises(RecordError, match=message):
        reader[1]


def test_missing_files_and_folders(images, tmp_path):
    with pytest.raises(FileNotFoundError, match="no annotations at"):
        FORMATS["coco"](tmp_path / "none.json", images)
    with pytest.raises(FileNotFoundError, match="no folder of images at"):
        FORMATS["coco"](SAMPLES / "instances.json", tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="no table at"):
        FORMATS["own"](tmp_path / "none.csv")


def test_all_sample_files_are_read():
    for path in sorted(SAMPLES.glob("osprey_*.json")):
        for record in FORMATS["osprey"](path, SAMPLES / "images", progress=False):
            assert record.turns and record.masks.any((1, 2)).all() and record.image.exists()
    records = list(FORMATS["coco"](SAMPLES / "instances.json", SAMPLES / "images", progress=False))
    assert len(records) == 64 and all(len(record.turns) == len(record.masks) for record in records)


def test_all_real_photographs_are_read(shared):
    coco128 = shared / "coco128"
    records = list(FORMATS["coco"](coco128 / "instances.json", coco128 / "images", progress=False))
    content = json.loads((coco128 / "instances.json").read_text())
    names = {c["id"]: c["name"] for c in content["categories"]}
    for record, image in zip(records, content["images"], strict=True):
        mine = [names[a["category_id"]] for a in content["annotations"] if a["image_id"] == image["id"] and not a["iscrowd"]]
        answers = sorted(answer for _, answer in record.turns)
        assert len(answers) == min(20, len(mine)) and (len(mine) > 20 or answers == sorted(mine))
        assert record.image.exists() and len(record.masks) == len(answers)


def test_a_size_that_no_picture_has(images):
    row = osprey("What is <region1>?", "a cat") | {"height": 10**6, "width": 10**6}
    (images.parent / "large.json").write_text(json.dumps([row]))
    (record,) = FORMATS["osprey"](images.parent / "large.json", images, progress=False)
    with pytest.raises(ValueError, match="1,000,000×1,000,000 pixels; no picture is"):
        record.masks  # noqa: B018


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3), max_leaves=4,
)
IMAGE, (ANNOTATION,) = coco([])["images"][0], coco([{"caption": "x"}])["annotations"]
VALID = {
    "osprey": osprey("What is <region1>?", "a cat", "<region2>?", "b"),
    "llava": {"image": "a.jpg", "conversations": said("a", "b")},
    "coco": {"image": IMAGE, "annotations": [ANNOTATION]},
    "visual_genome": {"image": IMAGE, "annotations": [ANNOTATION]},
    "vcr": {
        "img_fn": "a.jpg", "metadata_fn": "a.json", "objects": ["cat"], "question_orig": "1?", "answer_orig": "1",
        "rationale_orig": "1",
    },
}  # fmt: skip


def places(value, path=()):
    """The way to everything inside a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in inside:
        yield (*path, key)
        yield from places(child, (*path, key))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_row_is_read_or_refused_but_never_crashes(images, data):
    format = data.draw(st.sampled_from(sorted(VALID)))
    (images / "a.json").write_text(json.dumps({"boxes": [[0, 0, 5, 10, 0.9]], "segms": [[]], **SIZE}))
    row = copy.deepcopy(VALID[format])
    way = data.draw(st.sampled_from(list(places(row))))
    inner = row
    for key in way[:-1]:
        inner = inner[key]
    if isinstance(inner, dict) and data.draw(st.booleans()):
        del inner[way[-1]]
    else:
        inner[way[-1]] = data.draw(JUNK)
    reader = FORMATS[format].__new__(FORMATS[format])
    reader.file, reader.images, reader.seed, reader.rows = Path("x.json"), images, 0, [row]
    reader.source, reader.names = "osprey_lvis_positive_negative", {1: "cat"}
    try:
        record = reader[0]
    except RecordError:
        return
    assert all(isinstance(text, str) for turn in record.turns for text in turn)
    try:
        assert record.masks.dtype == bool
    except (ValueError, TypeError, OSError):
        pass  # what to_masks says of what cannot be decoded
