"""Stage 0, eyes: a small CLIP on regions, by contrast (notebook 02; what tiny does instead of open_clip's weights).

    scene ─► encoder ─► mask token of each object and part ─────────┐
                                                                    ├─ open_clip's loss
    "a red bicycle", "the wheel of a red bicycle" ─► bag of tokens ─┘

Whole pictures against their captions taught a small encoder nothing in minutes; regions against their phrases do. Colour is
learnt at once, kind is not: so most groups hold regions of **one colour**, where only kind and part tell phrases apart.
No phrase stands twice in a group, as open_clip's loss asks.

Beside the contrast there are labels, for what it does not ask (`Naming`). The LLM reads the cells of `res4` one by one as image
tokens, so each learns to tell what covers it: an object's kind, colour and centre, or the background. And the bridge reads
pooled features by a matrix, so one learns to name kind or part in them, and the pattern: phrases of one colour are told apart
without it.
"""

from __future__ import annotations

import functools
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss
from torch import Tensor, nn

from ..data.collate import ahead
from ..data.phrases import PARTS, Region
from ..data.scenes import BACKGROUNDS, COLOURS, KINDS, PATTERNS, Scene
from ..model import Osprey
from ..projector import image_tokens
from .cells import cell_owners, centres

SMALLEST_GROUP = 8
PARTS_PER_OBJECT = 2
WHAT = (*KINDS, *BACKGROUNDS)  # what a cell can show
WHAT_AT = {word: i for i, word in enumerate(WHAT)}
NAMES = (*KINDS, *PARTS)  # of a region
CENTRE = 10  # so that an error of a tenth of the picture weighs as much as a nat
PATTERN = 3  # the hardest to see


@dataclass
class Regions:
    """A batch: images B×3×S×S, masks of each image, for each region its phrase and its colour, and what `Naming` learns: for
    each region its name and its pattern (R, −100: a part's), for each cell of `res4` its kind or background and its colour
    (B×T, −100: none), and its object's centre (B×T×2)."""

    images: Tensor
    masks: list[Tensor]
    phrases: list[str]
    colours: list[str]
    names: Tensor
    patterns: Tensor
    cells: tuple[Tensor, Tensor, Tensor]

    def __len__(self) -> int:
        return len(self.images)


class Naming(nn.Module):
    """Linear heads, thrown away afterwards. On each cell of `res4`: kind or background, colour, centre of the object. On the
    pooled features of a region: kind or part, and an object's pattern."""

    def __init__(self, channels: Sequence[int]):
        super().__init__()
        self.what = nn.Linear(channels[2], len(WHAT))
        self.colour = nn.Linear(channels[2], len(COLOURS))
        self.centre = nn.Linear(channels[2], 2)
        self.name = nn.Linear(sum(channels), len(NAMES))
        self.pattern = nn.Linear(sum(channels), len(PATTERNS))

    def forward(self, res4: Tensor, pooled: list[Tensor], batch: Regions) -> Tensor:
        """Cross-entropies, that of the patterns `PATTERN` times, and `CENTRE` times the distance from the centre on an axis."""
        what, colour, centre = (x.to(res4.device) for x in batch.cells)
        tokens, of_object = image_tokens(res4).float(), colour >= 0
        cells = F.cross_entropy(self.what(tokens).flatten(0, 1), what.flatten())
        cells = cells + F.cross_entropy(self.colour(tokens[of_object]), colour[of_object])
        cells = cells + CENTRE * F.l1_loss(self.centre(tokens[of_object]), centre[of_object])
        regions = torch.cat(pooled, dim=1).float()
        named = F.cross_entropy(self.name(regions), batch.names.to(res4.device))
        return cells + named + PATTERN * F.cross_entropy(self.pattern(regions), batch.patterns.to(res4.device))


