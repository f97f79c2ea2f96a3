"""Checks of the exercises of notebook 10."""

from __future__ import annotations

import numpy as np
import torch

from .cards import Wrong, exercise, given, tensor


@exercise("10.1")
def _follows(answer) -> str:
    said = [["cat", "dog", "fish"], ["cat", "cat", "fish"], ["car", "car", "car"]]
    true = [["cat", "dog", "fish"], ["cat", "dog", "fish"], ["car", "tree", "boat"]]
    got = float(given(answer(said, true)))
    if abs(got - 6 / 9) < 1e-3:
        raise Wrong("6 of 9 are right: that counts regions. But who always says 'car' is right once by chance. Count pairs.")
    if abs(got - 1 / 3) < 1e-3:
        raise Wrong("One picture of three has all right. Count pairs of regions, within each picture.")
    if abs(got - 5 / 9) < 1e-3:
        raise Wrong("A pair counts when *both* regions are named rightly, not when the two answers differ.")
    if abs(got - 4 / 9) > 1e-3:
        raise Wrong(f"Three pairs in each picture: 3 of them, then 1, then 0. So 4 of 9; you have {got:g}.")
    if float(answer([["a", "b"], ["a"]], [["a", "b"], ["a"]])) != 1:
        raise Wrong("A picture of one region has no pair, and should not count.")
    return "Both right, from one picture and one question: only the mask can have made the difference."


@exercise("10.2")
def _rollout(answer) -> str:
    torch.manual_seed(0)
    first, second = torch.randn(2, 2, 3, 3).masked_fill(torch.ones(3, 3).triu(1).bool(), -torch.inf).softmax(-1)
    got = tensor(answer([first.clone(), second.clone()]), (3, 3))
    eye = torch.eye(3)
    halves = [(layer.mean(0) + eye) / 2 for layer in (first, second)]
    if torch.allclose(got, second.mean(0) @ first.mean(0), atol=1e-4):
        raise Wrong("The residual path is missing: each layer is half its attention, half the identity.")
    if torch.allclose(got, halves[0] @ halves[1], atol=1e-4):
        raise Wrong("Turned around: what the second layer reads, the first has written. The later layer stands on the left.")
    if torch.allclose(got, halves[1], atol=1e-4) or torch.allclose(got, halves[0], atol=1e-4):
        raise Wrong("Only one of the layers is in it. Multiply them all, from the first to the last.")
    if not torch.allclose(got.sum(-1), torch.ones(3), atol=1e-3):
        raise Wrong(f"Each row should sum to 1, as attention does; yours sum to {got.sum(-1).tolist()}.")
    if not torch.allclose(got, halves[1] @ halves[0], atol=1e-4):
        raise Wrong(f"Expected a last row of {(halves[1] @ halves[0])[2].tolist()}, you have {got[2].tolist()}.")
    return "All ways through all layers, in one table."


@exercise("10.3")
def _occlude(answer) -> str:
    image = np.arange(48.0).reshape(4, 4, 3) / 48

    def score(picture):
        return float(picture[:2, :2].sum() * 3 + picture[2:, 2:].sum())

    usual = score(image)
    expected = np.zeros((2, 2))
    for row in range(2):
        for column in range(2):
            hidden = image.copy()
            hidden[2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = 0.5
            expected[row, column] = usual - score(hidden)
    before = image.copy()
    got = np.asarray(given(answer(image, score, 2)), float)
    if not np.array_equal(image, before):
        raise Wrong("The picture itself was changed: every further cell is hidden on top of those before. Copy it first.")
    if got.shape != (2, 2):
        raise Wrong(f"The shape is {got.shape}, expected (2, 2): a number for each cell.")
    if np.allclose(got, -expected):
        raise Wrong("The sign is turned: what is *lost*, so the usual score less the one with the cell hidden.")
    if np.allclose(got, usual - expected):
        raise Wrong("These are the scores with a cell hidden. Take them from the usual score.")
    if not np.allclose(got, expected):
        raise Wrong(f"Expected {expected.round(3).tolist()}, you have {got.round(3).tolist()}. A hidden cell becomes 0.5.")
    return "No gradients, no assumptions: hide it, and see what is lost."
