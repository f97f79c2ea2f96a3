"""The five kinds of Osprey-724K records, made from a scene (docs/osprey.md, section 4).

short_form          a word or phrase answers             osprey_short_form
conversation        turns about several regions          osprey_conversation
detailed            one to three sentences a region      osprey_detail_description
part_level          `bicycle:wheel`, and part colours    osprey_part_level
positive_negative   as many Yes as No, asked in place    osprey_lvis_positive_negative
"""

from __future__ import annotations

import itertools

import numpy as np

from osprey_nb.data.kinds import COLOURS, HELD_OUT, KINDS, PATTERNS, SIZES
from osprey_nb.data.phrases import (
    BESIDE,
    STRAIGHT,
    Region,
    article,
    capital,
    directions,
    listed,
    object_phrase,
    others_in_order,
    part_colour,
    part_list,
    part_phrase,
    pick,
    pick_regions,
    place,
    shuffled,
)
from osprey_nb.data.record import Record
from osprey_nb.data.scenes import Part, Scene, SceneObject

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
    "kind": ("Name {}.", "{}?", "Which object is {}?", "What kind of object is {}?"),
    "colour": ("What colour is {}?", "What color is {}?", "What colour does {} have?", "The colour of {}?"),
    "pattern": ("What is the pattern of {}?", "What pattern does {} have?", "Is {} plain, striped, dotted or checked?"),
    "size": ("How large is {}?", "What size is {}?", "Is {} small, medium or large?"),
    "place": ("Where is {}?", "Where in the picture is {}?"),
    "claim": ("Is {} {claim}?", "Would you say that {} is {claim}?"),
}
OBJECT_QUESTIONS = {  # each with ONE_WORD behind it
    "kind": ("What is the category of {}?", "What kind of object is {}?", "What is {}?"),
    "colour": COLOUR_QUESTIONS,
    "pattern": ("What is the pattern of {}?", "Is {} plain, striped, dotted or checked?"),
    "size": ("What is the size of {}?", "Is {} small, medium or large?"),
    "place": ("Where is {} in the picture?",),
}
PART_QUESTIONS = {  # the same about parts
    "category": ("What is the category of {}?", "What is {}?"),
    "part": ("Which part of the {kind} is {}?",),
    "owner": ("Which object does {} belong to?", "{} is a part of which object?"),
    "owner's colour": ("What colour is the object that {} belongs to?",),
}
BESIDE_QUESTIONS = {"What is beside {}?": 2, "What is next to {}?": 1}
PIECE_QUESTIONS = ("What is the category of {}?", "Which part is {}?", "What is {}?")
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
    """Three sentences about a region: what and where it is, its parts, and what is beside it."""
    obj, part = region
    if part is not None:
        where = f"It is {place(part.mask)} of the picture."
        return f"This is {part_phrase(obj, part, rng)}. The {part.name} is {part_colour(obj, part)}. {where}"
    words = [obj.size, *([] if obj.pattern == "plain" else [obj.pattern]), obj.colour, obj.kind]
    sentences = [f"This is {article(' '.join(words))} {place(obj.mask)} of the picture."]
    if obj.parts:
        sentences.append(f"You can see its {part_list(scene, obj)}.")
    return " ".join([*sentences, *beside(obj)])


def beside(obj: SceneObject) -> list[str]:
    """`A red cat is to its left.`: where the first of the other objects is; [] where all are too near to tell.

    The object is named before the direction, so that who reads the one can look up the other.
    """
    for other in others_in_order(obj):
        if found := directions(other, obj):
            return [f"{capital(object_phrase(other))} is {BESIDE[found[0]]}."]
    return []


def surroundings(scene: Scene, rng: np.random.Generator, limit: int = 4) -> Record:
    """What is beside an object? Asked in place, or of regions in a list."""
    found = [(Region(obj), sentence) for obj in shuffled(rng, scene.objects) for sentence in beside(obj)][:limit]
    turns = ask_each(rng, BESIDE_QUESTIONS, [sentence for _, sentence in found])
    return record(scene, "osprey_conversation", [region for region, _ in found], turns, inline=bool(rng.integers(2)))


def ask_each(rng: np.random.Generator, questions: dict[str, int], answers: list[str]) -> list[tuple[str, str]]:
    """One turn a region: a question, with the region's name in its place, and the region's answer."""
    return [(pick(rng, questions).format(f"<region{i}>"), answer) for i, answer in enumerate(answers, 1)]


def facts(obj: SceneObject) -> dict[str, str]:
    """What one word or phrase says about an object."""
    return {"kind": obj.kind, "colour": obj.colour, "pattern": obj.pattern, "size": obj.size, "place": place(obj.mask)}


