"""osprey_nb.exercises: cards, stubs, solutions and checks of every notebook."""

import math
import re
from pathlib import Path

import jupytext
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss

from osprey_nb.exercises import CHECKS, Verdict, check, read_exercises
from osprey_nb.train.stages import Stage

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("[0-9][0-9]_*.py"))
EXERCISES = [(path, exercise) for path in NOTEBOOKS for exercise in read_exercises(path)]


def run(path: Path, name: str, code: str) -> Verdict:
    """What a reader sees: the stub's cell holds `code`, then the check's cell is run."""
    cells = [cell.source for cell in jupytext.read(path).cells if cell.cell_type == "code"]
    (check_cell,) = (source for source in cells if source.startswith(f'check("{name}"'))
    space = {"torch": torch, "np": np, "F": F, "math": math, "Stage": Stage, "check": check}
    exec(code, space)
    return eval(check_cell, space)


@pytest.mark.parametrize(("path", "exercise"), EXERCISES, ids=[e.name for _, e in EXERCISES])
def test_the_stub_fails_and_the_solution_passes(path, exercise):
    untouched = run(path, exercise.name, exercise.stub)
    assert not untouched.passed
    assert "..." in untouched.message, "the untouched stub gets a word on where to begin"
    solved = run(path, exercise.name, exercise.solution)
    assert solved.passed, solved.message


def test_every_notebook_has_its_exercises_and_every_check_its_card():
    for path in NOTEBOOKS:
        names = [exercise.name for exercise in read_exercises(path)]
        assert 2 <= len(names) <= 4
        assert names == [f"{path.name[:2]}.{k}" for k in range(1, len(names) + 1)]
    assert {exercise.name for _, exercise in EXERCISES} == set(CHECKS)
    assert {exercise.difficulty for _, exercise in EXERCISES} == {1, 2, 3}
    assert all(1 <= exercise.minutes <= 20 for _, exercise in EXERCISES)


