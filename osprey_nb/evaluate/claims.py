"""What an answer claims, and whether each claim is true of the scene. Nothing but text and scene graph: no model.

    question ──WORDINGS──▶ topic ──READERS──▶ [Claim("detailed: kind", True), Claim("detailed: relation", False), …]
    answer, scene, regions ─────────┘

A topic has claims that its answers must make: what can't be read counts as false, never as left out. What is said beyond them
is read, too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from ..data.dialogues import PLACES
from ..data.kinds import COLOURS, KINDS, PATTERNS, SIZES
from ..data.phrases import BESIDE, FIELDS, PARTS, Region, directions, part_colour, part_list, place, singular
from ..data.scenes import Scene, SceneObject
from ..prompt import plain_regions
from .wordings import matched

FIELD = f"({'|'.join(word for row in FIELDS for word in row)})"
BESIDE_IT = f"(An? .+?) is ({'|'.join(BESIDE.values())})"
VOCABULARY = {"kind": set(KINDS), "colour": set(COLOURS), "pattern": set(PATTERNS), "size": set(SIZES), "part": set(PARTS)}


@dataclass(frozen=True)
class Claim:
    """`name` is its topic and what it is about: `detailed: place`, `short part: kind`, `same colour`."""

    name: str
    right: bool


class Context(NamedTuple):
    """What a question is about: `regions` are those that it names, `numbers` their numbers, `words` what else it says."""

    scene: Scene
    regions: list[Region]
    numbers: list[int]
    words: dict[str, str]


def read(question: str, answer: str, scene: Scene, regions: list[Region]) -> list[Claim]:
    """Every claim of an answer: one at least. `regions` are those of the prompt, `<region1>` first.

    `scene` is where other objects and the background are looked up. Raises ValueError for a question that training doesn't ask.
    """
    topic, words = matched(question)
    numbers = [int(number) for number in re.findall(r"region(\d+)", plain_regions(question))]
    asked = Context(scene, [regions[number - 1] for number in numbers], numbers, words)
    return READERS[topic](plain_regions(answer).strip(), asked)


def says_yes(answer: str) -> bool | None:
    """Does it begin with Yes, with No, or with neither (None)?"""
    found = re.match(r"(yes|no)\b", answer.strip().lower())
    return None if found is None else found[1] == "yes"


# ---------------------------------------------------------------- one region


def _short(said: str, asked: Context) -> list[Claim]:
    return _phrase("short", said, asked.regions[0])


def _phrase(topic: str, said: str, region: Region) -> list[Claim]:
    """`a striped red bicycle`, `the wheel of a striped red bicycle`. No word for the pattern claims that there is none."""
    (obj, part), words = region, _named(said)
    topic += " part" if part else ""
    patterns = ([], ["plain"]) if obj.pattern == "plain" else ([obj.pattern],)
    right = {
        "kind": words["kind"] == [obj.kind] and bool(words["part"]) == bool(part),
        "colour": words["colour"] == [obj.colour],
        "pattern": bool(words["kind"]) and words["pattern"] in patterns,
    }
    if part:
        right["part"] = words["part"] == [part.name]
    if words["size"]:
        right["size"] = words["size"] == [obj.size]
    return [Claim(f"{topic}: {name}", value) for name, value in right.items()]


def _what(said: str, asked: Context) -> list[Claim]:
    """`What is <region1>?` is answered by a phrase, by a category, and in conversations by a sentence."""
    if "region" in said:
        return _named_regions(said, asked)
    return _short(said, asked) if " " in said else _kind(said, asked)


def _kind(said: str, asked: Context) -> list[Claim]:
    """`bicycle`; of a part `bicycle:wheel`."""
    obj, part = asked.regions[0]
    if part is None:
        return [Claim("asked: kind", _bare(said) == obj.kind)]
    kind, _, piece = _bare(said).partition(":")
    return [Claim("asked part: kind", kind == obj.kind), Claim("asked part: part", piece == part.name)]


def _word(about: str, true):
    """A reader of answers that are one word or phrase; `true(obj, part)` is that word."""

    def reader(said: str, asked: Context) -> list[Claim]:
        obj, part = asked.regions[0]
        return [Claim(f"asked{' part' if part else ''}: {about}", _bare(said) == true(obj, part))]

    return reader


def _yes_or_no(said: str, asked: Context) -> list[Claim]:
    return [Claim("yes or no", says_yes(said) == _true_of(asked.words["claim"], asked.regions[0]))]


def _true_of(claim: str, region: Region) -> bool:
    """Is `a red bicycle`, `striped`, `the wheel of a bicycle`, `a part of a bicycle` true of a region?"""
    (obj, part), words = region, _named(claim)
    if found := re.fullmatch(r"(?:the (\w+)|a part) of an? (\w+)", claim):
        return part is not None and found[1] in (None, part.name) and found[2] == obj.kind
    said = {about: named for about, named in words.items() if named}
    return part is None and bool(said) and all(named == [getattr(obj, about, None)] for about, named in said.items())


def _detailed(said: str, asked: Context) -> list[Claim]:
    region = asked.regions[0]
    sentences = [sentence for sentence in re.split(r"\.\s*", said) if sentence]
    return (_of_part if region.part else _of_object)(sentences, region, asked.scene)


def _of_object(sentences: list[str], region: Region, scene: Scene) -> list[Claim]:
    """What and where it is, its parts, where another object is; the first is a must."""
    obj, claims = region.obj, []
    must = dict.fromkeys(("kind", "colour", "pattern", "size", "place"), False)
    for i, sentence in enumerate(sentences):
        if i == 0 and (found := re.fullmatch(f"This is (.+) {FIELD} of the picture", sentence)):
            must |= {claim.name.removeprefix("detailed: "): claim.right for claim in _phrase("detailed", found[1], region)}
            must["place"] = found[2] == place(obj.mask)
        elif found := re.fullmatch("You can see its (.+)", sentence):
            claims += [Claim("detailed: parts", right) for right in _parts_seen(found[1], obj)]
        elif found := re.fullmatch(BESIDE_IT, sentence):
            claims.append(Claim("detailed: relation", _is_beside(*found.groups(), obj, scene)))
        else:
            claims.append(Claim("detailed: readable", False))
    return [*(Claim(f"detailed: {name}", right) for name, right in must.items()), *claims]


def _of_part(sentences: list[str], region: Region, scene: Scene) -> list[Claim]:
    """Which part of what, its colour, its place: all are a must."""
    obj, part = region
    must = dict.fromkeys(("kind", "colour", "pattern", "part", "own colour", "place"), False)
    patterns = ("This is (.+)", r"The (\w+) is (.+)", f"It is {FIELD} of the picture")
    found = [re.fullmatch(*pair) for pair in zip(patterns, sentences, strict=False)]
    if len(found) > 0 and found[0]:
        must |= {claim.name.removeprefix("detailed part: "): claim.right for claim in _phrase("detailed", found[0][1], region)}
    if len(found) > 1 and found[1]:
        must["own colour"] = found[1].groups() == (part.name, part_colour(obj, part))
    if len(found) > 2 and found[2]:
        must["place"] = found[2][1] == place(part.mask)
    beyond = [Claim("detailed part: readable", False)] * (len(sentences) - 3)
    return [*(Claim(f"detailed part: {name}", right) for name, right in must.items()), *beyond]


def _is_beside(phrase: str, said: str, obj: SceneObject, scene: Scene) -> bool:
    """Is an object there that the phrase fits, and is it `to the left` of `obj`? `obj` itself is nowhere beside it."""
    fitting = [other for other in scene.objects if _fits(phrase, other)]
    return any(BESIDE[direction] == said for other in fitting for direction in directions(other, obj))


def _fits(phrase: str, obj: SceneObject) -> bool:
    """Does `a red bicycle` name this object? Its pattern may be said, too."""
    words = _named(phrase)
    if (words["kind"], words["colour"], words["part"]) != ([obj.kind], [obj.colour], []):
        return False
    return words["pattern"] in ([], [obj.pattern]) and words["size"] in ([], [obj.size])


def _parts_seen(said: str, obj: SceneObject) -> list[bool]:
    """Of each part that is named: is it seen, not named twice, and in the plural only where all its pieces show?"""
    words = _items(said)
    seen = {part.name for part in obj.parts} | set(_items(part_list(obj.scene, obj)))
    once = [singular(word) for word in words]
    return [word in seen and singular(word) not in once[:i] for i, word in enumerate(words)]


# ---------------------------------------------------------------- two to four regions


def _named_regions(said: str, asked: Context) -> list[Claim]:
    """`region1 is a red car and region2 is a blue cat.`: each region that was asked about, once."""
    found = re.findall(r"region(\d+) is (.+?)(?=, region| and region|$)", said)
    phrases = {int(number): phrase for number, phrase in found} if len(found) == len(asked.numbers) else {}
    pairs = zip(asked.numbers, asked.regions, strict=True)
    return [claim for number, region in pairs for claim in _phrase("named", phrases.get(number, ""), region)]


def _parts(said: str, asked: Context) -> list[Claim]:
    found = re.fullmatch(r"You can see its (.+?)\.?", said)
    return [Claim("parts", right) for right in (_parts_seen(found[1], asked.regions[0].obj) if found else [False])]


def _larger(said: str, asked: Context) -> list[Claim]:
    found = re.fullmatch(r"region(\d+) is larger\.?", said)
    sizes = [SIZES.index(region.obj.size) for region in asked.regions]
    return [Claim("larger", found is not None and int(found[1]) == asked.numbers[sizes.index(max(sizes))])]


def _relation(said: str, asked: Context) -> list[Claim]:
    """`region1 is above and to the left of region2.`"""
    one, other = asked.numbers
    true = [f"region{one} is {direction} region{other}" for direction in _directions(asked)]
    return [Claim("relation", said.removesuffix(".") in true)]


def _directions(asked: Context) -> list[str]:
    return directions(*(region.obj for region in asked.regions))


def _is_relation(said: str, asked: Context) -> list[Claim]:
    """`region1 is above region2, so no.`: what is true, and the yes or no."""
    told, _, yes = said.rpartition(", so ")
    right = says_yes(yes) == (asked.words["direction"] in _directions(asked))
    return [Claim("relation: yes or no", right), Claim("relation: told", _relation(told, asked)[0].right)]


def _beside(said: str, asked: Context) -> list[Claim]:
    found = re.fullmatch(rf"{BESIDE_IT}\.?", said)
    return [Claim("beside", found is not None and _is_beside(*found.groups(), asked.regions[0].obj, asked.scene))]


def _same(said: str, asked: Context) -> list[Claim]:
    """`region1 is a cat and region2 is a dog, so no.`: what they are, and the yes or no."""
    about = asked.words["attribute"]
    one, other = (getattr(region.obj, about) for region in asked.regions)
    told, _, yes = said.rpartition(", so ")
    named = re.findall(r"region(\d+) is (?:an? )?(\w+)", told)
    true = [(str(number), word) for number, word in zip(asked.numbers, (one, other), strict=True)]
    return [Claim(f"same {about}", says_yes(yes) == (one == other)), Claim(f"same {about}: told", named == true)]


# ---------------------------------------------------------------- the whole picture


def _existence(said: str, asked: Context) -> list[Claim]:
    there = any(obj.kind in _named(asked.words["kind"])["kind"] for obj in asked.scene.objects)
    return [Claim("existence", says_yes(said) == there)]


def _of_the_only(asks: str, about: str):
    """A reader of `What colour is the cat?`, asked of what there is one of; `about` is what the question tells of it."""

    def reader(said: str, asked: Context) -> list[Claim]:
        meant = [obj for obj in asked.scene.objects if getattr(obj, about) == asked.words["only"]]
        return [Claim(f"{asks} of the only", _bare(said) in [getattr(obj, asks) for obj in meant])]

    return reader


def _background(said: str, asked: Context) -> list[Claim]:
    return [Claim("background", said.lower().removesuffix(".") == PLACES[asked.scene.background])]


def _caption(said: str, asked: Context) -> list[Claim]:
    """`In a meadow: a red cat and boat, a blue fish.` Of each object that is named: is it there, and named for the first time?
    Of each that is there: is it named?"""
    where, _, list_of = said.lower().removesuffix(".").rpartition(": ")
    left, claims = list(asked.scene.objects), []
    for group in list_of.split(", "):
        first, *more = group.split(" and ")
        colour = next(iter(_named(first)["colour"]), "")
        for item in [first, *(f"{colour} {kind}" for kind in more)]:
            fitting = next((obj for obj in left if _fits(item, obj)), None)
            claims.append(Claim("caption: named", fitting is not None))
            left = [obj for obj in left if obj is not fitting]
    claims += [Claim("caption: found", obj not in left) for obj in asked.scene.objects]
    return [*claims, Claim("caption: background", where == PLACES[asked.scene.background])]


# ---------------------------------------------------------------- words


def _named(text: str) -> dict[str, list[str]]:
    """The kinds, colours, patterns, sizes and parts that a text names, in its order."""
    words = [singular(word) for word in re.findall(r"[a-z]+", text.lower())]
    return {about: [word for word in words if word in known] for about, known in VOCABULARY.items()}


def _items(text: str) -> list[str]:
    """`a roof, a door and a window` → its three."""
    return re.split(r", | and ", text)


def _bare(text: str) -> str:
    """A word or phrase without capitals, article and full stop."""
    return re.sub(r"^(an?|the) ", "", text.strip().removesuffix(".").lower())


READERS = {
    "caption": _caption, "background": _background, "existence": _existence,
    "colour of the only": _of_the_only("colour", "kind"), "kind of the only": _of_the_only("kind", "colour"),
    "detailed": _detailed, "short": _short, "what": _what, "kind": _kind,
    "colour": _word("colour", lambda obj, part: part_colour(obj, part) if part else obj.colour),
    "pattern": _word("pattern", lambda obj, part: obj.pattern),
    "size": _word("size", lambda obj, part: obj.size),
    "place": _word("place", lambda obj, part: place(obj.mask)),
    "part": _word("part", lambda obj, part: part.name),
    "owner": _word("owner", lambda obj, part: obj.kind),
    "owner's colour": _word("owner's colour", lambda obj, part: obj.colour),
    "named": _named_regions, "parts": _parts, "larger": _larger, "relation": _relation, "relation?": _is_relation,
    "beside": _beside, "same": _same, "yes or no": _yes_or_no,
}  # fmt: skip
