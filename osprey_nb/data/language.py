"""From a scene to Records in the field's formats (paper section 4).

    Scene ──▶ records(scene, rng) ──▶ describe_short, describe_detailed     the demo's two questions
                                      caption                               an image and a sentence (LLaVA)
                                      instances                             a category a region (COCO)
                                      short_form, conversation, detailed,   the five kinds of Osprey-724K
                                      part_level, positive_negative
                                      existence                             yes/no about the whole picture

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
    ask_each,
    asking,
    conversation,
    detailed,
    details,
    part_level,
    positive_negative,
    record,
    short_form,
)
from osprey_nb.data.kinds import KINDS
from osprey_nb.data.phrases import (
    PARTS,
    Region,
    article,
    listed,
    name,
    object_phrase,
    parse_phrase,
    part_phrase,
    pick,
    pick_regions,
    relations_between,
    shuffled,
)
from osprey_nb.data.record import Record
from osprey_nb.data.scenes import Scene

__all__ = [
    "DETAILED_QUESTION", "ONE_WORD", "PARTS", "SHORT_QUESTION", "YES_NO", "Region", "asking", "caption", "conversation",
    "describe_detailed", "describe_short", "detailed", "existence", "instances", "object_phrase",
    "parse_phrase", "part_level", "part_phrase", "positive_negative", "records", "short_form",
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
    "Give a short description of the image.",
    "What is in this image?",
    "What does this picture show?",
    "Write a short caption for this picture.",
)


def describe_short(scene: Scene, rng: np.random.Generator, limit: int = 8) -> Record:
    """The demo's short question (and others) -> `a striped red bicycle`, `the wheel of a red bicycle`."""
    regions = pick_regions(scene, rng, limit, parts=0.5)
    turns = ask_each(rng, SHORT_QUESTIONS, [region.phrase(rng) for region in regions])
    return record(scene, "describe_short", regions, turns, inline=True)


def describe_detailed(scene: Scene, rng: np.random.Generator, limit: int = 2) -> Record:
    """The demo's detailed question, asked in place."""
    regions = pick_regions(scene, rng, limit, parts=0.25)
    turns = ask_each(rng, DETAILED_QUESTIONS, [details(scene, region, rng) for region in regions])
    return record(scene, "describe_detailed", regions, turns, inline=True)


def caption(scene: Scene, rng: np.random.Generator) -> Record:
    """A question about the image and a caption of one or two sentences; no regions (LLaVA, stage 1)."""
    named = shuffled(rng, scene.objects)[:4]
    text = f"{listed([object_phrase(obj, rng) for obj in named])} {PLACES[scene.background]}."
    text = text[0].upper() + text[1:]
    if rng.random() < 0.5 and len(named) > 1:
        a, b = named[:2]
        relations = relations_between(scene, a, b)
        if relations:
            text += f" The {name(a)} is {pick(rng, relations)} the {name(b)}."
    return record(scene, "llava_captions", [], [(pick(rng, CAPTION_QUESTIONS), text)], inline=True)


def instances(scene: Scene, rng: np.random.Generator, limit: int = 6) -> Record:
    """One object a turn; the answer is its category (COCO, stage 2)."""
    regions = pick_regions(scene, rng, limit, parts=0)
    turns = ask_each(rng, CATEGORY_QUESTIONS, [region.category for region in regions])
    return record(scene, "instances", regions, turns, inline=True)


def existence(scene: Scene, rng: np.random.Generator) -> Record:
    """Yes/no about the picture, one of each, without a region (the POPE protocol, paper section 5)."""
    here = {obj.kind for obj in scene.objects}
    asked = [
        (pick(rng, sorted(here)), "Yes"),
        (pick(rng, [kind for kind in KINDS if kind not in here]), "No"),
    ]
    turns = [(f"Is there {article(kind)} in the image? {YES_NO}", answer) for kind, answer in shuffled(rng, asked)]
    return record(scene, "existence", [], turns, inline=True)


MAKERS = (
    describe_short,
    describe_detailed,
    caption,
    instances,
    existence,
    short_form,
    conversation,
    detailed,
    part_level,
    positive_negative,
)


def records(scene: Scene, rng: np.random.Generator) -> list[Record]:
    """One Record of every kind that the scene allows: all, but for a scene without parts or with one object."""
    return [made for make in MAKERS if (made := make(scene, rng)).turns]