def box(height, width, x0, y0, x1, y1):
    mask = np.zeros((height, width), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def sums(feature, masks):
    return torch.einsum("chw,rhw->rc", feature, masks)


def areas(masks):
    return masks.sum((1, 2))[:, None]


def grown(rows, row):
    return torch.cat([rows, row.reshape(-1, rows.shape[1])])


def attended(query, keys, values):
    return (keys @ query / 2).softmax(0) @ values


def rescaled(x):
    return x / x.sum()


def pair_share(said, true, count):
    hits = [[a == b for a, b in zip(row, others, strict=True)] for row, others in zip(said, true, strict=True)]
    pairs = [count(row[i], row[j]) for row in hits for i in range(len(row)) for j in range(i)]
    return sum(pairs) / len(pairs)


def by_region(said, true):
    hits = [a == b for row, others in zip(said, true, strict=True) for a, b in zip(row, others, strict=True)]
    return sum(hits) / len(hits)


def halves(layers):
    return [(layer.mean(0) + torch.eye(3)) / 2 for layer in layers]


def hidden_scores(image, score, cells, copied=True):
    side, found, work = len(image) // cells, np.zeros((cells, cells)), image
    for row in range(cells):
        for column in range(cells):
            work = image.copy() if copied else work
            work[row * side : (row + 1) * side, column * side : (column + 1) * side] = 0.5
            found[row, column] = score(work)
    return found


def in_turn(text, regions):
    for new, old in reversed(list(enumerate(regions, 1))):
        text = text.replace(f"<region{old}>", f"<region{new}>")
    return text


def as_they_come(text, regions):
    seen = list(dict.fromkeys(re.findall(r"<region(\d)>", text)))
    return re.sub(r"<region(\d)>", lambda match: f"<region{seen.index(match[1]) + 1}>", text)


def page(events, checks=True, clears=True, own=True):
    newest, shown = {}, {}
    for kind, region, version, *text in events:
        key = region if own else 0
        if kind == "draw":
            newest[key] = version
            if clears:
                shown.pop(region, None)
        elif not checks or newest.get(key) == version:
            shown[region] = text[0]
    return list(shown.items())


def waves(places, gaussian):
    angles = 2 * torch.pi * places @ gaussian
    return torch.cat([angles.sin(), angles.cos()], -1)


GOOD_11_2 = "Is <region2> left of <region1>? <region2> looks older."
SLIPS = [  # exercise, a wrong answer that people give, a word of the advice
    ("00.1", 3 * (64 + 2), "three times"),
    ("00.1", 64 + 3, "pair"),
    ("00.1", 5, "You say 5"),
    ("00.2", lambda *a: box(a[0], a[1], a[3], a[2], a[5], a[4]), "swapped"),
    ("00.2", lambda h, w, x0, y0, x1, y1: box(h, w, x0, y0, x1 + 1, y1 + 1), "16 pixels"),
    ("00.2", lambda h, w, x0, y0, x1, y1: box(h, w, x0 + 1, y0, x1 + 1, y1), "misplaced"),
    ("00.2", lambda *a: box(*a).astype(float), "dtype"),
    ("00.2", lambda *a: box(*a)[:-1], r"\(5, 8\)"),
    ("01.1", [1, 2, 1, 1, 1, 2, 1], "line after line"),
    ("01.1", [2, 5], "add up to 7"),
    ("01.1", [3, 4, 2], "0 0 1 1 1"),
    ("01.2", lambda c, h, w: np.repeat(np.arange(len(c)) % 2 == 1, c).reshape(h, w), "line after line"),
    ("01.2", lambda c, h, w: np.repeat(np.arange(len(c)) % 2 == 0, c).reshape(w, h).T, "swapped"),
    ("01.2", lambda c, h, w: np.zeros((h, w)), "4 of 15"),
    ("01.2", lambda c, h, w: np.zeros((w, h)), "axes are swapped"),
    ("01.3", lambda a, b: (a & b).sum() / max(a.sum(), 1), "area of one mask"),
    ("01.3", lambda a, b: (a & b).sum(), "intersection"),
    ("01.3", lambda a, b: (a ^ b).sum() / 16, "you have 0.5|Half"),
    ("01.3", lambda a, b: (a & b).sum() / max((a | b).sum(), 1) if a.any() else 1, "Two empty masks gave 1"),
    ("01.4", [[1, 1, 6, 1, 6, 6, 1, 6]], "hole is filled"),
    ("01.4", [[1, 1, 6, 1, 6, 2, 1, 2]], "Row 2, column 1 is outside"),
    ("01.4", [[1, 1, 6, 6]], "no polygon"),
    ("02.1", lambda c: 10048, "square of c"),
    ("02.1", lambda c: 8 * c * c + 57 * c, "32 too few"),
    ("02.1", lambda c: 8 * c * c + 53 * c, "Linears' biases"),
    ("02.1", lambda c: 49 * c * c + 8 * c * c, "Depthwise"),
    ("02.1", lambda c: 3, "you have 3"),
    ("02.2", lambda d: [52, 152, 448, 656], "other depths"),
    ("02.2", lambda d: [52, 152], "four numbers"),
    ("02.2", lambda d: [49, 1, 1, 1], "begin with field 4"),
    ("02.2", lambda d: [28, 1, 1, 1], "After stage 1"),
    ("02.2", lambda d: [52, 100, 1, 1], "joining adds"),
    ("02.3", lambda r, t, s: F.cross_entropy(s * r @ t.T, torch.arange(len(r))), "one direction"),
    ("02.3", lambda r, t, s: 2 * ClipLoss()(r, t, s), "sum of both"),
    ("02.3", lambda r, t, s: F.cross_entropy(r @ t.T, torch.arange(len(r))), "scale is missing"),
    ("02.3", lambda r, t, s: ClipLoss()(r, t, s) + 1, "Expected"),
    ("03.1", 18, "sum"),
    ("03.1", 18 / 16, "16 cells"),
    ("03.1", 7, "You have 7"),
    ("03.2", lambda f, m: sums(f, m) / areas(m), "NaN"),
    ("03.2", sums, "These are sums"),
    ("03.2", lambda f, m: sums(f, m) / 12, "all cells"),
    ("03.2", lambda f, m: (sums(f, m) / (areas(m) + 1e-8)).T, "swapped"),
    ("03.2", lambda f, m: sums(f, m) / (areas(m) + 1), "mean is 0.5"),
    ("03.2", lambda f, m: f @ m, "stopped with RuntimeError"),
    ("03.3", lambda m, h, w: (F.interpolate(m[:, None], (h, w), mode="area")[:, 0] > 0).float(), "threshold"),
    ("03.3", lambda m, h, w: F.interpolate(m[:, None], (h, w), mode="bilinear")[:, 0], "vanished"),
    ("03.3", lambda m, h, w: F.adaptive_avg_pool2d(m[:, None], (h, w))[:, 0] / 2, "1/16"),
    ("03.4", torch.ones(128, 128), "still sees"),
    ("03.4", torch.zeros(128, 128), "0 pixels"),
    ("03.4", torch.full((128, 128), 0.5), "0 and 1 only"),
    ("03.4", torch.ones(64, 64), r"expected \(128, 128\)"),
    ("06.1", 10, "left out </s>"),
    ("06.1", 11, "not only the last"),
    ("06.1", 30, "You say 30"),
    ("06.2", lambda p, e: (e("".join(t for t, _ in p)),) * 2, "expected .*<s>"),
    ("06.2", lambda p, e: (e("<s>") + e("abc!def!"),) * 2, "Every position"),
    ("06.2", lambda p, e: (e("<s>") + e("abc!def!"), [1] + [-100] * 8), "<s> carries loss"),
    ("06.2", lambda p, e: (e("<s>") + e("abc!def!"), [-100] * 9), "The labels are"),
    ("06.2", lambda p, e: (e("<s>"), []), "same length"),
    ("06.3", lambda n, p, g: sorted(set(g) - {n}), "a horse in the picture"),
    ("06.3", lambda n, p, g: sorted(set(g) - p), "pass for a bowl"),
    ("06.3", lambda n, p, g: sorted(set(g) - p | {n}), "deny"),
    ("06.3", lambda n, p, g: ["cow"], "expected"),
    ("06.4", lambda q, a: a in q, "'Red.' gave False"),
    ("06.4", lambda q, a: a.lower().strip(" .") in q.lower(), "has an"),
    ("06.4", lambda q, a: " or " not in q and a.lower().strip(" .") in q.lower(), "coloured"),
    ("06.4", lambda q, a: "or" not in q and f" {a.lower().strip(' .')}" in q.lower(), "'or' within"),
    ("07.1", 28, "weights alone"),
    ("07.1", 56, "no AdamW"),
    ("07.1", 112e9, "another unit"),
    ("07.1", 7, "You say 7"),
    ("07.2", lambda s, p: min(1, s / 0.03) * p, "still at its peak"),
    ("07.2", lambda s, p: min(1, s / 0.03) * p * np.cos(np.pi * s), "is 0 already"),
    ("07.2", lambda s, p: min(1, s / 0.03) * p * (1 + np.cos(np.pi * s)) / 4, "half of what"),
    ("07.2", lambda s, p: p * (1 + np.cos(np.pi * s)) / 2, "min\\(1, spent / 0.03\\)"),
    ("07.2", lambda s, p: min(1, s / 0.1) * p * (1 + np.cos(np.pi * s)) / 2, "Where the warm-up ends"),
    ("07.2", lambda s, p: p * (1 - s), "should be the cosine's"),
    ("07.2", lambda s, p: s / 0.03, "should be 1; you have 16"),
    ("07.3", lambda losses, counts: sum(losses) / len(losses), "mean of the two means"),
    ("07.3", lambda losses, counts: sum(x * n for x, n in zip(losses, counts, strict=True)), "Divide"),
    ("07.3", lambda losses, counts: 1.25 if counts[0] == 10 else sum(losses) / 3, "for three"),
    ("07.3", lambda losses, counts: 2, "you have 2"),
    ("07.4", {"mask_extractor": 3e-4}, "got dict"),
    ("07.4", Stage("x", {"llm": 1}, {}, 8), "It trains llm"),
    ("07.4", Stage("x", {"mask_extractor": 3e-4, "llm": 3e-4}, {}, 8), "a tenth"),
    ("07.4", Stage("x", {"mask_extractor": 3e-4, "llm": 3e-5}, {"parts": 1}, 8), "no kind of record"),
    ("07.4", Stage("x", {"mask_extractor": 3e-4, "llm": 3e-5}, {"part_level": 1, "describe_short": 1}, 8), "three of four"),
    ("07.4", Stage("x", {"mask_extractor": 3e-4, "llm": 3e-5}, {"part_level": 3, "describe_short": 1}, 4), "Batches of 8"),
    ("08.1", (960, 127), "The sequence grows"),
    ("08.1", (988, 128), "one too many"),
    ("08.1", (988, 8), "read, once"),
    ("08.1", (988, 120), "You have 120"),
    ("08.1", (980, 127), "You have 980"),
    ("08.1", 988, "two numbers"),
    ("08.2", lambda q, k, v, ks, vs: (attended(q, ks, vs), grown(ks, k), grown(vs, v)), "see itself"),
    ("08.2", lambda q, k, v, ks, vs: (attended(2 * q, grown(ks, k), grown(vs, v)), grown(ks, k), grown(vs, v)), "√d"),
    ("08.2", lambda q, k, v, ks, vs: (attended(q, grown(ks, k), grown(vs, v)), ks, vs), r"expected \(6, 4\)"),
    ("08.2", lambda q, k, v, ks, vs: (attended(q, ks, vs), grown(k[None], ks), grown(v[None], vs)), "come first"),
    ("08.2", lambda q, k, v, ks, vs: (attended(q, ks, vs), grown(ks, v), grown(vs, k)), "should be `key`"),
    ("08.2", lambda q, k, v, ks, vs: (v, grown(ks, k), grown(vs, v)), "all six positions"),
    ("08.2", lambda q, k, v, ks, vs: (v, grown(ks.zero_(), k), grown(vs, v)), "have changed"),
    ("08.2", lambda q, k, v, ks, vs: v, "three things"),
    ("08.3", lambda layers, q, k, size, shared, own, rows: 4 * layers * k * size * (shared + own) * rows, "five times"),
    ("08.3", lambda layers, q, k, size, shared, own, rows: 2 * layers * k * size * (shared + own * rows), "Half of it"),
    ("08.3", lambda layers, q, k, size, shared, own, rows: 4 * layers * q * size * (shared + own * rows), "query heads"),
    ("08.3", lambda layers, q, k, size, shared, own, rows: 2 * layers * (q + 2 * k) * size * (shared + own * rows), "among"),
    ("08.3", lambda layers, q, k, size, shared, own, rows: 4 * layers * k * (shared + own * rows), "not one number"),
    ("08.3", lambda layers, q, k, size, shared, own, rows: 8 * layers * size * (shared + own * rows), "not for 4"),
    ("08.3", lambda layers, q, k, size, shared, own, rows: 7, "it is 1440; you have 7"),
    ("08.4", lambda x, p: x * (x > 0.2), "add up to 0.85"),
    ("08.4", lambda x, p: rescaled(x * (x > 0.4)), "doesn't reach"),
    ("08.4", lambda x, p: rescaled(x * (x > 0.06)), "one too many"),
    ("08.4", lambda x, p: rescaled(x.sort(descending=True)[0] * torch.tensor([1, 1, 0, 0])), "sorted"),
    ("08.4", lambda x, p: x, "keep 0.5 and 0.35"),
    ("08.4", lambda x, p: rescaled(x * (x > 0.2)), "p = 1 nothing"),
    ("08.4", lambda x, p: x if p == 1 else rescaled(x * (x > 0.2)), "p = 0.1"),
    ("09.1", lambda x, side, g: waves(2 * x / side - 1, g), "The half"),
    ("09.1", lambda x, side, g: waves((x + 0.5) / side, g), "from 0 to 1"),
    ("09.1", lambda x, side, g: waves((2 * (x + 0.5) / side - 1) / 2 / torch.pi, g), "2π is missing"),
    ("09.1", lambda x, side, g: waves(2 * (x + 0.5) / side - 1, g).roll(3, 1), "cosines come first"),
    ("09.1", lambda x, side, g: waves(x, g), "Other numbers"),
    ("09.1", lambda x, side, g: x, r"expected \(2, 6\)"),
    ("09.2", lambda mask, target: (1, 1, 1), "Most of what is wrong is missing"),
    ("09.2", lambda mask, target: (3, 6, 1), "swapped"),
    ("09.2", lambda mask, target: (6, 3, 0), "label should be 1"),
    ("09.2", lambda mask, target: (6, 3, 1), "Most of what is wrong is too many"),
    ("09.2", lambda mask, target: (6, 3, 2), "The label is 2"),
    ("09.2", lambda mask, target: (3, 14, 1), "outside of a picture"),
    ("09.2", lambda mask, target: (3, 14), "three numbers"),
    ("09.3", lambda masks, limit: [0, 2], "Mask 3 is gone"),
    ("09.3", lambda masks, limit: [1, 3, 4], "first is the better"),
    ("09.3", lambda masks, limit: range(5), "All are kept"),
    ("09.3", lambda masks, limit: [0], r"Expected masks 0, 2 and 3; you have \[0\]"),
    ("09.3", lambda masks, limit: [0, 2, 3] if len(masks) == 5 else [0], "what was dropped drops nothing"),
    ("10.1", by_region, "counts regions"),
    ("10.1", lambda said, true: sum(a == b for a, b in zip(said, true, strict=True)) / len(said), "One picture of three"),
    ("10.1", lambda said, true: pair_share(said, true, lambda a, b: a or b), "4 of 9; you have"),
    ("10.1", lambda said, true: 5 / 9, "both"),
    ("10.1", lambda said, true: pair_share(said, true, lambda a, b: a and b) if len(said) == 3 else 0, "has no pair"),
    ("10.2", lambda layers: layers[1].mean(0) @ layers[0].mean(0), "residual path"),
    ("10.2", lambda layers: halves(layers)[0] @ halves(layers)[1], "Turned around"),
    ("10.2", lambda layers: halves(layers)[1], "Only one of the layers"),
    ("10.2", lambda layers: 2 * halves(layers)[1] @ halves(layers)[0], "should sum to 1"),
    ("10.2", lambda layers: torch.eye(3), "Expected"),
    ("10.3", lambda image, score, cells: hidden_scores(image, score, cells), "with a cell hidden"),
    ("10.3", lambda image, score, cells: hidden_scores(image, score, cells) - score(image), "sign is turned"),
    ("10.3", lambda image, score, cells: 1 - hidden_scores(image, score, cells, False), "picture itself was changed"),
    ("10.3", lambda image, score, cells: 0, r"shape is \(\)"),
    ("10.3", lambda image, score, cells: np.zeros((2, 2)), "becomes 0.5"),
    ("11.1", lambda click, shown, size: click, "as it came"),
    ("11.1", lambda click, shown, size: (click[0] * shown[0] / size[0], click[1] * shown[1] / size[1]), "wrong way round"),
    ("11.1", lambda click, shown, size: (click[1] / shown[1] * size[1], click[0] / shown[0] * size[0]), "swapped"),
    ("11.1", lambda click, shown, size: (1, 2, 3), "two numbers"),
    ("11.1", lambda click, shown, size: (1, 2), "of a picture of"),
    ("11.2", in_turn, "One after the other"),
    ("11.2", as_they_come, "in the order of `regions`"),
    ("11.2", lambda text, regions: text, "Expected"),
    ("11.2", lambda text, regions: in_turn(text[::1], [9]) if "3" in text else GOOD_11_2, "is the second"),
    ("11.3", lambda events: [], "Region 1 is drawn as v1"),
    ("11.3", lambda events: page(events, checks=False), "is stale"),
    ("11.3", lambda events: page(events, own=False), "a version of its own"),
    ("11.3", lambda events: page(events, clears=False), "take it away"),
]


@pytest.mark.parametrize(("name", "answer", "advice"), SLIPS)
def test_a_slip_gets_advice(name, answer, advice):
    verdict = check(name, answer)
    assert not verdict.passed
    assert re.search(advice, verdict.message), verdict.message


def test_a_check_does_not_raise_and_shows_text_only():
    def broken(feature, masks):
        raise KeyError("<img onerror=alert(1)>")

    verdict = check("03.2", broken)
    assert "KeyError" in verdict.message
    assert "<img" not in verdict._repr_html_() and "&lt;img" in verdict._repr_html_()
    assert repr(verdict).startswith("○") and repr(check("03.1", 6)).startswith("✓")
    with pytest.raises(ValueError, match="99.1.*there are 00.1"):
        check("99.1", 1)


GOOD = """# %% [markdown]
# ### Exercise 05.1 · Title
# ★★☆ · 4 minutes
#
# The task.
#
# <details><summary>Hint</summary>
#
# Look.
#
# </details>
# <details><summary>Solution</summary>
#
# ```python
# x = 1
# ```
#
# </details>

# %% tags=["exercise"]
x = ...
"""


def test_cards_are_read(tmp_path):
    path = tmp_path / "05_x.py"
    path.write_text(GOOD)
    (found,) = read_exercises(path)
    assert (found.name, found.title, found.difficulty, found.minutes) == ("05.1", "Title", 2, 4)
    assert (found.hint, found.solution, found.stub) == ("Look.", "x = 1\n", "x = ...")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("★★☆", "★★", "★☆☆ · 3 minutes"),
        ("Exercise 05.1 ·", "Exercise five:", "expected '### Exercise"),
        ("Look.", "", "folded Hint"),
        ("```python", "```", "folded Solution"),
        (' tags=["exercise"]', "", "tagged `exercise`"),
    ],
)
def test_a_bad_card_is_named(tmp_path, old, new, message):
    path = tmp_path / "05_x.py"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(ValueError, match=message):
        read_exercises(path)
