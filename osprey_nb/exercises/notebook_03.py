"""Checks of the exercises of notebook 03."""

from __future__ import annotations

import torch

from osprey_nb.mask_extractor import mask_pool

from .cards import Wrong, exercise, tensor


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
    got = tensor(answer(feature, masks), (3, 2))
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
    got = tensor(answer(masks, 2, 2), (2, 2, 2))
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
    mask = tensor(answer, (128, 128))
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
