"""Checks of the exercises of notebook 11."""

from __future__ import annotations

import numpy as np

from .cards import Wrong, exercise, given


@exercise("11.1")
def _pixel(answer) -> str:
    cases = (
        ((50, 30), (100, 60), (1000, 600), (500, 300)), ((50, 30), (100, 60), (50, 30), (25, 15)),
        ((0, 59), (100, 60), (200, 120), (0, 118)),
    )  # fmt: skip
    for click, shown, size, expected in cases:
        got = tuple(float(v) for v in given(answer(click, shown, size)))
        if len(got) != 2:
            raise Wrong("Return two numbers, x and y.")
        if np.allclose(got, expected[::-1]) and expected[0] != expected[1]:
            raise Wrong("x and y are swapped. Both sizes are (width, height).")
        if np.allclose(got, click):
            raise Wrong("This is the click as it came. The picture is shown smaller or larger than it is.")
        if np.allclose(got, [c * s / p for c, s, p in zip(click, shown, size, strict=True)]):
            raise Wrong("The wrong way round: divide by what is shown, multiply by what the picture has.")
        if not np.allclose(got, expected):
            raise Wrong(f"A click at {click}, shown {shown}, of a picture of {size}, is {expected}; you have {got}.")
    return "Without this, every mask lands in the wrong place, as in part 9 of notebook 09."


@exercise("11.2")
def _renumber(answer) -> str:
    got = given(answer("Is <region5> left of <region2>? <region5> looks older.", [2, 5]))
    if got == "Is <region1> left of <region1>? <region1> looks older.":
        raise Wrong("One after the other goes wrong: what became <region2> is replaced again. Replace all at once (re.sub).")
    if got == "Is <region1> left of <region2>? <region1> looks older.":
        raise Wrong("You number them as they come in the text. The model gets the masks in the order of `regions`: 2 first.")
    expected = "Is <region2> left of <region1>? <region2> looks older."
    if got != expected:
        raise Wrong(f"Expected {expected!r}, you have {got!r}.")
    if answer("<region3>", [1, 3, 4]) != "<region2>":
        raise Wrong("With the regions 1, 3 and 4, <region3> is the second.")
    if answer("What is this?", [7]) != "What is this?":
        raise Wrong("A text that names no region should stay as it is.")
    return "The person counts chips, the model counts masks, and nobody has to know of the other."


@exercise("11.3")
def _stale(answer) -> str:
    def run(*events):
        return [tuple(x) for x in given(answer(list(events)))]

    a = (("draw", 1, "v1"), ("say", 1, "v1", "a cat"))
    if run(*a) != [(1, "a cat")]:
        raise Wrong(f"Region 1 is drawn as v1, and described as v1: show [(1, 'a cat')]; you have {run(*a)}.")
    b = (("draw", 1, "v1"), ("draw", 1, "v2"), ("say", 1, "v1", "a cat"))
    if run(*b):
        raise Wrong("Region 1 was drawn again (v2) before the answer about v1 came. That answer is stale: drop it.")
    c = (*b, ("draw", 2, "v1"), ("say", 2, "v1", "a dog"), ("say", 1, "v2", "a cow"))
    if sorted(run(*c)) != [(1, "a cow"), (2, "a dog")]:
        raise Wrong(f"Each region has a version of its own: expected (1, 'a cow') and (2, 'a dog'); you have {run(*c)}.")
    d = (*a, ("draw", 1, "v2"))
    if run(*d):
        raise Wrong("Region 1 has changed after it was described. What stands there is about another shape: take it away.")
    return "This is all that a studio must not get wrong: never show an answer about another mask."
