"""Everything in a picture: trees, tables, JSON, folders that go on where they stopped."""

import json

import numpy as np
import pytest
from PIL import Image

from osprey_nb import Osprey, describe_everything
from osprey_nb.data.scenes import make_scene
from osprey_nb.everything import Described, clicked, describe_click, describe_folder, described
from osprey_nb.masks import from_rle
from osprey_nb.segment import Candidates, ClassicSegmenter, load_segmenter

SIDE = 64


@pytest.fixture(scope="module")
def model():
    return Osprey.from_pretrained("tiny").eval()


@pytest.fixture(scope="module")
def sam():
    return load_segmenter("tiny")


def blocks() -> np.ndarray:
    """A wheel in a wheel's bicycle, in no order, and a bird apart."""
    masks = np.zeros((4, SIDE, SIDE), bool)
    masks[0, 10:14, 10:14] = True  # a hub
    masks[1, 40:60, 40:60] = True  # a bird
    masks[2, 4:34, 4:34] = True  # a bicycle
    masks[3, 8:18, 8:18] = True  # a wheel
    return masks


def test_what_lies_in_a_region_follows_it(model):
    session = model.read(np.full((SIDE, SIDE, 3), 90, np.uint8))
    masks = blocks()
    found = described(session, Candidates(masks, np.array([0.1, 0.2, 0.3, 0.4])), "by hand")
    assert found.parents == [None, 0, 1, None]
    assert (found.masks == masks[[2, 3, 0, 1]]).all() and found.scores.tolist() == [0.3, 0.4, 0.1, 0.2]
    assert found.texts == session.describe(masks[[2, 3, 0, 1]])
    found.texts = ["a bicycle", "a wheel", "a hub", "a bird"]
    assert str(found).splitlines() == ["a bicycle", "└─ a wheel", "   └─ a hub", "a bird"]
    assert [row["inside"] for row in found.rows()] == [None, 1, 2, None]
    assert found.rows()[1] | {"score": 0} == {
        "number": 2, "text": "a wheel", "score": 0, "area": 100, "bbox": [8, 8, 10, 10], "inside": 1,
    }  # fmt: skip
    out = json.loads(json.dumps(found.to_json()))
    assert (out["width"], out["height"], out["segmenter"]) == (SIDE, SIDE, "by hand")
    assert (np.stack([from_rle(region["segmentation"]) for region in out["regions"]]) == found.masks).all()
    texts = [text.get_text() for axes in found.figure().axes for text in axes.texts]
    assert {"1", "2", "3", "4", "└─ a wheel", "   └─ a hub"} <= set(texts)


def test_text_of_a_model_is_escaped():
    mask, picture = np.ones((1, 9, 9), bool), Image.new("RGB", (9, 9))
    found = Described(picture, mask, np.ones(1), ["<script>alert(1)</script>"], [None], "by hand")
    assert "<script" not in found._repr_html_() and "&lt;script&gt;" in found._repr_html_()


def test_everything_finds_and_describes(model, sam):
    scene = make_scene(3, 256, "eval", "train")
    found = describe_everything(scene.image, model, sam)
    assert len(found.texts) == len(found.masks) == len(found.scores) > 2
    assert any(text.endswith("train") for text in found.texts)  # one of the objects of this scene
    again = describe_everything(scene.image)  # the same, by default
    assert again.texts == found.texts and (again.masks == found.masks).all()
    detailed = describe_everything(scene.image, model, sam, detail="detailed")
    assert detailed.texts == model.describe(scene.image, found.masks, detail="detailed")


def test_a_click_is_a_branch(model, sam):
    scene = make_scene(5, 256, "eval", "train")
    found = describe_click(scene.image, (120, 120), model, sam)
    assert 1 <= len(found.texts) <= 3 and found.masks.any((1, 2)).all()
    areas = found.masks.sum((1, 2))
    assert (np.diff(areas) <= 0).all() and found.segmenter == sam.name
    for i, parent in enumerate(found.parents):
        assert parent is None or (found.masks[parent] & found.masks[i]).sum() >= 0.9 * areas[i]
    with pytest.raises(ValueError, match="outside the picture"):
        describe_click(scene.image, (300, 1), model, sam)


def test_a_click_on_nothing_has_no_regions(model):
    classic = ClassicSegmenter()
    flat = np.full((SIDE, SIDE, 3), 200, np.uint8)  # one segment, which is the whole picture
    found = describe_click(flat, (5, 5), model, classic)
    assert found.texts == [] and str(found) == "nothing was found" and found.to_json()["regions"] == []
    found.figure()
    classic.set_image(flat)
    assert clicked(classic, (5, 5)).masks.shape == (0, SIDE, SIDE)


def lines_of(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_folder_goes_on_where_it_stopped(model, tmp_path):
    folder, out, classic = tmp_path / "pictures", tmp_path / "out.jsonl", ClassicSegmenter()
    (folder / "more").mkdir(parents=True)
    for i, name in enumerate(("b.png", "more/c.jpg", "d.PNG")):
        Image.fromarray(make_scene(i, SIDE, "eval").image).save(folder / name)
    (folder / "a.png").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("no picture, and not taken for one")

    counts = describe_folder(folder, out, model, classic, progress=False)
    assert counts == {"described": 3, "broken": 1, "there before": 0}
    first = lines_of(out)
    assert [line["image"] for line in first] == ["a.png", "b.png", "d.PNG", "more/c.jpg"]
    assert "no image that can be read" in first[0]["error"] and "regions" not in first[0]
    alone = describe_everything(folder / "b.png", model, classic).to_json()
    assert {key: first[1][key] for key in alone} == alone and first[1]["model"] == "tiny"

    whole = out.read_bytes()
    assert describe_folder(folder, out, model, classic, progress=False) == {"there before": 4}
    assert out.read_bytes() == whole
    cut = whole[: whole.rfind(b"\n", 0, -1) - 200]  # killed while the third line was written
    out.write_bytes(cut)
    assert describe_folder(folder, out, model, classic, progress=False) == {"described": 2, "there before": 2}
    assert out.read_bytes() == whole


def test_what_fails_for_all_is_no_broken_picture(tmp_path):
    Image.new("RGB", (SIDE, SIDE), "grey").save(tmp_path / "a.png")
    mute = Osprey.from_pretrained("tiny")
    mute.processor = None
    with pytest.raises(ValueError, match="no tokenizer"):
        describe_folder(tmp_path, tmp_path / "out.jsonl", mute, ClassicSegmenter(), progress=False)
    assert (tmp_path / "out.jsonl").read_text() == ""


def test_a_file_of_something_else_is_kept(model, tmp_path):
    classic = ClassicSegmenter()
    with pytest.raises(ValueError, match="no pictures"):
        describe_folder(tmp_path, tmp_path / "out.jsonl", model, classic)
    Image.new("RGB", (SIDE, SIDE), "grey").save(tmp_path / "a.png")
    out = tmp_path / "out.jsonl"
    for text in ("my diary, without an end of line", "my diary\n", '["a"]\n', '{"image": "a.png"}\n'):
        out.write_text(text)
        with pytest.raises(ValueError, match="holds something else"):
            describe_folder(tmp_path, out, model, classic)
        assert out.read_text() == text
    out.unlink()
    describe_folder(tmp_path, out, model, classic, progress=False)
    with pytest.raises(ValueError, match="made with model tiny, segmenter superpixels.*detail short"):
        describe_folder(tmp_path, out, model, classic, detail="detailed")
