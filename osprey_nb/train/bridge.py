"""Stage 0, from eyes to words: where the three kinds of tokens begin in the space of the LLM's words (notebook 07).

    features under a mask, res2 … res5 ─► least squares, folded into the Linears ─► mask token    ┐
    outline of a mask ──────────────────► the spatial MLP, fitted ────────────────► spatial token ├ the sums of words that the
    a cell of res4 ─────────────────────► the projector, fitted ──────────────────► image token   ┘ LLM has learnt to read

Contrast leaves features in which kind, colour and part are nearly linear, so one matrix joins the two spaces. What a centre is
in an outline is not linear, nor are the names of cells: there two short regressions do it. Stages 1 and 2 start from here.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.scenes import Scene
from ..model import Osprey
from ..projector import image_tokens
from .augment import roughen
from .stand_ins import Named, StandIns, Sums, joined, region_words

RIDGE = 1e-3  # of the variance of a feature
STEPS, ROWS, RATE = 2000, 512, 2e-3  # of a regression
OUTLINES = 3  # times as many steps for the outlines: a size is but a pixel or two of an edge
SEEN = 3000  # scenes whose features are learnt from; half of all scenes for the outlines
TOGETHER = 16  # scenes that are encoded at once


def bridge(model: Osprey, scenes: list[Scene], seed: int, steps: int = STEPS) -> None:
    """Set mask extractor and projector so that they give the sums of words of `stand_ins`. It must be as wide as the LLM.

    Of the scenes the first `SEEN` are looked at, the outlines are those of the first half.
    """
    rng, device, stand_ins = np.random.default_rng(seed), model.device, StandIns(model.processor)
    extractor, config, embed = model.mask_extractor, model.config, model.llm.get_input_embeddings().weight.detach()
    sums = Sums(config.text_config.hidden_size).to(device)
    pooled, outlines, cells, names, places, shown = [], [], [], [], [], []
    known = scenes[: max(SEEN, len(scenes) // 2)]
    with torch.no_grad():
        for first in range(0, len(known), TOGETHER):
            some = known[first : first + TOGETHER]
            masks = [np.stack([mask for mask, _ in region_words(scene)]) for scene in some]
            rough = [roughen(torch.from_numpy(exact), rng).to(device, torch.float32) for exact in masks]
            told = [stand_ins.regions(scene, exact) for scene, exact in zip(some, masks, strict=True)]
            outlines += [extractor.outline(regions).half() for regions in rough]
            places += [where for _, where in told]
            if first < SEEN:
                features = model.encoder(torch.stack([model.processor.image(scene.image) for scene in some]).to(device))
                pooled.append(torch.cat(extractor.pool(features, rough), dim=1))
                cells.append(image_tokens(features[2]).flatten(0, 1))
                names += [words for words, _ in told]
                shown += [stand_ins.cells(scene) for scene in some]

        def targets(named: list[Named], placeholder: int) -> Tensor:
            return sums(joined(named), placeholder, embed)

        matrix, offset = _least_squares(torch.cat(pooled), targets(names, config.mask_token_id))
        width = len(offset)
        levels = (extractor.res2, extractor.res3, extractor.res4, extractor.res5)
        for linear, columns in zip(levels, matrix.split([linear.in_features for linear in levels], dim=1), strict=True):
            linear.weight[:width] = columns
            linear.bias[:width] = 0
        extractor.feat_linear.weight.copy_(torch.eye(*extractor.feat_linear.weight.shape))
        extractor.feat_linear.bias.copy_(offset)
    regress(extractor.mask_linear, torch.cat(outlines), targets(places, config.pos_token_id), OUTLINES * steps, seed)
    regress(model.projector, torch.cat(cells), targets(shown, config.image_token_id), steps, seed)


def regress(module: nn.Module, x: Tensor, y: Tensor, steps: int, seed: int) -> float:
    """Fit `module(x)` to y, in batches of `ROWS` rows. Returns the share of the variance of y that is then explained."""
    module.requires_grad_(True).train()
    optimizer = torch.optim.AdamW(module.parameters(), RATE, weight_decay=0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        rows = torch.randint(len(x), (ROWS,), generator=generator)
        loss = F.mse_loss(module(x[rows].float()), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    optimizer.zero_grad()  # a gradient left behind would go into the first step of the next stage
    return 1 - float(loss.detach() / y.var())


def _least_squares(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Matrix and offset of the ridge regression from x to y, in double precision on the CPU; features scaled to variance 1."""
    x, y = x.double().cpu(), y.double().cpu()
    scale = x.std(dim=0) + 1e-6
    centred = (x - x.mean(0)) / scale
    gram = centred.T @ centred
    gram.diagonal().add_(RIDGE * len(x))
    matrix = torch.linalg.solve(gram, centred.T @ (y - y.mean(0))).T / scale
    return matrix, y.mean(0) - matrix @ x.mean(0)
