"""The files the paper trains on, each read into Records (docs/osprey.md, section 4; notebook 06).

    class            file                                     a record is
    OspreyFile       Osprey-724K, five JSON lists             an entry: regions and a conversation
    Instances        COCO, Pascal-Part, PartImageNet          an image, a turn a region: its category
    Referring        RefCOCO, RefCOCO+                        an image entry and its `caption`
    RegionCaptions   Visual Genome                            an image, a turn a region: its own `caption`
    VCR              JSON lines and a metadata file an image  question, answer, why
    Llava            LLaVA captions and instructions          an image and a conversation, no regions
    OwnFolder        pictures, one PNG a region, a table      an image, a turn a region: your text

A reader is a sequence: `reader[i]` reads row i and nothing else. Which regions and which phrasing it takes depends on the seed
and on i only. All but `OwnFolder` leave their rows in an index (data/index.py).
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from .index import open_rows
from .record import REGION, Record

ONE_WORD = "Answer the question using a single word or phrase."
CATEGORY = (
    "What is the category of {}? Using only one word or phrase.",
    "What is the name of the object in {}? Using only one word or phrase.",
)
PART = ("Which part is in {}? Using only one word or phrase.", "What is the category of {}? Using only one word or phrase.")
PHRASE = ("Please give me a short description of {}. Using a short phrase.", "What is in {}? Using a short phrase.")
SENTENCE = ("Please give me a short description of {}.", "Can you describe {} in a sentence?")
DETAIL = ("Can you give me a detailed description of {}?", "Please describe {} in detail.")
WHY = "Why?"
ORIENTATION = ExifTags.Base.Orientation

class RecordError(ValueError):
    """A row that gives no record: the file, the row, and what is wrong with it. Its cause is the fault itself."""


class UnknownCategoryError(ValueError):
    """An annotation names a category that its file does not have."""


class TurnOrderError(ValueError):
    """The turns of a conversation do not alternate, a person's first."""


class Reader(Sequence):
    """`file` holds the annotations and `images` is the folder of the pictures. A subclass reads one row.

    `questions`, texts with a {} for the region, take the place of the reader's own phrasings where the file has none. `salvage`
    takes the whole entries of a file that is cut short.

    Opening raises FileNotFoundError for a missing file or folder. Reading a row raises RecordError. That the picture exists and
    that the masks decode is found out when they are used, or by `osprey-nb check`.
    """

    source = ""
    questions: Sequence[str] = ()

    def __init__(
        self, file: str | Path, images: str | Path, seed: int = 0, questions: Sequence[str] = (), progress: bool = True,
        salvage: bool = False,
    ):  # fmt: skip
        self.file, self.images, self.seed, self.salvage = Path(file), Path(images), seed, salvage
        if questions:
            if not self.questions:
                raise ValueError(f"{self.file} brings its own questions; leave out `questions`.")
            if isinstance(questions, str) or not all(isinstance(q, str) and q.count("{}") == 1 for q in questions):
                raise ValueError(f"`questions` is {questions!r}; give a list of texts, each with one {{}} for the region.")
            self.questions = tuple(questions)
        if not self.images.is_dir():
            raise FileNotFoundError(f"no folder of images at {self.images}, which the records of {self.file} need")
        self.rows = self.open(progress)

    def open(self, progress: bool) -> Sequence:
        return open_rows(self.file, progress, self.salvage)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Record:
        row = self.rows[index]
        index %= len(self)
        try:
            record = self.read(row, f"{self.file.stem}:{index}", np.random.default_rng([self.seed, index]))
            if not all(isinstance(text, str) for turn in record.turns for text in turn):
                raise TypeError(f"a question or an answer is no text: {record.turns}")
            return record
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, OSError) as error:
            why = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise RecordError(f"{self.file}, row {index + 1}: {why}") from error

    def read(self, row: dict, name: str, rng: np.random.Generator) -> Record:
        raise NotImplementedError

    def image(self, name: str) -> Path:
        """The picture of that name; of `COCO_train2014_000000000009.jpg` the last piece, if the whole name is not there."""
        path, last = self.images / name, self.images / name.rsplit("_", 1)[-1]
        return last if not path.exists() and last.exists() else path


