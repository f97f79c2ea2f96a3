"""`osprey-nb eval`: does the model name what is under the mask, and is it the mask that makes it? (notebook 12)

Fresh scenes of the eval split, never trained on. Each answer is free text; the words that count are read out of it.

    kind, colour     short description of every visible object
    part             short description of every visible part (at least 12 pixels at 128 px)
    held-out         objects in a colour that training never showed with that kind: both words right
    swap             same picture, same question, the other region's mask: does the answer follow?
    blind            the region tokens zeroed: what is left is a guess from the picture
"""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
from tqdm.auto import tqdm

from ..data.language import parse_phrase
from ..data.scenes import HELD_OUT, KINDS, Scene, make_scene
from ..model import Osprey
from .metrics import interval

SIZE = 128
#: What the shipped tiny model has to reach.
GOALS = {"kind": 0.95, "colour": 0.95, "part": 0.90, "held-out kind and colour": 0.85, "swap, one region": 0.95}
WHICH = "What kind of object is <region1>? Answer the question using a single word or phrase."


def evaluate(model: Osprey, seed: int = 0, scenes: int = 500, progress: bool = True) -> dict[str, dict]:
    """Shares of right answers with 95 % bootstrap intervals (scenes resampled): `{metric: {value, low, high, n, goal}}`.

    `seed` picks the scenes: seed s takes eval scenes s·10⁶ … s·10⁶ + scenes − 1. Raises ValueError for fewer than 2 scenes.
    """
    if scenes < 2:
        raise ValueError(f"scenes is {scenes}; an interval needs at least 2.")
    right: dict[str, list[list[bool]]] = {}

    def add(metric: str, results: list[bool]) -> None:
        right.setdefault(metric, []).append(results)

    bar = tqdm(range(seed * 10**6, seed * 10**6 + scenes), desc="scenes", unit="scene", disable=not progress)
    for number in bar:
        scene = make_scene(number, SIZE, "eval", "train")
        objects = scene.objects
        parts = [(obj, part) for obj in objects for part in obj.parts]
        masks = [obj.mask for obj in objects] + [part.mask for _, part in parts]
        said = [parse_phrase(text) for text in model.describe(scene.image, masks)]
        kinds = [answer["kind"] for answer in said[: len(objects)]]
        add("kind", [kind == obj.kind for kind, obj in zip(kinds, objects, strict=True)])
        add("colour", [answer["colour"] == obj.colour for answer, obj in zip(said, objects, strict=False)])
        add("part", [a["part"] == p.name for a, (_, p) in zip(said[len(objects) :], parts, strict=True)])
        add("part and its object", [
            (a["part"], a["kind"]) == (p.name, obj.kind) for a, (obj, p) in zip(said[len(objects) :], parts, strict=True)
        ])
        pairs = [(a, b) for a in range(len(objects)) for b in range(a) if objects[a].kind != objects[b].kind][:2]
        add("swap, one region", [kinds[a] == objects[a].kind and kinds[b] == objects[b].kind for a, b in pairs])
        add("swap, two regions in one question", [_follows(model, scene, a, b) for a, b in pairs[:1]])
        with blind(model):
            guesses = [parse_phrase(text)["kind"] for text in model.describe(scene.image, [x.mask for x in objects])]
        add("blind: kind", [kind == obj.kind for kind, obj in zip(guesses, objects, strict=True)])
        add("prior: any object of the picture", [_share(objects, obj.kind) for obj in objects])

        rare = make_scene(number, SIZE, "eval", "held_out")
        unseen = [obj for obj in rare.objects if (obj.kind, obj.colour) in HELD_OUT]
        said = [parse_phrase(text) for text in model.describe(rare.image, [obj.mask for obj in unseen])] if unseen else []
        add("held-out kind and colour", [
            (a["kind"], a["colour"]) == (obj.kind, obj.colour) for a, obj in zip(said, unseen, strict=True)
        ])
    rng = np.random.default_rng(seed)
    table = {metric: interval(results, rng) for metric, results in right.items()}
    for metric, goal in GOALS.items():
        table[metric]["goal"] = goal
    table["prior: any kind"] = {"value": 1 / len(KINDS), "low": None, "high": None, "n": table["kind"]["n"]}
    return table


@contextmanager
def blind(model: Osprey):
    """Within this block the model gets zeros for every mask and spatial token."""
    def zero(module, inputs, output):
        return tuple([tokens * 0 for tokens in kind] for kind in output)

    handle = model.mask_extractor.register_forward_hook(zero)
    try:
        yield model
    finally:
        handle.remove()


def _follows(model: Osprey, scene: Scene, a: int, b: int) -> bool:
    """Two regions in one prompt; `<region1>` names the first mask, whichever object that is."""
    def ask(first: int, second: int) -> str | None:
        masks = [scene.objects[first].mask, scene.objects[second].mask]
        answer = model.chat(scene.image, masks, [{"role": "user", "content": WHICH}], max_new_tokens=12)
        return parse_phrase(answer)["kind"]

    return ask(a, b) == scene.objects[a].kind and ask(b, a) == scene.objects[b].kind


def _share(objects: list, kind: str) -> float:
    return sum(obj.kind == kind for obj in objects) / len(objects)
