"""Checks of the exercises of notebook 00."""

from __future__ import annotations

import torch

from .cards import Wrong, exercise, tensor


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
    mask = tensor(got, (6, 8))
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
