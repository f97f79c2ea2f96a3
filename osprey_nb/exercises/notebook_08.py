"""Checks of the exercises of notebook 08."""

from __future__ import annotations

import math

import torch

from .cards import Wrong, exercise, given, tensor


@exercise("08.1")
def _positions(answer) -> str:
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        raise Wrong("Give two numbers: (without a cache, with a cache).")
    without, cached = (int(x) for x in answer)
    if without == 120 * 8:
        raise Wrong("120 each time? The sequence grows: the second pass reads 121, the third 122 …")
    if cached == 128:
        raise Wrong("With a cache, 128 is one too many: the last word is written, and never read.")
    if cached == 8:
        raise Wrong("With a cache the prompt must still be read, once.")
    if without != 988:
        raise Wrong(f"Without a cache: 120 + 121 + … , eight numbers. You have {without}, not 988.")
    if cached != 127:
        raise Wrong(f"With a cache: the prompt, then one position for each further word. You have {cached}.")
    return "988 against 127, for a short answer. The paper's prompt has a thousand positions more."


@exercise("08.2")
def _attend(answer) -> str:
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 4)
    keys, values = torch.randn(2, 5, 4)
    before = keys.clone(), values.clone()
    got = given(answer(query, key, value, keys, values))
    if not isinstance(got, tuple) or len(got) != 3:
        raise Wrong("Return three things: the output, the keys, the values.")
    output, new_keys, new_values = tensor(got[0], (4,)), tensor(got[1], (6, 4)), tensor(got[2], (6, 4))
    if not (torch.equal(keys, before[0]) and torch.equal(values, before[1])):
        raise Wrong("The keys that were given have changed. Another region may go on from them: make new ones with torch.cat.")
    if not (torch.equal(new_keys[:5], keys) and torch.equal(new_values[:5], values)):
        raise Wrong("The remembered keys and values come first, in their order.")
    if not (torch.equal(new_keys[5], key) and torch.equal(new_values[5], value)):
        raise Wrong("Row 5 of the new keys should be `key`, and of the new values `value`.")
    weights = (new_keys @ query / 2).softmax(0)
    if torch.allclose(output, (keys @ query / 2).softmax(0) @ values, atol=1e-4):
        raise Wrong("The new position doesn't see itself: attend to the keys after the new one has joined them.")
    if torch.allclose(output, (new_keys @ query).softmax(0) @ new_values, atol=1e-4):
        raise Wrong("The division by √d is missing: here d is 4, so divide by 2.")
    if not torch.allclose(output, weights @ new_values, atol=1e-4):
        raise Wrong("The output should be softmax(keys · query / √d) · values, over all six positions.")
    return "One row of the table, and what it needs to remember for the next."


@exercise("08.3")
def _bytes(answer) -> str:
    got = float(given(answer(2, 6, 2, 3, 10, 4, 5)))
    right = 2 * 2 * 2 * 2 * 3 * (10 + 4 * 5)  # bytes, key and value, layers, key heads, size
    if math.isclose(got, right / 30 * (10 + 4) * 5):
        raise Wrong("That holds the shared beginning five times. It is there once.")
    if math.isclose(got, right / 2):
        raise Wrong("Half of it is missing: there are keys and values, and a number in bf16 takes 2 bytes.")
    if math.isclose(got, 3 * right):
        raise Wrong("You counted the query heads. A query is needed once; keys and values are kept: count the key heads.")
    if math.isclose(got, 2.5 * right):
        raise Wrong("You counted queries among what is kept. A query is needed once: keep keys and values only.")
    if math.isclose(got, right / 3):
        raise Wrong("A key is not one number: each head has `size` of them.")
    if not math.isclose(got, right):
        raise Wrong(
            "For 2 layers with 6 query heads and 2 key heads of 3 numbers, 10 shared and 4 own positions and 5 rows, "
            f"it is {right}; you have {got:g}."
        )
    if not math.isclose(float(answer(2, 4, 4, 3, 10, 4, 5)), 2 * right):
        raise Wrong("Right for 2 key heads, not for 4: use `key_heads`.")
    return "Now it is the questions that cost, not the picture."


@exercise("08.4")
def _top_p(answer) -> str:
    probabilities = torch.tensor([0.1, 0.5, 0.05, 0.35])
    got = tensor(answer(probabilities.clone(), 0.8), (4,))
    if torch.allclose(got, torch.tensor([0, 0.5, 0, 0.35])):
        raise Wrong("The right ones are kept, but they add up to 0.85. Divide by their sum.")
    if torch.allclose(got, torch.tensor([0.0, 1, 0, 0])):
        raise Wrong("0.5 alone doesn't reach 0.8. The word that crosses the line is kept as well.")
    if torch.allclose(got, torch.tensor([0.1, 0.5, 0, 0.35]) / 0.95, atol=1e-4):
        raise Wrong("0.5 + 0.35 = 0.85 reaches 0.8 already: the third is one too many.")
    if torch.allclose(got, torch.tensor([0.5, 0.35, 0, 0]) / 0.85, atol=1e-4):
        raise Wrong("These are sorted. Each must go back to the place of its word.")
    if not torch.allclose(got, torch.tensor([0, 0.5, 0, 0.35]) / 0.85, atol=1e-4):
        raise Wrong(f"For 0.1, 0.5, 0.05, 0.35 and p = 0.8, keep 0.5 and 0.35, rescaled; you have {got.tolist()}.")
    if not torch.allclose(tensor(answer(probabilities.clone(), 1.0), (4,)), probabilities, atol=1e-4):
        raise Wrong("With p = 1 nothing should change.")
    first = tensor(answer(probabilities.clone(), 0.1), (4,))
    if not torch.allclose(first, torch.tensor([0.0, 1, 0, 0])):
        raise Wrong("With p = 0.1 the likeliest word alone should be left, at 1.")
    return "The rare words are gone, and the others keep their proportions."
