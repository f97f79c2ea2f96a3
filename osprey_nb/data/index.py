"""A JSON file of any size, opened in a moment: its rows lie in an Arrow file (notebook 06).

    data.json ── streamed once ──► cache/data-….arrow ── 64 rows at a time ──► rows[i], a dict
        list, JSON lines     a row is an entry
        COCO                 a row is an image and its annotations: {"image": {…}, "annotations": [{…}, …]}

Neither building nor reading holds more than a few megabytes of text in memory. (If the file were memory-mapped, the pages that
a worker has read would count as its memory.)
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from ..files import cache_folder

LAYOUT = 4  # of the Arrow files; another number makes all of them anew
BATCH_ROWS = 64


class Rows(Sequence):
    """The rows of one file. `categories` maps COCO's category ids to names; `orphans` counts annotations without an image."""

    def __init__(self, path: Path):
        self.path = path
        self._last: tuple = (None, None)

    @cached_property
    def _file(self):
        import pyarrow as pa

        return pa.ipc.open_file(pa.OSFile(str(self.path)))

    @cached_property
    def _about(self) -> dict:
        return json.loads(self._file.schema.metadata[b"osprey_nb"])

    @property
    def categories(self) -> dict[int, str]:
        return {int(number): name for number, (name, _) in self._about["categories"].items()}

    @property
    def supercategories(self) -> dict[int, str]:
        """COCO's category ids to the groups they belong to; "" where the file names none."""
        return {int(number): group for number, (_, group) in self._about["categories"].items()}

    @property
    def orphans(self) -> int:
        return self._about["orphans"]

    @property
    def cut(self) -> str:
        """What is wrong with a file of which only the whole entries were taken; "" for a whole file."""
        return self._about["cut"]

    def __len__(self) -> int:
        return self._length

    @cached_property
    def _length(self) -> int:
        full = self._file.num_record_batches - 1  # the last may hold fewer, or none
        return full * BATCH_ROWS + self._file.get_batch(full).num_rows

    def __getitem__(self, index: int) -> dict:
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        batch, row = divmod(index % len(self), BATCH_ROWS)
        last = self._last
        if last[0] != batch:  # rows are often read one after the other
            self._last = last = (batch, self._file.get_batch(batch).column(0))
        return json.loads(last[1][row].as_py())

    def __reduce__(self):
        return Rows, (self.path,)  # a worker opens the file itself


class CutShort(ValueError):
    """The file ends in the middle."""