class OspreyFile(Reader):
    """One of the five Osprey-724K files. Which one is told by its name, as published; `source` overrules it."""

    questions = DETAIL  # detail records have answers only
    ONE_WORD_SOURCES = ("osprey_short_form", "osprey_part_level")
    INLINE_SOURCES = ("osprey_lvis_positive_negative",)

    def __init__(self, file, images, source: str | None = None, **options):
        self.source = source or Path(file).stem
        super().__init__(file, images, **options)

    def read(self, row, name, rng):
        if "description" in row:
            texts = [re.sub(r"^\s*<region\d+>\s*:\s*", "", text) for text in row["description"]]
            turns = ask_each(self.questions, texts, rng)
        else:
            turns = pairs(row["conversations"])
        if self.source in self.ONE_WORD_SOURCES:
            turns = [(q if q.endswith(ONE_WORD) else f"{q} {ONE_WORD}", a) for q, a in turns]
        regions = [annotation["segmentation"] for annotation in row["annotation"]]
        inline = self.source in self.INLINE_SOURCES
        size = int(row["height"]), int(row["width"])
        record = Record(name, self.source, self.image(row["file_name"]), regions, turns, inline, size)
        return record.with_turns(turns) if inline else record


class CocoFile(Reader):
    """What the COCO-like formats share: up to `most` regions of an image, in random order, crowds left out."""

    most: int | None = 20
    in_order = False
    questions = CATEGORY

    def answer(self, image: dict, annotation: dict) -> str:
        raise NotImplementedError

    def usable(self, row: dict) -> list[dict]:
        return [annotation for annotation in row["annotations"] if not annotation.get("iscrowd")]

    def read(self, row, name, rng):
        image, found = row["image"], self.usable(row)
        if not self.in_order:
            found = [found[i] for i in rng.permutation(len(found))]
        found = found[: self.most]
        turns = ask_each(self.questions, [self.answer(image, annotation) for annotation in found], rng)
        regions, size = [annotation["segmentation"] for annotation in found], (int(image["height"]), int(image["width"]))
        return Record(name, self.source, self.image(image["file_name"]), regions, turns, True, size)


class Instances(CocoFile):
    """COCO: the answer is the name of the region's category, whatever stands in it."""

    source = "coco"

    def answer(self, image, annotation):
        if annotation["category_id"] not in self.names:
            raise UnknownCategoryError(f"category_id {annotation['category_id']} is not in the file's categories")
        return self.names[annotation["category_id"]]

    def open(self, progress):
        rows = super().open(progress)
        self.names = rows.categories
        return rows


class PascalPart(Instances):
    """Categories are `category:subcategory`."""

    source, questions = "pascal_part", PART


class PartImageNet(Instances):
    """Categories are `category subcategory`."""

    source, questions = "part_imagenet", PART


class Referring(CocoFile):
    """RefCOCO and RefCOCO+: the text that refers to the region stands in the image's entry."""

    source, most, questions = "refcoco", 15, PHRASE

    def answer(self, image, annotation):
        return image["caption"]


class RegionCaptions(CocoFile):
    """Visual Genome: every annotation has its own caption."""

    source, most, questions = "visual_genome", 3, SENTENCE

    def answer(self, image, annotation):
        return annotation["caption"]


class VCR(Reader):
    """Question, answer and rationale, in which numbers stand for objects, counted from 1."""

    source = "vcr"

    def read(self, row, name, rng):
        metadata = json.loads((self.images / row["metadata_fn"]).read_text(encoding="utf-8"))
        order: list[int] = []  # objects that are mentioned, in that order

        def named(text: str) -> str:
            def region(match: re.Match) -> str:
                number = int(match[0])
                if not 1 <= number <= len(row["objects"]):
                    return match[0]  # a number of something else
                if number not in order:
                    order.append(number)
                return f"<region{order.index(number) + 1}>"

            return re.sub(r"\b\d+\b", region, text)

        turns = [(named(row["question_orig"]), named(row["answer_orig"])), (WHY, named(row["rationale_orig"]))]
        regions = [self.region(metadata, number - 1) for number in order]
        size = int(metadata["height"]), int(metadata["width"])
        return Record(name, self.source, self.images / row["img_fn"], regions, turns, False, size)

    @staticmethod
    def region(metadata: dict, number: int):
        """An object's polygons; its box where it has none."""
        polygons = [[float(v) for point in polygon for v in point] for polygon in metadata["segms"][number]]
        polygons = [polygon for polygon in polygons if len(polygon) >= 6]
        return polygons or [float(v) for v in metadata["boxes"][number][:4]]


