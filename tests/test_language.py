"""What is said of a scene: phrases and back, records, and that all of it is true."""

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from osprey_nb.data import dialogues, language, phrases
from osprey_nb.data.dialogues import alike, comparisons, details, surroundings
from osprey_nb.data.kinds import COLOURS, HELD_OUT, KINDS, PATTERNS, SIZES
from osprey_nb.data.language import MAKERS, ONE_WORD, PARTS, Region, object_phrase, parse_phrase, part_phrase, records
from osprey_nb.data.phrases import BESIDE, SEVERAL, article, directions, part_colour, part_list, place
from osprey_nb.data.scenes import ObjectSpec, SceneGraph, SceneObject, make_scene, render
from osprey_nb.evaluate.wordings import topic_of

SEEDS = range(60)


@pytest.fixture(scope="module")
def told():
    """(scene, record) for every record of sixty scenes, train and held-out compositions."""
    out = []
    for seed in SEEDS:
        scene = make_scene(seed, 128, "eval", "all" if seed % 2 else "train")
        out += [(scene, record) for record in records(scene, np.random.default_rng(seed))]
    return out


def regions_of(scene, record) -> list[Region]:
    """The region behind each mask: found by comparing pixels, not by trusting the text."""
    known = [Region(obj) for obj in scene.objects] + [Region(obj, part) for obj in scene.objects for part in obj.parts]
    return [next(r for r in known if (r.mask == mask).all()) for mask in record.masks]


def asked(scene, record):
    """(question, answer, region asked about) for records that ask about one region a turn, in any order."""
    regions = regions_of(scene, record)
    return [(question, answer, regions[numbered(question)[0]]) for question, answer in record.turns]


def numbered(text) -> list[int]:
    return [int(n) - 1 for n in re.findall(r"<region(\d+)>", text)]


def make_object(kind, colour, pattern="plain", size="small", x=512, y=512) -> SceneObject:
    return SceneObject(0, ObjectSpec(kind, colour, pattern, size, x, y, 300, 100, 0, False, (0, 0, 0)), None)


def test_canonical_phrases():
    bicycle = make_object("bicycle", "red", "striped")
    assert object_phrase(bicycle) == "a red bicycle"
    assert object_phrase(make_object("umbrella", "orange")) == "an orange umbrella"
    assert part_phrase(bicycle, "wheel") == "the wheel of a red bicycle"


@pytest.mark.parametrize(
    ("kind", "part", "expected"),
    [
        ("car", "wheel", "black"), ("car", "body", "purple"), ("tree", "trunk", "brown"), ("flower", "leaf", "green"),
        ("house", "roof", "purple"), ("clock", "dial", "cream"), ("house", "window", "light blue"),
        ("flower", "core", "golden"),
    ],
)  # fmt: skip
def test_part_colours_are_the_ones_that_are_drawn(kind, part, expected):
    scene = render(SceneGraph("room", 0, (replace(make_object(kind, "purple").spec, extent=900),)), 256)
    obj = scene.objects[0]
    (found,) = [p for p in obj.parts if p.name == part]
    assert part_colour(obj, found) == expected
    named = {"black": (44, 44, 52), "purple": (120, 50, 155), "brown": (156, 116, 78), "green": (96, 150, 60),
             "cream": (244, 232, 204), "light blue": (176, 218, 234), "golden": (240, 190, 60)}  # fmt: skip
    pixel = np.median(scene.image[found.mask].astype(float), axis=0)
    assert min(named, key=lambda word: np.abs(pixel - named[word]).sum()) == expected


def test_places_are_true_of_the_pixels():
    for seed in SEEDS:
        scene = make_scene(seed)
        for obj in scene.objects:
            rows, columns = (np.ptp(index) / 2 + index.min() for index in np.nonzero(obj.mask))
            said = place(obj.mask)
            for word, centre in (("left", 128 - columns), ("right", columns), ("top", 128 - rows), ("bottom", rows)):
                assert (centre > 64) if word in said else (centre < 90), (seed, obj.kind, said)


