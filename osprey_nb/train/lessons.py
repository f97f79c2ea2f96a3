"""Stage 0: lessons that grow. How a small LM learns to use its image, mask and spatial tokens (notebook 07).

    level 0        cat Yes dog No …            colour 2 red size 1 large …
    level 3        there a cat in the image?   … colour is region2? Answer … ASSISTANT: red
    the last       the whole prompt: system text, image, overview, questions in full

Shown whole conversations from the start, an LM of this size looks away: it learns which answers are common, and what it would
have to look up drowns between words that are always the same. So a lesson begins as the words that matter and their answers,
many questions behind one picture, and grows by a few tokens before and after whenever its answers are right. Each skill has a
level of its own, and lower levels stay in the mixture. What builds on another skill waits until that one has grown once: to
find "is there a cat?" takes a look at the right cell, which "what colour is the cat?" teaches with more bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from ..data import language
from ..data.collate import TOKENS, ahead
from ..data.phrases import PARTS, SEVERAL
from ..data.record import Record
from ..data.scenes import BACKGROUNDS, COLOURS, KINDS, PATTERNS, SIZES, Scene
from ..model import IGNORE, Osprey
from ..processor import OspreyProcessor
from .stand_ins import Named, StandIns, Sums, joined, read_words

#: How many tokens on either side of a word that matters are kept, level by level; the last keeps all.
REACH = (0, 1, 2, 3, 4, 6, 8, 12, 18, 30, None)
HALF_GROWN = 4  # level at which a model that has learnt them before begins
REMEMBERED = 0.9  # weight of what was before in the running share of right answers
MASTERED, REFRESHED = 0.95, 0.25  # a skill of so many right answers to whole prompts takes part in so many of its lessons
LEAST_STEPS = 12  # at a level
CURRENT = 0.7  # of the lessons are of their skill's level, the others of lower ones
FEW_CELLS = 24  # of an image, below the last level: enough to show every object
LONGEST, LONGEST_WHOLE = 96, 224  # tokens of text below the last level, and at it: short lessons hold more questions
SKILLS_A_STEP = 4


@dataclass(frozen=True)
class Skill:
    """A maker of records (data/language.py), how often it is taught and in how many samples, whether its answers need the
    image, and what share of them must be right, in every word that counts, for it to grow: fewer where several would be true.
    It begins when all that it builds on (`after`) have grown once."""

    make: Callable[[Scene, np.random.Generator], Record]
    weight: float = 1
    rows: int = 6
    image: bool = False
    passed: float = 0.9
    after: tuple[str, ...] = ()


SKILLS = {
    "finding": Skill(language.finding, 1.5, image=True),
    "existence": Skill(partial(language.existence, most=6), 1.5, image=True, after=("finding",)),
    "captions": Skill(language.caption, 2, rows=12, image=True, passed=0.8, after=("finding",)),
    "descriptions": Skill(partial(language.describe_detailed, limit=3), 2, rows=12, image=True, passed=0.7),
    "surroundings": Skill(language.surroundings, 2.5, rows=12, image=True, passed=0.8, after=("finding",)),
    "numbers": Skill(language.numbers, 1.5, rows=12),
    "questions": Skill(partial(language.asking, each=6), 2, rows=18),
    "comparisons": Skill(language.comparisons, 4, rows=18, passed=0.85, after=("numbers",)),
    "alike": Skill(language.alike, 2.5, rows=36, after=("numbers",)),
    "conversations": Skill(language.conversation, passed=0.8, after=("comparisons",)),
    "names": Skill(language.describe_short),
    "parts": Skill(language.part_level, after=("names",)),
    "words": Skill(language.short_form, 2, rows=18, after=("names",)),
    "claims": Skill(partial(language.positive_negative, limit=1, each=6), 2.5, rows=12, after=("names",)),
}
FACTS = (*KINDS, *COLOURS, *PATTERNS, *SIZES, *PARTS, *(word for parts in SEVERAL.values() for word in parts.values()))
FACTS += ("Yes", "No", "left", "right", "above", "below", "and", "top", "bottom", "middle", *" ".join(BACKGROUNDS).split())
FORMS = (":", ",", ".", "the", "to", "on", "at", "in")  # with which an answer goes one way or another
PLAIN = 0.1  # weight of the other words of an answer, which nearly always are the same: a fact would drown between them
JUDGED = ("yes", "no")  # what a comparison ends with; in a question they only tell the form of the answer
ASKED = (
    "colour", "color", "pattern", "size", "large", "Where", "kind", "larger", "same", "respect", "parts", "part", "belong",
    "category", "detail", "detailed", "Describe", "description", "image", "picture", "short", "this",
)  # fmt: skip


@dataclass
class Sample:
    """A record as tokens, and what stands in for what it shows. `few` are cells that show every object."""

    id: str
    ids: Tensor
    labels: Tensor
    cells: Named
    few: np.ndarray
    regions: Named
    places: Named


@dataclass
class Lesson:
    """Samples of a skill. `lower` is None, or says how far below the skill's level they are, from 0 to 1."""

    skill: str
    lower: float | None
    samples: list[Sample]


