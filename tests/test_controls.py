"""Exchanged tokens: they really are, and the outcomes tell a model that reads them from one that doesn't."""

from dataclasses import dataclass, replace

import pytest
import torch

from osprey_nb.data.dialogues import PLACES, facts
from osprey_nb.data.phrases import BESIDE, article, by_colour, capital, directions, object_phrase, parse_phrase
from osprey_nb.data.scenes import SceneGraph, SceneObject, make_scene, render
from osprey_nb.evaluate import controls as module
from osprey_nb.evaluate.answers import Prompt, look
from osprey_nb.evaluate.controls import CARRIES, blind, cases_of, controls
from osprey_nb.evaluate.wordings import topic_of


def test_exchanges_put_one_list_of_tokens_in_place_of_another(tiny):
    cases = cases_of(4, 5) + cases_of(5, 6)  # of one picture alone the mean would be its own
    owns = look(tiny, [case.own for case in cases])
    means = module.mean_tokens(owns)
    tried = list(module.exchanges(tiny, cases, means))
    regions = sum(case.region is not None for case in cases)
    assert len(tried) == 3 * (2 * regions + len(cases)) and regions >= 12
    for case, token, way, prompt in tried:
        own = owns[cases.index(case)]
        given = {"exchanged": None, "zero": torch.zeros_like(means[token]), "its mean": means[token]}[way]
        if way == "exchanged":
            given = getattr(look(tiny, [case.donor(token)])[0], module.FIELDS[token])
        for name, field in module.FIELDS.items():
            expected = given if name == token else getattr(own, field)
            assert torch.allclose(getattr(prompt, field), expected, atol=1e-5), (token, way, name)
        assert way != "exchanged" or not torch.allclose(given, getattr(own, module.FIELDS[token]), atol=1e-3)
        assert (prompt.ids == own.ids).all()
        ids = prompt.ids[None]
        spliced, before = (tiny.splice(ids, x.image[None], ([x.masks], [x.places])).embeds[0] for x in (prompt, own))
        changed = (spliced != before).any(-1).nonzero()[:, 0]
        image = int((ids[0] == tiny.config.image_token_id).nonzero()[0, 0])
        assert len(changed) == (len(own.image) if token == "image" else 1)
        assert (changed.min() == image) == (token == "image")


@dataclass
class Ideal:
    """A hand-made model: it knows what its tokens stand for. `deaf` to a token, it takes another's word for all of it."""

    deaf: str = ""

    def __post_init__(self):
        self.scenes, self.regions = [], []

    def number(self, known: list, thing) -> torch.Tensor:
        """1×2: [n, n²], so that neither zero nor a mean is any number's."""
        if not any(thing is one for one in known):
            known.append(thing)
        n = 1 + next(i for i, one in enumerate(known) if one is thing)
        return torch.tensor([[n, n * n]], dtype=torch.float64)

    def thing(self, known: list, token: torch.Tensor):
        n, square = token[0].tolist()
        return known[int(n) - 1] if n and n * n == square else None

    def look(self, model, asked):
        out = []
        for question in asked:
            image = self.number(self.scenes, question.scene)
            region = self.number(self.regions, question.regions[0]) if question.regions else torch.zeros(0, 2)
            out.append(Prompt(question, image, region, region, 0))
        return out

    def answers(self, model, prompts):
        return [self.answer(prompt) for prompt in prompts]

    def answer(self, prompt) -> str:
        question, scene = prompt.ids, self.thing(self.scenes, prompt.image)
        if question.regions:
            looks, shape = (self.thing(self.regions, token) for token in (prompt.masks, prompt.places))
            if self.deaf == "spatial":
                shape = looks
            if self.deaf == "mask":
                looks = shape
            if self.deaf == "image":
                scene = question.scene
            return described(question, looks, shape, scene)
        return whole(question, question.scene if self.deaf == "image" else scene)


def whole(question, scene) -> str:
    """The answer about a picture, or none that is true where it is not known."""
    if scene is None:
        return "?"
    if topic_of(question.text) == "existence":
        return "Yes" if parse_phrase(question.text)["kind"] in {obj.kind for obj in scene.objects} else "No"
    where = capital(PLACES[scene.background])
    if topic_of(question.text) == "background":
        return f"{where}."
    return f"{where}: {', '.join(by_colour(scene.objects))}."