def test_words_mean_one_thing():
    vocabularies = [set(KINDS), set(COLOURS), set(PARTS), set(PATTERNS), set(SIZES)]
    assert len(set.union(*vocabularies)) == sum(map(len, vocabularies))
    assert all(set(parts) <= set(KINDS[kind]) for kind, parts in SEVERAL.items())


def test_parse_phrase_inverts_every_phrase():
    for kind, parts in KINDS.items():
        for colour in COLOURS:
            for pattern in PATTERNS:
                obj, rng = make_object(kind, colour, pattern), np.random.default_rng(1)
                said = None if pattern == "plain" else pattern
                for _ in range(4):
                    expected = {"kind": kind, "colour": colour, "part": None, "pattern": said}
                    assert parse_phrase(object_phrase(obj, rng)) == expected
                for part in parts:
                    for text in (part_phrase(obj, part), part_phrase(obj, part, rng)):
                        parsed = parse_phrase(text)
                        assert (parsed["kind"], parsed["colour"], parsed["part"]) == (kind, colour, part), text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (None, None, None)),
        ("A RED   Bicycle!!", ("bicycle", "red", None)),
        ("bicycle:wheel", ("bicycle", None, "wheel")),
        ("its wheels and leaves", (None, None, "wheel")),
        ("carpet, redder, 3.5 <mask><pos> \n\t ☃ ''", (None, None, None)),
        (None, (None, None, None)),
        ("red red blue car", ("car", "red", None)),
    ],
)
def test_parse_phrase_is_robust(text, expected):
    parsed = parse_phrase(text)
    assert (parsed["kind"], parsed["colour"], parsed["part"]) == expected


def test_every_kind_of_record_is_made_and_repeats(told):
    sources = {record.source for _, record in told}
    assert sources == {
        "describe_short", "describe_detailed", "llava_captions", "instances", "existence", "finding", "osprey_short_form",
        "osprey_conversation", "osprey_detail_description", "osprey_part_level", "osprey_lvis_positive_negative",
    }  # fmt: skip
    scene = make_scene(3)
    first, second = (records(scene, np.random.default_rng(9)) for _ in range(2))
    assert [r.turns for r in first] == [r.turns for r in second]
    assert [r.turns for r in first] != [r.turns for r in records(scene, np.random.default_rng(10))]


@pytest.mark.parametrize("seed", [13746, 17716])  # the two of the first 24 000 scenes that hold one object
def test_of_one_object_all_is_told_but_how_it_compares(seed):
    scene = make_scene(seed, 128)
    assert len(scene.objects) == 1
    for n in range(30):
        sources = {made.source for made in records(scene, np.random.default_rng(n))}
        assert len(sources) == len(MAKERS) - 1 and "osprey_conversation" not in sources


def test_records_have_regions_for_their_names_and_names_for_their_regions(told):
    for scene, record in told:
        named = {n for question, answer in record.turns for n in numbered(question + answer)}
        count = len(record.regions)
        assert named <= set(range(count)), record.turns
        if record.source != "osprey_conversation":  # there the third region may stay unmentioned
            assert named == set(range(count)), record.turns
        if count:
            assert record.masks.dtype == bool and record.masks.shape[1:] == scene.labels.shape
            assert record.masks.any((1, 2)).all()
        assert all(question and answer for question, answer in record.turns)


def test_short_descriptions_are_true(told):
    questions = Counter()
    for scene, record in told:
        if record.source != "describe_short":
            continue
        for question, answer, region in asked(scene, record):
            questions[re.sub(r"<region\d>", "{}", question)] += 1
            parsed = parse_phrase(answer)
            assert (parsed["kind"], parsed["colour"]) == (region.obj.kind, region.obj.colour)
            assert parsed["part"] == (region.part.name if region.part else None)
            assert parsed["pattern"] == (None if region.obj.pattern == "plain" else region.obj.pattern)
            assert not set(answer.split()) & set(SIZES)  # a size is told in detail, or asked for
    assert set(questions) == set(language.SHORT_QUESTIONS)
    assert questions.most_common(1)[0][0] == language.SHORT_QUESTION


