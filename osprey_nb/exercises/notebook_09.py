"""Checks of the exercises of notebook 09."""

from __future__ import annotations

import numpy as np
import torch

from .cards import Wrong, exercise, given, tensor


@exercise("09.1")
def _encode(answer) -> str:
    torch.manual_seed(0)
    gaussian = torch.randn(2, 3)
    points = torch.tensor([[0.0, 0.0], [40.0, 10.0]])
    got = tensor(answer(points.clone(), 100, gaussian.clone()), (2, 6))

    def fourier(places, turn=2 * torch.pi):
        angles = turn * places @ gaussian
        return torch.cat([angles.sin(), angles.cos()], -1)

    places = 2 * (points + 0.5) / 100 - 1
    if torch.allclose(got, fourier(2 * points / 100 - 1), atol=1e-4):
        raise Wrong("The half is missing: a pixel's place is its middle, (x + 0.5) / side.")
    if torch.allclose(got, fourier((points + 0.5) / 100), atol=1e-4):
        raise Wrong("These go from 0 to 1. Bring them to −1 … 1 first: 2 · place − 1.")
    if torch.allclose(got, fourier(places, 1), atol=1e-4):
        raise Wrong("The factor 2π is missing: the sines should make whole turns.")
    if torch.allclose(got, fourier(places).roll(3, -1), atol=1e-4):
        raise Wrong("The cosines come first here; SAM has the sines first.")
    if not torch.allclose(got, fourier(places), atol=1e-4):
        raise Wrong("Other numbers than SAM's. In this order: middle, −1 … 1, times the matrix, times 2π, sines then cosines.")
    return "The two numbers of a click have become a vector whose likeness to others says how near they are."


@exercise("09.2")
def _next_click(answer) -> str:
    target = np.zeros((12, 16), bool)
    target[2:10, 2:8] = True
    missed = target.copy()
    missed[:, 5:] = False  # 24 pixels are missing
    missed[0, 14:] = True  # 2 are too many
    spilled = target.copy()
    spilled[2:10, 8:14] = True  # 48 are too many
    spilled[2, 2] = False
    for mask, wrong, label, what in (
        (missed, target & ~missed, 1, "missing"), (spilled, spilled & ~target, 0, "too many"),
    ):  # fmt: skip
        got = given(answer(mask.copy(), target.copy()))
        if not isinstance(got, tuple | list) or len(got) != 3:
            raise Wrong("Return three numbers: x, y, and the label.")
        x, y, said = (float(v) for v in got)
        if said not in (0, 1):
            raise Wrong(f"The label is {said:g}; 1 says inside, 0 outside.")
        row, column = int(y), int(x)
        if not (0 <= row < 12 and 0 <= column < 16):
            raise Wrong(f"({x:g}, {y:g}) lies outside of a picture of 16×12 pixels. x counts columns, y rows.")
        if not wrong[row, column]:
            swapped = 0 <= column < 12 and wrong[column, row]
            advice = "x and y are swapped: x is the column." if swapped else f"Most of what is wrong is {what}."
            raise Wrong(f"At ({x:g}, {y:g}) nothing of the larger mistake lies. {advice}")
        if said != label:
            raise Wrong(f"The place is right. But there pixels are {what}: the label should be {label}.")
    return "That is how SAM was trained: click where it is wrong, again and again."


@exercise("09.3")
def _distinct(answer) -> str:
    masks = np.zeros((5, 10, 10), bool)
    masks[0, :5] = True
    masks[1, :5, :9] = True  # IoU 0.9 with 0
    masks[2, 5:] = True
    masks[3, :4, :9] = True  # 0.72 with 0, 0.8 with 1
    masks[4, 5:, 1:] = True  # 0.9 with 2
    got = [int(i) for i in given(answer(masks.copy(), 0.85))]
    if got == [0, 2]:
        raise Wrong("Mask 3 is gone: it is like mask 1 at 0.8, which is below 0.85. Drop those at the limit or above.")
    if got == [1, 3, 4] or got == [3, 4]:
        raise Wrong("You kept the later one of two that are alike. The first is the better: keep that.")
    if got == [0, 1, 2, 3, 4]:
        raise Wrong("All are kept. Masks 0 and 1 share 45 of 50 pixels: IoU 0.9.")
    if got != [0, 2, 3]:
        raise Wrong(f"Expected masks 0, 2 and 3; you have {got}.")
    if [int(i) for i in answer(masks[[0, 1, 3]].copy(), 0.75)] != [0, 2]:
        raise Wrong("Compare with those that were kept, not with all before: what was dropped drops nothing.")
    return "Each thing once. This is non-maximum suppression, with masks in place of boxes."
