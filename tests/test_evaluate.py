"""The evaluation counts what it says it counts: true texts are true, broken and foreign ones are false."""

import numpy as np
import pytest

from osprey_nb.data.dialogues import DETAILED_QUESTION
from osprey_nb.data.language import alike, asking, comparisons, numbers, records, surroundings
from osprey_nb.data.phrases import Region, article, capital, directions, place
from osprey_nb.data.scenes import HELD_OUT, make_scene
from osprey_nb.evaluate.answers import answers, look
from osprey_nb.evaluate.claims import read
from osprey_nb.evaluate.controls import controls
from osprey_nb.evaluate.hand_drawn import hand_drawn
from osprey_nb.evaluate.metrics import format_table
from osprey_nb.evaluate.questions import from_record, questions
from osprey_nb.evaluate.rows import CELLS, ROWS
from osprey_nb.evaluate.synthetic import alike_key, as_form, evaluate, fill, score
from osprey_nb.evaluate.wordings import topic_of

SCENES = 40
COUNTED = {figure for rows in ROWS.values() for _, figures in rows.values() for figure in figures}
UNREADABLE = {"detailed: readable", "detailed part: readable"}  # never right: they only make a description false


@pytest.fixture(scope="module")
def told():
    """(question with its true answer) of every turn of every maker, forty scenes."""
    out = []
    for seed in range(SCENES):
        scene, rng = make_scene(seed, 128, "eval", "all" if seed % 2 else "train"), np.random.default_rng(seed)
        more = [make(scene, rng) for make in (alike, asking, comparisons, numbers, surroundings)]
        out += [question for record in [*records(scene, rng), *more] for question in from_record(scene, record)]
    return out


@pytest.fixture(scope="module")
def asked():
    """What eval asks about forty scenes."""
    return [questions(number) for number in range(SCENES)]


# ---------------------------------------------------------------- claims


def test_every_turn_of_every_maker_claims_something_and_all_of_it_is_true(told):
    names = set()
    for question in told:
        claims = read(question.text, question.truth, question.scene, question.regions)
        assert claims and all(claim.right for claim in claims), (question.text, question.truth, claims)
        names |= {claim.name for claim in claims}
    assert not names & UNREADABLE
    assert names <= COUNTED, f"claims that no row counts: {names - COUNTED}"


def test_all_that_eval_asks_has_a_true_answer(asked):
    table = score(asked, [[question.truth for question in some] for some in asked])
    assert set(table) == {row for rows in ROWS.values() for row in rows}
    for name, row in table.items():
        assert row["value"] == (0.5 if name == "existence, share of yes" else 1), name
        assert row.get("reached", True), name
    text = format_table(table)
    assert all(group in text for group in ROWS) and "missed" not in text


def test_what_is_true_of_another_scene_is_worth_no_more_than_a_guess(asked):
    known = {}
    for i, some in enumerate(asked):
        for question in some:
            known.setdefault(alike_key(question), []).append((i, as_form(question)))
    rng = np.random.default_rng(0)

    def foreign(i, question):
        others = [form for j, form in known[alike_key(question)] if j != i]
        return fill(others[rng.integers(len(others))], question)

    table = score(asked, [[foreign(i, question) for question in some] for i, some in enumerate(asked)])
    told_anyway = {"described: parts are named", "relation is told where one can be"}
    for name in set(table) - told_anyway - {"existence, share of yes", "swap, one region"}:
        row = table[name]
        assert row["low"] <= row["guesser"] + 0.02 and row["value"] <= row["guesser"] + 0.12, (name, row)
    assert table["swap, one region"]["value"] < 0.1 and table["description wholly true"]["value"] < 0.02


def test_existence_is_asked_half_and_half_and_each_third_as_it_is_called(asked):
    for some in asked:
        scene = some[0].scene
        here = {obj.kind for obj in scene.objects}
        about = {}
        for question in some:
            if topic_of(question.text) == "existence":
                about.setdefault(question.about, []).append(question.truth)
                assert (question.truth == "Yes") == any(f" {kind} " in question.text.replace("?", " ") for kind in here)
        assert about == {"present": ["Yes"] * 3, "at random": ["No"], "frequent": ["No"], "look alike": ["No"]}


def test_held_out_pairs_are_asked_about_and_nowhere_else(asked):
    for some in asked:
        for question in some:
            rare = {(region.obj.kind, region.obj.colour) for region in question.regions} & HELD_OUT
            assert bool(rare) == (question.about == "held-out")


@pytest.fixture(scope="module")
def pair():
    """Two objects, one clearly to the left of the other, and their scene."""
    for number in range(20):
        scene = make_scene(number, 128, "eval", "train")
        for a in scene.objects:
            for b in scene.objects:
                if directions(a, b) == ["to the left of"] and len(scene.objects) > 2 and a.colour != b.colour:
                    return scene, a, b
    raise AssertionError


def said(scene, text, answer, *regions) -> dict[str, bool]:
    claims = read(text, answer, scene, [Region(obj) for obj in regions])
    return {claim.name: all(other.right for other in claims if other.name == claim.name) for claim in claims}


