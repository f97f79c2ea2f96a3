"""The rows of `osprey-nb eval`: which claims they count, what must carry them, and what the shipped tiny has to reach."""

from __future__ import annotations

from .questions import ABSENT, MOST_REGIONS

ATTRIBUTES = ("kind", "colour", "pattern", "size", "place")
YES = "existence: says yes"
WORST = "worst of the twenty"
#: One attribute of one numbered region: `colour of region 2`.
CELLS = {about: [f"{about} of region {k}" for k in range(1, MOST_REGIONS + 1)] for about in ATTRIBUTES}
#: Hand-drawn masks, kind and colour: what the weights before these had (235 objects). It must lie within the interval.
DRAWN = {
    "exact": (0.996, 1), "box": (0.966, 0.987), "grown": (0.996, 0.996), "shrunk": (0.996, 1), "lasso": (0.966, 0.983),
    "brush": (0.970, 0.991), "dot": (0.78, 0.95),
}  # fmt: skip

#: {group: {row: (goal or None, the figures that it counts)}}. Two numbers are a range.
ROWS: dict[str, dict[str, tuple[float | tuple[float, float] | None, list[str]]]] = {
    "mask token": {
        "kind": (0.99, ["short: kind"]),
        "colour": (0.99, ["short: colour"]),
        "held-out kind and colour": (0.97, ["held-out"]),
        "pattern, of patterned objects": (0.93, ["short: pattern, patterned"]),
        "pattern, of all": (None, ["short: pattern"]),
        "part": (0.94, ["short part: part"]),
        "part and its object": (None, ["short part: both"]),
        "kind of a part's object": (None, ["short part: kind"]),
        "colour of a part's object": (None, ["short part: colour"]),
        "pattern of a part's object": (None, ["short part: pattern"]),
        "swap, one region": (None, ["swap"]),
        "kind, asked": (None, ["asked: kind"]),
        "colour, asked": (None, ["asked: colour"]),
        "pattern, asked": (None, ["asked: pattern"]),
        "pattern, asked, of patterned objects": (None, ["asked: pattern, patterned"]),
        "part, asked": (None, ["asked part: part"]),
        "a part's object, asked": (None, ["asked part: kind", "asked part: owner"]),
        "colour of a part's object, asked": (None, ["asked part: owner's colour"]),
        "colour of a part, asked": (None, ["asked part: colour"]),
        "described: kind": (None, ["detailed: kind"]),
        "described: colour": (None, ["detailed: colour"]),
        "described: pattern": (None, ["detailed: pattern"]),
        "described: parts that it names": (None, ["detailed: parts"]),
        "described: parts are named": (None, ["detailed: parts told"]),
        "described part: part": (None, ["detailed part: part"]),
        "described part: its colour": (None, ["detailed part: own colour"]),
        "described part: kind of object": (None, ["detailed part: kind"]),
        "described part: colour of object": (None, ["detailed part: colour"]),
        "described part: pattern of object": (None, ["detailed part: pattern"]),
    },
    "spatial token": {
        "place, asked": (0.95, ["asked: place"]),
        "place, described": (0.95, ["detailed: place"]),
        "place of a part, described": (None, ["detailed part: place"]),
        "size, asked": (0.95, ["asked: size"]),
        "size, described": (0.95, ["detailed: size", "detailed part: size", "short: size", "short part: size"]),
    },
    "image tokens": {
        "existence": (0.95, ["existence"]),
        "existence, is there": (None, ["existence: present"]),
        **{f"existence, absent: {how}": (None, [f"existence: {how}"]) for how in ABSENT},
        "existence, share of yes": ((0.45, 0.55), [YES]),
        "caption: named objects are there": (0.95, ["caption: named"]),
        "caption: objects are named": (0.85, ["caption: found"]),
        "caption: background": (0.97, ["caption: background"]),
        "background, asked": (None, ["background"]),
        "colour of the only one of a kind": (None, ["colour of the only"]),
        "kind of the only one of a colour": (None, ["kind of the only"]),
        "relation, described": (0.92, ["detailed: relation"]),
        "relation, asked: what is beside it": (None, ["beside"]),
        "relation is told where one can be": (None, ["detailed: relation told"]),
    },
    "two to four regions": {
        **{f"{about} of a numbered region": (None, cells) for about, cells in CELLS.items()},
        **{f"region {k}": (None, [cells[k - 1] for cells in CELLS.values()]) for k in range(1, MOST_REGIONS + 1)},
        WORST: (0.95, []),
        "relation": (0.93, ["relation"]),
        "relation, yes or no": (None, ["relation: yes or no"]),
        "relation, told after yes or no": (None, ["relation: told"]),
        "same colour": (0.95, ["same colour"]),
        "same kind": (0.95, ["same kind"]),
        "same, what they are": (None, ["same colour: told", "same kind: told"]),
        "larger": (0.95, ["larger"]),
        "named in a sentence: kind": (None, ["named: kind"]),
        "named in a sentence: colour": (None, ["named: colour"]),
        "named in a sentence: pattern": (None, ["named: pattern", "named: size"]),
        "parts, asked": (None, ["parts"]),
    },
    "yes or no about a region": {
        "yes or no": (0.95, ["yes or no"]),
    },
    "all together": {
        "description wholly true": (0.85, ["detailed: all"]),
        "description of a part wholly true": (None, ["detailed part: all"]),
    },
    "hand-drawn masks, 256 px": {
        f"{form}: {about}": (goal, [f"{form}: {about}"])
        for form, goals in DRAWN.items()
        for about, goal in zip(("kind", "colour"), goals, strict=True)
    },
}


def reached(row: dict, goal: float | tuple[float, float]) -> bool:
    """Is a row's value at its goal, or within the range? For hand-drawn masks the interval must reach it."""
    if isinstance(goal, tuple):
        return goal[0] <= row["value"] <= goal[1]
    return row["high" if row["group"].startswith("hand-drawn") else "value"] >= goal