@dataclass
class Batch:
    """The lessons of one step; as long as they have samples."""

    lessons: list[Lesson]

    def __len__(self) -> int:
        return sum(len(lesson.samples) for lesson in self.lessons)


class Lessons(nn.Module):
    """What `fit` minimises in this stage: the mean loss of a batch's lessons. Their levels rise on the way."""

    def __init__(self, model: Osprey):
        super().__init__()
        self.model, self.sums = model, Sums(model.config.text_config.hidden_size)
        for name, kind in (("level", torch.long), ("steps", torch.long), ("right", torch.float)):
            self.register_buffer(name, torch.zeros(len(SKILLS), dtype=kind))
        tokenizer, vocabulary = model.processor.tokenizer, model.config.text_config.vocab_size
        numbers = [tokenizer(f"region{n}", add_special_tokens=False)["input_ids"][-1] for n in range(1, 10)]
        facts = _tokens(tokenizer, FACTS, vocabulary).index_fill(0, torch.tensor(numbers), True)
        self.register_buffer("facts", facts | _tokens(tokenizer, JUDGED, vocabulary), persistent=False)
        telling = self.facts | _tokens(tokenizer, (*FORMS, tokenizer.eos_token), vocabulary)
        self.register_buffer("weights", torch.where(telling, 1.0, PLAIN), persistent=False)
        self.matters = facts | _tokens(tokenizer, ASKED, vocabulary)  # samples are thinned on the CPU

    def levels(self) -> dict[str, int]:
        """How far each skill has grown; `len(REACH) - 1` is the whole prompt."""
        return dict(zip(SKILLS, self.level.tolist(), strict=True))

    def forward(self, batch: Batch) -> Tensor:
        lots = torch.rand(len(batch.lessons)).tolist()
        lessons = [lesson for lesson, lot in zip(batch.lessons, lots, strict=True) if self._due(lesson.skill, lot)]
        lessons = lessons or batch.lessons[:1]
        return sum(self._loss(lesson) for lesson in lessons) / len(lessons)

    def _due(self, skill: str, lot: float) -> bool:
        """Has what it builds on begun to grow, and is there something left to learn?"""
        grown, number = self.levels(), list(SKILLS).index(skill)
        mastered = grown[skill] == len(REACH) - 1 and self.right[number] > MASTERED
        return all(grown[name] > 0 for name in SKILLS[skill].after) and not (mastered and lot > REFRESHED)

    def _loss(self, lesson: Lesson) -> Tensor:
        number, device = list(SKILLS).index(lesson.skill), self.model.device
        level = int(self.level[number] * (1 if lesson.lower is None else lesson.lower))
        last = level == len(REACH) - 1
        image = last or SKILLS[lesson.skill].image
        rows = [self._thinned(sample, REACH[level], image) for sample in lesson.samples]
        ids, labels = (
            self.model.processor.padded(list(row), value, TOKENS).to(device)
            for row, value in zip(zip(*rows, strict=True), (0, IGNORE), strict=True)
        )
        cells = joined([x.cells if last else x.cells[x.few] for x in lesson.samples]) if image else None
        counts = [int((row[0] == self.model.config.mask_token_id).sum()) for row in rows]
        regions, places = (
            joined([getattr(x, key)[:n] for x, n in zip(lesson.samples, counts, strict=True)]) for key in ("regions", "places")
        )
        spliced = read_words(self.model, self.sums, ids, labels, cells, regions, places)

        # logits only where an answer's token is predicted; padding stands on the right, where causal attention never looks
        hidden = self.model.llm.base_model(inputs_embeds=spliced.embeds, use_cache=False).last_hidden_state
        answered = spliced.labels[:, 1:] != IGNORE
        logits = self.model.llm.get_output_embeddings()(hidden[:, :-1][answered]).float()
        said = spliced.labels[:, 1:][answered]
        if lesson.lower is None:
            self._grow(number, right_answers(answered, (logits.argmax(-1) == said) | ~self.facts[said]))
        return F.cross_entropy(logits, said, self.weights)

    @torch.no_grad()
    def _grow(self, number: int, right: Tensor) -> None:
        """A skill whose answers are right goes up a level; `right` holds a number for each answer."""
        self.steps[number] += 1
        self.right[number] += (1 - REMEMBERED) * (right.mean() - self.right[number])
        passed = self.right[number] > list(SKILLS.values())[number].passed
        if self.steps[number] >= LEAST_STEPS and passed and self.level[number] < len(REACH) - 1:
            self.level[number] += 1
            self.steps[number], self.right[number] = 0, 0

    def _thinned(self, sample: Sample, reach: int | None, image: bool) -> tuple[Tensor, Tensor]:
        """ids and labels without what stands further than `reach` from a word that matters, cut where they become too long."""
        ids, labels, config = sample.ids, sample.labels, self.model.config
        if reach is None:
            return self._cut(ids, labels, LONGEST_WHOLE)
        is_image = ids == config.image_token_id
        matters = self.matters[ids] | (labels != IGNORE) | (ids == config.mask_token_id) | (ids == config.pos_token_id)
        matters[0] = True
        matters = torch.where(is_image, image, matters)
        kept = F.max_pool1d(matters.float()[None], 2 * reach + 1, 1, reach)[0] > 0
        kept &= ~is_image | image
        return self._cut(ids[kept], labels[kept], LONGEST)

    def _cut(self, ids: Tensor, labels: Tensor, longest: int) -> tuple[Tensor, Tensor]:
        """The answers that fit, the first at any rate."""
        ends = (labels == self.model.processor.tokenizer.eos_token_id).nonzero()[:, 0] + 1
        end = ends[max(int((ends <= longest).sum()) - 1, 0)]
        return ids[:end], labels[:end]