def open_rows(path: str | Path, progress: bool = True, salvage: bool = False) -> Rows:
    """Open a JSON list, a COCO file or JSON lines (`.jsonl`); the first time, and after the file has changed, index it.

    The index is in the user's cache folder, or in `OSPREY_NB_CACHE`. It appears there only when it is whole.
    Raises FileNotFoundError, and ValueError that says where for a file that is no JSON or is cut short. With `salvage` the
    whole entries of a list or of JSON lines are taken all the same, and `Rows.cut` says what is wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no annotations at {path}; give the path of a JSON file on this machine")
    folder = cache_folder() / "index"
    state = path.stat()
    name = f"{path.stem}-{_digest(path.resolve())}"
    index = folder / f"{name}-{_digest(state.st_size, state.st_mtime_ns, LAYOUT)}.arrow"
    with open(path, "rb"):
        pass  # a file that may not be read is found out here, and not taken for a disk that is full
    whole = index.with_name(f"{index.stem}-whole-entries.arrow")
    if salvage and whole.exists():
        return Rows(whole)
    if not index.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _build(path, index, progress)
        except CutShort as error:
            if not salvage:
                raise
            index = whole
            _build(path, index, progress, cut=str(error))
        except OSError as error:
            raise OSError(
                error.errno, f"The index of {path} could not be written to {folder} ({error.strerror or error}). "
                "Free some space there, or set OSPREY_NB_CACHE to a folder on another disk."
            ) from error
        for old in folder.glob(f"{name}-*.arrow"):
            if old != index:
                old.unlink(missing_ok=True)
    return Rows(index)


def _digest(*parts) -> str:
    return hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()[:12]


def _build(path: Path, index: Path, progress: bool, cut: str = "") -> None:
    with _Stream(path, progress) as stream:
        first = stream.first()
        about = {"categories": {}, "orphans": 0, "cut": cut}
        if path.suffix == ".jsonl":
            _write(index, _whole(stream.lines(), cut), about)
        elif first == b"[":
            _write(index, _whole(stream.items("item"), cut), about)
        elif first == b"{":
            _build_coco(stream, index)
        else:
            what = "a web page (did a download fail?)" if first == b"<" else "no JSON"
            raise ValueError(f"{path} is {what}: it begins with {first!r}, not with a list or an object.")


def _whole(entries: Iterator[dict], cut: str) -> Iterator[dict]:
    """The entries; of a file that is known to be cut short those before the cut."""
    try:
        yield from entries
    except CutShort:
        if not cut:
            raise


def _build_coco(stream: _Stream, index: Path) -> None:
    """Annotations first, as they come; then one row an image, with its annotations beside it."""
    categories = {e["id"]: (e["name"], e.get("supercategory", "")) for e in stream.items("categories.item")}
    numbers: dict = {}
    for image in stream.items("images.item"):
        numbers.setdefault(image["id"], len(numbers))
    if not numbers:
        raise ValueError(f"{stream.path} has no `images`: it is neither a list nor in the COCO format.")
    owner = array("q")

    def annotations() -> Iterator[dict]:
        for annotation in stream.items("annotations.item"):
            owner.append(numbers.get(annotation.get("image_id"), -1))
            yield annotation

    loose = index.with_name(f"{index.name}.{os.getpid()}.annotations.part")
    try:
        _write(loose, annotations(), {})
        found, owners = Rows(loose), np.frombuffer(owner, dtype=np.int64)
        order = np.argsort(owners, kind="stable")
        starts = np.searchsorted(owners[order], np.arange(len(numbers) + 1))

        def rows() -> Iterator[dict]:
            for image in stream.items("images.item"):
                number = numbers[image["id"]]
                mine = order[starts[number] : starts[number + 1]]
                yield {"image": image, "annotations": [found[i] for i in mine.tolist()]}

        _write(index, rows(), {"categories": categories, "orphans": int((owners < 0).sum()), "cut": ""})
    finally:
        loose.unlink(missing_ok=True)


def _write(out: Path, rows: Iterator[dict], about: dict) -> None:
    """Rows to an Arrow file of JSON texts, which takes its name when it is whole."""
    import pyarrow as pa

    schema = pa.schema([("row", pa.large_binary())], metadata={"osprey_nb": json.dumps(about)})
    unfinished = out.with_name(f"{out.name}.{os.getpid()}.part")
    try:
        with pa.OSFile(str(unfinished), "wb") as file, pa.ipc.new_file(file, schema) as writer:
            rows = iter(rows)
            while True:
                texts = [json.dumps(row, ensure_ascii=False).encode() for row in itertools.islice(rows, BATCH_ROWS)]
                writer.write_batch(pa.record_batch([pa.array(texts, pa.large_binary())], schema=schema))
                if len(texts) < BATCH_ROWS:
                    break
        os.replace(unfinished, out)
    finally:
        unfinished.unlink(missing_ok=True)


class _Stream:
    """A JSON file read piece by piece, with a progress bar in bytes and errors that say where."""

    def __init__(self, path: Path, progress: bool):
        self.path = path
        self.progress = progress

    def __enter__(self) -> _Stream:
        self.file = open(self.path, "rb")
        self.size = self.path.stat().st_size
        return self

    def __exit__(self, *_) -> None:
        self.file.close()

    def first(self) -> bytes:
        self.file.seek(0)
        return self.file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]

    def items(self, prefix: str) -> Iterator[dict]:
        """The entries of a list: `item` of the whole file, `images.item` of COCO's images."""
        import ijson

        self.file.seek(0)
        count = 0
        with self._bar(prefix) as read:
            try:
                for entry in ijson.items(read, prefix, use_float=True):
                    count += 1
                    yield entry
            except ijson.JSONError as error:
                said = str(error).strip().splitlines()[0]
                cut = "premature EOF" in said or "Incomplete" in said
                what = f"cut short: it ends at byte {self.size:,}" if cut else f"no JSON: {said}"
                raise (CutShort if cut else ValueError)(
                    f"{self.path} is {what}, after {count:,} whole entries of `{prefix}`. Copy or download the file again."
                ) from error

    def lines(self) -> Iterator[dict]:
        """The entries of JSON lines; empty lines are passed over."""
        self.file.seek(0)
        for number, line in enumerate(tqdm(self.file, desc=f"indexing {self.path.name}", disable=not self.progress), 1):
            if line.strip():
                try:
                    yield json.loads(line)
                except ValueError as error:
                    kind = ValueError if line.endswith(b"\n") else CutShort
                    raise kind(f"{self.path}, line {number:,}: no JSON, or cut short ({error}).") from error

    @contextmanager
    def _bar(self, prefix: str):
        bar = tqdm(
            total=self.size, unit="B", unit_scale=True, disable=not self.progress,
            desc=f"indexing {self.path.name} ({prefix.removesuffix('.item')})",
        )
        with bar:
            yield _Counted(self.file, bar)


class _Counted:
    def __init__(self, file, bar):
        self.file, self.bar = file, bar

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(size)
        self.bar.update(len(data))
        return data
