"""Checks of the exercises of notebook 02."""

from __future__ import annotations

import torch

from .cards import Wrong, exercise, given, tensor


@exercise("02.1")
def _block_weights(answer) -> str:
    got = int(given(answer(32)))
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
    got = [int(value) for value in given(answer((2, 2, 3, 1)))]
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
    got = tensor(answer(regions, texts, 7.0), ())
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
