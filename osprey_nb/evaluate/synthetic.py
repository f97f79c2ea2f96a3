"""`osprey-nb eval`: how much of what the model says is true, by the token that must carry it? (notebook 12)

    scene number ──questions──▶ asked ──model──▶ answers ──read──▶ claims, right or wrong ──▶ a row for each claim

Fresh scenes of the eval split, never trained on. Every kind of question that training asks is asked, and every claim of every
answer is read (claims.py). Beside it stands what a guesser has: who knows the question and gives the one answer that is most
often right, without a look at the picture.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from tqdm.auto import tqdm

from ..data.phrases import parse_phrase
from ..model import Osprey
from ..prompt import plain_regions
from .answers import answers, look
from .claims import read, says_yes
from .metrics import interval
from .questions import Question, questions
from .rows import ATTRIBUTES, CELLS, DRAWN, ROWS, WORST, YES, reached
from .wordings import topic_of

SCENES_AT_ONCE = 20
GUESSED = 60  # scenes that the guesser's best answers are found in
GUESSES = 25  # of the most frequent answers


def evaluate(model: Osprey, seed: int = 0, scenes: int = 500, progress: bool = True) -> dict[str, dict]:
    """Shares of true claims with 95 % bootstrap intervals (scenes resampled), in the order of `rows.ROWS`.

    `{row: {value, low, high, n, group, guesser, goal, reached}}`; the last two where the row has a goal. `seed` picks the
    scenes: seed s takes eval scenes s·10⁶ … s·10⁶ + scenes − 1. Raises ValueError for fewer than 2 scenes.
    """
    if scenes < 2:
        raise ValueError(f"scenes is {scenes}; an interval needs at least 2.")
    asked: list[list[Question]] = []
    said: list[list[str]] = []
    bar = tqdm(total=scenes, desc="scenes", unit="scene", disable=not progress)
    with bar:
        for start in range(0, scenes, SCENES_AT_ONCE):
            new = [questions(seed * 10**6 + i) for i in range(start, min(start + SCENES_AT_ONCE, scenes))]
            texts = iter(answers(model, look(model, [question for some in new for question in some])))
            said += [list(itertools.islice(texts, len(some))) for some in new]
            asked += [[replace(question, image=None, masks=[]) for question in some] for some in new]
            bar.update(len(new))
    return score(asked, said, seed)


def score(asked: Sequence[list[Question]], said: Sequence[list[str]], seed: int = 0) -> dict[str, dict]:
    """The table of `evaluate` from the questions and answers of each scene."""
    figures: dict[str, list[list[bool]]] = defaultdict(lambda: [[] for _ in asked])
    for i, (some, texts) in enumerate(zip(asked, said, strict=True)):
        for question, text in zip(some, texts, strict=True):
            for figure, right in judged(question, text):
                figures[figure][i].append(right)
        figures["swap"][i] += swapped(some, texts)
    guesses = guesser([question for some in asked[:GUESSED] for question in some])
    cells = [cell for cells in CELLS.values() for cell in cells if cell in figures]
    worst = min(cells, key=lambda cell: _mean(figures[cell]), default="")
    rng, table = np.random.default_rng(seed), {}
    for group, rows in ROWS.items():
        for name, (goal, parts) in rows.items():
            parts = [worst] if name == WORST else parts
            found = [[right for part in parts for right in figures[part][i]] for i in range(len(asked))]
            if not any(found):
                continue
            row = interval(found, rng) | {"group": group}
            known = [guesses[part] for part in parts if part in guesses]
            if known and name != "existence, share of yes":
                row["guesser"] = sum(right for right, _ in known) / sum(n for _, n in known)
            if name == WORST:
                row["which"] = worst
            table[name] = row | ({} if goal is None else {"goal": goal, "reached": reached(row, goal)})
    return table


def _mean(results: list[list[bool]]) -> float:
    values = [right for some in results for right in some]
    return sum(values) / len(values)


def judged(question: Question, answer: str) -> list[tuple[str, bool]]:
    """The claims of an answer as figures: those of `claims.read`, and what they come to together."""
    claims = [(claim.name, claim.right) for claim in read(question.text, answer, question.scene, question.regions)]
    topic, about, right = topic_of(question.text), question.about, dict(claims)
    obj, part = question.regions[0] if question.regions else (None, None)
    if about == "held-out":
        return [("held-out", right.get("short: kind", False) and right.get("short: colour", False))]
    if about in DRAWN:
        named = parse_phrase(answer)  # a dot may well lie on a part, and be called so
        return [(f"{about}: {name}", named[name] == getattr(obj, name)) for name in ("kind", "colour")]
    if topic == "existence":
        return [*claims, (f"existence: {about}", claims[0][1]), (YES, says_yes(answer) is True)]
    if len(question.regions) > 1 and topic in (*ATTRIBUTES, "what"):
        number = _numbers(question)[0]
        return [(f"{name.partition(': ')[2]} of region {number}", value) for name, value in claims]
    if topic == "detailed":
        claims.append(("detailed part: all" if part else "detailed: all", all(value for _, value in claims)))
        true = {claim.name for claim in read(question.text, question.truth, question.scene, question.regions)}
        claims += [(f"{name} told", name in right) for name in ("detailed: parts", "detailed: relation") if name in true]
    if part and "short part: part" in right:
        claims.append(("short part: both", right["short part: part"] and right["short part: kind"]))
    if len(question.regions) == 1 and obj.pattern != "plain":
        claims += [(f"{name}, patterned", value) for name, value in claims if name.endswith("pattern")]
    return claims


def swapped(asked: list[Question], said: list[str]) -> list[bool]:
    """Two objects of different kinds in one picture, each named with its own mask: both kinds right?"""
    named = {}
    for question, text in zip(asked, said, strict=True):
        if topic_of(question.text) == "short" and not question.about and question.regions[0].part is None:
            claims = read(question.text, text, question.scene, question.regions)
            named[question.regions[0].obj] = next(claim.right for claim in claims if claim.name == "short: kind")
    return [named[a] and named[b] for a, b in itertools.combinations(named, 2) if a.kind != b.kind]


def guesser(asked: list[Question]) -> dict[str, tuple[int, int]]:
    """For each figure, how many claims the best of the most frequent true answers gets right, of how many."""
    alike = defaultdict(list)
    for question in asked:
        alike[alike_key(question)].append(question)
    best: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for some in alike.values():
        frequent = Counter(as_form(question) for question in some).most_common(GUESSES)
        tried: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for form, _ in frequent:
            results = defaultdict(list)
            for question in some:
                for figure, right in judged(question, fill(form, question)):
                    results[figure].append(right)
            for figure, values in results.items():
                tried[figure].append((sum(values), len(values)))
        for figure, values in tried.items():
            right, n = max(values, key=lambda pair: pair[0] / pair[1])
            best[figure] = best[figure][0] + right, best[figure][1] + n
    return best


def alike_key(question: Question) -> tuple:
    """The same for questions that the same answer could fit."""
    is_part = bool(question.regions) and question.regions[0].part is not None
    return topic_of(question.text), question.about == "held-out", is_part, len(_numbers(question))


def _numbers(question: Question) -> list[str]:
    return re.findall(r"region(\d+)", plain_regions(question.text))


def as_form(question: Question) -> str:
    """The true answer with places for the numbers of regions: `{0} is larger.`"""
    numbers = _numbers(question)
    return re.sub(r"region(\d+)", lambda found: f"{{{numbers.index(found[1])}}}", plain_regions(question.truth))


def fill(form: str, question: Question) -> str:
    return form.format(*(f"region{number}" for number in _numbers(question)))
