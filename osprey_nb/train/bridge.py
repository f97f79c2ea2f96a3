"""Stage 0, from eyes to words: where region and image tokens begin in the space of the LLM's words (notebook 07).

    pooled region ─► mask extractor as contrast left it ─► least squares ─► embedding of <mask> + its words' embeddings
                                                           folded into the last Linear

Contrast leaves a mask token that tells regions apart, in a space of its own; the LLM has learnt to read regions that are
sums of words. Both spaces are linear in kind, colour and part, so one matrix joins them, and stage 2 starts from there.
"""

from __future__ import annotations

import numpy as np
import torch

from ..data.scenes import Scene
from ..model import Osprey
from .augment import roughen
from .language import region_words

RIDGE = 1e-3  # of the mean variance of a token's numbers


@torch.no_grad()
def bridge(model: Osprey, scenes: list[Scene], seed: int) -> None:
    """Fold the least-squares map from mask tokens to sums of words into the mask extractor's last Linear.

    Spatial and image tokens begin as the embeddings of `<pos>` and `<image>`, whatever the picture: what stages 1 and 2 add
    is what they learn.
    """
    rng, device = np.random.default_rng(seed), model.device
    embed, extractor, tokenizer = model.llm.get_input_embeddings(), model.mask_extractor, model.processor.tokenizer
    mask_word, pos_word, image_word = embed(torch.tensor(
        [model.config.mask_token_id, model.config.pos_token_id, model.config.image_token_id], device=device
    ))  # fmt: skip
    tokens, targets = [], []
    for scene in scenes:
        masks, words = zip(*region_words(scene), strict=True)
        rough = roughen(torch.from_numpy(np.stack(masks)), rng).to(device, torch.float32)
        features = model.encoder(model.processor.image(scene.image)[None].to(device))
        tokens.append(extractor.mask_token(extractor.pool([level[0] for level in features], rough)))
        ids = tokenizer(list(words), add_special_tokens=False)["input_ids"]
        targets.append(torch.stack([mask_word + embed(torch.tensor(row, device=device)).sum(0) for row in ids]))

    x, y = (torch.cat(rows).double().cpu() for rows in (tokens, targets))
    centred = x - x.mean(0)
    gram = centred.T @ centred
    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    matrix = torch.linalg.solve(gram, centred.T @ (y - y.mean(0))).T
    offset = y.mean(0) - matrix @ x.mean(0)

    last = extractor.feat_linear
    weight, bias = matrix @ last.weight.double().cpu(), matrix @ last.bias.double().cpu() + offset
    last.weight.copy_(weight)
    last.bias.copy_(bias)
    for linear, word in ((extractor.mask_linear.layers[-1], pos_word), (model.projector[-1], image_word)):
        linear.weight.zero_()
        linear.bias.copy_(word)
