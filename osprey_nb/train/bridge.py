"""Stage 0, from eyes to words: where the three kinds of tokens begin in the space of the LLM's words (notebook 07).

    features under a mask, res2 … res5 ─► least squares, sharpened, ─► mask token    ┐
                                          folded into the Linears                    │ the sums of words that the LLM
    outline of a mask ──────────────────► the spatial MLP, fitted ───► spatial token ├ has learnt to read
    a cell of res4 ─────────────────────► the projector, fitted ─────► image token   ┘

Contrast leaves features in which kind, colour and part are nearly linear, so one matrix joins the two spaces. Least squares lay
the tokens near the sums on the average, and blur what is rare: names of parts. So the matrix is sharpened: of each group of
words, kinds, colours, patterns and parts, the true one must bring the sum nearer to the token than any other. What a centre is
in an outline is not linear, nor are the names of cells: there two short regressions do it. Stages 1 and 2 start from here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from ..data.kinds import COLOURS, KINDS, PATTERNS, SIZES
from ..data.phrases import FIELDS, MIDDLE, PARTS
from ..data.scenes import Scene
from ..model import Osprey
from ..projector import image_tokens
from .augment import roughen
from .stand_ins import Named, StandIns, Sums, joined, region_facts, region_words, spatial_words

RIDGE = 1e-3  # of the variance of a feature
STEPS, ROWS, RATE = 2000, 512, 2e-3  # of a regression
OUTLINES = 4  # times as many steps for the outlines: a size is but a pixel or two of an edge
NEAR = 10  # weight of the distance from the sums while the matrix is sharpened
SOFT = 0.2  # squared distance that counts as one nat there
SEEN = 6000  # scenes whose features are learnt from; half of all scenes for the outlines
TOGETHER = 16  # scenes that are encoded at once
STAY = 0.25  # of the outlines; the others are moved
#: What a mask token tells apart, in the order of `region_facts`; no part is a word without tokens.
GROUPS = (PATTERNS, tuple(COLOURS), tuple(KINDS), (*PARTS, ""))


def bridge(model: Osprey, scenes: list[Scene], seed: int, steps: int = STEPS) -> None:
    """Set mask extractor and projector so that they give the sums of words of `stand_ins`. It must be as wide as the LLM.

    Of the scenes the first `SEEN` are looked at, the outlines are those of the first half.
    """
    rng, device, stand_ins = np.random.default_rng(seed), model.device, StandIns(model.processor)
    extractor, config, embed = model.mask_extractor, model.config, model.llm.get_input_embeddings().weight.detach()
    sums = Sums(config.text_config.hidden_size).to(device)
    pooled, outlines, cells, names, facts, shown = [], [], [], [], [], []
    centres, sizes = [], []
    known = scenes[: max(SEEN, len(scenes) // 2)]
    with torch.no_grad():
        for first in range(0, len(known), TOGETHER):
            some = known[first : first + TOGETHER]
            masks = [np.stack([mask for mask, _ in region_words(scene)]) for scene in some]
            rough = [roughen(torch.from_numpy(exact), rng).to(device, torch.float32) for exact in masks]
            told = [stand_ins.regions(scene, exact) for scene, exact in zip(some, masks, strict=True)]
            outlines += [extractor.outline(regions).half() for regions in rough]
            centres += [where.centre for _, where in told]
            sizes += [SIZES.index(words.split()[-1]) for scene in some for words in spatial_words(scene)]
            if first < SEEN:
                features = model.encoder(torch.stack([model.processor.image(scene.image) for scene in some]).to(device))
                pooled.append(torch.cat(extractor.pool(features, rough), dim=1))
                cells.append(image_tokens(features[2]).flatten(0, 1))
                names += [words for words, _ in told]
                facts += [row for scene in some for row in region_facts(scene)]
                shown += [stand_ins.cells(scene) for scene in some]

        def targets(named: list[Named], placeholder: int) -> Tensor:
            return sums(joined(named), placeholder, embed)

        x, y = torch.cat(pooled), targets(names, config.mask_token_id)
        matrix, offset = (found.to(x) for found in _least_squares(x, y))
    true = torch.tensor([[group.index(word) for word, group in zip(row, GROUPS, strict=True)] for row in facts], device=device)
    words = [embeddings(group, model.processor.tokenizer, embed) for group in GROUPS]
    matrix, offset = sharpened(matrix, offset, x, y, true, words, steps, seed)
    with torch.no_grad():
        width = len(offset)
        levels = (extractor.res2, extractor.res3, extractor.res4, extractor.res5)
        for linear, columns in zip(levels, matrix.split([linear.in_features for linear in levels], dim=1), strict=True):
            linear.weight[:width] = columns
            linear.bias[:width] = 0
        extractor.feat_linear.weight.copy_(torch.eye(*extractor.feat_linear.weight.shape))
        extractor.feat_linear.bias.copy_(offset)

    drawn, size = torch.cat(outlines), torch.tensor(sizes, device=device)
    centre = torch.from_numpy(np.concatenate(centres)).to(device)
    fields = embeddings([field.split(" the ")[-1] for row in FIELDS for field in row], model.processor.tokenizer, embed)
    said = embeddings(SIZES, model.processor.tokenizer, embed)

    def outlined(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x, where = moved(drawn[rows].float(), centre[rows], generator)
        column, row = (sum((where[:, axis] > edge).long() for edge in MIDDLE) for axis in (0, 1))
        nameless = Named(np.zeros((len(rows), 1), np.int64), where.cpu().numpy())
        return x, sums(nameless, config.pos_token_id, embed) + fields[3 * row + column] + said[size[rows]]

    regress(extractor.mask_linear, outlined, len(drawn), OUTLINES * steps, seed)
    cell, is_shown = torch.cat(cells), targets(shown, config.image_token_id)
    regress(model.projector, lambda rows, _: (cell[rows], is_shown[rows]), len(cell), steps, seed)


def embeddings(words: Sequence[str], tokenizer: PreTrainedTokenizerBase, embed: Tensor) -> Tensor:
    """W×D: the sum of the embeddings of each word's tokens; 0 for an empty word."""
    ids = tokenizer([f" {word}" * bool(word) for word in words], add_special_tokens=False)["input_ids"]
    return torch.stack([embed[torch.tensor(row, dtype=torch.long)].sum(0) for row in ids])


