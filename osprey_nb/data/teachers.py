"""Who writes the texts of curated data (notebook 06): rules, a model on this machine, or a model behind a URL.

    Facts, things, kind ──┬─ Rules                                               ──► (question, answer) pairs
                          └─ Model(ask) ── brief ──► ask ──► JSON ── parsed ──────┘
                                                     ├─ local_model(name)         transformers, any causal LM
                                                     └─ Endpoint(url, model)      OpenAI's chat interface

A teacher is whatever has `write(kind, facts, things, rng)`. It never sees the picture: only what the annotations say.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .curate import Facts, Thing
from .phrases import article, listed, pick, shuffled

CLEAR = 0.12  # of the picture's side: centres that differ by less are neither left nor right
LARGER = 1.6  # times the pixels
CHARACTERS_PER_TOKEN = 4
ANSWER_TOKENS = 300


# --- rules --------------------------------------------------------------------------------------------------


class Rules:
    """Says what follows from categories, attributes, places and sizes. Needs nothing; the same seed says the same."""

    def write(self, kind: str, facts: Facts, things: list[Thing], rng: np.random.Generator) -> list[tuple[str, str]]:
        return getattr(self, kind)(facts, things, rng)

    def osprey_short_form(self, facts, things, rng):
        turns = []
        for n, thing in enumerate(things, 1):
            asked = [(f"What is <region{n}>?", thing.category if not thing.part else f"{thing.category}:{thing.part}")]
            if thing.part:
                asked += [(f"Which object does <region{n}> belong to?", thing.category)]
            elif thing.group and thing.group != thing.category:
                asked += [(f"Which group of things does <region{n}> belong to?", thing.group)]
            asked += [(f"Where in the picture is <region{n}>?", where(thing))]
            asked += [(f"Which word describes <region{n}>?", pick(rng, thing.attributes))] if thing.attributes else []
            asked += [
                (f"Where is <region{n}> as seen from <region{m}>?", relation)
                for m, other in enumerate(things, 1) if m != n and (relation := seen_from(thing, other))
            ][:1]  # fmt: skip
            turns.append(pick(rng, asked))
        return shuffled(rng, turns)

    def osprey_conversation(self, facts, things, rng):
        a, b = things[:2]
        turns = [("What are <region1> and <region2>?", f"<region1> is {said(a)} and <region2> is {said(b)}.")]
        same = f"Yes, each is {article(a.category)}." if a.category == b.category else (
            f"No, <region1> is {article(a.category)} and <region2> is {article(b.category)}."
        )
        more = [("Are <region1> and <region2> of the same kind?", same)]
        if relation := seen_from(a, b):
            more.append(("Where is <region1> with respect to <region2>?", f"<region1> is {relation} <region2>."))
        if max(a.share, b.share) > LARGER * min(a.share, b.share):
            larger = 1 if a.share > b.share else 2
            more.append(("Which takes more of the picture, <region1> or <region2>?", f"<region{larger}> does."))
        if facts.captions:
            more.append(("What is going on in the picture?", pick(rng, facts.captions)))
        more += [(f"And <region{n}>?", f"<region{n}> is {said(thing)}.") for n, thing in enumerate(things[2:3], 3)]
        return turns + shuffled(rng, more)[: int(rng.integers(1, 4))]

    def osprey_detail_description(self, facts, things, rng):
        turns = []
        for n, thing in enumerate(things, 1):
            sentences = [f"This is {said(thing)} {where(thing)} of the picture."]
            if len(thing.attributes) > 1:
                sentences.append(f"It can be called {listed(list(thing.attributes))}.")
            near = [f"It is {relation} {said(o)}." for o in things if o is not thing and (relation := seen_from(thing, o))]
            sentences += near[:1]
            sentences.append(f"It takes up {how_much(thing.share)} of the picture.")
            turns.append((f"<region{n}>", " ".join([*sentences, thing.caption]).strip()))
        return turns

    def osprey_part_level(self, facts, things, rng):
        return [
            pick(rng, [
                (f"What is the category of <region{n}>?", f"{thing.category}:{thing.part}"),
                (f"Which part of {article(thing.category)} is <region{n}>?", thing.part),
            ])
            for n, thing in enumerate(things, 1)
        ]  # fmt: skip


def said(thing: Thing) -> str:
    """`a wooden chair`, `the wheel of a bicycle`."""
    if thing.part:
        return f"the {thing.part} of {article(thing.category)}"
    return article(f"{thing.attributes[0]} {thing.category}" if thing.attributes else thing.category)


def where(thing: Thing) -> str:
    """One of nine places, as in a picture cut in thirds."""
    x, y = (min(2, int(3 * v)) for v in thing.centre)
    across, down = ("left", "", "right")[x], ("top", "", "bottom")[y]
    if not across and not down:
        return "in the middle"
    return f"at the {down} {across}".rstrip() if down else f"on the {across}"


def seen_from(thing: Thing, other: Thing) -> str:
    """Where `thing` is with respect to `other`, or "" where that is not clear."""
    dx, dy = (a - b for a, b in zip(thing.centre, other.centre, strict=True))
    if max(abs(dx), abs(dy)) < CLEAR:
        return ""
    if abs(dx) >= abs(dy):
        return "to the left of" if dx < 0 else "to the right of"
    return "above" if dy < 0 else "below"


def how_much(share: float) -> str:
    """A share of the picture in words."""
    steps = {0.05: "a small part", 0.15: "about a tenth", 0.3: "about a quarter", 0.6: "about half"}
    return next((words for most, words in steps.items() if share < most), "most")


# --- language models ----------------------------------------------------------------------------------------

TASKS = {
    "osprey_short_form": "Write one question about each region that a single word or phrase answers.",
    "osprey_conversation": "Write two to four questions about the regions, what they are and how they relate, with answers.",
    "osprey_detail_description": "Describe each region in detail, in one to three sentences; the question is its name.",
    "osprey_part_level": "Write one question about the category or look of each part that a single word or phrase answers.",
}
RULES = (
    "Speak as if you saw the picture. Say nothing that does not follow from the facts. "
    "Call the regions <region1>, <region2>, … only. Never mention boxes, coordinates, captions or annotations. "
    'Answer with JSON alone: [{"question": "…", "answer": "…"}, …]'
)


def brief(kind: str, facts: Facts, things: list[Thing]) -> str:
    """What a model is told: the facts of an image, what to write, and the rules."""
    lines = [TASKS[kind], RULES, "", "The picture:"]
    lines += [f"- {caption}" for caption in facts.captions] or ["- nobody has described it"]
    lines.append("Its regions, with their boxes (x0, y0, x1, y1) from 0 to 1:")
    for n, thing in enumerate(things, 1):
        more = "; ".join([*thing.attributes, *filter(None, [thing.caption])])
        name = f"{thing.category}:{thing.part}" if thing.part else thing.category
        lines.append(f"- <region{n}>: {name}{f' ({more})' if more else ''}, box {tuple(round(v, 2) for v in thing.box)}")
    return "\n".join(lines)


@dataclass
class Model:
    """A language model as a teacher. `ask` takes a text and gives one; what it says that is no list of pairs is counted."""

    ask: Callable[[str], str]
    refused: int = 0

    def write(self, kind, facts, things, rng) -> list[tuple[str, str]]:
        said = self.ask(brief(kind, facts, things))
        try:
            turns = json.loads(said[said.index("[") : said.rindex("]") + 1])
            return [(str(turn["question"]), str(turn["answer"])) for turn in turns]
        except (ValueError, KeyError, TypeError):
            self.refused += 1
            return []


def local_model(name: str, max_new_tokens: int = ANSWER_TOKENS) -> Callable[[str], str]:
    """Any transformers causal LM with a chat template, from the hub or a folder, greedy."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(name)
    model = AutoModelForCausalLM.from_pretrained(name, dtype="auto").eval()

    def ask(text: str) -> str:
        if tokenizer.chat_template:
            turn = {"role": "user", "content": text}
            text = tokenizer.apply_chat_template([turn], add_generation_prompt=True, tokenize=False)
        inputs = tokenizer(text, return_tensors="pt", add_special_tokens=not tokenizer.chat_template)
        written = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
        return tokenizer.decode(written[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)

    return ask


@dataclass
class Endpoint:
    """A model behind a URL that speaks OpenAI's chat interface (`…/v1`): OpenAI, vLLM, Ollama, llama.cpp and others.

    Answers are kept in `cache`, a file of JSON lines: after a kill, or a second time, what was paid for is not asked again.
    `per_minute` bounds the requests. A refusal for load (429) or a fault of the server (5xx) is tried again, longer and longer
    apart, `retries` times; any other refusal raises RuntimeError at once. The key is read from the variable `key_from`.
    """

    url: str
    model: str
    cache: Path
    per_minute: float = 60
    retries: int = 5
    key_from: str = "OPENAI_API_KEY"
    wait: float = 1.0  # seconds before the second try; doubled each time
    asked: int = 0
    _answers: dict[str, str] = field(default_factory=dict)
    _next: float = 0.0

    def __post_init__(self):
        self.cache = Path(self.cache)
        if self.cache.exists():
            for line in self.cache.read_text(encoding="utf-8").splitlines():
                try:
                    entry = json.loads(line)
                    self._answers[entry["key"]] = entry["answer"]
                except (ValueError, KeyError):
                    continue  # the last line of a run that was killed

    def __call__(self, text: str) -> str:
        key = hashlib.sha256(f"{self.url}\n{self.model}\n{text}".encode()).hexdigest()
        if key not in self._answers:
            answer = self._ask(text)
            self.cache.parent.mkdir(parents=True, exist_ok=True)
            with open(self.cache, "a", encoding="utf-8") as file:
                file.write("\n" * self._torn() + json.dumps({"key": key, "answer": answer}, ensure_ascii=False) + "\n")
            self._answers[key] = answer
        return self._answers[key]

    def _torn(self) -> bool:
        """Does the file end in the middle of a line?"""
        if not self.cache.exists() or not self.cache.stat().st_size:
            return False
        with open(self.cache, "rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"

    def _ask(self, text: str) -> str:
        messages = [{"role": "user", "content": text}]
        body = {"model": self.model, "messages": messages, "temperature": 0, "max_tokens": ANSWER_TOKENS}
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(self.key_from):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(f"{self.url.rstrip('/')}/chat/completions", json.dumps(body).encode(), headers)
        for attempt in range(self.retries + 1):
            time.sleep(max(0.0, self._next - time.monotonic()))
            self._next = time.monotonic() + 60 / self.per_minute
            self.asked += 1
            try:
                with urllib.request.urlopen(request, timeout=120) as reply:
                    return json.load(reply)["choices"][0]["message"]["content"]
            except urllib.error.HTTPError as error:
                again = error.code == 429 or error.code >= 500
                why = f"{error.code} {' '.join(error.read().decode(errors='replace').split())[:200]}"
            except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
                again, why = True, str(getattr(error, "reason", error))
            except (ValueError, KeyError, IndexError, TypeError) as error:
                again, why = False, f"an answer in another form ({type(error).__name__}: {error})"
            if not again or attempt == self.retries:
                raise RuntimeError(
                    f"{self.url} with model {self.model}: {why}, after {attempt + 1} tries. {len(self._answers):,} answers are "
                    f"kept in {self.cache}; the same command goes on from there."
                )
            time.sleep(self.wait * 2**attempt)
        raise AssertionError("the last try returns or raises")


def cost(prompts: list[str], price_in: float, price_out: float) -> float:
    """What asking all prompts would cost, in the currency of the prices per million tokens; tokens are estimated."""
    read = sum(len(prompt) for prompt in prompts) / CHARACTERS_PER_TOKEN
    return (read * price_in + len(prompts) * ANSWER_TOKENS * price_out) / 1e6