def test_broken_relations_in_a_description_are_false(pair):
    scene, a, b = pair
    detailed = DETAILED_QUESTION.format("<region1>")
    start = f"This is {article(f'{a.size} {a.pattern} {a.colour} {a.kind}')} {place(a.mask)} of the picture."
    name, own = (article(f"{obj.colour} {obj.kind}") for obj in (b, a))
    for end, right in (
        (f"{name} is to its right.", True),
        (f"{name} is to its left.", False),
        (f"{name} is above it and to its right.", False),
        (f"{own} is to its right.", False),  # itself
        (f"{article(f'{a.colour} {b.kind}')} is to its right.", False),  # no such object
        (f"{article(b.kind)} is to its right.", False),  # its colour is a must
        (f"{article(f'{b.colour} {b.kind}')} and {own} is to its right.", False),
        (f"{article(f'{b.colour} {b.colour} {b.kind}')} is to its right.", False),
    ):
        assert said(scene, detailed, f"{start} {capital(end)}", a)["detailed: relation"] is right, end
    for end in ("A cat is near it.", "You can see.", "A red cat is", "This is a cat.", "☃", start):
        claims = said(scene, detailed, f"{start} {end}", a)
        assert claims["detailed: kind"] and not claims["detailed: readable"], end


def test_what_a_description_leaves_out_or_garbles_counts_as_false(pair):
    scene, a, _ = pair
    detailed = DETAILED_QUESTION.format("<region1>")
    must = {f"detailed: {about}" for about in ("kind", "colour", "pattern", "size", "place")}
    for answer in ("", "It is.", f"{a.kind} {a.colour}", "This is a thing in the air of the picture.", "<region1>", "a\nb"):
        claims = said(scene, detailed, answer, a)
        assert {name for name in must if claims[name] is False} == must, (answer, claims)
    answer = f"This is {article(f'{a.colour} {a.kind}')} {place(a.mask)} of the picture."
    claims = said(scene, detailed, answer, a)
    assert claims["detailed: kind"] and claims["detailed: place"] and not claims["detailed: size"]
    parts = [part.name for part in a.parts]
    for words, right in ((parts[0], True), (f"{parts[0]} and {parts[0]}", False), (f"{parts[0]} and spoon", False)):
        assert said(scene, detailed, f"{answer} You can see its {words}.", a)["detailed: parts"] is right, words


@pytest.mark.parametrize(
    ("text", "answer", "right"),
    [
        ("<region1>?", "{a}", {"asked: kind": True}),
        ("<region1>?", "{a} {b}", {"asked: kind": False}),
        ("What colour is <region1>?", "{a.colour}", {"asked: colour": True}),
        ("What colour is <region1>?", "{a.colour} and {b.colour}", {"asked: colour": False}),
        ("Where is <region1>?", "in the air", {"asked: place": False}),
        ("What is in <region1>? Using a short phrase.", "a {a.colour} {b.colour} {a}",
         {"short: kind": True, "short: colour": False}),
        ("What is in <region1>? Using a short phrase.", "",
         {"short: kind": False, "short: colour": False, "short: pattern": False}),
        ("What are <region1> and <region2>?", "region1 is a {b.colour} {b} and region2 is a {a.colour} {a}.",
         {"named: colour": False}),
        ("What are <region1> and <region2>?", "region1 is a {a.colour} {a}.", {"named: kind": False}),
        ("Where is <region1> with respect to <region2>?", "region1 is to the left of region2.", {"relation": True}),
        ("Where is <region1> with respect to <region2>?", "region2 is to the left of region1.", {"relation": False}),
        ("Where is <region1> with respect to <region2>?", "region1 is to the left of region1.", {"relation": False}),
        ("Is <region2> to the right of <region1>?", "region2 is to the right of region1, so yes.",
         {"relation: yes or no": True, "relation: told": True}),
        ("Is <region2> to the right of <region1>?", "Yes.", {"relation: yes or no": True, "relation: told": False}),
        ("Is <region2> above <region1>?", "region2 is below region1, so no.",
         {"relation: yes or no": True, "relation: told": False}),
        ("Is <region2> above <region1>?", "Maybe", {"relation: yes or no": False, "relation: told": False}),
        ("Are <region1> and <region2> of the same colour?", "region1 is {a.colour} and region2 is {b.colour}, so no.",
         {"same colour": True, "same colour: told": True}),
        ("Are <region1> and <region2> of the same colour?", "region1 is {b.colour} and region2 is {a.colour}, so no.",
         {"same colour": True, "same colour: told": False}),
        ("Are <region1> and <region2> of the same colour?", "region1 is {a.colour} and region2 is {a.colour}, so yes.",
         {"same colour": False, "same colour: told": False}),
        ("What is beside <region1>?", "A {b.colour} {b} is to its right.", {"beside": True}),
        ("What is beside <region1>?", "A {b.colour} {b} is below it.", {"beside": False}),
        ("What is beside <region1>?", "A {b.colour} {b}.", {"beside": False}),
        ("Which parts of <region1> can be seen?", "You can see its parts.", {"parts": False}),
        ("Is <region1> {a.colour}? Please answer yes or no.", "Yes", {"yes or no": True}),
        ("Is <region1> {a.colour}? Please answer yes or no.", "Yesterday", {"yes or no": False}),
        ("Is <region1> the wheel of a car? Please answer yes or no.", "No", {"yes or no": True}),
        ("Is there a {a} in the image? Please answer yes or no.", "no", {"existence": False}),
        ("What are <region2>, <region1> and <region2>?", "region2 is a {b.colour} {b}, region1 is a {a.colour} {a} and it.",
         {"named: kind": False}),
        ("What colour is the spoon?", "{a.colour}", {"colour of the only": False}),
        ("Which object is {a.colour}?", "{b}", {"kind of the only": False}),
        ("Where is this?", "In the air.", {"background": False}),
        ("Describe the image.", "", {"caption: named": False, "caption: found": False, "caption: background": False}),
        ("Describe the image.", "A {a.colour} {a} and a {a.colour} {a}.", {"caption: named": False}),
    ],
)  # fmt: skip
def test_answers_in_the_wrong_words_or_about_the_wrong_region_are_false(pair, text, answer, right):
    scene, a, b = pair
    names = {"a": Named(a), "b": Named(b)}
    claims = said(scene, text.format(**names), answer.format(**names), a, b)
    assert {name: claims[name] for name in right} == right


