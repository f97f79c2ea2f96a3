"""One training sample, whatever file it came from (paper section 4; built by hand in notebook 06).

    Record ── image    path, or H×W×3 uint8
           ├─ masks    R×H×W bool, in the order of <region1>, <region2>, …
           └─ turns    (question, answer) pairs; the text points at regions by <regionN>
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Record:
    """An image, its regions, and what is said about them.

    `inline=True` puts a region's `<mask><pos>` pair where its name stands in a question (COCO, RefCOCO, parts,
    positive/negative files). `inline=False` announces all regions in the first turn, then calls them `region1`,
    `region2` … by name (short-form, conversation and detailed files). A record without masks is an image-text pair.
    """

    id: str
    source: str
    image: np.ndarray | Path
    masks: np.ndarray | None
    turns: list[tuple[str, str]] = field(default_factory=list)
    inline: bool = False
