"""The questions that training asks, by topic: which one is it, and what else does it say?

    "Is <region2> above <region1>?"  ──matched──▶  "relation?", {"direction": "above"}
"""

from __future__ import annotations

import re

from ..data.dialogues import (
    BESIDE_QUESTIONS,
    COLOUR_QUESTIONS,
    DETAILED_QUESTIONS,
    FREE_QUESTIONS,
    OBJECT_QUESTIONS,
    ONE_WORD,
    PART_QUESTIONS,
    PIECE_QUESTIONS,
    YES_NO,
)
from ..data.language import CAPTION_QUESTIONS, CATEGORY_QUESTIONS, EXISTENCE_QUESTIONS, FINDING_QUESTIONS, SHORT_QUESTIONS
from ..data.phrases import BESIDE
from ..prompt import plain_regions

WHAT = "What is {}?"  # asked for a phrase and for a category alike
#: Where a question fits two topics, the first counts. Those of conversations stand in no list of the data.
WORDINGS: dict[str, tuple[str, ...]] = {
    "caption": CAPTION_QUESTIONS,
    "background": ("Where is this?",),
    "existence": tuple(EXISTENCE_QUESTIONS),
    "colour of the only": tuple(wording.format("{only}") for wording in FINDING_QUESTIONS["kind"]),
    "kind of the only": tuple(wording.format("{only}") for wording in FINDING_QUESTIONS["colour"]),
    "detailed": tuple(DETAILED_QUESTIONS),
    "short": tuple(question for question in SHORT_QUESTIONS if question != WHAT),
    "what": (WHAT,),
    "kind": (*CATEGORY_QUESTIONS, *FREE_QUESTIONS["kind"], *OBJECT_QUESTIONS["kind"], *PIECE_QUESTIONS),
    "colour": (*COLOUR_QUESTIONS, *FREE_QUESTIONS["colour"]),
    "pattern": (*FREE_QUESTIONS["pattern"], *OBJECT_QUESTIONS["pattern"]),
    "size": (*FREE_QUESTIONS["size"], *OBJECT_QUESTIONS["size"]),
    "place": (*FREE_QUESTIONS["place"], *OBJECT_QUESTIONS["place"]),
    "part": PART_QUESTIONS["part"],
    "owner": PART_QUESTIONS["owner"],
    "owner's colour": PART_QUESTIONS["owner's colour"],
    "named": ("What are {several}?",),
    "parts": ("Which parts of {} can be seen?",),
    "larger": ("Which is larger, {} or {}?",),
    "relation": ("Where is {} with respect to {}?",),
    "relation?": ("Is {} {direction} {}?",),
    "beside": tuple(BESIDE_QUESTIONS),
    "same": ("Are {} and {} of the same {attribute}?",),
    "yes or no": FREE_QUESTIONS["claim"],
}
_FORMS = {
    "direction": f"(?P<direction>{'|'.join(BESIDE)})", "claim": "(?P<claim>.+)", "attribute": "(?P<attribute>colour|kind)",
    "kind": r"\w+", "only": r"(?P<only>[a-z]+)", "several": r"region\d+(?:, region\d+)*(?: and region\d+)?",
}  # fmt: skip


def topic_of(question: str) -> str:
    """The topic of a question. Raises ValueError for one that training doesn't ask."""
    return matched(question)[0]


def matched(question: str) -> tuple[str, dict[str, str]]:
    """The topic of a question, and what else it says by name. Raises ValueError for one that training doesn't ask."""
    question = plain_regions(question)
    for topic, pattern in _PATTERNS:
        if found := pattern.fullmatch(question):
            return topic, found.groupdict()
    raise ValueError(f"{question!r} is no question that training asks; its claims can't be read.")


def _pattern(wording: str) -> re.Pattern:
    """Matches a wording with any region, or any words, in its places; what is asked of the form of the answer may follow."""
    text = re.escape(wording)
    for name, form in _FORMS.items():
        text = text.replace(re.escape(f"{{{name}}}"), form)
    text = text.replace(r"\{\}", r"(?P<kind>an? \w+)" if wording in EXISTENCE_QUESTIONS else r"region\d+")
    return re.compile(f"{text}(?: {re.escape(ONE_WORD)}| {re.escape(YES_NO)})?")


_PATTERNS = [(topic, _pattern(wording)) for topic, wordings in WORDINGS.items() for wording in wordings]