def described(question, looks, shape, scene) -> str:
    """The answer about a region that looks like one, lies like another, in a scene: any of them may be None."""
    known = {"kind": "cat", "colour": "white", "pattern": "checked", "size": "large", "place": "at the top", "part": "ear"}
    if looks:
        known |= {about: facts(looks.obj)[about] for about in ("kind", "colour", "pattern")}
        known |= {"part": looks.part.name} if looks.part else {}
    if shape:
        known |= {about: facts(shape.obj)[about] for about in ("size", "place")}
    topic = topic_of(question.text)
    topic = "kind" if topic == "what" else topic
    if topic in known:
        return known[topic]
    if topic == "short":
        return f"the {known['part']} of {article(known['colour'])} {known['kind']}"
    words = [known["size"], *([known["pattern"]] if known["pattern"] != "plain" else []), known["colour"], known["kind"]]
    text = f"This is {article(' '.join(words))} {known['place']} of the picture."
    if shape and scene:
        for other in scene.objects:
            there = SceneObject(shape.obj.index, shape.obj.spec, scene)
            if other.spec != shape.obj.spec and (way := directions(other, there)):
                return f"{text} {capital(object_phrase(other))} is {BESIDE[way[0]]}."
    return text


@pytest.fixture
def by_hand(monkeypatch):
    def run(model):
        monkeypatch.setattr(module, "look", model.look)
        monkeypatch.setattr(module, "answers", model.answers)
        return controls(None, scenes=16, progress=False)

    return run


def test_a_model_that_reads_each_token_passes_every_control(by_hand):
    table = by_hand(Ideal())
    wanted = {f"{token} token exchanged: {label} follows" for token, labels in CARRIES.items() for label in labels}
    assert wanted <= set(table)
    for name, row in table.items():
        assert row["reached"], (name, row)
        assert row["value"] == 1 or name.endswith("falls"), (name, row)


@pytest.mark.parametrize(("deaf", "labels"), [("spatial", ("place", "size")), ("mask", ("kind", "colour", "pattern", "part"))])
def test_a_model_that_reads_another_token_instead_fails_the_controls(by_hand, deaf, labels):
    table, other = by_hand(Ideal(deaf)), {"spatial": "mask", "mask": "spatial"}[deaf]
    for label in labels:
        for row in (f"{deaf} token exchanged: {label} follows", f"{other} token exchanged: {label} stays"):
            assert table[row]["value"] == 0 and not table[row]["reached"], row
        assert not table[f"{deaf} token zero: {label} falls"]["reached"]


def test_a_model_that_does_not_look_at_the_picture_fails_the_controls(by_hand):
    table = by_hand(Ideal("image"))
    for label in CARRIES["image"]:
        assert table[f"image token exchanged: {label} follows"]["value"] < 0.3, label
        assert not table[f"image token zero: {label} falls"]["reached"], label
    assert table["mask token exchanged: kind follows"]["value"] == 1


def test_only_what_tells_two_apart_counts():
    cases = cases_of(4, 5)
    case = next(case for case in cases if topic_of(case.own.text) == "colour")
    alike = replace(case, region=case.own.regions[0])
    for answer in (case.own.truth, "no colour"):
        assert not list(module.judged(alike, "mask", "exchanged", answer))
    (outcome,) = module.judged(case, "mask", "exchanged", case.own.truth)
    assert outcome == ("colour", "follows", False)

    case = next(case for case in cases if topic_of(case.own.text) == "caption")
    graph = case.own.scene.graph
    shared, own = (object_phrase(obj) for obj in case.own.scene.objects[:2])
    case = replace(case, elsewhere=render(SceneGraph(graph.background, 0, graph.objects[:1])))
    outcomes = list(module.judged(case, "image", "exchanged", f"{shared}, {own} and a thing {PLACES[graph.background]}."))
    assert outcomes == [("caption", "follows", False)] * 2  # not the one that is in both pictures, nor the same background


def test_blind_zeroes_the_region_tokens_and_only_inside(tiny):
    scene = make_scene(3, split="eval")
    a, b = (scene.objects[i].mask for i in (0, 1))
    with blind(tiny):
        blinded = tiny.describe(scene.image, [a, b])
    assert blinded[0] == blinded[1]
    assert not tiny.mask_extractor._forward_hooks
