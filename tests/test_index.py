"""JSON files of any size, as rows in an Arrow file."""

import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from osprey_nb.data.index import open_rows

COCO = {
    "categories": [{"id": 3, "name": "cat, domestic"}, {"id": 9, "name": "dog"}],
    "annotations": [
        {"id": 1, "image_id": 20, "category_id": 9, "bbox": [0.5, 1, 2, 3]},
        {"id": 2, "image_id": 10, "category_id": 3},
        {"id": 3, "image_id": 99, "category_id": 3},
        {"id": 4, "image_id": 20, "category_id": 3},
    ],
    "images": [{"id": 10, "file_name": "a.jpg"}, {"id": 20, "file_name": "b.jpg"}, {"id": 30, "file_name": "ä.jpg"}],
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("OSPREY_NB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "index"


def written(path, content) -> str:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_a_list_and_json_lines_are_their_entries(tmp_path):
    entries = [{"n": i, "text": "é" * i, "half": i / 2, "big": 2**60 + i} for i in range(1000)]
    for name, content in (("a.json", entries), ("b.jsonl", "\n\n".join(json.dumps(e) for e in entries))):
        rows = open_rows(written(tmp_path / name, content), progress=False)
        assert list(rows) == entries and rows[-1] == entries[-1] and rows.categories == {}
        with pytest.raises(IndexError):
            rows[1000]


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 128])
def test_any_number_of_rows_fits_the_batches(tmp_path, count):
    entries = [{"n": i} for i in range(count)]
    rows = open_rows(written(tmp_path / "a.json", entries), progress=False)
    assert len(rows) == count and list(rows) == entries and [rows[i] for i in reversed(range(count))] == entries[::-1]


def test_coco_is_grouped_by_image(tmp_path):
    rows = open_rows(written(tmp_path / "coco.json", COCO), progress=False)
    assert [row["image"] for row in rows] == COCO["images"]
    assert [[a["id"] for a in row["annotations"]] for row in rows] == [[2], [1, 4], []]
    assert rows[1]["annotations"][0] == COCO["annotations"][0]
    assert rows.categories == {3: "cat, domestic", 9: "dog"} and rows.orphans == 1


def test_an_index_is_made_once_and_again_when_the_file_changes(tmp_path, cache):
    path = written(tmp_path / "a.json", [{"n": 1}])
    open_rows(path, progress=False)
    (first,) = cache.iterdir()
    made = first.stat().st_mtime_ns
    assert len(open_rows(path, progress=False)) == 1 and first.stat().st_mtime_ns == made
    written(path, [{"n": 1}, {"n": 2}])
    assert len(open_rows(path, progress=False)) == 2
    assert len(list(cache.iterdir())) == 1  # the old one is gone


def test_two_files_of_one_name_do_not_share_an_index(tmp_path):
    for name, n in (("x", 1), ("y", 2)):
        (tmp_path / name).mkdir()
        written(tmp_path / name / "a.json", [{"n": n}])
        os.utime(tmp_path / name / "a.json", ns=(1, 1))
    assert [open_rows(tmp_path / name / "a.json", progress=False)[0]["n"] for name in "xy"] == [1, 2]


@pytest.mark.parametrize(("content", "message"), [
    ('[{"n": 1}, {"n": 2}, {"n":', r"cut short: it ends at byte 26, after 2 whole entries of `item`"),
    ('[{"n": 1}, {"n": 2,}]', r"no JSON: .*, after 1 whole entries of `item`"),
    (json.dumps(COCO)[:-20], r"cut short: it ends at byte 398"),
    ("<html>not found</html>", "web page"),
    ("", "no JSON"),
    ('{"a": 1}', "neither a list nor in the COCO format"),
])  # fmt: skip
def test_damaged_files_say_where_and_leave_no_index(tmp_path, cache, content, message):
    with pytest.raises(ValueError, match=message):
        open_rows(written(tmp_path / "a.json", content), progress=False)
    assert list(cache.iterdir()) == []


def test_json_lines_name_the_line(tmp_path):
    with pytest.raises(ValueError, match="line 2"):
        open_rows(written(tmp_path / "a.jsonl", '{"n": 1}\n{"n": 2'), progress=False)


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_whole_entries_of_a_cut_file_can_be_saved(tmp_path, name):
    entries = [{"n": i} for i in range(100)]
    text = json.dumps(entries) if name == "a.json" else "\n".join(map(json.dumps, entries))
    path = written(tmp_path / name, text[:-5])
    rows = open_rows(path, progress=False, salvage=True)
    assert list(rows) == entries[:99] and "cut short" in rows.cut
    assert list(open_rows(path, progress=False, salvage=True)) == entries[:99]
    with pytest.raises(ValueError, match="cut short"):
        open_rows(path, progress=False)
    written(path, text)
    whole = open_rows(path, progress=False, salvage=True)
    assert list(whole) == entries and whole.cut == ""
    with pytest.raises(ValueError, match="cut short"):  # of COCO's lists the later ones would be missing
        open_rows(written(tmp_path / "coco.json", json.dumps(COCO)[:-20]), progress=False, salvage=True)


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no annotations at"):
        open_rows(tmp_path / "none.json")


def test_a_worker_opens_the_file_itself(tmp_path):
    rows = open_rows(written(tmp_path / "a.json", [{"n": i} for i in range(5)]), progress=False)
    rows[0]
    assert len(pickle.dumps(rows)) < 500
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(rows.__getitem__, range(5)) == [{"n": i} for i in range(5)]


FILL = """
import resource, signal, sys
from osprey_nb.data.index import open_rows
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
open_rows(sys.argv[1], progress=False)
"""


def test_a_full_disk_leaves_no_half_index(tmp_path, cache):
    path = written(tmp_path / "a.json", [{"n": i} for i in range(9000)])
    done = subprocess.run([sys.executable, "-c", FILL, path], capture_output=True, text=True)
    assert done.returncode and "Free some space there, or set OSPREY_NB_CACHE" in done.stderr.splitlines()[-1], done.stderr
    assert list(cache.iterdir()) == []
    assert len(open_rows(path, progress=False)) == 9000


KILL = """
import os, signal, sys
from osprey_nb.data import index
def rows(stream, prefix, items=index._Stream.items):
    for n, entry in enumerate(items(stream, prefix)):
        if n == 500:
            os.kill(os.getpid(), signal.SIGKILL)
        yield entry
index._Stream.items = rows
index.open_rows(sys.argv[1], progress=False)
"""


def test_a_kill_in_the_middle_is_never_read_as_an_index(tmp_path, cache):
    path = written(tmp_path / "a.json", [{"n": i} for i in range(1000)])
    assert subprocess.run([sys.executable, "-c", KILL, path]).returncode == -signal.SIGKILL
    assert len(list(cache.iterdir())) == 1  # the unfinished one
    assert len(open_rows(path, progress=False)) == 1000


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read as Linux tells it")
def test_memory_stays_small(tmp_path):
    entry = {"text": "x" * 3000}
    with open(tmp_path / "big.json", "w") as file:
        file.write("[" + ",".join(json.dumps({**entry, "n": i}) for i in range(30_000)) + "]")
    code = (
        "import re, sys; from osprey_nb.data.index import open_rows; import pyarrow\n"
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) / 1024\n"
        "before = peak()\n"
        "rows = open_rows(sys.argv[1], progress=False)\n"
        "assert len(rows) == 30_000 and all(row['n'] == i for i, row in enumerate(rows))\n"
        "print(peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "big.json"], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 60  # MiB, of a file of 86
