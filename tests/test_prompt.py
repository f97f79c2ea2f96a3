"""The Vicuna-v1 pattern, region names, and which tokens carry loss."""

import numpy as np
import pytest

from osprey_nb.data.record import Record
from osprey_nb.prompt import SYSTEM, checked_question, conversation, place_regions


def text(pieces):
    return "".join(part for part, _ in pieces)


def test_two_turns_read_as_published():
    pieces = conversation([("What is <mask><pos>?", "a cat"), ("Where?", "at home")])
    assert text(pieces) == (
        f"{SYSTEM} USER: <image>\nThis provides an overview of the picture.\nWhat is <mask><pos>? ASSISTANT: a cat</s>"
        "USER: Where? ASSISTANT: at home</s>"
    )
    assert [part for part, loss in pieces if loss] == [" a cat</s>", " at home</s>"]


def test_open_turn_ends_where_the_model_writes():
    assert text(conversation([("Hi", None)], system="", with_image=False)) == "USER: Hi ASSISTANT:"


@pytest.mark.parametrize(("variant", "between"), [("training", "\n"), ("demo", "\n\n"), ("stray_dot", "\n.\n")])
def test_overviews(variant, between):
    assert f"<image>{between}This provides an overview of the picture.\n" in text(conversation([("Q", "A")], overview=variant))


def test_announced_regions():
    questions, order = place_regions(["What are <region2> and <region1>?", "And <region2>?"], 2, inline=False)
    assert questions == ["region1<mask><pos>,region2<mask><pos>. What are region2 and region1?", "And region2?"]
    assert order == [0, 1]


def test_inline_regions_keep_the_order_of_the_text():
    questions, order = place_regions(["Is <region2> left of <region1>?", "What is <region2>?"], 2, inline=True)
    assert questions == ["Is <mask><pos> left of <mask><pos>?", "What is <mask><pos>?"]
    assert order == [1, 0, 1]


@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize("name", ["<region3>", "<region12>"])
def test_a_region_that_was_not_given(inline, name):
    with pytest.raises(ValueError, match=f"names {name}, but 2 regions were given"):
        place_regions([f"<region1> <region2> {name}"], 2, inline)


@pytest.mark.parametrize("name", ["<Region1>", "<REGION 1>", "<region 1>", "<region01>", "< region1 >", "<region001>"])
def test_a_region_is_named_as_people_type(name):
    assert checked_question(f"What is {name}?") == "What is <region1>?"
    assert place_regions([f"Is {name} red?"], 1, inline=True) == (["Is <mask><pos> red?"], [0])
    assert place_regions([f"Is {name} red?"], 1, inline=False)[0] == ["region1<mask><pos>. Is region1 red?"]
    assert checked_question(name.replace("1", "10")) == "<region10>"


def test_in_training_files_too():
    turns, masks = [("Is <Region 02> red?", "no")], np.stack([np.zeros((4, 4), bool), np.ones((4, 4), bool)])
    record = Record("", "", np.zeros((4, 4, 3), np.uint8), masks, turns, inline=True).with_turns(turns)
    assert record.turns == [("Is <region1> red?", "no")] and record.masks.shape == (1, 4, 4) and record.masks.all()


@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize("name", ["<region0>", "<Region 00>", "<region-1>", "<region>", "<regionX>", "<region one>"])
def test_names_of_no_region(inline, name):
    with pytest.raises(ValueError, match=f"^{name} names no region. Write <region1>"):
        place_regions([f"Is <region1> left of {name}?"], 1, inline)


@pytest.mark.parametrize("token", ["<image>", "<mask>", "<pos>"])
def test_a_question_with_a_placeholder(token):
    with pytest.raises(ValueError, match=f"holds {token}. Write <region1> to point at a region"):
        place_regions([f"What is {token}?"], 1, inline=False)


def test_a_region_that_is_never_named():
    with pytest.raises(ValueError, match="never names <region2>"):
        place_regions(["What is <region1>?"], 2, inline=True)
