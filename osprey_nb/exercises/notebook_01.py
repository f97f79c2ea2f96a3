"""Checks of the exercises of notebook 01."""

from __future__ import annotations

import numpy as np

from .cards import Wrong, exercise, given, tensor


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
    got = tensor(answer([0, 1, 6, 2, 2, 1, 3], 3, 5), (3, 5)).numpy().astype(bool)
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
    got = float(given(answer(a, b)))
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