def test_detailed_descriptions_are_true_and_short(told):
    related = patterned = 0
    for scene, record in told:
        if record.source not in ("describe_detailed", "osprey_detail_description"):
            continue
        for _, answer, region in asked(scene, record):
            obj, part = region
            assert len(answer.split()) <= 60 and 1 <= answer.count(".") <= 3
            parsed = parse_phrase(answer)
            assert (parsed["kind"], parsed["colour"]) == (obj.kind, obj.colour)
            assert parsed["pattern"] == (None if obj.pattern == "plain" else obj.pattern)
            assert f"{place(region.mask)} of the picture" in answer
            patterned += parsed["pattern"] is not None
            if part is not None:
                assert f"The {part.name} is {part_colour(obj, part)}." in answer
                continue
            assert obj.size in answer and f"You can see its {part_list(scene, obj)}." in answer
            if relation := re.search(f"(An? \\w+ \\w+) is ({SIDES})\\.$", answer):
                other = next(x for x in scene.objects if object_phrase(x) == relation[1].lower())
                check_direction(other, relation[2], obj)
                related += 1
    assert related > 100 and patterned > 100


SIDES = "|".join(BESIDE.values())
POINTS = {"left": (-1, 0), "right": (1, 0), "above": (0, -1), "below": (0, 1)}  # x, y


def check_direction(a, said, b):
    """By the middles of the two drawings: far enough apart, and about as far in every direction that is said."""
    assert a is not b
    offset = a.spec.x - b.spec.x, a.spec.y - b.spec.y
    along = [x * offset[0] + y * offset[1] for word, (x, y) in POINTS.items() if word in said]
    assert max(along) > 1024 // 5 and max(along) == max(map(abs, offset)), (said, offset)
    if len(along) == 1:
        assert along[0] >= 2 * min(map(abs, offset)), (said, offset)
    else:
        assert len(along) == 2 and 0 < min(along) and max(along) <= 2 * min(along), (said, offset)


def test_captions_are_true(told):
    for scene, record in told:
        if record.source != "llava_captions":
            continue
        turns = dict(record.turns)
        where = language.PLACES[scene.background]
        assert turns.pop("Where is this?").lower() == f"{where}."
        ((question, answer),) = turns.items()
        assert question in language.CAPTION_QUESTIONS and answer.lower().startswith(f"{where}: a")
        groups = re.findall(rf"(?:: |, )an? ({'|'.join(COLOURS)}) ([a-z ]+)", answer)
        rainbow = sorted((COLOURS.index(obj.colour), [*KINDS].index(obj.kind)) for obj in scene.objects)
        named = [(COLOURS.index(colour), [*KINDS].index(kind)) for colour, kinds in groups for kind in kinds.split(" and ")]
        assert named == rainbow and len(groups) == len({colour for colour, _ in rainbow})


def is_true(claim, region) -> bool:
    """An independent judge of `Is <region1> …?`."""
    obj, part = region
    if match := re.fullmatch(r"the (\w+) of an? (\w+)", claim):
        return part is not None and (part.name, obj.kind) == match.groups()
    if match := re.fullmatch(r"a part of an? (\w+)", claim):
        return part is not None and obj.kind == match[1]
    parsed = parse_phrase(claim)
    said = [(key, value) for key, value in parsed.items() if value and key != "part"]
    assert said and part is None and not parsed["part"], claim
    return all(getattr(obj, key) == value for key, value in said)


