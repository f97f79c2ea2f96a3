"""The five kinds of Osprey-724K records, made from a scene (paper section 4).

short_form          a word or phrase answers             osprey_short_form
conversation        turns about several regions          osprey_conversation
detailed            one to three sentences a region      osprey_detail_description
part_level          `bicycle:wheel`, and part colours    osprey_part_level
positive_negative   as many Yes as No, asked in place    osprey_lvis_positive_negative
"""

from __future__ import annotations

import numpy as np

from osprey_nb.data.kinds import COLOURS, HELD_OUT, KINDS, PATTERNS, SIZES
from osprey_nb.data.phrases import (
    Region,
    article,
    object_phrase,
    part_colour,
    part_list,
    part_phrase,
    pick,
    pick_regions,
    place,
    relations_between,
    shuffled,
)
from osprey_nb.data.record import Record
from osprey_nb.data.scenes import Scene

DETAILED_QUESTION = "Can you give me a detailed description of {}?"
ONE_WORD = "Answer the question using a single word or phrase."
YES_NO = "Please answer yes or no."
DETAILED_QUESTIONS = {  # a question and its weight
    DETAILED_QUESTION: 4,
    "Please describe {} in detail.": 1,
    "What can you tell me about {}?": 1,
}
COLOUR_QUESTIONS = ("What colour is {}?", "What color is {}?", "What is the colour of {}?")
FREE_QUESTIONS = {  # as people type them, without the words that ask for one word
    "kind": ("Name {}.", "{}?", "{} is what?", "What is {}?", "Which object is {}?", "What kind of object is {}?"),
    "colour": ("What colour is {}?", "What color is {}?", "Which colour has {}?", "The colour of {}?"),
    "pattern": ("What is the pattern of {}?", "Which pattern has {}?", "Is {} plain, striped, dotted or checked?"),
    "size": ("How large is {}?", "What size is {}?", "Is {} small, medium or large?"),
    "place": ("Where is {}?", "Where in the picture is {}?"),
    "claim": ("Is {} {claim}?", "Would you say that {} is {claim}?"),
}
PLACES = {
    "meadow": "in a meadow",
    "beach": "on a beach",
    "snow": "in the snow",
    "desert": "in a desert",
    "night sky": "in the night sky",
    "room": "in a room",
    "street": "on a street",
    "sea": "at sea",
}


def record(scene: Scene, source: str, regions: list[Region], turns, inline: bool) -> Record:
    """A Record whose masks are those of the regions, in the order of `<region1>`, `<region2>` …"""
    masks = np.stack([region.mask for region in regions]) if regions else ()
    return Record(source, source, scene.image, masks, turns, inline)


def details(scene: Scene, region: Region, rng: np.random.Generator) -> str:
    """One to three sentences about a region, at most 60 words."""
    obj, part = region
    where = f"{place(obj)} of the picture"
    if part is not None:
        said = part_phrase(obj, part, rng)
        return f"This is {said}. The {part.name} is {part_colour(obj, part)}. The {obj.kind} is {where}."
    words = [obj.size, *([] if obj.pattern == "plain" else [obj.pattern]), obj.colour, obj.kind]
    sentences = [f"This is {article(' '.join(words))} {where}."]
    if obj.parts:
        sentences.append(f"You can see its {part_list(scene, obj)}.")
    near = [(said, other) for other in scene.objects for said in relations_between(scene, obj, other)]
    if near:
        said, other = pick(rng, near)
        sentences.append(f"It is {said} {object_phrase(other)}.")
    return " ".join(sentences[: 3 if rng.random() < 0.7 else 2])


def ask_each(rng: np.random.Generator, questions: dict[str, int], answers: list[str]) -> list[tuple[str, str]]:
    """One turn a region: a question, with the region's name in its place, and the region's answer."""
    return [(pick(rng, questions).format(f"<region{i}>"), answer) for i, answer in enumerate(answers, 1)]


