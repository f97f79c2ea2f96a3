"""Exercises of the notebooks: what a card looks like, how an answer is checked (used by every notebook).

    ### Exercise 03.1 · By hand            a markdown cell: title, difficulty and minutes, the task,
    ★☆☆ · 3 minutes                        hint and solution folded away in <details>
    ┌──────────────────────────┐
    │ my_mean = ...            │           a code cell tagged `exercise`: the stub, for the reader to fill in
    └──────────────────────────┘
    check("03.1", my_mean)                 the check: says what is right, or what to look at next

The solution lives in one place, the card, where a reader unfolds it. `read_exercises` finds it there, so that
the tests run the very text that a reader sees. A check never raises: a wrong answer is not an error.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from osprey_nb.mask_extractor import mask_pool

CHECKS: dict[str, Callable[[Any], str]] = {}


class Wrong(Exception):
    """Raised inside a check: the message tells the learner what was seen and what to look at next."""


@dataclass(frozen=True)
class Verdict:
    """The outcome of a check; the last line of a cell shows it."""

    passed: bool
    message: str

    def __repr__(self) -> str:
        return f"{'✓' if self.passed else '○'} {self.message}"

    def _repr_html_(self) -> str:
        colour, paper = ("#1a7f4b", "#eaf7f0") if self.passed else ("#9a6700", "#fff8e6")
        word = "✓ Right." if self.passed else "○ Not yet."
        return (
            f'<div style="border-left:4px solid {colour};background:{paper};color:#222;padding:8px 12px;'
            f'white-space:pre-wrap;max-width:52em"><b style="color:{colour}">{word}</b> '
            f"{html.escape(self.message)}</div>"
        )


def check(exercise: str, answer: Any) -> Verdict:
    """Check an answer: `check("03.1", my_mean)`. A function that raises is reported, not raised again."""
    if exercise not in CHECKS:
        raise ValueError(f"there is no exercise {exercise!r}; there are {', '.join(sorted(CHECKS))}")
    if answer is ...:
        return Verdict(False, "The answer is still `...`: put yours there, run that cell, then this one.")
    try:
        return Verdict(True, CHECKS[exercise](answer))
    except Wrong as wrong:
        return Verdict(False, str(wrong))
    except Exception as error:  # whatever the learner's code raises belongs in the message
        return Verdict(False, f"Your code stopped with {type(error).__name__}: {error}")


def exercise(name: str) -> Callable:
    """Register the check of an exercise. It returns a word of praise, or raises `Wrong` with advice."""

    def register(function: Callable[[Any], str]) -> Callable[[Any], str]:
        if name in CHECKS:
            raise ValueError(f"exercise {name!r} has two checks; give the second another number")
        CHECKS[name] = function
        return function

    return register


@dataclass(frozen=True)
class Exercise:
    """One exercise as a notebook shows it."""

    name: str
    title: str
    difficulty: int  # stars, 1 to 3
    minutes: int
    hint: str
    solution: str  # Python, from the folded block
    stub: str  # Python, the code cell below the card


CARD = re.compile(
    r"^### Exercise (?P<name>\d\d\.\d) · (?P<title>.+)\n+(?P<stars>★{1,3}☆*) · (?P<minutes>\d+) minutes?\n"
)
FOLD = re.compile(
    r"<details>\s*<summary>(?P<title>Hint|Solution)</summary>\n\n(?P<body>.*?)\n+</details>", re.S
)
CODE = re.compile(r"```python\n(.*?)```", re.S)


def read_exercises(notebook: str | Path) -> list[Exercise]:
    """The exercises of a notebook (`.py` or `.ipynb`), in order; `ValueError` names what a card lacks."""
    import jupytext

    cells = jupytext.read(notebook).cells
    found = []
    for card, below in zip(cells, cells[1:] + [None], strict=True):
        if card.cell_type != "markdown" or not card.source.startswith("### Exercise"):
            continue
        first_line = card.source.splitlines()[0]
        head = CARD.match(card.source)
        if head is None or len(head["stars"]) != 3:
            raise ValueError(f"{first_line!r}: expected '### Exercise 03.1 · Title', then '★☆☆ · 3 minutes'")
        folds = {fold["title"]: fold["body"].strip() for fold in FOLD.finditer(card.source)}
        code = CODE.search(folds.get("Solution", ""))
        if not folds.get("Hint") or code is None:
            raise ValueError(f"{first_line!r}: expected a folded Hint and a folded Solution with ```python")
        if below is None or below.cell_type != "code" or "exercise" not in below.metadata.get("tags", []):
            raise ValueError(f"{first_line!r}: the cell below must be code, tagged `exercise`: the stub")
        found.append(
            Exercise(
                name=head["name"],
                title=head["title"].strip(),
                difficulty=head["stars"].count("★"),
                minutes=int(head["minutes"]),
                hint=folds["Hint"],
                solution=code[1],
                stub=below.source,
            )
        )
    return found


# --- the checks ------------------------------------------------------------------------------------------


def _given(answer):
    """What a function gave, unless it gave nothing."""
    if answer is None:
        raise Wrong("Your function returned None. Replace the `...` and end with `return`.")
    return answer


def _tensor(answer, shape: tuple[int, ...]) -> torch.Tensor:
    """The answer as a float tensor of the expected shape, or advice."""
    answer = torch.as_tensor(_given(answer)).detach().float()
    if tuple(answer.shape) != shape:
        turned = tuple(reversed(answer.shape)) == shape and len(shape) == 2
        advice = " The two axes are swapped: `.T` turns them." if turned else ""
        raise Wrong(f"The shape is {tuple(answer.shape)}, expected {shape}.{advice}")
    return answer


@exercise("00.1")
def _count_tokens(answer) -> str:
    from osprey_nb.config import OspreyConfig

    image = OspreyConfig.preset("tiny").num_image_tokens
    if answer == image + 6:
        return f"{image} for the picture, and 3 × 2 for the regions. A region costs almost nothing."
    if answer == 3 * (image + 2):
        raise Wrong("You read the picture three times. One prompt holds it once; only pairs repeat.")
    if answer == image + 3:
        raise Wrong("One token for each region? Look at the strip: a region has a pair of them.")
    raise Wrong(f"You say {answer}. Add the image tokens of one picture, and 2 for each of 3 regions.")


@exercise("00.2")
def _box_mask(answer) -> str:
    got = answer(6, 8, 2, 1, 5, 4)
    mask = _tensor(got, (6, 8))
    expected = torch.zeros(6, 8)
    expected[1:4, 2:5] = 1
    swapped = torch.zeros(6, 8)
    swapped[2:5, 1:4] = 1
    if torch.equal(mask, swapped):
        raise Wrong("x and y are swapped. An array is indexed [row, column], that is [y, x].")
    if mask.sum() > 9:
        raise Wrong(f"{int(mask.sum())} pixels are inside, expected 9: x1 and y1 are the first ones outside.")
    if not torch.equal(mask, expected):
        raise Wrong("The box is misplaced. For x0=2, y0=1, x1=5, y1=4, rows 1–3 and columns 2–4 are inside.")
    if str(torch.as_tensor(got).dtype) != "torch.bool":
        raise Wrong("Right pixels, wrong dtype: a mask is bool. Start from np.zeros((height, width), bool).")
    return "A box is a mask like any other. Now give it to model.describe."


@exercise("01.1")
def _runs(answer) -> str:
    got = [int(value) for value in answer]
    if got == [2, 5, 2]:
        return "Two zeros, five ones, two zeros. Nine pixels became three numbers."
    if got == [1, 2, 1, 1, 1, 2, 1]:
        raise Wrong("You read line after line. RLE goes down the columns: 0 0 1, then 1 1 1, then 1 0 0.")
    if sum(got) != 9:
        raise Wrong(f"Your runs add up to {sum(got)}; a 3×3 mask has 9 pixels, and every one is in a run.")
    raise Wrong(f"You have {got}. The row is 0 0 1 1 1 1 1 0 0, and the first run counts zeros.")


@exercise("01.2")
def _decode(answer) -> str:
    mask = np.zeros((3, 5), bool)
    mask[0, 0] = mask[1:, 2] = mask[2, 3] = True
    got = _tensor(answer([0, 1, 6, 2, 2, 1, 3], 3, 5), (3, 5)).numpy().astype(bool)
    by_rows = np.repeat(np.arange(7) % 2 == 1, [0, 1, 6, 2, 2, 1, 3]).reshape(3, 5)
    if (got == by_rows).all():
        raise Wrong("You filled line after line. Reshape to (width, height), then turn with .T: columns come first.")
    if (got == ~mask).all():
        raise Wrong("Inside and outside are swapped: the first run counts zeros, even when it is 0 long.")
    if not (got == mask).all():
        raise Wrong(f"{int((got != mask).sum())} of 15 pixels differ. The runs 0, 1, 6, … begin with no zero and one one.")
    return "Read back exactly, with a first run of 0 too. It is the package's `from_rle` in two lines."


@exercise("01.3")
def _iou(answer) -> str:
    a, b = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    a[:2], b[1:3] = True, True
    got = float(_given(answer(a, b)))
    if abs(got - 0.5) < 1e-6:
        raise Wrong("Half: you divided by the area of one mask. Divide by the pixels that are in one or the other.")
    if abs(got - 4) < 1e-6:
        raise Wrong("4 is the intersection. Divide it by the union.")
    if abs(got - 1 / 3) > 1e-6:
        raise Wrong(f"Two masks of 8 pixels share 4, and 12 are in one or the other: 4/12 = 0.333; you have {got:g}.")
    nothing = float(answer(a & False, a & False))
    if not nothing == 0:
        raise Wrong(f"Two empty masks gave {nothing:g}; give 0: divide by max(…, 1).")
    return "4 of 12. IoU punishes what is missed and what is too much alike."


@exercise("01.4")
def _ring(answer) -> str:
    from pycocotools import mask as coco

    ring = np.zeros((7, 7), bool)
    ring[1:6, 1:6] = True
    ring[2:5, 2:5] = False
    flat = [[float(value) for value in polygon] for polygon in answer]
    if short := [polygon for polygon in flat if len(polygon) < 6 or len(polygon) % 2]:
        raise Wrong(f"{short[0]} is no polygon: x, y, x, y, … of three corners at least, in a list of lists.")
    drawn = np.any(coco.decode(coco.frPyObjects(flat, 7, 7)), axis=2)
    if (drawn & ~ring)[2:5, 2:5].all():
        raise Wrong("The hole is filled: one of your polygons goes around it. Cut the ring into pieces.")
    if (drawn != ring).any():
        row, column = (int(v) for v in np.argwhere(drawn != ring)[0])
        raise Wrong(f"Row {row}, column {column} is {'inside' if drawn[row, column] else 'outside'}, and should not be.")
    return f"{len(flat)} pieces, and the hole is free. Any mask can be cut like this."


@exercise("02.1")
def _block_weights(answer) -> str:
    got = int(_given(answer(32)))
    if got == 10048 and int(answer(192)) == 306048:
        return "10 048 for 32 channels. Most of it is mixing; looking around is cheap."
    if got == 10048:
        raise Wrong("Right for 32 channels, not for 192: the two Linears grow with the square of c.")
    for missing, what in (
        (32, "the biases of the windows, one of the norm's two numbers, or the scale"), (64, "the norm"),
        (160, "the Linears' biases"),
    ):
        if got == 10048 - missing:
            raise Wrong(f"{missing} too few for 32 channels: perhaps {what}.")
    if got >= 49 * 32 * 32:
        raise Wrong("Your windows see all channels. Depthwise: each channel has one window of 49 weights.")
    raise Wrong(f"For 32 channels you have {got:,}; it is 10,048. Go through the five lines of __init__.")


@exercise("02.2")
def _fields(answer) -> str:
    got = [int(value) for value in _given(answer((2, 2, 3, 1)))]
    right = [52, 152, 448, 656]
    if got == right and [int(value) for value in answer((3, 3, 27, 3))] == [76, 224, 2824, 3416]:
        return "52, 152, 448, 656. In the published model, with 27 blocks in its third stage: 76, 224, 2824, 3416."
    if got == right:
        raise Wrong("Right for (2, 2, 3, 1), not for other depths: use `depths`.")
    if len(got) != 4:
        raise Wrong(f"Expected four numbers, one after each stage; got {len(got)}.")
    if got[0] == 52 - 4 + 1:
        raise Wrong("After the stem the field is 4 pixels: begin with field 4 and jump 4.")
    if got[0] != 52:
        raise Wrong(f"After stage 1 you have {got[0]}: 4 from the stem, and two blocks of 6 · jump = 24 each make 52.")
    raise Wrong(f"Stage 1 is right. Then {got[1]}, expected 152: the joining adds 1 · jump = 4, and then jump is 8.")


@exercise("02.3")
def _clip_loss(answer) -> str:
    generator = torch.Generator().manual_seed(1)
    regions, texts = (torch.nn.functional.normalize(torch.randn(5, 6, generator=generator), dim=1) for _ in range(2))
    got = _tensor(answer(regions, texts, 7.0), ())
    logits, target = 7.0 * regions @ texts.T, torch.arange(5)
    rows, columns = (torch.nn.functional.cross_entropy(square, target) for square in (logits, logits.T))
    plain = torch.nn.functional.cross_entropy(regions @ texts.T, target)
    if torch.isclose(got, (rows + columns) / 2, atol=1e-5):
        return "Rows and columns, regions and phrases: each finds the other."
    if torch.isclose(got, rows, atol=1e-5) or torch.isclose(got, columns, atol=1e-5):
        raise Wrong("That is one direction. Ask the other way too, with the square turned, and take the mean.")
    if torch.isclose(got, rows + columns, atol=1e-5):
        raise Wrong("That is the sum of both directions. Take their mean.")
    if torch.isclose(got, plain, atol=1e-2):
        raise Wrong("The scale is missing: multiply the products by it.")
    raise Wrong(f"Expected {float((rows + columns) / 2):.4f}, got {float(got):.4f}.")


@exercise("03.1")
def _by_hand(answer) -> str:
    got = float(answer)
    if abs(got - 6) < 1e-3:
        return "18 over three cells is 6. The background cell pulled the mean down from 8.5."
    if abs(got - 18) < 1e-3:
        raise Wrong("18 is the sum. Divide it by the number of cells under the mask.")
    if abs(got - 18 / 16) < 1e-3:
        raise Wrong("You divided by all 16 cells. Only the cells under the mask have a vote.")
    raise Wrong(f"You have {got:g}. Add the three numbers under the mask, then divide by how many they are.")


@exercise("03.2")
def _mask_pool(answer) -> str:
    feature = torch.arange(24.0).reshape(2, 3, 4)
    masks = torch.zeros(3, 3, 4)
    masks[0, 0, :2] = 1
    masks[1, 1:, 1:] = 1
    got = _tensor(answer(feature, masks), (3, 2))
    sums = torch.tensor([[1.0, 25.0], [48.0, 120.0], [0.0, 0.0]])
    areas = torch.tensor([[2.0], [6.0], [1.0]])
    if torch.isnan(got).any():
        raise Wrong("The empty region gave NaN: 0 / 0. Add 1e-8 to the area, as the paper's code does.")
    if torch.allclose(got, sums):
        raise Wrong("These are sums. Divide each row by the area of its region.")
    if torch.allclose(got[:2], sums[:2] / 12, atol=1e-4):
        raise Wrong("You divided by all cells of the grid. Divide by the area of each region.")
    if not torch.allclose(got, sums / areas, atol=1e-4):
        raise Wrong(f"Region 0 covers 0 and 1 in channel 0: its mean is 0.5, yours is {got[0, 0]:g}.")
    return "The same numbers as the loop, for any regions and channels. The empty region gives 0."


@exercise("03.3")
def _soft_resize(answer) -> str:
    masks = torch.zeros(2, 8, 8)
    masks[0, 0, 0] = 1
    masks[1, :4, :6] = 1
    got = _tensor(answer(masks, 2, 2), (2, 2, 2))
    expected = torch.tensor([[[1 / 16, 0], [0, 0]], [[1.0, 0.5], [0.0, 0.0]]])
    if set(got.unique().tolist()) <= {0.0, 1.0}:
        raise Wrong("Only zeros and ones: still a threshold. A soft mask keeps the share, 1/16 for a pixel.")
    if got[0, 0, 0] == 0:
        raise Wrong("The one-pixel mask vanished: bilinear reads a cell's middle. Average the whole cell.")
    if not torch.allclose(got, expected, atol=1e-5):
        raise Wrong(f"One pixel in a cell of 16 covers 1/16 = 0.0625 of it; you have {got[0, 0, 0]:g}.")
    return "Every pixel counts now. Nothing can vanish, and a touched cell counts only a little."


@exercise("03.4")
def _hidden(answer) -> str:
    mask = _tensor(answer, (128, 128))
    if not ((mask == 0) | (mask == 1)).all():
        raise Wrong("A mask holds 0 and 1 only, or False and True.")
    area = int(mask.sum())
    ones = torch.ones(1, 4, 4)
    if mask_pool(ones, mask[None])[0, 0] > 0:
        seen = torch.nn.functional.interpolate(mask[None, None], (4, 4), mode="bilinear")[0, 0] > 0
        row, column = (int(v) for v in seen.nonzero()[0])
        raise Wrong(
            f"res5 still sees it, for instance in row {row}, column {column} of its grid. It reads rows "
            f"{32 * row + 15} and {32 * row + 16}, columns {32 * column + 15} and {32 * column + 16}."
        )
    if area < 16_000:
        raise Wrong(f"res5 doesn't see it, well done. But it has {area} pixels: make it 16 000 or more.")
    return f"Your mask covers {100 * area / 128**2:.1f} % of the picture, and res5 sees nothing of it."


@exercise("06.1")
def _count_loss(answer) -> str:
    if answer == 20:
        return "The word and its end, ten times. Everything else is read, and not learnt."
    if answer == 10:
        raise Wrong("You left out </s>. The model must learn to stop, so the end of each answer carries loss too.")
    if answer == 11:
        raise Wrong("Every answer ends with </s>, not only the last one.")
    raise Wrong(f"You say {answer}. Each of the ten answers has one token for the word, and one for its end.")


@exercise("06.2")
def _labels(answer) -> str:
    def encode(text: str) -> list[int]:
        return [1] if text == "<s>" else [100 + ord(letter) for letter in text]

    given = [("ab", False), ("c!", True), ("d", False), ("ef!", True)]
    got = _given(answer(given, encode))
    if len(got) != 2 or len(got[0]) != len(got[1]):
        raise Wrong(f"Expected two lists of the same length; there are {len(got)}: {[len(part) for part in got]}.")
    ids, labels = ([int(value) for value in part] for part in got)
    right = [1] + [100 + ord(letter) for letter in "abc!def!"]
    if ids != right:
        raise Wrong(f"The ids are {ids}, expected {right}: <s>, then all pieces, the user's too.")
    wanted = [-100, -100, -100, *right[3:5], -100, *right[6:]]
    if labels == ids:
        raise Wrong("Every position carries loss. Where `own` is False, put -100.")
    if labels[0] != -100:
        raise Wrong("<s> carries loss in yours. It is given; nobody has to write it.")
    if labels != wanted:
        raise Wrong(f"The labels are {labels}, expected {wanted}.")
    return "The ids of the answers, and -100 everywhere else."


@exercise("06.3")
def _safe(answer) -> str:
    groups = {"cup": "kitchen", "bowl": "kitchen", "horse": "animal", "cow": "animal", "bus": "vehicle"}
    got = list(_given(answer("cup", {"cup", "horse"}, groups)))
    if "horse" in got:
        raise Wrong("There is a horse in the picture, so 'not a horse' may be false of what the mask takes in. Leave it out.")
    if "cup" in got:
        raise Wrong("The thing is a cup. You may not deny that.")
    if "bowl" in got:
        raise Wrong("A cup may pass for a bowl: both are of the group 'kitchen'. Leave out the thing's own group.")
    if got != ["bus", "cow"]:
        raise Wrong(f"For a cup beside a horse expected ['bus', 'cow'], got {got}.")
    return "Certain is better than many. This is what osprey_nb/data/curate.py does."


@exercise("06.4")
def _leaks(answer) -> str:
    for question, said, expected, why in (
        ("Is the red bicycle red?", "Red.", True, "'red' stands in it"),
        ("What colour is it?", "red", False, "the answer is nowhere in it"),
        ("Is it a cat or a dog?", "a cat", False, "it has to offer both: it has an *or*"),
        ("Is it coloured?", "red", False, "'red' is only a piece of 'coloured': look for whole words"),
        ("What is on the floor?", "a door", False, "the answer is nowhere in it"),
        ("Is this the floor?", "the floor", True, "'or' within 'floor' is no word"),
    ):
        got = _given(answer(question, said))
        if bool(got) != expected:
            raise Wrong(f"{question!r} with the answer {said!r} gave {got}, expected {expected}: {why}.")
    return "Whole words, and no false alarm where a choice is offered."