def test_positive_negative_is_balanced_and_never_false(told):
    answers = Counter()
    for scene, record in told:
        if record.source != "osprey_lvis_positive_negative":
            continue
        regions = regions_of(scene, record)
        for question, answer in record.turns:
            number, claim = re.fullmatch(r"Is <region(\d)> (.*)\? Please answer yes or no\.", question).groups()
            assert is_true(claim, regions[int(number) - 1]) == (answer == "Yes"), (question, answer)
            answers[answer] += 1
    assert set(answers) == {"Yes", "No"} and answers["Yes"] == answers["No"] > 50


def test_existence_is_balanced_and_true(told):
    for scene, record in told:
        if record.source == "existence":
            asked = min(3, len({obj.kind for obj in scene.objects}))
            assert Counter(answer for _, answer in record.turns) == {"Yes": asked, "No": asked}
            assert len({parse_phrase(question)["kind"] for question, _ in record.turns}) == 2 * asked
            for question, answer in record.turns:
                kind = parse_phrase(question)["kind"]
                assert (kind in {obj.kind for obj in scene.objects}) == (answer == "Yes")


def test_what_there_is_one_of_is_found(told):
    found = Counter()
    for scene, record in told:
        if record.source != "finding":
            continue
        for question, answer in record.turns:
            words = parse_phrase(question)
            asked, told_of = ("kind", "colour") if words["kind"] else ("colour", "kind")
            (obj,) = (obj for obj in scene.objects if getattr(obj, asked) == words[asked])
            assert answer == getattr(obj, told_of)
            found[asked] += 1
    assert min(found["kind"], found["colour"]) > 50


def test_one_word_answers_are_true(told):
    for scene, record in told:
        if record.source not in ("osprey_short_form", "osprey_part_level", "instances"):
            continue
        for question, answer, region in asked(scene, record):
            obj, part = region
            if record.source != "instances":
                assert question.endswith(ONE_WORD)
            if "colour" in question or "color" in question:
                own = part is None or "belongs" in question
                assert answer == (obj.colour if own else part_colour(obj, part))
            elif "belong" in question or "which object" in question:
                assert answer == obj.kind
            elif "Which part of" in question:
                assert answer == part.name and f"the {obj.kind} " in question
            elif "pattern" in question or "striped" in question:
                assert answer == obj.pattern
            elif "size" in question or "large" in question:
                assert answer == obj.size
            elif question.startswith("Where"):
                assert answer == place(region.mask)
            else:
                assert answer == region.category
            if record.source == "osprey_part_level":
                assert part is not None


def test_conversations_are_true():
    said = Counter()
    for seed in range(240):  # two of the same kind are rare, and seldom asked about
        scene = make_scene(seed, 128, "eval", "train")
        record = dialogues.conversation(scene, np.random.default_rng(seed))
        if not record.turns:
            continue
        objects = [region.obj for region in regions_of(scene, record)]
        assert 2 <= len(objects) <= 4 and 2 <= len(record.turns) <= 8
        for question, answer in record.turns:
            one, other = (objects[n] for n in (numbered(question) * 2)[:2])
            told_of = re.findall(r"<region(\d)> is (an? \w+(?: \w+)*?)(?= and <|\.)", answer)
            for n, phrase in told_of:
                parsed, obj = parse_phrase(phrase), objects[int(n) - 1]
                assert parsed["kind"] == obj.kind and parsed["colour"] in (None, obj.colour)
                assert parsed["colour"] is None or parsed["pattern"] == (None if obj.pattern == "plain" else obj.pattern)
            about = next((word for word in ("same colour", "same kind", "larger", "parts") if word in question), "")
            if about.startswith("same"):
                words = [getattr(x, about.split()[-1]) for x in (one, other)]
                assert answer.endswith(", so yes." if words[0] == words[1] else ", so no.")
                first, second = (article(word) for word in words) if about == "same kind" else words
                numbers = [f"<region{n + 1}>" for n in numbered(question)]
                assert answer.startswith(f"{numbers[0]} is {first} and {numbers[1]} is {second}, ")
            elif about == "larger":
                larger, smaller = (one, other) if numbered(answer) == numbered(question)[:1] else (other, one)
                assert SIZES.index(larger.size) > SIZES.index(smaller.size)
            elif about == "parts":
                assert answer == f"You can see its {part_list(scene, one)}."
            elif match := re.match(f"<region\\d> is ({'|'.join(BESIDE)}) <region\\d>", answer):
                about = "relation"
                check_direction(one, match[1], other)
                assert numbered(answer) == numbered(question)
                if question.startswith("Is"):
                    assert answer.endswith(", so yes." if f"> {match[1]} <" in question else ", so no.")
            said[about] += 1
    assert min(said.values()) >= 10 and len(said) == 6, said


