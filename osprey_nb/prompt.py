"""The conversation as text and as token ids (notebook 06; docs/osprey.md, section 2).

    SYSTEM USER: <image>
    This provides an overview of the picture.
    What is <mask><pos>? ASSISTANT: a red bicycle</s>USER: … ASSISTANT: …</s>
    └───────────────── no loss ─────────────────┘└── loss ──┘└ no loss ┘     └─┘
"""

from __future__ import annotations

import re
from collections.abc import Sequence

IMAGE, MASK, POS = PLACEHOLDERS = ("<image>", "<mask>", "<pos>")
SYSTEM = (
    "A chat between a curious human and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the human's questions."
)
#: How the first user turn begins. "training" is also that of the LVIS and PACO evaluation; "stray_dot" that of other
#: evaluation scripts of the release, whose extra line is a slip that their numbers were measured with.
OVERVIEWS = {
    "training": "<image>\nThis provides an overview of the picture.\n",
    "demo": "<image>\n\nThis provides an overview of the picture.\n",
    "stray_dot": "<image>\n.\nThis provides an overview of the picture.\n",
}
SHORT = "Please give me a short description of <region1>. Using a short phrase."
DETAILED = "Can you give me a detailed description of <region1>?"

REGION = re.compile(r"<\s*region\s*0*([0-9]+)\s*>", re.I)  # `<Region 01>` as well; its number is "1"
_NAME = re.compile(r"<\s*region[^<>]*>", re.I)


class PromptTooLong(ValueError):
    """The prompt does not fit what the model reads."""


def checked_question(question: str) -> str:
    """A question as a person types it, with each region named `<regionN>`: `<Region 01>` becomes `<region1>`.

    Raises ValueError for a name without a number from 1 on, and for a placeholder.
    """
    for token in PLACEHOLDERS:
        if token in question:
            raise ValueError(
                f"The question holds {token}. Write <region1> to point at a region: {MASK}{POS} is what the model reads in its "
                "place. The picture needs no name."
            )
    for name in _NAME.findall(question):
        number = REGION.fullmatch(name)
        if not number or number[1] == "0":
            raise ValueError(f"{name} names no region. Write <region1>, <region2>, …: regions count from 1.")
    return REGION.sub(r"<region\1>", question)


def place_regions(questions: Sequence[str], n_regions: int, inline: bool) -> tuple[list[str], list[int]]:
    """Turn `<regionN>` into what the model reads. Returns the questions and, for each `<mask><pos>` pair, its region (0-based).

    `inline=True` puts the pair where the name stands. `inline=False` announces all regions in the first question
    (`region1<mask><pos>,region2<mask><pos>. `) and then names them `region1`, `region2` …
    Raises ValueError when the text names a region that was not given, or (inline) leaves one out; see `checked_question`, too.
    """
    questions = [checked_question(question) for question in questions]
    named = [int(n) for question in questions for n in REGION.findall(question)]
    for n in named:
        if n > n_regions:
            given = "1 region was" if n_regions == 1 else f"{n_regions} regions were"
            raise ValueError(f"The text names <region{n}>, but {given} given (regions count from 1).")
    if inline:
        left_out = sorted(set(range(1, n_regions + 1)) - set(named))
        if left_out:
            raise ValueError(f"{n_regions} regions were given, but the text never names <region{left_out[0]}>.")
        return [REGION.sub(MASK + POS, question) for question in questions], [n - 1 for n in named]
    questions = [REGION.sub(r"region\1", question) for question in questions]
    if n_regions and questions:
        announced = ",".join(f"region{n}{MASK}{POS}" for n in range(1, n_regions + 1))
        questions[0] = f"{announced}. {questions[0]}"
    return questions, list(range(n_regions))


def plain_regions(answer: str) -> str:
    """Answers name regions in plain words: `<region2>` → `region2`."""
    return REGION.sub(r"region\1", answer)


def conversation(
    turns: Sequence[tuple[str, str | None]],
    system: str = SYSTEM,
    overview: str = "training",
    with_image: bool = True,
    eos: str = "</s>",
) -> list[tuple[str, bool]]:
    """Pieces of text and whether they carry loss. The last answer may be None: the model is to write it.

    `overview` is a key of `OVERVIEWS`; `eos` is the end token of the LLM's tokenizer (`</s>` for Vicuna).
    """
    pieces = [(system + " ", False)] if system else []
    for i, (question, answer) in enumerate(turns):
        opening = OVERVIEWS[overview] if i == 0 and with_image else ""
        pieces.append((f"USER: {opening}{question} ASSISTANT:", False))
        if answer is not None:
            pieces.append((f" {plain_regions(answer)}{eos}", True))
    return pieces
