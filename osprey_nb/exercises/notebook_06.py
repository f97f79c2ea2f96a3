"""Checks of the exercises of notebook 06."""

from __future__ import annotations

from .cards import Wrong, exercise, given


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

    pieces = [("ab", False), ("c!", True), ("d", False), ("ef!", True)]
    got = given(answer(pieces, encode))
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
    got = list(given(answer("cup", {"cup", "horse"}, groups)))
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
        got = given(answer(question, said))
        if bool(got) != expected:
            raise Wrong(f"{question!r} with the answer {said!r} gave {got}, expected {expected}: {why}.")
    return "Whole words, and no false alarm where a choice is offered."
