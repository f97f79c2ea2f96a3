"""From a scene to Records in the field's formats (docs/osprey.md, section 4).

    Scene ──▶ records(scene, rng) ──▶ describe_short, describe_detailed     the demo's two questions
                                      caption                               an image and a sentence (LLaVA)
                                      instances                             a category a region (COCO)
                                      short_form, conversation, detailed,   the five kinds of Osprey-724K
                                      part_level, positive_negative
                                      existence                             yes/no about the whole picture
                                      finding                               questions about it without a region

Everything that is said is read from the scene graph and the visible masks, so it is true of the picture. All
choices come from the `rng` passed in. The vocabulary is small because the language model is.
"""

from __future__ import annotations

import numpy as np

from osprey_nb.data.dialogues import (
    DETAILED_QUESTION,
    DETAILED_QUESTIONS,
    ONE_WORD,
    PLACES,
    YES_NO,
    alike,
    ask_each,
    asking,
    comparisons,
    conversation,
    detailed,
    details,
    numbers,
    part_level,
    positive_negative,
    record,
    short_form,
    surroundings,
)
from osprey_nb.data.kinds import KINDS, LOOK_ALIKE
from osprey_nb.data.phrases import (
    PARTS,
    Region,
    article,
    by_colour,
    capital,
    object_phrase,
    parse_phrase,
    part_phrase,
    pick,
    pick_regions,
    shuffled,
)
from osprey_nb.data.record import Record
from osprey_nb.data.scenes import Scene

__all__ = [
    "DETAILED_QUESTION", "ONE_WORD", "PARTS", "SHORT_QUESTION", "YES_NO", "Region", "alike", "asking", "caption",
    "comparisons", "conversation", "describe_detailed", "describe_short", "detailed", "existence", "finding", "instances",
    "numbers", "object_phrase", "parse_phrase", "part_level", "part_phrase", "positive_negative", "records", "short_form",
    "surroundings",
]  # fmt: skip

SHORT_QUESTION = "Please give me a short description of {}. Using a short phrase."
SHORT_QUESTIONS = {  # a question and its weight
    SHORT_QUESTION: 12,
    "What is in {}? Using a short phrase.": 4,
    "Please give me a short description of {}.": 2,
    "Describe {} in a short phrase.": 1,
    "What is {}?": 1,
}
CATEGORY_QUESTIONS = {
    "What is the category of {}? Using only one word or phrase.": 3,
    "What is the name of the object in {}? Using only one word or phrase.": 1,
}
CAPTION_QUESTIONS = (
    "Describe the image.",
    "What do you see in this picture?",
    "Give a short description of the image.",
    "What is in this image?",
    "What does this picture show?",
    "Write a short caption for this picture.",
)
FINDING_QUESTIONS = {
    "kind": ("What colour is the {}?", "What color is the {}?"),
    "colour": ("Which object is {}?", "What is the {} object?"),
}
EXISTENCE_QUESTIONS = {"Is there {} in the image?": 2, "Is there {} in the picture?": 1, "Can you see {}?": 1}


def describe_short(scene: Scene, rng: np.random.Generator, limit: int = 8) -> Record:
    """The demo's short question (and others) -> `a striped red bicycle`, `the wheel of a red bicycle`."""
    regions = pick_regions(scene, rng, limit, parts=0.5)
    turns = ask_each(rng, SHORT_QUESTIONS, [region.phrase(rng) for region in regions])
    return record(scene, "describe_short", regions, turns, inline=True)


def describe_detailed(scene: Scene, rng: np.random.Generator, limit: int = 2) -> Record:
    """The demo's detailed question, asked in place."""
    regions = pick_regions(scene, rng, limit, parts=0.35)
    turns = ask_each(rng, DETAILED_QUESTIONS, [details(scene, region, rng) for region in regions])
    return record(scene, "describe_detailed", regions, turns, inline=True)


def caption(scene: Scene, rng: np.random.Generator) -> Record:
    """`In a meadow: a red cat and boat, a blue fish.` Where it is, and all objects; no regions (LLaVA, stage 1)."""
    where, what = capital(PLACES[scene.background]), ", ".join(by_colour(scene.objects))
    turns = [(pick(rng, CAPTION_QUESTIONS), f"{where}: {what}."), ("Where is this?", f"{where}.")]
    return record(scene, "llava_captions", [], shuffled(rng, turns), inline=True)


def instances(scene: Scene, rng: np.random.Generator, limit: int = 6) -> Record:
    """One object a turn; the answer is its category (COCO, stage 2)."""
    regions = pick_regions(scene, rng, limit, parts=0)
    turns = ask_each(rng, CATEGORY_QUESTIONS, [region.category for region in regions])
    return record(scene, "instances", regions, turns, inline=True)


def existence(scene: Scene, rng: np.random.Generator, most: int = 3) -> Record:
    """Yes/no about the picture, without a region (POPE; docs/osprey.md, section 5): up to `most` kinds that are there,
    and as many that are not, half of which resemble one that is.
    """
    here = {obj.kind for obj in scene.objects}
    absent = shuffled(rng, [kind for kind in KINDS if kind not in here])
    alike = {kind for group in LOOK_ALIKE for kind in group if set(group) & here}
    known = shuffled(rng, sorted(here))[:most]
    hard = [kind for kind in absent if kind in alike][: len(known) // 2]
    missing = [*hard, *(kind for kind in absent if kind not in hard)][: len(known)]
    asked = [(kind, "Yes") for kind in known] + [(kind, "No") for kind in missing]
    turns = [
        (f"{pick(rng, EXISTENCE_QUESTIONS).format(article(kind))} {YES_NO}", answer) for kind, answer in shuffled(rng, asked)
    ]
    return record(scene, "existence", [], turns, inline=True)


def finding(scene: Scene, rng: np.random.Generator) -> Record:
    """Short questions about the picture, without a region: the colour of the one cat, the kind of what alone is red."""
    turns = []
    for asked, answer in (("kind", "colour"), ("colour", "kind")):
        for obj in scene.objects:
            if sum(getattr(other, asked) == getattr(obj, asked) for other in scene.objects) == 1:
                question = pick(rng, FINDING_QUESTIONS[asked]).format(getattr(obj, asked))
                turns.append((f"{question} {ONE_WORD}", getattr(obj, answer)))
    return record(scene, "finding", [], shuffled(rng, turns), inline=True)


MAKERS = (
    describe_short,
    describe_detailed,
    caption,
    instances,
    existence,
    finding,
    short_form,
    conversation,
    detailed,
    part_level,
    positive_negative,
)


def records(scene: Scene, rng: np.random.Generator) -> list[Record]:
    """One Record of every kind that the scene allows: all, but for a scene without parts or with one object."""
    return [made for make in MAKERS if (made := make(scene, rng)).turns]