def test_directions_are_told_from_two_middles():
    def told(dx, dy):
        here, there = (make_object("cat", colour, x=500 + x, y=500 + y) for colour, x, y in (("red", 0, 0), ("blue", dx, dy)))
        return directions(there, here)

    assert told(-300, 0) == ["to the left of"] and told(300, 90) == ["to the right of"]
    assert told(0, -300) == ["above"] and told(90, 300) == ["below"]
    assert told(-300, -300) == ["above and to the left of"] and told(260, -300) == ["above and to the right of"]
    assert told(160, 300) == ["below and to the right of", "below"]  # from 1.2 to 3 times as far down as across: both
    assert told(140, 300) == ["below", "below and to the right of"]  # from twice as far on straight is the better
    assert told(200, 200) == []


def test_what_is_beside_a_thing_is_of_the_next_colour_of_the_rainbow():
    said = Counter()
    for seed in range(60):
        scene = make_scene(seed)
        record = surroundings(scene, np.random.default_rng(seed))
        for (question, answer), region in zip(record.turns, regions_of(scene, record), strict=True):
            assert re.fullmatch(r"What is (?:beside|next to) <region\d>\?", question)
            texts = {details(scene, region, np.random.default_rng(n)) for n in range(3)}
            assert len(texts) == 1 and texts.pop().endswith(f" {answer}")  # nothing of it is drawn by lot
            phrase, side = re.fullmatch(f"(An? \\w+ \\w+) is ({SIDES})\\.", answer).groups()
            far = [obj for obj in scene.objects if obj.colour != region.obj.colour and directions(obj, region.obj)]
            own = COLOURS.index(region.obj.colour)
            steps = [((COLOURS.index(obj.colour) - own) % len(COLOURS), [*KINDS].index(obj.kind)) for obj in far]
            assert object_phrase(far[steps.index(min(steps))]) == phrase.lower()
            said[side] += 1
    assert set(said) == set(BESIDE.values()) and sum(said.values()) > 150


def test_comparisons_compare_and_nothing_else():
    topics = Counter()
    for seed in range(60):
        scene = make_scene(seed)
        for question, _ in comparisons(scene, np.random.default_rng(seed)).turns:
            topics[topic_of(question)] += 1
    assert set(topics) == {"relation", "relation?", "larger", "same"} and min(topics.values()) > 20


def test_what_is_alike_is_so_in_half_of_the_questions():
    said = Counter()
    for seed in range(400):
        scene = make_scene(seed)
        record = alike(scene, np.random.default_rng(seed))
        assert len(record.turns) <= 1
        objects = [region.obj for region in regions_of(scene, record)]
        for question, answer in record.turns:
            asked = re.fullmatch(r"Are <region(\d)> and <region(\d)> of the same (colour|kind)\?", question)
            one, other, about = asked.groups()
            first, second = (getattr(objects[int(n) - 1], about) for n in (one, other))
            assert first in answer and second in answer and answer.endswith("so yes." if first == second else "so no.")
            said[about, first == second] += 1
    assert min(said.values()) > 5 and 0.4 < (said["colour", True] + said["kind", True]) / said.total() < 0.6


