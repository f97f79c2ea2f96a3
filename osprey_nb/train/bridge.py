"""Stage 0, from eyes to words: where region and image tokens begin in the space of the LLM's words (notebook 07).

    features under a mask, res2 … res5 ─► least squares ─► embedding of <mask> + its words' embeddings
                                          folded into the mask extractor's Linears

Contrast leaves features in which kind, colour and part are nearly linear; the LLM has learnt to read regions that are sums of
words. One matrix joins the two spaces, and stage 2 starts from there.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..data.scenes import Scene
from ..model import Osprey
from .augment import roughen
from .language import region_words, word_counts

RIDGE = 1e-3  # of the variance of a feature


@torch.no_grad()
def bridge(model: Osprey, scenes: list[Scene], seed: int) -> None:
    """Set the mask extractor's Linears to the least-squares map from pooled features to sums of words.

    Contrast left these Linears in a space of its own; fitting them anew from the features of all four levels loses nothing.
    Spatial and image tokens begin as the embeddings of `<pos>` and `<image>`, whatever the picture: what stages 1 and 2 add
    is what they learn. The extractor must be at least as wide as the LLM.
    """
    rng, device, extractor = np.random.default_rng(seed), model.device, model.mask_extractor
    embed = model.llm.get_input_embeddings().weight
    mask_word, pos_word, image_word = (
        embed[token] for token in (model.config.mask_token_id, model.config.pos_token_id, model.config.image_token_id)
    )
    pooled, names = [], []
    for scene in scenes:
        masks, words = zip(*region_words(scene), strict=True)
        rough = roughen(torch.from_numpy(np.stack(masks)), rng).to(device, torch.float32)
        features = model.encoder(model.processor.image(scene.image)[None].to(device))
        pooled.append(torch.cat(extractor.pool(features, [rough]), dim=1))
        names += words
    sums = mask_word + word_counts(names, model.processor).to(device) @ embed
    matrix, offset = _least_squares(torch.cat(pooled), sums)

    width = len(offset)
    levels = (extractor.res2, extractor.res3, extractor.res4, extractor.res5)
    for linear, columns in zip(levels, matrix.split([linear.in_features for linear in levels], dim=1), strict=True):
        linear.weight[:width] = columns
        linear.bias[:width] = 0
    last = extractor.feat_linear
    last.weight.copy_(torch.eye(*last.weight.shape))
    last.bias.copy_(offset)
    for linear, word in ((extractor.mask_linear.layers[-1], pos_word), (model.projector[-1], image_word)):
        linear.weight.zero_()
        linear.bias.copy_(word)


def _least_squares(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Matrix and offset of the ridge regression from x to y, in double precision on the CPU; features scaled to variance 1."""
    x, y = x.double().cpu(), y.double().cpu()
    scale = x.std(dim=0) + 1e-6
    centred = (x - x.mean(0)) / scale
    gram = centred.T @ centred
    gram.diagonal().add_(RIDGE * len(x))
    matrix = torch.linalg.solve(gram, centred.T @ (y - y.mean(0))).T / scale
    return matrix, y.mean(0) - matrix @ x.mean(0)
