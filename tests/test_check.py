"""`osprey-nb check`: faults planted one by one, each found and named; nothing found in clean data."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from osprey_nb.cli import main
from osprey_nb.data.check import KINDS, check, contact_sheet, fix
from osprey_nb.data.readers import FORMATS, guess_format
from osprey_nb.masks import to_rle

SAMPLES = Path(__file__).resolve().parents[1] / "data_samples"
SIDE = 40


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("OSPREY_NB_CACHE", str(tmp_path / "cache"))


def square(x, y=5, side=10):
    mask = np.zeros((SIDE, SIDE), bool)
    mask[y : y + side, x : x + side] = True
    return {"segmentation": to_rle(mask)}


def entry(n=0, **changes):
    """A clean Osprey entry, no two alike."""
    return {
        "file_name": f"{n}.png", "height": SIDE, "width": SIDE, "annotation": [square(3), square(20)],
        "conversations": [
            {"from": "human", "value": "What is <region1>?"}, {"from": "gpt", "value": "a cat"},
            {"from": "human", "value": "Is <region2> a dog or a cat?"}, {"from": "gpt", "value": "a dog"},
        ], **changes,
    }  # fmt: skip


def asked(*turns):
    return [{"from": who, "value": text} for turn in turns for who, text in zip(("human", "gpt"), turn, strict=True)]


RLE = square(3)["segmentation"]
PLANTED = {  # kind -> how an entry gets it
    "unreadable row": {"annotation": None},
    "conversation out of order": {"conversations": entry()["conversations"][::-1]},
    "empty text": {"conversations": asked(("What are <region1> and <region2>?", " "))},
    "region without a mask": {"conversations": asked(("What are <region1>, <region2> and <region3>?", "things"))},
    "region never named": {"conversations": asked(("What is <region1>?", "a cat"))},
    "answer stands in the question": {"conversations": asked(("Is <region2> the red bicycle of <region1>?", "red bicycle"))},
    "picture missing": {"file_name": "none.png"},
    "picture damaged": {"file_name": "damaged.png"},
    "picture of another size": {"file_name": "large.png"},
    "mask empty": {"annotation": [square(3), {"segmentation": to_rle(np.zeros((SIDE, SIDE), bool))}]},
    "mask outside the picture": {"annotation": [square(3), {"segmentation": [[30, 30, 60, 30, 60, 39, 30, 39]]}]},
    "mask does not decode": {"annotation": [square(3), {"segmentation": {**RLE, "counts": RLE["counts"][:-1]}}]},
    "mask of another size": {"annotation": [square(3), {"segmentation": to_rle(np.ones((9, 9), bool))}]},
    "mask tiny": {"annotation": [square(3), square(20, side=2)]},
    "mask twice": {"annotation": [square(3), square(3)]},
    "nothing said": {"description": []},
}


@pytest.fixture
def folder(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for n in range(30):
        Image.new("RGB", (SIDE, SIDE), (n, 90, 90)).save(images / f"{n}.png")
    Image.new("RGB", (SIDE + 1, SIDE)).save(images / "large.png")
    (images / "damaged.png").write_bytes((images / "0.png").read_bytes()[:50])
    return tmp_path


def reader(folder, content, format="osprey", name="data"):
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return FORMATS[format](path, folder / "images", progress=False)


def found(content, folder, format="osprey", **options):
    return check(reader(folder, content, format, **options), progress=False)


def test_nothing_is_found_in_clean_data(folder):
    assert found([entry(n) for n in range(30)], folder).findings == []
    for path in sorted(SAMPLES.glob("osprey_*.json")):
        clean = check(FORMATS["osprey"](path, SAMPLES / "images", progress=False), progress=False)
        assert clean.errors == [] and {f.kind for f in clean.findings} <= {"region never named"}


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_fault_is_found_and_nothing_else(folder, kind):
    result = found([entry(0), entry(1, **PLANTED[kind]), entry(2)], folder)
    assert [(finding.kind, finding.row) for finding in result.findings] == [(kind, 2)]
    assert ("error" if KINDS[kind] else "warning") in result.table() and kind in result.table()


def test_all_planted_faults_at_once_and_what_is_left_is_clean(folder):
    faulty = [entry(i, **change) for i, change in enumerate(PLANTED.values())]
    content = [entry(20), *faulty, entry(21), entry(20)]
    result = found(content, folder)
    kinds = {finding.kind for finding in result.findings}
    assert kinds >= {*PLANTED, "duplicate record"} and len(kinds) >= 15
    before = result.reader.file.read_bytes()
    dropped = fix(result, folder / "out" / "fixed.json")
    assert result.reader.file.read_bytes() == before
    assert {finding["row"] for finding in dropped} == {i for i, kind in enumerate(PLANTED, 2) if KINDS[kind]}
    assert json.loads((folder / "out" / "fixed.dropped.json").read_text()) == dropped
    again = check(FORMATS["osprey"](folder / "out" / "fixed.json", folder / "images", progress=False), progress=False)
    assert again.errors == [] and len(again.reader) == len(content) - sum(KINDS[kind] for kind in PLANTED)
    with pytest.raises(FileExistsError, match="nothing is overwritten"):
        fix(result, folder / "out" / "fixed.json")


def test_coco_loses_its_bad_annotations_only(folder):
    good, bad = square(3), {"segmentation": {"size": [SIDE, SIDE], "counts": "?"}}
    crowd = {**good, "iscrowd": 1}
    content = {
        "images": [{"id": n, "file_name": f"{n}.png", "height": SIDE, "width": SIDE} for n in range(3)],
        "annotations": [
            {"id": i, "image_id": n, "category_id": c, **a}
            for i, (n, c, a) in enumerate([(0, 1, good), (0, 1, bad), (1, 7, good), (2, 1, crowd), (9, 1, good)])
        ],
        "categories": [{"id": 1, "name": "cat", "supercategory": "animal"}],
    }
    result = found(content, folder, "coco")
    assert [(f.kind, f.row, f.region) for f in result.findings] == [
        ("annotation without a picture", None, None), ("mask does not decode", 1, 2), ("unknown category", 2, None),
        ("nothing said", 3, None),
    ]  # fmt: skip
    fix(result, folder / "fixed.json")
    kept = json.loads((folder / "fixed.json").read_text())
    assert [a["id"] for a in kept["annotations"]] == [0, 3] and [i["id"] for i in kept["images"]] == [0, 2]
    assert kept["categories"] == content["categories"]


def test_all_regions_of_a_coco_image_are_looked_at(folder):
    many = [{"id": i, "image_id": 0, "category_id": 1, **square(i % 20, i // 20)} for i in range(60)]
    content = {"images": [{"id": 0, "file_name": "0.png", "height": SIDE, "width": SIDE}], "annotations": many,
               "categories": [{"id": 1, "name": "cat"}]}  # fmt: skip
    assert found(content, folder, "coco").regions == 60


def test_a_missing_png_of_ones_own(folder):
    (folder / "t.csv").write_text("image,mask,text\nimages/0.png,none.png,x", encoding="utf-8")
    (finding,) = check(FORMATS["own"](folder / "t.csv"), progress=False).findings
    assert (finding.kind, finding.row, finding.region) == ("mask missing", 1, 1)


def test_a_fault_is_what_it_is_whatever_its_words(folder):
    """Faults were once told by pieces of their sentences, names of files among them."""
    (folder / "it is empty.png").write_bytes(b"no picture")
    (folder / "t.csv").write_text("image,mask,text\nimages/0.png,it is empty.png,x", encoding="utf-8")
    (finding,) = check(FORMATS["own"](folder / "t.csv"), progress=False).findings
    assert finding.kind == "mask does not decode"
    image = {"id": 0, "file_name": "0.png", "height": SIDE, "width": SIDE}
    without = {"id": 0, "image_id": 0, **square(3)}
    (finding,) = found({"images": [image], "annotations": [without], "categories": []}, folder, "coco").findings
    assert finding.kind == "unreadable row" and "category_id" in finding.detail


def test_one_answer_for_nearly_all(folder):
    rows = [entry(n, conversations=asked(("Is <region1> by <region2>?", "Yes"))) for n in range(25)]
    assert [f.kind for f in found(rows, folder).findings] == ["answers unbalanced"]


def test_formats_are_told_apart(folder):
    for path in SAMPLES.glob("osprey_*.json"):
        assert guess_format(path) == "osprey"
    assert guess_format(SAMPLES / "instances.json") == "coco"
    assert guess_format(SAMPLES / "llava_captions.json") == "llava"
    with pytest.raises(ValueError, match="no known format: its first row has a, b"):
        guess_format(reader(folder, [{"a": 1, "b": 2}], "llava").file)


def test_real_photographs(shared):
    data = shared / "coco128"
    result = check(FORMATS["coco"](data / "instances.json", data / "images", progress=False), progress=False)
    assert result.errors == [] and result.regions == 740
    assert {finding.kind for finding in result.findings} == {"nothing said", "mask tiny"}


def test_contact_sheet_draws_what_can_be_drawn(folder):
    rows = [entry(n) for n in range(5)] + [entry(6, file_name="damaged.png")]
    assert contact_sheet(reader(folder, rows), folder / "sheet.png", count=12) == 5
    with Image.open(folder / "sheet.png") as sheet:
        assert sheet.width > 1000 and len(np.unique(np.asarray(sheet))) > 100


def test_on_the_command_line(folder, capsys):
    data = reader(folder, [entry(0), entry(1, **PLANTED["mask empty"])]).file
    arguments = ["check", str(data), "--images", str(folder / "images")]
    assert main([*arguments, "--sheet", str(folder / "s.png"), "--fix", str(folder / "fixed.json")]) == 1
    out = capsys.readouterr().out
    assert "mask empty" in out and "row 2, region 2" in out and "1 errors, 0 warnings" in out
    assert (folder / "s.png").exists() and len(json.loads((folder / "fixed.json").read_text())) == 1
    assert main([*arguments, "--json"]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["kind"] == "mask empty"
    assert main(["check", str(folder / "fixed.json"), "--images", str(folder / "images")]) == 0
    for wrong, message in (
        (["--fix", str(data)], "the input is never changed"), (["--fix", str(folder / "s.png")], "exists already"),
        (["--format", "coca"], "known are osprey"),
    ):
        assert main([*arguments, *wrong]) == 2 and message in capsys.readouterr().err
    assert main(["check", str(folder / "none.json")]) == 2
    capsys.readouterr()
    assert main(["check", "stage3", "--images", str(folder)]) == 2 and "names what is not there" in capsys.readouterr().err


def test_of_a_file_that_is_cut_short_the_whole_entries_are_saved(folder, capsys):
    data = reader(folder, [entry(n) for n in range(5)]).file
    data.write_text(data.read_text()[:-30])
    arguments = ["check", str(data), "--images", str(folder / "images")]
    assert main([*arguments, "--fix", str(folder / "fixed.json")]) == 1
    out = capsys.readouterr().out
    assert "file cut short" in out and "after 4 whole entries" in out and "4 rows" in out and "1 errors" in out
    assert json.loads((folder / "fixed.json").read_text()) == [entry(n) for n in range(4)]
    with pytest.raises(ValueError, match="is cut short"):
        FORMATS["osprey"](data, folder / "images", progress=False)  # training does not pass over it


def test_a_mixture_is_checked_source_by_source(folder, capsys):
    (folder / "m.yaml").write_text(
        "sources:\n  - {format: osprey, file: osprey_short_form.json, images: images}\n"
        "  - {format: coco, file: instances.json, images: images}\n"
    )
    assert main(["check", str(folder / "m.yaml"), "--images", str(SAMPLES)]) == 0
    assert capsys.readouterr().out.count("0 errors") == 2


def test_a_part_only_and_a_stop_at_the_first_error(folder, capsys):
    faulty = PLANTED["mask empty"]
    data = reader(folder, [entry(n, **(faulty if n in (1, 3) else {})) for n in range(6)]).file
    arguments = ["check", str(data), "--images", str(folder / "images")]
    assert main([*arguments, "--strict"]) == 1
    out = capsys.readouterr().out
    assert "2 of 6 rows, 4 regions" in out and "1 errors" in out
    seen = []
    for options in (["--limit", "3"], ["--limit", "3"], ["--fraction", "0.5"], ["--limit", "3", "--seed", "1"]):
        main([*arguments, *options])
        seen.append(capsys.readouterr().out)
        assert "3 of 6 rows, 6 regions" in seen[-1]
    assert seen[0] == seen[1] == seen[2]
    main([*arguments, "--limit", "99"])
    assert ": 6 rows" in capsys.readouterr().out
    for wrong, message in (
        (["--limit", "0"], "must be 1 or more"), (["--fraction", "2"], "above 0"),
        (["--limit", "1", "--fraction", "1"], "one of"), (["--limit", "3", "--fix", str(folder / "f.json")], "every row"),
    ):
        assert main([*arguments, *wrong]) == 2 and message in capsys.readouterr().err


def test_the_program_itself(folder):
    data = reader(folder, [entry(0)]).file
    command = [sys.executable, "-m", "osprey_nb.cli", "check", data, "--images", folder / "images"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "1 rows, 2 regions" in done.stdout