class RegionCLIP(nn.Module):
    """The model's encoder and mask extractor, to be trained, with a text half that is thrown away afterwards."""

    def __init__(self, model: Osprey):
        super().__init__()
        width = model.config.text_config.hidden_size
        self.encoder, self.mask_extractor, self.tokenizer = model.encoder, model.mask_extractor, model.processor.tokenizer
        self.words = nn.EmbeddingBag(len(self.tokenizer), width, mode="sum")
        self.scale = nn.Parameter(torch.tensor(1 / 0.07).log())
        self.naming = Naming(model.config.vision_config.dims)
        self.loss = ClipLoss()

    def embed_regions(self, features: list[Tensor], masks: list[Tensor]) -> Tensor:
        """R×D unit vectors: the mask tokens of all regions of all images."""
        return self._directions(self.mask_extractor.pool(features, masks))

    def _directions(self, pooled: list[Tensor]) -> Tensor:
        return F.normalize(self.mask_extractor.mask_token(pooled).float(), dim=-1)

    def embed_texts(self, phrases: list[str]) -> Tensor:
        """N×D unit vectors: the direction of the sum of a phrase's words."""
        ids = self.tokenizer(phrases, add_special_tokens=False)["input_ids"]
        device = self.scale.device
        flat = torch.tensor([token for row in ids for token in row], device=device)
        offsets = torch.tensor([0, *(len(row) for row in ids[:-1])], device=device).cumsum(0)
        return F.normalize(self.words(flat, offsets).float(), dim=-1)

    def forward(self, batch: Regions) -> Tensor:
        """Mean of open_clip's loss over the groups, weighted by their size, and the loss of `Naming`."""
        device = self.scale.device
        features = [level.float() for level in self.encoder(batch.images.to(device))]
        pooled = self.mask_extractor.pool(features, batch.masks)
        regions = self._directions(pooled)
        unique = list(dict.fromkeys(batch.phrases))
        texts, row = self.embed_texts(unique), {phrase: i for i, phrase in enumerate(unique)}
        total = weight = 0
        for group in groups_without_repeats(batch.phrases, batch.colours):
            text = texts[[row[batch.phrases[i]] for i in group]]
            total = total + len(group) * self.loss(regions[group], text, self.scale.exp().clamp(max=100))
            weight += len(group)
        return total / weight + self.naming(features[2], pooled, batch)


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
    images, masks, chosen, cells = [], [], [], []
    for place in range(number * size, (number + 1) * size):
        epoch, place = divmod(place, len(scenes))
        scene = scenes[_order(len(scenes), seed, epoch)[place]]
        regions = []
        for obj in scene.objects:
            parts = rng.sample(obj.parts, min(PARTS_PER_OBJECT, len(obj.parts)))
            regions += [Region(obj), *(Region(obj, part) for part in parts)]
        image, side = scene.image, -1 if rng.random() < 0.5 else 1
        images.append(torch.from_numpy(image[:, ::side].copy()).permute(2, 0, 1))
        masks.append(torch.from_numpy(np.stack([region.mask for region in regions])[:, :, ::side].copy()))
        chosen += regions
        cells.append(_cells(scene, side))
    pixels = ((torch.stack(images) - mean) / std).contiguous(memory_format=torch.channels_last)
    names = [NAMES.index(part.name if part else obj.kind) for obj, part in chosen]
    patterns = [-100 if part else PATTERNS.index(obj.pattern) for obj, part in chosen]
    return Regions(
        pixels, masks, [region.phrase(wording) for region in chosen], [obj.colour for obj, _ in chosen],
        torch.tensor(names), torch.tensor(patterns), tuple(map(torch.stack, zip(*cells, strict=True))),
    )  # fmt: skip


def _cells(scene: Scene, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """What the cells of a scene's `res4` show, mirrored for a side of −1: kind or background, colour or −100, centre."""
    grid = scene.image.shape[0] // 16
    owners = cell_owners(scene, grid).reshape(grid, grid)[:, ::side].ravel()
    what = [WHAT_AT[obj.kind] for obj in scene.objects] + [WHAT_AT[scene.background]]
    colour = [COLOURS.index(obj.colour) for obj in scene.objects] + [-100]
    centre = np.concatenate([centres(scene), np.zeros((1, 2), np.float32)])
    if side < 0:
        centre[:, 0] = 1 - centre[:, 0]
    return tuple(torch.from_numpy(np.array(values)[owners]) for values in (what, colour, centre))  # −1 is the last


@functools.lru_cache(maxsize=2)
def _order(count: int, seed: int, epoch: int) -> list[int]:
    """The order of the scenes in an epoch."""
    return np.random.default_rng([seed, epoch]).permutation(count).tolist()
