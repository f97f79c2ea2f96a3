"""Which token carries what? One kind of token is exchanged at a time (notebook 10).

    image, mask, spatial tokens of a prompt ──┐
    one of them of another picture or region ─┴──▶ answer ──▶ what that token carries follows it, all else stays
    one of them zero, or its mean             ──▶ answer ──▶ what that token carries falls to a guess, all else stays
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..data.dialogues import DETAILED_QUESTION, details, facts
from ..data.kinds import KINDS
from ..data.language import SHORT_QUESTION, caption
from ..data.phrases import Region, pick, shuffled
from ..data.scenes import Scene, SceneObject, make_scene
from ..model import Osprey
from .answers import Prompt, answers, look
from .claims import read
from .metrics import interval
from .questions import SIDE, Question, ask, five, from_record, is_there
from .rows import ATTRIBUTES
from .synthetic import guesser

#: What each token must carry. A relation is that of a place in a picture: it hangs on two of them.
CARRIES = {
    "mask": ("kind", "colour", "pattern", "part"),
    "spatial": ("place", "size", "relation"),
    "image": ("existence", "caption", "background", "relation"),
}
LABELS = tuple(dict.fromkeys(label for labels in CARRIES.values() for label in labels))
FIELDS = {"mask": "masks", "spatial": "places", "image": "image"}  # of a Prompt
#: What a claim is about.
LABEL_OF = {
    **{f"{topic}: {about}": about for topic in ("detailed", "asked", "short", "named") for about in ATTRIBUTES},
    "short part: part": "part", "detailed: relation": "relation", "existence": "existence",
    "caption: named": "caption", "caption: background": "background", "background": "background",
}  # fmt: skip
EXCHANGED, ABLATED = "exchanged", ("zero", "its mean")
GOAL = 0.95
NEAR = 0.05  # so near to a guess counts as fallen to it
SCENES_AT_ONCE = 20


@dataclass(frozen=True, eq=False)
class Case:
    """A question about a picture or a region in it, and what its tokens are exchanged with."""

    own: Question
    region: Region | None  # of the same picture, or of another
    elsewhere: Scene

    def donor(self, token: str) -> Question | None:
        """The question that gives its token; None where the prompt has no such token."""
        if token == "image":
            return replace(self.own, scene=self.elsewhere, image=self.elsewhere.image)
        if self.region is None:
            return None
        return replace(self.own, regions=[self.region], masks=[self.region.mask], image=self.region.obj.scene.image)


def controls(model: Osprey, seed: int = 0, scenes: int = 250, progress: bool = True) -> dict[str, dict]:
    """The share of claims that follow, stay or fall: `{row: {value, low, high, n, group, goal, reached}}`, as `evaluate` does.

    A pair counts where the two differ in the claim. `seed` picks the scenes, as in `evaluate`. Raises ValueError for fewer than
    2 scenes.
    """
    if scenes < 2:
        raise ValueError(f"scenes is {scenes}; a picture needs another to exchange tokens with.")
    first = seed * 10**6
    cases = [cases_of(first + i, first + (i + 1) % scenes) for i in range(scenes)]
    figures: dict[tuple[str, str, str], list[list[bool]]] = defaultdict(lambda: [[] for _ in cases])
    means = mean_tokens(look(model, [case.own for mine in cases for case in mine]))
    with tqdm(total=scenes, desc="exchanging tokens", unit="scene", disable=not progress) as bar:
        for start in range(0, scenes, SCENES_AT_ONCE):
            some = range(start, min(start + SCENES_AT_ONCE, scenes))
            tried = [(i, *one) for i in some for one in exchanges(model, cases[i], means)]
            said = answers(model, [prompt for *_, prompt in tried])
            for (i, case, token, way, _), text in zip(tried, said, strict=True):
                for label, outcome, right in judged(case, token, way, text):
                    figures[f"{token} token {way}", label, outcome][i].append(right)
            bar.update(len(some))
    return _table(figures, [case.own for mine in cases for case in mine], seed)


def cases_of(number: int, other: int) -> list[Case]:
    """All that is asked about a scene. Its region stands against one of the same picture, every second time of the other."""
    scene, elsewhere = (make_scene(n, SIDE, "eval", "train") for n in (number, other))
    rng = np.random.default_rng([number, 28])
    obj = pick(rng, scene.objects)
    beside = scene if number % 2 and len(scene.objects) > 1 else elsewhere
    unlike = max((one for one in beside.objects if one is not obj), key=lambda one: _differences(obj, one))
    region, part = Region(obj), pick(rng, obj.parts)
    text = DETAILED_QUESTION.format("<region1>")
    about = [ask(scene, text, details(scene, region, rng), [region], inline=True), *five(scene, [region], 1, rng)]
    cases = [Case(question, Region(unlike), elsewhere) for question in about]
    if pieces := [piece for piece in unlike.parts if piece.name != part.name]:
        region, piece = Region(obj, part), Region(unlike, pick(rng, pieces))
        text = SHORT_QUESTION.format("<region1>")
        cases.append(Case(ask(scene, text, region.phrase(rng), [region], inline=True), piece, elsewhere))
    whole = from_record(scene, caption(scene, rng))
    here, there = ({one.kind for one in picture.objects} for picture in (scene, elsewhere))
    for kind in shuffled(rng, [kind for kind in KINDS if (kind in here) != (kind in there)])[:2]:
        whole.append(ask(scene, is_there(kind, rng), "Yes" if kind in here else "No", inline=True))
    return cases + [Case(question, None, elsewhere) for question in whole]


def _differences(a: SceneObject, b: SceneObject) -> int:
    return sum(getattr(a, about) != getattr(b, about) for about in ("kind", "colour", "pattern", "size"))


# ---------------------------------------------------------------- tokens


def exchanges(model: Osprey, cases: list[Case], means: dict[str, Tensor]) -> Iterator[tuple[Case, str, str, Prompt]]:
    """Each case with one kind of its tokens exchanged: for the donor's, for zeros, for the mean."""
    owns = look(model, [case.own for case in cases])
    zeros = {token: torch.zeros_like(mean) for token, mean in means.items()}
    for token, field in FIELDS.items():
        pairs = [(case, own, donor) for case, own in zip(cases, owns, strict=True) if (donor := case.donor(token))]
        for (case, own, _), donor in zip(pairs, look(model, [donor for *_, donor in pairs]), strict=True):
            given = {EXCHANGED: getattr(donor, field), "zero": zeros[token], "its mean": means[token]}
            for way, tokens in given.items():
                yield case, token, way, replace(own, **{field: tokens})


