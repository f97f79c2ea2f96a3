"""Stage 0: words in place of what the model will see, so that an LM can learn to read before there is anything to look at.

    token            what stands for it: embedding of its placeholder + the embeddings of …
    image, a cell    colour and kind of the object that covers it, and its centre; or the background      ` red bicycle`
    mask             pattern, colour, kind, part of the region                                  ` striped red bicycle wheel`
    spatial          field and size of the region, and its centre                                          ` top left small`

All are sums, blurred by noise, because real tokens will only come near them. A centre is no word: sines and cosines of x and y
through a fixed matrix. Stages 1 and 2 start where the projector and the mask extractor give these sums (train/bridge.py).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.kinds import SIZES
from ..data.phrases import place
from ..data.scenes import Scene
from ..model import Osprey
from ..processor import OspreyProcessor
from .cells import cell_owners, centres

BLUR = 0.1  # standard deviation of the noise on every number of a sum, as much as a word's embedding has
PLACE_BLUR = 0.05  # of a spatial token: with more, a straight direction can't be told from a slanting one
WAVES = (0.5, 1, 2, 4, 8)  # half turns across the picture
CENTRE_STD = 0.15  # of a centre's code, half as much again as a word
LONGEST = 5  # tokens of the longest name
SIDES = (0.316, 0.422)  # longest sides that part small, medium and large objects best: 98.9 % of 2,400


@dataclass
class Named:
    """N things in words: `ids` N×LONGEST tokens (0: none), `centre` N×2 in shares of the picture, −1 for things without."""

    ids: np.ndarray
    centre: np.ndarray

    def __getitem__(self, rows) -> Named:
        return Named(self.ids[rows], self.centre[rows])


def joined(named: list[Named]) -> Named:
    """The things of several samples, one after another."""
    return Named(np.concatenate([x.ids for x in named]), np.concatenate([x.centre for x in named]))


def region_words(scene: Scene) -> list[tuple[np.ndarray, str]]:
    """The mask of every part and object of a scene, and what it is in words: ` striped red bicycle wheel`."""
    words = []
    for obj in scene.objects:
        name = f" {obj.pattern} {obj.colour} {obj.kind}"
        words += [(part.mask, f"{name} {part.name}") for part in obj.parts]
        words.append((obj.mask, name))
    return words


def region_facts(scene: Scene) -> list[tuple[str, str, str, str]]:
    """Pattern, colour, kind and part of the same regions; no part is ""."""
    return [
        (obj.pattern, obj.colour, obj.kind, name)
        for obj in scene.objects
        for name in (*(part.name for part in obj.parts), "")
    ]


def spatial_words(scene: Scene) -> list[str]:
    """Field and size of every part and object, in the order of `region_words`: ` top left small`.

    Only objects have a size in the texts; a part's is read from its mask, as an outline does not tell a part from a whole.
    """
    words = []
    for obj in scene.objects:
        words += [f"{_field(part.mask)} {SIZES[bisect_right(SIDES, longest_side(part.mask))]}" for part in obj.parts]
        words.append(f"{_field(obj.mask)} {obj.size}")
    return words


def _field(mask: np.ndarray) -> str:
    return " " + place(mask).split(" the ")[-1]


def longest_side(mask: np.ndarray) -> float:
    """Of a mask's box, as a share of the picture's side."""
    return max(np.ptp(np.flatnonzero(mask.any(axis=axis))) + 1 for axis in (0, 1)) / max(mask.shape)


class StandIns:
    """What a scene's image, mask and spatial tokens are in words, for an LM of the processor's vocabulary."""

    def __init__(self, processor: OspreyProcessor):
        self.tokenizer = processor.tokenizer
        self.grid = processor.config.vision_config.image_size // 16

    def cells(self, scene: Scene) -> Named:
        """All cells of the image, row by row."""
        owners = cell_owners(scene, self.grid)
        words = [f" {obj.colour} {obj.kind}" for obj in scene.objects] + [f" {scene.background}"]
        middle = np.concatenate([centres(scene), [[-1, -1]]]).astype(np.float32)
        return Named(self._ids(words)[owners], middle[owners])  # −1, the background, is the last

    def regions(self, scene: Scene, masks: Sequence[np.ndarray] | np.ndarray) -> tuple[Named, Named]:
        """Mask and spatial token of some of the scene's masks."""
        regions, places = region_words(scene), spatial_words(scene)
        found = {mask.tobytes(): (words, where) for (mask, words), where in zip(regions, places, strict=True)}
        words, where = zip(*(found[mask.tobytes()] for mask in masks), strict=True) if len(masks) else ((), ())
        middle = np.array([box_centre(mask) for mask in masks], np.float32).reshape(-1, 2)
        return Named(self._ids(words), np.full_like(middle, -1)), Named(self._ids(where), middle)

    def _ids(self, words: Sequence[str]) -> np.ndarray:
        ids = np.zeros((len(words), LONGEST), np.int64)
        if words:
            for row, tokens in zip(ids, self.tokenizer(list(words), add_special_tokens=False)["input_ids"], strict=True):
                row[: len(tokens)] = tokens
        return ids


def box_centre(mask: np.ndarray) -> tuple[float, float]:
    """The middle of a mask's box, x and y as shares of the picture."""
    return tuple((np.flatnonzero(mask.any(axis=axis))[[0, -1]].mean() + 0.5) / mask.shape[1 - axis] for axis in (0, 1))


class Sums(nn.Module):
    """Named things to vectors: the sum of their words' embeddings and the code of their centre, on top of a placeholder's."""

    def __init__(self, width: int):
        super().__init__()
        drawn = torch.randn(4 * len(WAVES), width, generator=torch.Generator().manual_seed(0))
        self.register_buffer("code", drawn * CENTRE_STD / math.sqrt(2 * len(WAVES)))

    def forward(self, named: Named, placeholder: int, embed: Tensor) -> Tensor:
        """N×D. `embed` holds the embeddings V×D, `placeholder` is the token that the things stand for."""
        ids, centre = (torch.from_numpy(x).to(embed.device) for x in (named.ids, named.centre))
        angles = math.pi * centre[..., None] * torch.tensor(WAVES, device=embed.device)
        waves = torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(1) * (centre[:, :1] >= 0)
        words = F.embedding_bag(ids, embed, mode="sum", padding_idx=0) if len(ids) else embed.new_zeros(0, embed.shape[1])
        return embed[placeholder] + words + waves @ self.code


def blurred(sums: Tensor, blur: float) -> Tensor:
    return sums + blur * torch.randn_like(sums)


def read_words(model: Osprey, sums: Sums, ids: Tensor, labels: Tensor, cells: Named | None, regions: Named, places: Named):
    """Embeddings and labels of a batch, as `Osprey.splice` gives them, with the sums of words in place of all that is seen.

    `cells` are those of all rows together, `regions` and `places` in the order of the `<mask><pos>` pairs.
    """
    embed, config = model.get_input_embeddings().weight, model.config
    image = None if cells is None else blurred(sums(cells, config.image_token_id, embed), BLUR).unflatten(0, (len(ids), -1))
    pairs = tuple(
        list(blurred(sums(named, token, embed), blur).split((ids == token).sum(1).tolist()))
        for named, token, blur in ((regions, config.mask_token_id, BLUR), (places, config.pos_token_id, PLACE_BLUR))
    )
    return model.splice(ids, image, pairs if len(regions.ids) else None, labels=labels)
