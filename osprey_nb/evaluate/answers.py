"""Many questions about many pictures in few passes, with the three lists of tokens in hand so that they can be exchanged.

    images, masks ── look ──▶ Prompt(ids, image N×D, masks R×D, places R×D) ── answers ──▶ texts
                              the controls put other tokens here
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from ..model import Osprey
from ..projector import image_tokens
from .questions import Question

SIDE_BY_SIDE = 64  # rows; more overflow the caches of a CPU and take longer


@dataclass(frozen=True, eq=False)
class Prompt:
    """What the LLM reads: `ids`, and the tokens that take the places of `<image>` (N×D), `<mask>` and `<pos>` (R×D each).

    `room` is how many tokens it may answer: twice as many as training would, and a few.
    """

    ids: Tensor
    image: Tensor
    masks: Tensor
    places: Tensor
    room: int


@torch.inference_mode()
def look(model: Osprey, asked: Sequence[Question]) -> list[Prompt]:
    """The prompts of questions. A picture is read once for all that stand next to each other; so is each of its masks."""
    pictures = itertools.groupby(asked, key=lambda question: id(question.image))
    return [prompt for _, mine in pictures for prompt in _of_picture(model, list(mine))]


def _of_picture(model: Osprey, asked: list[Question]) -> list[Prompt]:
    image = asked[0].image
    number_of: dict[bytes, int] = {}
    masks: list[np.ndarray] = []
    numbers = []
    for question in asked:
        for mask in question.masks:
            if number_of.setdefault(mask.tobytes(), len(masks)) == len(masks):
                masks.append(mask)
        numbers.append([number_of[mask.tobytes()] for mask in question.masks])
    features = model.encoder(model.processor.image(image)[None].to(model.device, model.dtype))
    seen = model.projector(image_tokens(features[2]))[0]
    regions = torch.from_numpy(np.stack(masks) if masks else np.zeros((1, *image.shape[:2]), bool))
    (mask_tokens,), (places,) = model.mask_extractor(features, [regions])
    prompts = []
    for question, own in zip(asked, numbers, strict=True):
        text = model.processor.text([(question.text, None)], len(own), question.inline)
        own = [own[i] for i in text["order"]]
        room = 2 * len(model.processor.tokenizer(question.truth)["input_ids"]) + 4
        prompts.append(Prompt(text["input_ids"], seen, mask_tokens[own], places[own], room))
    return prompts


@torch.inference_mode()
def answers(model: Osprey, prompts: Sequence[Prompt]) -> list[str]:
    """The greedy answer to each prompt. Answers of like length are written side by side."""
    said = [""] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda i: (prompts[i].room, len(prompts[i].ids)))
    for start in range(0, len(order), SIDE_BY_SIDE):
        chosen = order[start : start + SIDE_BY_SIDE]
        for i, text in zip(chosen, _answered(model, [prompts[i] for i in chosen]), strict=True):
            said[i] = text
    return said


def _answered(model: Osprey, prompts: list[Prompt]) -> list[str]:
    """All prompts side by side. What they begin with, image included, is read once a picture."""
    ids = torch.nn.utils.rnn.pad_sequence([prompt.ids for prompt in prompts], batch_first=True, padding_value=-1)
    alike = int((ids == ids[0]).all(0).cumprod(0).sum())
    is_region = ids[0] == model.config.mask_token_id
    alike = min([alike, *is_region.nonzero()[:1, 0].tolist(), min(len(prompt.ids) for prompt in prompts) - 1])

    pictures = {id(prompt.image): prompt.image for prompt in prompts}
    number_of = {picture: i for i, picture in enumerate(pictures)}
    row_of = torch.tensor([number_of[id(prompt.image)] for prompt in prompts], device=model.device)
    images = torch.stack(list(pictures.values()))
    opening = model.splice(ids[:1, :alike].expand(len(images), -1), images, None)
    cache = DynamicCache(config=model.llm.config)
    model.llm(inputs_embeds=opening.embeds, past_key_values=cache, use_cache=True, logits_to_keep=1)
    cache.reorder_cache(row_of)

    rest = ids[:, alike:]
    pairs = [prompt.masks for prompt in prompts], [prompt.places for prompt in prompts]
    own = model.splice(rest.clamp(min=0), None, pairs, rest >= 0, padding_side="left")
    embeds = torch.cat([opening.embeds[row_of], own.embeds], 1)
    read = torch.ones_like(own.attention_mask[:, :1]).expand(-1, opening.embeds.shape[1])
    keep = torch.cat([read, own.attention_mask], 1)
    tokenizer = model.processor.tokenizer
    new = model.llm.generate(
        inputs_embeds=embeds, attention_mask=keep.long(), past_key_values=cache, do_sample=False,
        max_new_tokens=max(prompt.room for prompt in prompts),
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    return [text.strip() for text in tokenizer.batch_decode(new, skip_special_tokens=True)]
