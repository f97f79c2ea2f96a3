"""Checks of the exercises of notebook 07."""

from __future__ import annotations

import math

from .cards import Wrong, exercise, given

BYTES = {28: "the weights alone", 56: "no AdamW", 84: "one of the four numbers is missing", 14: "two bytes a number"}


@exercise("07.1")
def _bill(answer) -> str:
    got = float(given(answer))
    if math.isclose(got, 112):
        return "112 GB, and a card has 80. Activations come on top."
    if math.isclose(got, 112e9) or math.isclose(got, 112 / 1.024**3, rel_tol=1e-3):
        raise Wrong("Right, in another unit: give GB of 10⁹ bytes.")
    for size, what in BYTES.items():
        if math.isclose(got, size):
            raise Wrong(f"{size} GB: {what}. Each number takes 4 bytes, its gradient 4, and AdamW keeps 8.")
    raise Wrong(f"You say {got:g} GB. Sixteen bytes for each of seven billion numbers.")


@exercise("07.2")
def _rate(answer) -> str:
    def close(spent, expected):
        return math.isclose(got[spent], expected, rel_tol=0.02, abs_tol=1e-6)

    got = {spent: float(given(answer(spent, 2.0))) for spent in (0.0, 0.015, 0.03, 0.5, 1.0)}
    if close(0.5, 2.0):
        raise Wrong("Half-way the rate is still at its peak: the cosine is missing.")
    if close(0.5, 0.0):
        raise Wrong("Half-way the rate is 0 already: ½ (1 + cos), not the cosine alone.")
    if close(0.5, 0.5):
        raise Wrong("The rate is half of what it should be: the peak is reached where the warm-up ends.")
    if not close(0.5, 1.0):
        raise Wrong(f"Half-way, with a peak of 2, the rate should be 1; you have {got[0.5]:g}.")
    if not close(1.0, 0.0):
        raise Wrong(f"At the end the rate should be 0; you have {got[1.0]:g}.")
    if not close(0.03, 1.996):
        raise Wrong(f"Where the warm-up ends the rate should be the cosine's, 1.996; you have {got[0.03]:g}.")
    if got[0.015] > 1.5:
        raise Wrong("In the middle of the warm-up the rate should be half of the cosine's: multiply by min(1, spent / 0.03).")
    if got[0.0] > 0.01 or not close(0.015, 0.9989):
        raise Wrong(f"The warm-up climbs evenly from 0 to 1; at 1.5 % you have {got[0.015]:g}, it should be 0.999.")
    return "It climbs for 3 %, and falls for the rest."


@exercise("07.3")
def _mean(answer) -> str:
    got = float(given(answer([2.0, 1.0], [10, 30])))
    if math.isclose(got, 1.5):
        raise Wrong("1.5 is the mean of the two means. The second piece has three times as many tokens.")
    if math.isclose(got, 50.0):
        raise Wrong("50 is the sum of all losses. Divide it by the number of all tokens.")
    if not math.isclose(got, 1.25):
        raise Wrong(f"For [2.0, 1.0] and [10, 30] it is (2·10 + 1·30) / 40 = 1.25; you have {got:g}.")
    if not math.isclose(float(answer([1.0, 4.0, 5.0], [6, 1, 0])), 10 / 7):
        raise Wrong("Right for two pieces, not for three of which one has no answers.")
    return "Each token weighs the same, whichever piece it stands in."


@exercise("07.4")
def _stage(answer) -> str:
    from ..data import language
    from ..train.stages import Stage

    if not isinstance(answer, Stage):
        raise Wrong(f"Expected a Stage, got {type(given(answer)).__name__}.")
    trains, mixture = dict(answer.trains), dict(answer.mixture)
    if set(trains) != {"mask_extractor", "llm"}:
        raise Wrong(f"It trains {', '.join(trains)}; name mask_extractor and llm, and nothing else.")
    if not math.isclose(trains["mask_extractor"], 3e-4):
        raise Wrong(f"The mask extractor's rate is {trains['mask_extractor']:g}; it should be 3e-4.")
    if not math.isclose(trains["llm"], 3e-5):
        raise Wrong(f"The LLM's rate is {trains['llm']:g}; a tenth of 3e-4 is 3e-5.")
    if missing := [name for name in mixture if not hasattr(language, name)]:
        raise Wrong(f"There is no kind of record named {missing[0]!r}.")
    if set(mixture) != {"part_level", "describe_short"} or not math.isclose(
        mixture["part_level"], 3 * mixture["describe_short"]
    ):
        raise Wrong(f"The mixture is {mixture}; three of four should be part_level, the fourth describe_short.")
    if answer.batch_size != 8 or answer.minutes != 2 or answer.epochs is not None:
        raise Wrong(f"Batches of 8 for 2 minutes; you have {answer.batch_size}, {answer.minutes} and epochs {answer.epochs}.")
    return "A stage is data. `osprey_nb/train/stages.py` has the paper's."