def moved(outlines: Tensor, centres: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Outlines R×P² moved by whole cells within the picture, half of them mirrored, and where their centres (R×2) are then.

    A size is the same everywhere: so an outline is never met twice, and can't be learnt by heart.
    """
    count, side = len(outlines), round(outlines.shape[1] ** 0.5)
    drawn, at, device = outlines.view(count, side, side), torch.arange(side, device=outlines.device), outlines.device
    drawn_by_lot = torch.rand(count, 4, generator=generator).to(device)
    ways = []
    for axis, lot in ((1, 0), (2, 1)):  # across, then down
        covered = (drawn > 0).any(axis)
        first, last = torch.where(covered, at, side).amin(1), torch.where(covered, at, -1).amax(1)
        way = (drawn_by_lot[:, lot] * (side - last + first)).long() - first
        ways.append(torch.where((drawn_by_lot[:, 2] < STAY) | (last < 0), 0, way))
    centres = centres + torch.stack(ways, 1) / side
    columns, rows = ((at - way[:, None]) % side for way in ways)
    mirrored = drawn_by_lot[:, 3] < 0.5
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    centres[:, 0] = torch.where(mirrored, 1 - centres[:, 0], centres[:, 0])
    number = torch.arange(count, device=device)[:, None, None]
    return drawn[number, rows[:, :, None], columns[:, None, :]].flatten(1), centres


def sharpened(
    matrix: Tensor, offset: Tensor, x: Tensor, y: Tensor, true: Tensor, words: list[Tensor], steps: int, seed: int
) -> tuple[Tensor, Tensor]:
    """The matrix, trained further so that x's token is nearest to the sum y with the `true` word of each group (R×groups).

    `words` holds the embeddings of each group. Nearness is what the LLM will have to read by.
    """
    scale, middle = x.std(0) + 1e-6, x.mean(0)
    linear = nn.Linear(*matrix.T.shape).to(x)
    with torch.no_grad():
        linear.weight.copy_(matrix * scale)
        linear.bias.copy_(offset + matrix @ middle)

    def loss_of(tokens: Tensor, rows: Tensor) -> Tensor:
        loss = NEAR * F.mse_loss(tokens, y[rows])
        for said, group in zip(true[rows].T, words, strict=True):
            without = tokens - y[rows] + group[said]
            nearness = (without @ group.T - 0.5 * group.square().sum(1)) / SOFT
            loss = loss + F.cross_entropy(nearness, said)
        return loss

    _descend(linear, lambda rows, _: loss_of(linear((x[rows] - middle) / scale), rows), len(x), 2 * steps, RATE / 2, seed)
    matrix = linear.weight.detach() / scale
    return matrix, linear.bias.detach() - matrix @ middle


def regress(module: nn.Module, pairs: Callable, count: int, steps: int, seed: int) -> None:
    """Fit `module(x)` to y, in batches of `ROWS` rows; `pairs(rows, generator)` gives x and y of some of `count` rows."""

    def loss_of(rows: Tensor, generator: torch.Generator) -> Tensor:
        x, y = pairs(rows, generator)
        return F.mse_loss(module(x), y)

    _descend(module, loss_of, count, steps, RATE, seed)


def _descend(module: nn.Module, loss_of: Callable, count: int, steps: int, rate: float, seed: int) -> None:
    """AdamW on `loss_of(rows, generator)`, with a cosine."""
    module.requires_grad_(True).train()
    optimizer = torch.optim.AdamW(module.parameters(), rate, weight_decay=0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        loss = loss_of(torch.randint(count, (ROWS,), generator=generator), generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    optimizer.zero_grad()  # a gradient left behind would go into the first step of the next stage


def _least_squares(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Matrix and offset of the ridge regression from x to y, in double precision on the CPU; features scaled to variance 1."""
    x, y = x.double().cpu(), y.double().cpu()
    scale = x.std(dim=0) + 1e-6
    centred = (x - x.mean(0)) / scale
    gram = centred.T @ centred
    gram.diagonal().add_(RIDGE * len(x))
    matrix = torch.linalg.solve(gram, centred.T @ (y - y.mean(0))).T / scale
    return matrix, y.mean(0) - matrix @ x.mean(0)
