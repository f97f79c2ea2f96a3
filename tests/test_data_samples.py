"""The files of data_samples/: their schemas, their masks, and that one command makes them."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from osprey_nb.data import samples
from osprey_nb.data.kinds import KINDS
from osprey_nb.data.photographs import load_photograph, photographs
from osprey_nb.data.scenes import make_scene

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools on numpy 2
FOLDER = Path(__file__).parents[1] / "data_samples"
OSPREY = {
    "osprey_short_form": "RLE",
    "osprey_conversation": "RLE",
    "osprey_detail_description": "RLE",
    "osprey_part_level": "uncompressed",
    "osprey_lvis_positive_negative": "polygons",
}


def load(name):
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def form_of(segmentation) -> str:
    if isinstance(segmentation, list):
        return "polygons"
    return "RLE" if isinstance(segmentation["counts"], str) else "uncompressed"


def decode(segmentation, height, width) -> np.ndarray:
    """H×W bool with pycocotools alone, so that the files are read as another project would read them."""
    form = form_of(segmentation)
    if form == "polygons":
        segmentation = coco.merge(coco.frPyObjects(segmentation, height, width))
    elif form == "uncompressed":
        segmentation = coco.frPyObjects(segmentation, height, width)
    return coco.decode(segmentation).astype(bool)


def check_annotation(annotation, height, width):
    mask = decode(annotation["segmentation"], height, width)
    assert mask.shape == (height, width) and mask.sum() == annotation["area"] > 0
    x, y, wide, high = annotation["bbox"]
    assert mask[y : y + high, x : x + wide].sum() == mask.sum()
    return mask


def test_the_folder_is_complete_and_small():
    names = {path.name for path in FOLDER.iterdir()}
    assert names == {
        "README.md", "images", "llava_captions.json", "instances.json", "photographs.json", *(f"{n}.json" for n in OSPREY)
    }  # fmt: skip
    assert len(list((FOLDER / "images").iterdir())) == samples.SCENES == 64
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 6e6
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(name in readme for name in names - {"README.md", "images"})


@pytest.mark.parametrize("name", OSPREY)
def test_osprey_files_follow_the_schema(name):
    entries = load(name)
    assert len(entries) == 64
    for entry in entries:
        texts = "description" if name == "osprey_detail_description" else "conversations"
        assert set(entry) == {"file_name", "height", "width", "annotation", texts}
        with Image.open(FOLDER / "images" / entry["file_name"]) as image:
            assert image.size == (entry["width"], entry["height"])
        for annotation in entry["annotation"]:
            assert form_of(annotation["segmentation"]) == OSPREY[name]
            check_annotation(annotation, entry["height"], entry["width"])
        count = len(entry["annotation"])
        if texts == "description":
            assert [text.partition(": ")[0] for text in entry[texts]] == [f"<region{i + 1}>" for i in range(count)]
            continue
        turns = entry[texts]
        assert [turn["from"] for turn in turns] == ["human", "gpt"] * (len(turns) // 2) and turns
        named = {int(n) for turn in turns for n in re.findall(r"<region(\d+)>", turn["value"])}
        assert named and max(named) <= count
        for question, answer in zip(turns[::2], turns[1::2], strict=True):
            if name in ("osprey_short_form", "osprey_part_level"):
                assert question["value"].endswith("Answer the question using a single word or phrase.")
            if name == "osprey_lvis_positive_negative":
                assert answer["value"] in ("Yes", "No")


def test_captions_follow_llava():
    entries = load("llava_captions")
    assert len({entry["id"] for entry in entries}) == 64
    for entry in entries:
        assert set(entry) == {"id", "image", "conversations"} and (FOLDER / "images" / entry["image"]).is_file()
        said = entry["conversations"]
        assert [turn["from"] for turn in said] == ["human", "gpt"] * 2  # a caption, and where it is
        assert said[0]["value"].startswith("<image>\n")
        assert not any("<" in turn["value"].removeprefix("<image>\n") for turn in said)


def test_instances_follow_coco_and_agree_with_the_scenes():
    data = load("instances")
    images = {image["id"]: image for image in data["images"]}
    names = {category["id"]: category["name"] for category in data["categories"]}
    assert len(images) == 64 and sorted(names.values()) == sorted(KINDS)
    assert len({annotation["id"] for annotation in data["annotations"]}) == len(data["annotations"])
    found: dict[int, list] = {}
    for annotation in data["annotations"]:
        image = images[annotation["image_id"]]
        mask = check_annotation(annotation, image["height"], image["width"])
        found.setdefault(image["id"], []).append((names[annotation["category_id"]], mask))
    for index in (0, 1, 33):
        scene = make_scene(index, samples.SIDE, "eval", "all")
        assert len(scene.objects) == len(found[index + 1])
        for obj, (name, mask) in zip(scene.objects, found[index + 1], strict=True):
            assert obj.kind == name and (obj.mask == mask).all()


@pytest.mark.parametrize("index", [0, 7, 31, 63])
def test_shipped_files_are_what_the_command_makes(index):
    scene, entries = samples.make_sample(index)
    for name in (*OSPREY, "llava_captions"):
        assert entries[name] == [load(name)[index]], f"{name}: run python -m osprey_nb.data.samples --out data_samples"
    with Image.open(FOLDER / "images" / f"scene_{index:03}.jpg") as image:
        difference = np.abs(np.asarray(image, float) - scene.image)
    assert difference.mean() < 4  # JPEG


def test_the_command_writes_every_file(tmp_path):
    samples.write_samples(tmp_path, scenes=2)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in FOLDER.iterdir()} - {"README.md"}
    assert json.loads((tmp_path / "osprey_conversation.json").read_text()) == load("osprey_conversation")[:2]
    assert json.loads((tmp_path / "photographs.json").read_text()) == load("photographs")
    first = (tmp_path / "instances.json").read_text()
    samples.write_samples(tmp_path, scenes=2)
    assert (tmp_path / "instances.json").read_text() == first


def test_photographs_are_described_and_their_masks_agree_with_the_file():
    entries = {entry["name"]: entry for entry in load("photographs")}
    assert tuple(entries) == photographs() and 4 <= len(entries)
    for name in photographs():
        photo, entry = load_photograph(name), entries[name]
        height, width = photo.image.shape[:2]
        assert photo.image.dtype == np.uint8 and photo.image.shape == (entry["height"], entry["width"], 3)
        assert photo.masks.shape == (len(photo.regions), height, width) and photo.masks.dtype == bool
        assert len(photo.regions) >= 3 and ("CC0" in photo.licence or "public domain" in photo.licence)
        for region, mask, annotation in zip(photo.regions, photo.masks, entry["annotation"], strict=True):
            assert (check_annotation(annotation, height, width) == mask).all()
            assert (annotation["short"], annotation["detailed"]) == (region.short, region.detailed)
            assert 2 <= len(region.short.split()) <= 7 and 10 <= len(region.detailed.split()) <= 40
        for region, mask in zip(photo.regions, photo.masks, strict=True):
            for other in region.behind:
                index = [r.name for r in photo.regions].index(other)
                assert not (mask & photo.masks[index]).any()


def test_photograph_masks_lie_on_what_they_name():
    """Colours that anyone can check: the suit is orange, the eyes greener than the fur, the saucer is red, the coat is dark."""

    def median(name, region):
        photo = load_photograph(name)
        return np.median(photo.image[photo.masks[[r.name for r in photo.regions].index(region)]].astype(int), axis=0)

    red, green, blue = median("astronaut", "suit")
    assert red > 180 and red > 1.8 * green and red > 2.5 * blue
    red, green, blue = median("chelsea", "left eye")
    assert green > 1.8 * blue and median("chelsea", "cat")[1] < 1.5 * median("chelsea", "cat")[2]
    red, green, blue = median("coffee", "saucer")
    assert red > 3 * green and red > 3 * blue
    assert max(median("camera", "man")) < 40 and min(median("rocket", "rocket")) > 110


def test_an_unknown_photograph_is_refused():
    with pytest.raises(ValueError, match="'moon'.*astronaut"):
        load_photograph("moon")