class Llava(Reader):
    """Captions (stage 1) and instructions: a conversation about the whole picture."""

    source = "llava"

    def read(self, row, name, rng):
        turns = pairs(row["conversations"])
        turns = [(question.replace("<image>", "").strip(), answer) for question, answer in turns]
        return Record(name, self.source, self.image(row["image"]), (), turns, True)


class OwnFolder(Reader):
    """Your pictures and masks: `file` is a CSV or a JSON list with the columns `image`, `mask`, `text`, perhaps `question`.

    A line is a region: a PNG that is white where the region is, and what the model should say of it. Paths begin at `images`,
    or else at the table's folder. Lines of one image become one record.
    """

    source, questions = "own", PHRASE

    def __init__(self, file, images=None, **options):
        super().__init__(file, Path(file).parent if images is None else images, **options)

    def open(self, progress):
        if not self.file.is_file():
            raise FileNotFoundError(f"no table at {self.file}; give a CSV or JSON with the columns image, mask, text")
        with open(self.file, newline="", encoding="utf-8-sig") as file:
            lines = json.load(file) if self.file.suffix == ".json" else list(csv.DictReader(file))
        images: dict[str, list[dict]] = {}
        for number, line in enumerate(lines, 2 if self.file.suffix != ".json" else 1):
            missing = [column for column in ("image", "mask", "text") if not line.get(column)]
            if missing:
                raise ValueError(f"{self.file}, line {number}: no {' and no '.join(missing)}")
            images.setdefault(line["image"], []).append(line)
        return list(images.values())

    def read(self, row, name, rng):
        turns = ask_each(self.questions, [line["text"] for line in row], rng)
        for i, line in enumerate(row):
            own = line.get("question") or turns[i][0]
            turns[i] = (own if REGION.search(own) else f"{own} <region{i + 1}>", line["text"])
        path = self.images / row[0]["image"]
        with Image.open(path) as picture:
            size = (picture.height, picture.width)
            turned = picture.getexif().get(ORIENTATION, 1) >= 5
        masks = [self.images / line["mask"] for line in row]
        return Record(name, self.source, path, masks, turns, True, size[::-1] if turned else size)


def pairs(conversation: list[dict]) -> list[tuple[str, str]]:
    """[{from: human, value}, {from: gpt, value}, …] to (question, answer) pairs."""
    speakers = [turn["from"] for turn in conversation]
    if not speakers or speakers != ["human", "gpt"] * (len(speakers) // 2):
        went = ", ".join(speakers) or "nowhere"
        raise TurnOrderError(f"a conversation must go human, gpt, human, gpt …; this one goes {went}")
    texts = [turn["value"].strip() for turn in conversation]
    return list(zip(texts[::2], texts[1::2], strict=True))


def ask_each(questions: Sequence[str], answers: Sequence, rng: np.random.Generator) -> list[tuple[str, str]]:
    """A turn a region, each in one of the phrasings."""
    asked = [questions[n] for n in rng.integers(len(questions), size=len(answers))]
    return [(q.replace("{}", f"<region{i}>"), a) for i, (q, a) in enumerate(zip(asked, answers, strict=True), 1)]


FORMATS: dict[str, type[Reader]] = {
    "osprey": OspreyFile, "coco": Instances, "pascal_part": PascalPart, "part_imagenet": PartImageNet, "refcoco": Referring,
    "visual_genome": RegionCaptions, "vcr": VCR, "llava": Llava, "own": OwnFolder,
}  # fmt: skip


def guess_format(file: str | Path) -> str:
    """The format of an annotation file, told by its first row; Pascal-Part and PartImageNet are read as COCO.

    Raises ValueError for a file that is none of them.
    """
    file = Path(file)
    if file.suffix == ".csv":
        return "own"
    rows = open_rows(file, progress=False, salvage=True)
    row = rows[0] if len(rows) else {}
    keys = set(row) if isinstance(row, dict) else set()
    if {"image", "annotations"} <= keys:
        captioned = any("caption" in annotation for annotation in row["annotations"])
        return "refcoco" if "caption" in row["image"] else "visual_genome" if captioned else "coco"
    marks = {"osprey": {"file_name", "annotation"}, "vcr": {"metadata_fn"}, "own": {"mask", "text"}, "llava": {"conversations"}}
    found = next((name for name, wanted in marks.items() if wanted <= keys), None)
    if found is None:
        has = ", ".join(sorted(keys)) or "nothing"
        raise ValueError(f"{file} is in no known format: its first row has {has}. Name the format.")
    return found