def short_form(scene: Scene, rng: np.random.Generator, limit: int = 4) -> Record:
    """Questions that one word answers: category, colour, pattern, size, place, owner of a part."""
    regions, turns = pick_regions(scene, rng, limit, parts=0.3), []
    for i, (obj, part) in enumerate(regions, 1):
        if part is None:
            asked = (
                (("What is the category of {}?", "What kind of object is {}?", "What is {}?"), obj.kind),
                (COLOUR_QUESTIONS, obj.colour),
                (("What is the pattern of {}?", "Is {} plain, striped, dotted or checked?"), obj.pattern),
                (("What is the size of {}?", "Is {} small, medium or large?"), obj.size),
                (("Where is {} in the picture?",), place(obj)),
            )
        else:
            asked = (
                (("What is the category of {}?", "What is {}?"), f"{obj.kind}:{part.name}"),
                ((f"Which part of the {obj.kind} is {{}}?",), part.name),
                (("Which object does {} belong to?", "{} is a part of which object?"), obj.kind),
                (("What colour is the object that {} belongs to?",), obj.colour),
            )
        questions, answer = pick(rng, asked)
        turns.append((f"{pick(rng, questions).format(f'<region{i}>')} {ONE_WORD}", answer))
    return record(scene, "osprey_short_form", regions, shuffled(rng, turns), inline=False)


def asking(scene: Scene, rng: np.random.Generator, limit: int = 4) -> Record:
    """Short questions in free words about one to four objects, the same object more than once, in random order.

    Half of them ask for the kind: there only the number says which object is meant, and there it is learnt what a number means
    (docs/decisions.md).
    """
    objects = shuffled(rng, scene.objects)
    regions = [Region(obj) for obj in objects[: int(rng.integers(1, limit + 1))]]
    turns = []
    for i, region in [*enumerate(regions, 1)] * 2:
        obj = region.obj
        about = "kind" if rng.random() < 0.5 else pick(rng, [*FREE_QUESTIONS][1:])
        answer = {"kind": obj.kind, "colour": obj.colour, "pattern": obj.pattern, "size": obj.size, "place": place(obj)}
        claim, said = pick(rng, list(zip(_claims(scene, region, rng), ("Yes", "No"), strict=True)))
        question = pick(rng, FREE_QUESTIONS[about]).format(f"<region{i}>", claim=claim)
        turns.append((question, answer.get(about, said)))
    return record(scene, "osprey_short_form", regions, shuffled(rng, turns), inline=False)


def conversation(scene: Scene, rng: np.random.Generator) -> Record:
    """Two to four turns about two or three objects: what they are, where, and how they compare. None where one stands alone."""
    if len(scene.objects) < 2:
        return record(scene, "osprey_conversation", [], [], inline=False)
    regions = [Region(obj) for obj in shuffled(rng, scene.objects)[: int(rng.integers(2, 4))]]
    one, two = "<region1>", "<region2>"
    a, b = regions[0].obj, regions[1].obj
    both = f"{one} is {object_phrase(a, rng)} and {two} is {object_phrase(b, rng)}."
    first = ((f"What is {one}?", f"{one} is {object_phrase(a, rng)}."), (f"What are {one} and {two}?", both))
    colours = f"No, {one} is {a.colour} and {two} is {b.colour}."
    kinds = f"No, {one} is {article(a.kind)} and {two} is {article(b.kind)}."
    if a.colour == b.colour:
        colours = f"Yes, both are {a.colour}."
    if a.kind == b.kind:
        kinds = f"Yes, each is {article(a.kind)}."
    turns = [pick(rng, first)]
    more = [
        (f"Are {one} and {two} of the same colour?", colours),
        (f"Are {one} and {two} of the same kind?", kinds),
        ("Where are they?", f"They are {PLACES[scene.background]}."),
    ]
    if a.parts:
        more.append((f"Which parts of {one} can be seen?", f"Its {part_list(scene, a)}."))
    if a.size != b.size:
        larger = one if SIZES.index(a.size) > SIZES.index(b.size) else two
        more.append((f"Which is larger, {one} or {two}?", f"{larger} is larger."))
    relations, back = relations_between(scene, a, b), relations_between(scene, b, a)
    if relations:
        said = pick(rng, relations)
        more.append((f"Where is {one} with respect to {two}?", f"{one} is {said} {two}."))
        asked, wrong = pick(rng, relations), pick(rng, back)
        more.append(pick(rng, (
            (f"Is {one} {asked} {two}?", f"Yes, {one} is {asked} {two}."),
            (f"Is {one} {wrong} {two}?", f"No, {one} is {relations[back.index(wrong)]} {two}."),
        )))  # fmt: skip
    if len(regions) == 3:
        more.append(("What is <region3>?", f"<region3> is {object_phrase(regions[2].obj, rng)}."))
    turns += shuffled(rng, more)[: int(rng.integers(1, 4))]
    return record(scene, "osprey_conversation", regions, turns, inline=False)