class Named:
    """An object that is written as its kind."""

    def __init__(self, obj):
        self.obj, self.colour = obj, obj.colour

    def __format__(self, spec):
        return self.obj.kind


def test_a_question_that_training_never_asks_is_refused(pair):
    with pytest.raises(ValueError, match="How old is region1.*no question that training asks"):
        read("How old is <region1>?", "old", pair[0], [Region(pair[1])])


def test_the_worst_cell_is_named(asked):
    wrong = [["?" if "<region3>" in question.text else question.truth for question in some] for some in asked]
    table = score(asked, wrong)
    worst = table["worst of the twenty"]
    assert worst["which"].endswith("of region 3") and worst["value"] == 0 and not worst["reached"]
    assert table["region 3"]["value"] == 0 and table["region 2"]["value"] == 1
    assert f"worst of the twenty: {worst['which']}" in format_table(table)
    assert sum(map(len, CELLS.values())) == 20


def test_intervals_need_scenes():
    for measure in (evaluate, controls):
        with pytest.raises(ValueError, match="scenes is 1"):
            measure(None, scenes=1)


# ---------------------------------------------------------------- hand-drawn masks


def test_hand_drawn_masks_lie_around_within_and_across():
    for number in range(6):
        for obj in make_scene(number, 256, "eval").objects:
            forms, exact = hand_drawn(obj.mask), obj.mask
            assert set(forms) == {"exact", "box", "grown", "shrunk", "lasso", "brush", "dot"}
            assert all(form.shape == exact.shape and form.dtype == bool for form in forms.values())
            for wide in ("box", "grown", "lasso"):
                assert forms[wide][exact].all() and forms[wide].sum() > exact.sum(), wide
            assert not forms["shrunk"][~exact].any() and 0 < forms["shrunk"].sum() < exact.sum()
            assert 150 < forms["dot"].sum() <= 210  # 16 pixels across
            assert (forms["dot"] & exact).sum() > 0.5 * forms["dot"].sum()
            rows, columns = np.nonzero(forms["brush"])
            assert max(np.ptp(rows), np.ptp(columns)) > 24 and (forms["brush"] & exact).sum() > 0.3 * forms["brush"].sum()


def test_a_mask_too_thin_to_be_shrunk_has_no_shrunk_form():
    mask = np.zeros((64, 64), bool)
    mask[30:33, 5:60] = True
    assert "shrunk" not in hand_drawn(mask) and len(hand_drawn(mask)) == 6


# ---------------------------------------------------------------- the model is asked right


def test_questions_side_by_side_are_answered_as_one_by_one(tiny):
    some = [question for number in (0, 1) for question in questions(number)][::5]
    assert len({question.image.shape for question in some}) == 2 and len({len(question.masks) for question in some}) > 2
    for question, text in zip(some, answers(tiny, look(tiny, some)), strict=True):
        message = [{"role": "user", "content": question.text}]
        if question.inline and question.masks:
            alone = tiny.describe(question.image, question.masks, prompt=question.text)[0]
        else:
            alone = tiny.chat(question.image, question.masks or None, message)
        assert alone.startswith(text) if len(text) > 40 else alone == text, question.text


def test_evaluate_scores_what_the_model_says(tiny):
    table = evaluate(tiny, seed=3, scenes=2, progress=False)
    asked = [questions(3_000_000 + i) for i in range(2)]
    alone = [answers(tiny, look(tiny, some)) for some in asked]
    assert table == score(asked, alone, seed=3)