def right_answers(answered: Tensor, right: Tensor) -> Tensor:
    """1 for each answer of which all tokens are right, else 0. `answered` B×T tells where answers' tokens stand, `right` holds
    one number for each of them."""
    begins = answered & ~F.pad(answered, (1, 0))[:, :-1]
    answer = begins.flatten().cumsum(0)[answered.flatten()] - 1
    wrong = torch.zeros(int(begins.sum()), device=right.device).index_add(0, answer, (~right).float())
    return (wrong == 0).float()


def lesson_batches(
    scenes: list[Scene], processor: OspreyProcessor, seed: int, start: int = 0, lane: int = 0, lanes: int = 1, times: int = 1
) -> Iterator[Batch]:
    """Endless batches of `SKILLS_A_STEP` lessons of their skills' rows, `times` as many, made ahead, from step `start` on."""
    stand_ins, weights = StandIns(processor), np.array([skill.weight for skill in SKILLS.values()])

    def lesson(skill: str, rng: np.random.Generator) -> Lesson:
        lower = None if rng.random() < CURRENT else rng.random()
        return Lesson(skill, lower, [draw(SKILLS[skill].make, rng) for _ in range(times * SKILLS[skill].rows)])

    def draw(make: Callable, rng: np.random.Generator) -> Sample:
        while True:
            scene = scenes[int(rng.integers(len(scenes)))]
            record = make(scene, rng)
            if record.turns:
                break
        text = processor.text(record.turns, len(record.regions), record.inline)
        cells = stand_ins.cells(scene)
        few = few_cells(cells, rng)
        regions, places = stand_ins.regions(scene, [record.regions[i] for i in text["order"]])
        return Sample(record.id, text["input_ids"], text["labels"], cells, few, regions, places)

    def step(number: int) -> list[Batch]:
        rng = np.random.default_rng([seed, lanes * number + lane])
        chosen = rng.choice(list(SKILLS), SKILLS_A_STEP, replace=False, p=weights / weights.sum())
        return [Batch([lesson(str(skill), rng) for skill in chosen])]

    return ahead(step, start)


def few_cells(cells: Named, rng: np.random.Generator) -> np.ndarray:
    """`FEW_CELLS` of an image's cells, in order: one at least of everything that it shows."""
    order = rng.permutation(len(cells.ids))
    _, first = np.unique(cells.ids[order], axis=0, return_index=True)
    rest = np.delete(order, first)
    return np.sort(np.concatenate([order[first], rest])[:FEW_CELLS])


def _tokens(tokenizer: PreTrainedTokenizerBase, words: Iterable[str], vocabulary: int) -> Tensor:
    """V bool: which tokens are one of these words, with a space before it or without."""
    found = torch.zeros(vocabulary, dtype=torch.bool)
    for word in words:
        for ids in tokenizer([word, f" {word}"], add_special_tokens=False)["input_ids"]:
            if len(ids) == 1:
                found[ids] = True
    return found