def mean_tokens(prompts: Iterable[Prompt]) -> dict[str, Tensor]:
    """The mean mask token and spatial token, 1×D, and the mean of the image tokens of each place, N×D."""
    prompts = list(prompts)
    means = {token: torch.cat([getattr(prompt, FIELDS[token]) for prompt in prompts]).mean(0, keepdim=True) for token in
             ("mask", "spatial")}  # fmt: skip
    pictures = {id(prompt.image): prompt.image for prompt in prompts}
    return means | {"image": torch.stack(list(pictures.values())).mean(0)}


@contextmanager
def blind(model: Osprey) -> Iterator[Osprey]:
    """Within this block the model gets zeros for every mask and spatial token."""

    def zero(module, inputs, output):
        return tuple([tokens * 0 for tokens in kind] for kind in output)

    handle = model.mask_extractor.register_forward_hook(zero)
    try:
        yield model
    finally:
        handle.remove()


# ---------------------------------------------------------------- outcomes


def judged(case: Case, token: str, way: str, answer: str) -> Iterator[tuple[str, str, bool]]:
    """(label, "follows", "stays" or "falls", right) of each claim. Of an exchange only those count that tell the two apart."""
    own = case.own
    mine = _labelled(own, answer)
    if way in ABLATED:
        yield from ((label, "falls" if label in CARRIES[token] else "stays", right) for label, right in mine)
        return
    donor = case.donor(token)
    true = _labelled(donor, own.truth)
    alike = {label: all(right for other, right in true if other == label) for label, _ in true}
    for (label, right), (_, theirs) in zip(mine, _labelled(donor, answer), strict=True):
        carried = label in CARRIES[token]
        if alike.get(label) and (carried or token != "image"):
            continue
        if not carried:
            yield label, "stays", right
        elif not (right and theirs):
            yield label, "follows", theirs


def _labelled(question: Question, answer: str) -> list[tuple[str, bool]]:
    claims = read(question.text, answer, question.scene, question.regions)
    return [(LABEL_OF[claim.name], claim.right) for claim in claims if claim.name in LABEL_OF]


def _table(figures: dict, asked: list[Question], seed: int) -> dict[str, dict]:
    guesses, rng, rows = _guesses(asked), np.random.default_rng(seed), {}
    for token in CARRIES:
        for way in (EXCHANGED, *ABLATED):
            group = f"{token} token {way}"
            for outcome in ("follows", "falls", "stays"):
                for label in LABELS:
                    found = figures.get((group, label, outcome))
                    if not found or not any(found):
                        continue
                    row = interval(found, rng) | {"group": group}
                    if outcome == "falls":
                        most = guesses[label] + NEAR
                        row |= {"guesser": guesses[label], "goal": (0.0, most), "reached": row["low"] <= most}
                    else:
                        row |= {"goal": GOAL, "reached": row["value"] >= GOAL}
                    rows[f"{group}: {label} {outcome}"] = row
    return rows


def _guesses(asked: list[Question]) -> dict[str, float]:
    """What is right without the token: the one answer that is most often right, or that of any object of the picture."""
    counted: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for figure, pair in guesser(asked).items():
        if figure in LABEL_OF:
            counted[LABEL_OF[figure]].append(pair)
    guesses = {label: sum(right for right, _ in pairs) / sum(n for _, n in pairs) for label, pairs in counted.items()}
    true = [(facts(question.regions[0].obj), [facts(obj) for obj in question.scene.objects]) for question in asked
            if question.regions and question.regions[0].part is None]  # fmt: skip
    for about in ATTRIBUTES:
        shares = [np.mean([other[about] == own[about] for other in others]) for own, others in true]
        guesses[about] = max(guesses[about], float(np.mean(shares)))
    return guesses
