"""Stage 0, eyes: a small CLIP on regions, by contrast (notebook 02; what tiny does instead of open_clip's weights).

    scene ─► encoder ─► mask token of each object and part ─────────┐
                                                                    ├─ open_clip's loss
    "a red bicycle", "the wheel of a red bicycle" ─► bag of tokens ─┘

Whole pictures against their captions taught a small encoder nothing in minutes; regions against their phrases do. Colour is
learnt at once, kind is not: so most groups hold regions of **one colour**, where only kind and part tell phrases apart.
No phrase stands twice in a group, as open_clip's loss asks.
"""

from __future__ import annotations

import functools
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss
from torch import Tensor, nn

from ..data.collate import ahead
from ..data.language import object_phrase, part_phrase
from ..data.scenes import Scene
from ..model import Osprey

SMALLEST_GROUP = 8
PARTS_PER_OBJECT = 2


@dataclass
class Regions:
    """A batch: images B×3×S×S, masks of each image, and for each region its phrase and its colour."""

    images: Tensor
    masks: list[Tensor]
    phrases: list[str]
    colours: list[str]

    def __len__(self) -> int:
        return len(self.images)


class RegionCLIP(nn.Module):
    """The model's encoder and mask extractor, to be trained, with a text half that is thrown away afterwards."""

    def __init__(self, model: Osprey):
        super().__init__()
        width = model.config.text_config.hidden_size
        self.encoder, self.mask_extractor, self.tokenizer = model.encoder, model.mask_extractor, model.processor.tokenizer
        self.words = nn.EmbeddingBag(len(self.tokenizer), width, mode="sum")
        self.scale = nn.Parameter(torch.tensor(1 / 0.07).log())
        self.loss = ClipLoss()

    def embed_regions(self, images: Tensor, masks: list[Tensor]) -> Tensor:
        """R×D unit vectors: the mask tokens of all regions of all images."""
        features = [level.float() for level in self.encoder(images)]
        tokens = self.mask_extractor.mask_token(self.mask_extractor.pool(features, masks))
        return F.normalize(tokens.float(), dim=-1)

    def embed_texts(self, phrases: list[str]) -> Tensor:
        """N×D unit vectors: the direction of the sum of a phrase's words."""
        ids = self.tokenizer(phrases, add_special_tokens=False)["input_ids"]
        device = self.scale.device
        flat = torch.tensor([token for row in ids for token in row], device=device)
        offsets = torch.tensor([0, *(len(row) for row in ids[:-1])], device=device).cumsum(0)
        return F.normalize(self.words(flat, offsets).float(), dim=-1)

    def forward(self, batch: Regions) -> Tensor:
        """Mean of open_clip's loss over the groups, weighted by their size."""
        device = self.scale.device
        regions = self.embed_regions(batch.images.to(device), batch.masks)
        unique = list(dict.fromkeys(batch.phrases))
        texts, row = self.embed_texts(unique), {phrase: i for i, phrase in enumerate(unique)}
        total = weight = 0
        for group in groups_without_repeats(batch.phrases, batch.colours):
            text = texts[[row[batch.phrases[i]] for i in group]]
            total = total + len(group) * self.loss(regions[group], text, self.scale.exp().clamp(max=100))
            weight += len(group)
        return total / weight


def groups_without_repeats(phrases: list[str], colours: list[str]) -> list[list[int]]:
    """Indices in groups where no phrase repeats: one group of all colours, and groups of one colour each."""
    seen: dict[str, int] = defaultdict(int)
    groups: dict[tuple, list[int]] = defaultdict(list)
    for i, (phrase, colour) in enumerate(zip(phrases, colours, strict=True)):
        if not seen[phrase]:
            groups[("every colour",)].append(i)
        groups[(colour, seen[phrase])].append(i)
        seen[phrase] += 1
    large = [group for group in groups.values() if len(group) >= SMALLEST_GROUP]
    return large or [groups[("every colour",)]]


def region_batches(
    scenes: list[Scene], size: int, seed: int, mean, std, start: int = 0, lane: int = 0, lanes: int = 1
) -> Iterator[Regions]:
    """Endless shuffled batches of scenes, half of them mirrored, with all objects and some parts, from step `start` on.

    Of `lanes` such streams this is number `lane`: it takes every batch of that number.
    """
    mean, std = (torch.tensor(v)[:, None, None] * 255 for v in (mean, std))
    return ahead(lambda step: [_regions(scenes, size, seed, mean, std, step * lanes + lane)], start)


def _regions(scenes: list[Scene], size: int, seed: int, mean: Tensor, std: Tensor, number: int) -> Regions:
    rng, wording = random.Random(f"{seed}, {number}"), np.random.default_rng([seed, number])
    images, regions, phrases, colours = [], [], [], []
    for place in range(number * size, (number + 1) * size):
        epoch, place = divmod(place, len(scenes))
        scene = scenes[_order(len(scenes), seed, epoch)[place]]
        chosen = []
        for obj in scene.objects:
            parts = rng.sample(obj.parts, min(PARTS_PER_OBJECT, len(obj.parts)))
            chosen += [(obj.mask, object_phrase(obj, wording), obj.colour)]
            chosen += [(part.mask, part_phrase(obj, part, wording), obj.colour) for part in parts]
        masks = np.stack([mask for mask, _, _ in chosen])
        image, side = scene.image, -1 if rng.random() < 0.5 else 1
        images.append(torch.from_numpy(image[:, ::side].copy()).permute(2, 0, 1))
        regions.append(torch.from_numpy(masks[:, :, ::side].copy()))
        phrases += [phrase for _, phrase, _ in chosen]
        colours += [colour for _, _, colour in chosen]
    pixels = ((torch.stack(images) - mean) / std).contiguous(memory_format=torch.channels_last)
    return Regions(pixels, regions, phrases, colours)


@functools.lru_cache(maxsize=2)
def _order(count: int, seed: int, epoch: int) -> list[int]:
    """The order of the scenes in an epoch."""
    return np.random.default_rng([seed, epoch]).permutation(count).tolist()
