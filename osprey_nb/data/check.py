"""`osprey-nb check`: what is wrong with the data, before training finds out (notebook 06).

    file ──► rows ──► records ──► pictures and masks
      cut     unreadable   text without a region,     missing, damaged, other size;
      short   entries      empty, leaking, twice      empty, tiny, outside, not decodable

An error makes a row useless or false; a warning is worth a look. `fix` writes a copy without what has errors.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from ..images import load_image
from ..masks import EmptyMaskError, MaskOutsideError, MaskSizeError, to_masks
from .readers import CocoFile, OwnFolder, Reader, RecordError, TurnOrderError, UnknownCategoryError
from .record import REGION, Record, RegionNameError

TINY = 16  # pixels; a smaller region is hardly a cell of the finest feature map
UNBALANCED = 0.8  # share of the commoner of Yes and No

#: What can be found, and whether it is an error (or else a warning).
KINDS = {
    "file cut short": True,
    "unreadable row": True,
    "conversation out of order": True,
    "unknown category": True,
    "nothing said": False,
    "empty text": True,
    "region without a mask": True,
    "region never named": False,
    "answer stands in the question": False,
    "duplicate record": False,
    "picture missing": True,
    "picture damaged": True,
    "picture of another size": True,
    "mask empty": True,
    "mask outside the picture": True,
    "mask does not decode": True,
    "mask of another size": True,
    "mask missing": True,
    "mask tiny": False,
    "mask twice": False,
    "annotation without a picture": False,
    "answers unbalanced": False,
}


#: What an error tells of a row, and of a mask; any other makes the row unreadable, the mask undecodable.
ROW_FAULTS = {
    TurnOrderError: "conversation out of order", UnknownCategoryError: "unknown category",
    RegionNameError: "region without a mask",
}  # fmt: skip
MASK_FAULTS = {
    EmptyMaskError: "mask empty", MaskOutsideError: "mask outside the picture", MaskSizeError: "mask of another size",
    FileNotFoundError: "mask missing",
}  # fmt: skip


class Finding(NamedTuple):
    """`row` counts from 1; `region` is the region or annotation, from 1, or None for the whole row."""

    kind: str
    row: int | None
    region: int | None
    detail: str

    @property
    def error(self) -> bool:
        return KINDS[self.kind]


@dataclass
class Checked:
    """The outcome: rows looked at, findings in their order, regions, and how often each answer is given."""

    reader: Reader
    looked_at: int = 0
    findings: list[Finding] = field(default_factory=list)
    regions: int = 0
    answers: Counter = field(default_factory=Counter)

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.error]

    def table(self, examples: int = 3) -> str:
        """Counts of every kind that was found, with the first of them, and the commonest answers."""
        by_kind = defaultdict(list)
        for finding in self.findings:
            by_kind[finding.kind].append(finding)
        seen = f"{self.looked_at:,} of " if self.looked_at < len(self.reader) else ""
        lines = [f"{self.reader.file}: {seen}{len(self.reader):,} rows, {self.regions:,} regions"]
        lines += [""] * bool(by_kind)
        for kind in KINDS:
            for n, finding in enumerate(by_kind[kind][:examples]):
                head = " " * 47
                if n == 0:
                    head = f"{'error' if finding.error else 'warning':8}{kind:32}{len(by_kind[kind]):>7,}"
                where = f"row {finding.row:,}" if finding.row else ""
                where += f", region {finding.region}" if finding.region else ""
                lines.append(f"{head}  {where + ': ' if where else ''}{finding.detail}")
        common = ", ".join(f"{answer!r} {count / self.answers.total():.1%}" for answer, count in self.answers.most_common(5))
        lines += ["", f"answers: {len(self.answers):,} different; most common {common}"] if self.answers else []
        errors = len(self.errors)
        lines += ["", f"{errors:,} errors, {len(self.findings) - errors:,} warnings"]
        return "\n".join(lines)


def check(reader: Reader, rows: Sequence[int] | None = None, strict: bool = False, progress: bool = True) -> Checked:
    """Look at every row, picture and mask of a reader, or at those of `rows` (from 0) only. Nothing is changed.

    With `strict` it stops after the first row that has an error.
    """
    rows = range(len(reader)) if rows is None else rows
    checked = Checked(reader, looked_at=len(rows))
    add = checked.findings.append
    seen: dict[str, int] = {}
    if orphans := getattr(reader.rows, "orphans", 0):
        what = f"{orphans:,} annotations name an image that is not in the file"
        add(Finding("annotation without a picture", None, None, what))
    if cut := getattr(reader.rows, "cut", ""):
        add(Finding("file cut short", None, None, cut))
    for n, index in enumerate(tqdm(rows, desc=f"checking {reader.file.name}", disable=not progress)):
        if strict and checked.errors:
            checked.looked_at = n
            break
        row = int(index) + 1
        try:
            record = everything(reader, row - 1)
        except RecordError as error:
            why = str(error).split(f"row {row}: ", 1)[-1]
            add(Finding(ROW_FAULTS.get(type(error.__cause__), "unreadable row"), row, None, why))
            continue
        for finding in (*_texts(record, row), *_picture(record, row), *_masks(record, row)):
            add(finding)
        checked.regions += len(record.regions)
        checked.answers.update(answer for _, answer in record.turns)
        print_of = hashlib.sha256(json.dumps([str(record.image), record.turns, repr(record.regions)]).encode()).hexdigest()
        if print_of in seen:
            add(Finding("duplicate record", row, None, f"the same picture, regions and words as in row {seen[print_of]:,}"))
        seen.setdefault(print_of, row)
    yes, no = (sum(n for answer, n in checked.answers.items() if answer.rstrip(".").lower() == word) for word in ("yes", "no"))
    if yes + no >= 20 and max(yes, no) > UNBALANCED * (yes + no):
        what = f"{yes:,} times Yes and {no:,} times No: who always says the commoner is mostly right"
        add(Finding("answers unbalanced", None, None, what))
    return checked


def everything(reader: Reader, index: int) -> Record:
    """The record of a row with all of its regions, in the order of the file. Raises RecordError."""
    if not isinstance(reader, CocoFile):
        return reader[index]
    whole = copy.copy(reader)
    whole.most, whole.in_order = None, True
    return whole[index]


def _texts(record: Record, row: int) -> Iterator[Finding]:
    if not record.turns:
        yield Finding("nothing said", row, None, "no question and answer, so there is nothing to learn")
    named = set()
    for question, answer in record.turns:
        if not question.strip() or not answer.strip():
            yield Finding("empty text", row, None, f"question {question!r}, answer {answer!r}")
        named |= {int(n) for n in REGION.findall(question + answer)}
        said, asked = answer.strip(" .").lower(), f" {question.lower()} "
        if len(said) > 3 and " or " not in asked and any(f" {said}{end}" in asked for end in " ?.,"):
            yield Finding("answer stands in the question", row, None, f"{question!r} → {answer!r}")
    count = len(record.regions)
    for n in sorted(named - set(range(1, count + 1))):
        yield Finding("region without a mask", row, None, f"the text names <region{n}>; there are {count} regions")
    left = sorted(set(range(1, count + 1)) - named)
    if left and record.turns:
        yield Finding("region never named", row, left[0], "its mask is read and nothing is said of it")


def _picture(record: Record, row: int) -> Iterator[Finding]:
    if not isinstance(record.image, Path):
        return
    if not record.image.is_file():
        yield Finding("picture missing", row, None, str(record.image))
        return
    try:
        picture = load_image(record.image)
    except (ValueError, OSError) as error:
        yield Finding("picture damaged", row, None, str(error))
        return
    if record.size and (picture.height, picture.width) != record.size:
        found, said = f"{picture.height}×{picture.width}", "×".join(map(str, record.size))
        yield Finding("picture of another size", row, None, f"{record.image.name} is {found}, the file says {said}")


def _masks(record: Record, row: int) -> Iterator[Finding]:
    seen: dict[bytes, int] = {}
    for number, region in enumerate(record.regions, 1):
        try:
            mask = to_masks([region], record.size)[0]
        except (ValueError, TypeError, OSError, OverflowError) as error:
            why = str(error).replace("the mask of region 1", "it").replace("region 1", "it")
            yield Finding(MASK_FAULTS.get(type(error), "mask does not decode"), row, number, why)
            continue
        if mask.sum() < TINY:
            yield Finding("mask tiny", row, number, f"{mask.sum()} pixels")
        key = np.packbits(mask).tobytes()
        if key in seen:
            yield Finding("mask twice", row, number, f"the same pixels as region {seen[key]}")
        seen.setdefault(key, number)


def fix(checked: Checked, out: str | Path) -> list[dict]:
    """Write a copy of the file without the rows that have errors, and `<name>.dropped.json` beside it; returns the latter.

    In the COCO format an annotation whose mask has an error is dropped alone. Raises FileExistsError for an `out` that exists:
    nothing is overwritten.
    """
    reader, out = checked.reader, Path(out)
    if out.exists():
        raise FileExistsError(f"{out} exists already. Give another name: nothing is overwritten.")
    rows: dict[int, list[Finding]] = defaultdict(list)
    alone: dict[int, set[int]] = defaultdict(set)
    for finding in checked.errors:
        if isinstance(reader, CocoFile) and finding.region:
            alone[finding.row].add(finding.region)
        else:
            rows[finding.row].append(finding)
    kept = []
    for index in range(len(reader)):
        row = reader.rows[index]
        if index + 1 in rows:
            continue
        if index + 1 in alone:
            usable = reader.usable(row)
            bad = {id(usable[n - 1]) for n in alone[index + 1]}
            row = {**row, "annotations": [annotation for annotation in row["annotations"] if id(annotation) not in bad]}
        kept.append(row)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(_as_file(reader, kept, out), encoding="utf-8")
    dropped = [finding._asdict() for finding in checked.errors]
    out.with_suffix(".dropped.json").write_text(json.dumps(dropped, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return dropped


def _as_file(reader: Reader, rows: list, out: Path) -> str:
    if isinstance(reader, CocoFile):
        content = {
            "images": [row["image"] for row in rows],
            "annotations": [annotation for row in rows for annotation in row["annotations"]],
            "categories": [
                {"id": number, "name": name, "supercategory": reader.rows.supercategories[number]}
                for number, name in reader.rows.categories.items()
            ],
        }
        return json.dumps(content, ensure_ascii=False) + "\n"
    if isinstance(reader, OwnFolder):
        rows = [line for row in rows for line in row]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    if out.suffix == ".jsonl":
        return "\n".join(lines) + "\n"
    return "[\n" + ",\n".join(lines) + "\n]\n"


def contact_sheet(reader: Reader, out: str | Path, count: int = 12, seed: int = 0, edge: int = 320) -> int:
    """A PNG of random records, drawn with their regions and first words. Returns how many could be drawn."""
    from ..viz import contact_sheet as drawn

    tiles = []
    for index in np.random.default_rng(seed).permutation(len(reader)).tolist():
        try:
            record = reader[index]
            picture, masks = load_image(record.image), record.masks
        except (ValueError, OSError, TypeError):
            continue
        picture.thumbnail((edge, edge))
        size = (picture.width, picture.height)
        small = [np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)) for mask in masks]
        said = [f"{question} → {answer}" for question, answer in record.turns[:2]]
        tiles.append((picture, small, f"row {index + 1:,}", said))
        if len(tiles) == count:
            break
    if tiles:
        drawn(tiles).savefig(out, dpi=100)
    return len(tiles)