def part_facts(obj: SceneObject, part: Part) -> dict[str, str]:
    """What one word or phrase says about a part; its own colour is not among them (`part_level` asks for that)."""
    return {"category": f"{obj.kind}:{part.name}", "part": part.name, "owner": obj.kind, "owner's colour": obj.colour}


def short_form(scene: Scene, rng: np.random.Generator, limit: int = 4) -> Record:
    """Questions that one word answers: category, colour, pattern, size, place, owner of a part."""
    regions, turns = pick_regions(scene, rng, limit, parts=0.3), []
    for i, (obj, part) in enumerate(regions, 1):
        if part is None:
            answers, asked = facts(obj), OBJECT_QUESTIONS
        else:
            answers, asked = part_facts(obj, part), PART_QUESTIONS
        about = pick(rng, [*asked])
        question = pick(rng, asked[about]).format(f"<region{i}>", kind=obj.kind)
        turns.append((f"{question} {ONE_WORD}", answers[about]))
    return record(scene, "osprey_short_form", regions, shuffled(rng, turns), inline=False)


def asking(scene: Scene, rng: np.random.Generator, limit: int = 4, each: int = 3) -> Record:
    """Short questions in free words about one to four objects, `each` of them, all different, about every one."""
    objects = shuffled(rng, scene.objects)
    regions = [Region(obj) for obj in objects[: int(rng.integers(1, limit + 1))]]
    turns = []
    for i, region in enumerate(regions, 1):
        obj = region.obj
        claim, said = pick(rng, list(zip(_claims(scene, region, rng), ("Yes", "No"), strict=True)))
        answers = facts(obj) | {"claim": said}
        for about in shuffled(rng, FREE_QUESTIONS)[:each]:
            turns.append((pick(rng, FREE_QUESTIONS[about]).format(f"<region{i}>", claim=claim), answers[about]))
    return record(scene, "osprey_short_form", regions, shuffled(rng, turns), inline=False)