def detailed(scene: Scene, rng: np.random.Generator, limit: int = 3) -> Record:
    """A description of one to three sentences of each region."""
    regions = pick_regions(scene, rng, limit, parts=0.25)
    turns = ask_each(rng, DETAILED_QUESTIONS, [details(scene, region, rng) for region in regions])
    return record(scene, "osprey_detail_description", regions, turns, inline=False)


def part_level(scene: Scene, rng: np.random.Generator, limit: int = 4) -> Record:
    """Parts only: their category as `bicycle:wheel`, and their colour."""
    regions, turns = pick_regions(scene, rng, limit, parts=1), []
    for i, (obj, part) in enumerate(regions, 1):
        category = (
            ("What is the category of {}?", "Which part is {}?", "What is {}?"),
            f"{obj.kind}:{part.name}",
        )
        colour = COLOUR_QUESTIONS, part_colour(obj, part)
        questions, answer = pick(rng, {category: 2, colour: 1})
        turns.append((f"{pick(rng, questions).format(f'<region{i}>')} {ONE_WORD}", answer))
    return record(scene, "osprey_part_level", regions, turns, inline=False)


def _claims(scene: Scene, region: Region, rng: np.random.Generator) -> tuple[str, str]:
    """What is true of the region and what is not, said in the same form. Each fills `Is <region1> …?`.

    What is not true is never a held-out pair: `red balloon` is not said in training, not even for a No.
    """
    obj, part = region
    kinds = [kind for kind in KINDS if kind != obj.kind and (kind, obj.colour) not in HELD_OUT]
    here = [other.kind for other in scene.objects if other.kind in kinds]
    kind = pick(rng, here if here and rng.random() < 0.5 else kinds)
    colour = pick(rng, [word for word in COLOURS if word != obj.colour and (obj.kind, word) not in HELD_OUT])
    if part is not None:
        piece = pick(rng, [word for word in KINDS[obj.kind] if word != part.name])
        return pick(rng, (
            (f"the {part.name} of {article(obj.kind)}", f"the {piece} of {article(obj.kind)}"),
            (f"a part of {article(obj.kind)}", f"a part of {article(kind)}"),
        ))  # fmt: skip
    pattern = pick(rng, [word for word in PATTERNS if word != obj.pattern])
    return pick(rng, (
        (article(obj.kind), article(kind)),
        (f"{article(obj.colour)} {obj.kind}", f"{article(colour)} {obj.kind}"),
        (f"{article(obj.colour)} {obj.kind}", f"{article(obj.colour)} {kind}"),
        (obj.colour, colour),
        (obj.pattern, pattern),
    ))  # fmt: skip


def positive_negative(scene: Scene, rng: np.random.Generator, limit: int = 2) -> Record:
    """Of each region something that is true of it and something that is not: as many Yes as No."""
    regions, turns = pick_regions(scene, rng, limit, parts=0.3), []
    for i, region in enumerate(regions, 1):
        claims = zip(_claims(scene, region, rng), ("Yes", "No"), strict=True)
        turns += [(f"Is <region{i}> {claim}? {YES_NO}", answer) for claim, answer in shuffled(rng, claims)]
    return record(scene, "osprey_lvis_positive_negative", regions, turns, inline=True)
