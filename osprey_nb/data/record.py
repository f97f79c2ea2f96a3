"""One training sample, whatever file it came from (docs/osprey.md, section 4; built by hand in notebook 06).

    Record ── image    path, or H×W×3 uint8
           ├─ regions  in the order of <region1>, <region2>, …; masks, R×H×W bool, are made of them when asked for
           └─ turns    (question, answer) pairs; the text points at regions by <regionN>
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from ..masks import to_masks
from ..prompt import REGION


class RegionNameError(ValueError):
    """A text names a region that has no mask."""


@dataclass(frozen=True)
class Record:
    """An image, its regions, and what is said about them.

    `regions` is an R×H×W bool array, or a list of what `masks.to_masks` takes (RLE, polygons, PNGs …), which needs `size`, the
    image's (H, W). A record without regions is an image-text pair.

    `inline=True` puts a region's `<mask><pos>` pair where its name stands in a question (COCO, RefCOCO, parts,
    positive/negative files). `inline=False` announces all regions in the first turn, then calls them `region1`,
    `region2` … by name (short-form, conversation and detailed files).
    """

    id: str
    source: str
    image: np.ndarray | Path
    regions: np.ndarray | Sequence = ()
    turns: list[tuple[str, str]] = field(default_factory=list)
    inline: bool = False
    size: tuple[int, int] | None = None

    @cached_property
    def masks(self) -> np.ndarray:
        """R×H×W bool. Raises what `to_masks` raises for a region that cannot be decoded or is empty."""
        if isinstance(self.regions, np.ndarray):
            return self.regions
        return to_masks(list(self.regions), self.size) if len(self.regions) else np.zeros((0, 1, 1), bool)

    def with_turns(self, turns: list[tuple[str, str]]) -> Record:
        """The same record with other turns. Regions that no question names are left out if `inline`: they have no place there.

        Raises ValueError when a question names a region that there isn't.
        """
        if not self.inline:
            return replace(self, turns=turns)
        named = sorted({int(n) for question, _ in turns for n in REGION.findall(question)})
        if named and not 1 <= named[0] <= named[-1] <= len(self.regions):
            wrong = named[0] if named[0] < 1 else named[-1]
            raise RegionNameError(f"the text names <region{wrong}>; there are {len(self.regions)} regions")
        new = {str(old): i for i, old in enumerate(named, 1)}

        def renumber(text: str) -> str:
            return REGION.sub(lambda match: f"<region{new.get(match[1], match[1])}>", text)

        regions = [self.regions[n - 1] for n in named]
        if isinstance(self.regions, np.ndarray):
            regions = self.regions[[n - 1 for n in named]]
        return replace(self, regions=regions, turns=[(renumber(q), renumber(a)) for q, a in turns])
