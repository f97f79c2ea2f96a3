"""What `osprey-nb eval` asks about a scene: every kind of question that training asks, in its wordings, each on its own.

All choices come from the scene's number. No model here.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache

import numpy as np

from ..data.dialogues import (
    COLOUR_QUESTIONS,
    DETAILED_QUESTIONS,
    FREE_QUESTIONS,
    OBJECT_QUESTIONS,
    ONE_WORD,
    PART_QUESTIONS,
    PIECE_QUESTIONS,
    YES_NO,
    conversation,
    details,
    facts,
    part_facts,
    positive_negative,
    surroundings,
)
from ..data.kinds import HELD_OUT, KINDS, LOOK_ALIKE
from ..data.language import EXISTENCE_QUESTIONS, SHORT_QUESTION, SHORT_QUESTIONS, caption, finding, instances
from ..data.phrases import Region, article, part_colour, pick, pick_regions, shuffled
from ..data.record import Record
from ..data.scenes import Scene, compose, make_scene
from .hand_drawn import SIDE as HAND_DRAWN_SIDE
from .hand_drawn import hand_drawn
from .wordings import topic_of

SIDE = 128
MOST_REGIONS = 4
COMPARING = ("relation", "relation?", "same", "larger", "named")
ABSENT = ("at random", "frequent", "look alike")


@dataclass(frozen=True, eq=False)
class Question:
    """A question, what training would answer, and what a model is shown: an image and the masks of `<region1>`, `<region2>` …

    `about` tells apart what is asked alike: "held-out", the name of a hand-drawn form, how an absent kind was chosen.
    """

    text: str
    truth: str
    scene: Scene
    regions: list[Region]
    image: np.ndarray
    masks: list[np.ndarray]
    inline: bool
    about: str = ""


def ask(
    scene: Scene, text: str, truth: str, regions: list[Region] = (), inline: bool = False, about: str = ""
) -> Question:
    """A question about exact masks."""
    return Question(text, truth, scene, list(regions), scene.image, [region.mask for region in regions], inline, about)


def questions(number: int) -> list[Question]:
    """All that is asked about eval scene `number`, the held-out scene of this number, and the scene drawn on by hand."""
    scene, rng = make_scene(number, SIDE, "eval", "train"), np.random.default_rng([number, 27])
    return [
        *described(scene, rng), *about_one(scene, rng), *about_parts(scene, rng), *about_several(scene, rng),
        *talked_about(scene, rng), *from_record(scene, positive_negative(scene, rng, limit=3)),
        *from_record(scene, surroundings(scene, rng)),
        *from_record(scene, caption(scene, rng)), *from_record(scene, finding(scene, rng)), *existence(scene, rng),
        *held_out(number, rng), *drawn_by_hand(number, scene),
    ]  # fmt: skip


def from_record(scene: Scene, record: Record) -> list[Question]:
    """Each turn of a record as a question on its own."""
    known = [Region(obj) for obj in scene.objects] + [Region(obj, part) for obj in scene.objects for part in obj.parts]
    by_mask = {region.mask.tobytes(): region for region in known}
    asked = []
    for turn in record.turns:
        alone = record.with_turns([turn])
        ((text, truth),) = alone.turns
        regions = [by_mask[mask.tobytes()] for mask in alone.masks]
        asked.append(ask(scene, text, truth, regions, record.inline))
    return asked


# ---------------------------------------------------------------- the kinds of questions


def described(scene: Scene, rng: np.random.Generator) -> list[Question]:
    """Of every object a short and a detailed description, of every part a short one, of two parts a detailed one."""
    objects = [Region(obj) for obj in scene.objects]
    parts = [Region(obj, part) for obj in scene.objects for part in obj.parts]
    short = [
        ask(scene, pick(rng, SHORT_QUESTIONS).format("<region1>"), region.phrase(rng), [region], inline=True)
        for region in [*objects, *parts]
    ]
    detailed = [
        ask(scene, pick(rng, DETAILED_QUESTIONS).format("<region1>"), details(scene, region, rng), [region], inline=True)
        for region in [*objects, *pick_regions(scene, rng, 2, parts=1)]
    ]
    return short + detailed


def about_one(scene: Scene, rng: np.random.Generator) -> list[Question]:
    """Five short questions about each object, alone in its prompt, and its category."""
    asked = [question for obj in scene.objects for question in five(scene, [Region(obj)], 1, rng)]
    return asked + from_record(scene, instances(scene, rng, limit=len(scene.objects)))


def about_several(scene: Scene, rng: np.random.Generator) -> list[Question]:
    """The same about each of two to four objects in one prompt."""
    regions = [Region(obj) for obj in shuffled(rng, scene.objects)[:MOST_REGIONS]]
    numbers = range(1, len(regions) + 1) if len(regions) > 1 else ()
    return [question for number in numbers for question in five(scene, regions, number, rng)]


def five(scene: Scene, regions: list[Region], number: int, rng: np.random.Generator) -> list[Question]:
    """Kind, colour, pattern, size and place of region `number`, an object."""
    asked = []
    for about, true in facts(regions[number - 1].obj).items():
        wordings = [*FREE_QUESTIONS[about], *(f"{wording} {ONE_WORD}" for wording in OBJECT_QUESTIONS[about])]
        asked.append(ask(scene, pick(rng, wordings).format(f"<region{number}>"), true, regions))
    return asked


def talked_about(scene: Scene, rng: np.random.Generator) -> list[Question]:
    """The turns of a conversation, and of three more those that compare two regions."""
    turns = from_record(scene, conversation(scene, rng))
    more = [question for _ in range(3) for question in from_record(scene, conversation(scene, rng))]
    return turns + [question for question in more if topic_of(question.text) in COMPARING]


def about_parts(scene: Scene, rng: np.random.Generator) -> list[Question]:
    """A short question about each of four parts."""
    asked = []
    for region in pick_regions(scene, rng, 4, parts=1):
        obj, part = region
        answers = part_facts(obj, part) | {"piece": f"{obj.kind}:{part.name}", "colour": part_colour(obj, part)}
        wordings = PART_QUESTIONS | {"piece": PIECE_QUESTIONS, "colour": COLOUR_QUESTIONS}
        about = pick(rng, [*answers])
        text = pick(rng, wordings[about]).format("<region1>", kind=obj.kind)
        asked.append(ask(scene, f"{text} {ONE_WORD}", answers[about], [region]))
    return asked


def existence(scene: Scene, rng: np.random.Generator) -> list[Question]:
    """Is it there? Three that are, three that are not (the POPE protocol): any, a frequent one, one that looks alike."""
    here = {obj.kind for obj in scene.objects}
    absent = {
        "at random": [kind for kind in KINDS if kind not in here],
        "frequent": [kind for kind in by_frequency() if kind not in here][:5],
        "look alike": [kind for group in LOOK_ALIKE if here & {*group} for kind in group if kind not in here],
    }
    present = shuffled(rng, sorted(here)) * 3
    asked = [(present[i], "Yes", "present") for i in range(len(ABSENT))]
    asked += [(pick(rng, absent[how]), "No", how) for how in ABSENT]
    return [ask(scene, is_there(kind, rng), truth, inline=True, about=about) for kind, truth, about in asked]


def is_there(kind: str, rng: np.random.Generator) -> str:
    """A question after a kind."""
    return f"{pick(rng, EXISTENCE_QUESTIONS).format(article(kind))} {YES_NO}"


@cache
def by_frequency() -> list[str]:
    """The kinds, the most frequent of 1000 training scenes first."""
    counts = Counter(kind for number in range(1000) for kind in {spec.kind for spec in compose(number).objects})
    return sorted(KINDS, key=lambda kind: -counts[kind])


def held_out(number: int, rng: np.random.Generator) -> list[Question]:
    """A short description of the object in a colour that training never showed with its kind."""
    scene = make_scene(number, SIDE, "eval", "held_out")
    unseen = [Region(obj) for obj in scene.objects if (obj.kind, obj.colour) in HELD_OUT]
    text = SHORT_QUESTION.format("<region1>")
    return [ask(scene, text, region.phrase(rng), [region], inline=True, about="held-out") for region in unseen]


def drawn_by_hand(number: int, scene: Scene) -> list[Question]:
    """A short description of each object under each form of its mask, in a larger picture of the same scene."""
    large, text, asked = make_scene(number, HAND_DRAWN_SIDE, "eval", "train"), SHORT_QUESTION.format("<region1>"), []
    rng = np.random.default_rng(0)
    for obj, drawn in zip(scene.objects, large.objects, strict=True):
        truth, region = Region(obj).phrase(rng), Region(obj)
        for form, mask in hand_drawn(drawn.mask).items():
            asked.append(Question(text, truth, scene, [region], large.image, [mask], inline=True, about=form))
    return asked