def conversation(scene: Scene, rng: np.random.Generator, turns: int = 8) -> Record:
    """Up to so many turns about two to four objects: what and where they are, how two compare. None where one stands alone."""
    if len(scene.objects) < 2:
        return record(scene, "osprey_conversation", [], [], inline=False)
    regions, named = _numbered(scene, rng)
    pairs = [(one, other) for one in named for other in named if one != other]
    talk = []
    for one, other in shuffled(rng, pairs)[: turns // 4]:
        talk.append((f"What is {one}?", f"{one} is {object_phrase(named[one], rng)}."))
        talk.append((f"Which parts of {one} can be seen?", f"You can see its {part_list(scene, named[one])}."))
        talk += _larger(named, one, other)
    talk += [turn for pair in shuffled(rng, pairs)[: turns // 2] for turn in _where(named, *pair, rng)]
    talk.append(listing(named, rng))
    talk += [turn for about in ("colour", "kind") for turn in _same(named, pairs, about, rng)]
    return record(scene, "osprey_conversation", regions, shuffled(rng, dict.fromkeys(talk))[:turns], inline=False)


def _numbered(scene: Scene, rng: np.random.Generator) -> tuple[list[Region], dict[str, SceneObject]]:
    """Two to four objects in random order, as regions and by their names: `{"<region1>": object, …}`."""
    regions = [Region(obj) for obj in shuffled(rng, scene.objects)[: int(rng.integers(2, 5))]]
    return regions, {f"<region{i}>": region.obj for i, region in enumerate(regions, 1)}


def comparisons(scene: Scene, rng: np.random.Generator) -> Record:
    """How do two to four objects compare? Directions, sizes, colours and kinds. None where one stands alone."""
    regions, named = _numbered(scene, rng)
    pairs = shuffled(rng, [(one, other) for one in named for other in named if one != other])
    turns = [turn for pair in pairs for turn in (*_where(named, *pair, rng), *_larger(named, *pair))]
    turns += [turn for about in ("colour", "kind") * 2 for turn in _same(named, pairs, about, rng)] if pairs else []
    return record(scene, "osprey_conversation", regions, shuffled(rng, dict.fromkeys(turns)), inline=False)


def _where(named: dict, one: str, other: str, rng: np.random.Generator) -> list[tuple[str, str]]:
    """Where is one with respect to the other, or is it there? No turn where they are too near to tell."""
    if not (true := directions(named[one], named[other])):
        return []
    said = true[0]
    asked = said if rng.random() < 0.5 else pick(rng, [word for word in STRAIGHT if not any(word in each for each in true)])
    answer = f"{one} is {said} {other}, so {'yes' if asked == said else 'no'}."
    return [pick(rng, (
        (f"Where is {one} with respect to {other}?", f"{one} is {said} {other}."),
        (f"Is {one} {asked} {other}?", answer),
    ))]  # fmt: skip


def _larger(named: dict, one: str, other: str) -> list[tuple[str, str]]:
    """Which is larger? No turn where their sizes have one name."""
    sizes = [SIZES.index(named[name].size) for name in (one, other)]
    if sizes[0] == sizes[1]:
        return []
    return [(f"Which is larger, {one} or {other}?", f"{one if sizes[0] > sizes[1] else other} is larger.")]


def listing(named: dict, rng: np.random.Generator) -> tuple[str, str]:
    """What are they? All of them by their numbers, in any order."""
    order = shuffled(rng, named)
    return f"What are {listed(order)}?", f"{listed([f'{one} is {object_phrase(named[one], rng)}' for one in order])}."


def numbers(scene: Scene, rng: np.random.Generator) -> Record:
    """What are two to four objects, by their numbers? None where one stands alone."""
    regions, named = _numbered(scene, rng)
    turns = [listing(named, rng)] if len(named) > 1 else []
    return record(scene, "osprey_conversation", regions, turns, inline=False)


def _same(named: dict, pairs: list[tuple[str, str]], about: str, rng: np.random.Generator) -> list[tuple[str, str]]:
    """Are two of the same colour, or kind? As often Yes as No: where no two are the same it is hardly ever asked."""
    same = [(a, b) for a, b in pairs if getattr(named[a], about) == getattr(named[b], about)]
    ask_same = bool(same) and rng.random() < 0.8
    if not ask_same and rng.random() > {"colour": 0.25, "kind": 0.13}[about]:
        return []
    one, other = pick(rng, same if ask_same else [pair for pair in pairs if pair not in same] or pairs)
    return [_judged(named, one, other, about)]


def _judged(named: dict, one: str, other: str, about: str) -> tuple[str, str]:
    """Are two of the same colour, or kind? What they are is told before it is judged."""
    first, second = (getattr(named[x], about) for x in (one, other))
    if about == "kind":
        first, second = article(first), article(second)
    answer = f"{one} is {first} and {other} is {second}, so {'yes' if first == second else 'no'}."
    return f"Are {one} and {other} of the same {about}?", answer


def alike(scene: Scene, rng: np.random.Generator) -> Record:
    """Are two objects of the same colour, or kind? One question, as often Yes as No; no turn where no two are the same.

    One only: an earlier answer would name the same colours, and hide which of them are to be compared.
    """
    regions, named = _numbered(scene, rng)
    turns = {}
    for about in ("kind", "colour"):
        pairs = shuffled(rng, itertools.combinations(shuffled(rng, named), 2))
        same, other = ([pair for pair in pairs if _judged(named, *pair, about)[1].endswith(end)] for end in ("yes.", "no."))
        turns[about] = [_judged(named, *pair, about) for both in zip(same, other, strict=False) for pair in both]
    asked = turns["kind"] or turns["colour"]  # two of one kind are rarer
    return record(scene, "osprey_conversation", regions, [pick(rng, asked)] if asked else [], inline=False)


def detailed(scene: Scene, rng: np.random.Generator, limit: int = 3) -> Record:
    """A description of one to three sentences of each region."""
    regions = pick_regions(scene, rng, limit, parts=0.25)
    turns = ask_each(rng, DETAILED_QUESTIONS, [details(scene, region, rng) for region in regions])
    return record(scene, "osprey_detail_description", regions, turns, inline=False)


def part_level(scene: Scene, rng: np.random.Generator, limit: int = 4) -> Record:
    """Parts only: their category as `bicycle:wheel`, and their colour."""
    regions, turns = pick_regions(scene, rng, limit, parts=1), []
    for i, (obj, part) in enumerate(regions, 1):
        category = PIECE_QUESTIONS, f"{obj.kind}:{part.name}"
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


def positive_negative(scene: Scene, rng: np.random.Generator, limit: int = 2, each: int = 1) -> Record:
    """Of each region `each` things that are true of it and as many that are not: as many Yes as No."""
    regions, turns = pick_regions(scene, rng, limit, parts=0.3), []
    for i, region in [*enumerate(regions, 1)] * each:
        claims = zip(_claims(scene, region, rng), ("Yes", "No"), strict=True)
        turns += [(f"Is <region{i}> {claim}? {YES_NO}", answer) for claim, answer in shuffled(rng, claims)]
    return record(scene, "osprey_lvis_positive_negative", regions, turns, inline=True)