def test_training_text_never_names_a_held_out_pair():
    pairs = {f"{colour} {kind}" for kind, colour in HELD_OUT}
    for seed in range(150):
        for record in records(make_scene(seed, 64), np.random.default_rng(seed)):
            for question, answer in record.turns:
                text = f"{question} {answer}"
                assert not any(re.search(rf"\b{pair}\b", text) for pair in pairs), text


def test_part_lists_use_the_plural_only_for_what_is_not_hidden():
    bicycle = make_object("bicycle", "red").spec
    scene = render(SceneGraph("room", 0, (bicycle,)), 256)
    assert part_list(scene, scene.objects[0]) == "wheels, frame, saddle and handlebar"
    before_a_wheel, beside = (500, 650, 560), (300, 660, 640)
    for (extent, x, y), seen in ((before_a_wheel, "wheel, frame and saddle"), (beside, "wheels, frame, saddle and handlebar")):
        house = replace(make_object("house", "blue").spec, x=x, y=y, extent=extent)
        scene = render(SceneGraph("room", 0, (bicycle, house)), 256)
        assert part_list(scene, scene.objects[0]) == seen
        assert ("behind", 1) in {(relation, j) for i, relation, j in scene.relations if i == 0}


def test_vocabulary_is_small_and_the_protocol_prompts_are_in_it(told):
    words, questions = set(), set()
    for _, record in told:
        for question, answer in record.turns:
            words |= set(re.findall(r"<region\d>|\w+|[^\w\s]", f"{question} {answer}"))
            questions.add(re.sub(r"<region\d>", "<region1>", question))
    assert len(words) < 300
    assert {
        "Please give me a short description of <region1>. Using a short phrase.",
        "Can you give me a detailed description of <region1>?",
        "What is the category of <region1>? Using only one word or phrase.",
        "What is in <region1>? Using a short phrase.",
        "Is there a cat in the image? Please answer yes or no.",
        "Please give me a short description of <region1>.",
    } <= questions


def test_free_questions_are_true_and_ask_for_each_of_six_things():
    words = {kind: set() for kind in dialogues.FREE_QUESTIONS}
    counts = Counter()
    for seed in SEEDS:
        scene = make_scene(seed, 128, "eval", "train")
        record = language.asking(scene, np.random.default_rng(seed), limit=3)
        assert 1 <= len(record.masks) <= 3
        assert Counter(numbered(question)[0] for question, _ in record.turns) == dict.fromkeys(range(len(record.masks)), 3)
        for question, answer, region in asked(scene, record):
            obj = region.obj
            assert region.part is None and ONE_WORD not in question
            true = {"kind": obj.kind, "colour": obj.colour, "pattern": obj.pattern, "size": obj.size}
            true["place"] = place(obj.mask)
            about = next((word for word, said in true.items() if said == answer), "claim")
            words[about].add(answer)
            counts[about] += 1
            if about == "claim":
                claim = re.search(r"<region\d>(?: is)? (.*)\?", question)[1]
                is_true = claim in (article(obj.kind), f"{article(obj.colour)} {obj.kind}", obj.colour, obj.pattern)
                assert answer == ("Yes" if is_true else "No")
    assert words["claim"] == {"Yes", "No"} and all(len(said) > 1 for said in words.values())
    assert all(counts.total() / 12 < counts[about] < counts.total() / 4 for about in words), counts


def test_large_parts_are_asked_about_more_often():
    taken, left = [], []
    for seed in SEEDS:
        scene = make_scene(seed, 128, "eval", "train")
        sizes = [int(part.mask.sum()) for obj in scene.objects for part in obj.parts]
        regions = phrases.pick_regions(scene, np.random.default_rng(seed), 2, parts=1)
        assert all(region.part for region in regions)
        chosen = [int(region.mask.sum()) for region in regions]
        assert len(chosen) == min(2, len(sizes))
        taken += chosen
        left += sizes
    assert np.mean(taken) > 1.3 * np.mean(left)
