"""From a binary mask to two tokens (built by hand in notebook 03; docs/osprey.md, section 1).

    masks R×h×w ─► resize to each level ─► mean of the features under it ─► Linear ─┐
                   res2 … res5             R×C₂ … R×C₅                      R×W     ┼ sum ─► Linear ─► mask token     R×D
                                                                                    ┘
    masks R×h×w ─► resize to P×P, keep grey ─► flatten R×P² ─► MLP ──────────────────────────────────► spatial token  R×D
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from .config import OspreyExtractorConfig


def mask_pool(
    feature: Float[Tensor, "*B C H W"], masks: Float[Tensor, "*B R h w"] | Bool[Tensor, "*B R h w"], resize: str = "threshold"
) -> Float[Tensor, "*B R C"]:
    """Mean of a feature map under each mask, of one image or of a batch.

    `resize="threshold"` is the published rule: bilinear to H×W, then every cell above 0 counts as 1. It enlarges small masks,
    and a mask that falls between the sampling points of a coarse level vanishes: its row is then 0.
    `resize="soft"` weights each cell by the share of its area that the mask covers; no mask that has a pixel vanishes.
    """
    size = feature.shape[-2:]
    lead = masks.shape[:-2]
    masks = masks.float().reshape(-1, 1, *masks.shape[-2:])  # float16: 1e-8 would be 0, a sum over a large mask inf
    if resize == "threshold":
        weights = (F.interpolate(masks, size, mode="bilinear", align_corners=False) > 0).float()
    elif resize == "soft":
        weights = F.adaptive_avg_pool2d(masks, size)
    else:
        raise ValueError(f'resize is {resize!r}; use "threshold" (published) or "soft" (area-weighted).')
    weights = weights / (weights.sum(dim=(-2, -1), keepdim=True) + 1e-8)
    weights = weights.reshape(*lead, size.numel()).to(feature.dtype)
    return weights @ feature.flatten(-2).transpose(-2, -1)


def _as_float(masks: Tensor, device: torch.device) -> Tensor:
    """float32. Moved as bytes, a quarter of the size; and a byte becomes a float three times as fast as a bool does."""
    return (masks.view(torch.uint8) if masks.dtype == torch.bool else masks).to(device).float()


def _nested(sizes: Sequence[Sequence[int]]) -> bool:
    """Is each (height, width) a whole number of times the next, so that cells lie in cells?"""
    return all(a % b == 0 for larger, smaller in itertools.pairwise(sizes) for a, b in zip(larger, smaller, strict=True))


class SpatialMLP(nn.Module):
    """P² → width → width → D with ReLU between."""

    def __init__(self, inputs: int, width: int, outputs: int):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(inputs, width), nn.Linear(width, width), nn.Linear(width, outputs)])

    def forward(self, x: Float[Tensor, "R P"]) -> Float[Tensor, "R D"]:
        first, second, last = self.layers
        return last(F.relu(second(F.relu(first(x)))))


class MaskExtractor(nn.Module):
    """Mask token (what is under the mask) and spatial token (where it is, and its outline)."""

    def __init__(self, config: OspreyExtractorConfig, dims: Sequence[int], llm_width: int):
        super().__init__()
        self.config = config
        self.res2, self.res3, self.res4, self.res5 = (nn.Linear(dim, config.width) for dim in dims)
        self.feat_linear = nn.Linear(config.width, llm_width)
        self.mask_linear = SpatialMLP(config.spatial_size**2, config.spatial_width, llm_width)

    def pool(self, features: list[Float[Tensor, "B _C _H _W"]], masks: list[Tensor]) -> list[Float[Tensor, "_R _C"]]:
        """One vector per region and level, the regions of all images one after another. Images of one size go together."""
        resize, device = self.config.resize, features[0].device
        if len({regions.shape[1:] for regions in masks}) > 1:
            each = [self.pool([level[i : i + 1] for level in features], [regions]) for i, regions in enumerate(masks)]
            return [torch.cat(level) for level in zip(*each, strict=True)]
        stack = masks[0][None] if len(masks) == 1 else nn.utils.rnn.pad_sequence(list(masks), batch_first=True)
        real = torch.cat([torch.arange(len(regions)) + i * stack.shape[1] for i, regions in enumerate(masks)]).to(device)
        stack = _as_float(stack, device)
        finest = features[0].shape[-2:]
        if resize == "soft" and _nested([stack.shape[-2:], *(level.shape[-2:] for level in features)]):
            stack = F.adaptive_avg_pool2d(stack, finest)  # the shares of coarser cells are means of these: pixels are read once
        return [mask_pool(level, stack, resize).flatten(0, 1)[real] for level in features]

    def mask_token(self, pooled: list[Float[Tensor, "R _C"]]) -> Float[Tensor, "R D"]:
        """Each level through its own Linear, summed, then one Linear to the LLM's width."""
        linears = (self.res2, self.res3, self.res4, self.res5)
        return self.feat_linear(sum(linear(x) for linear, x in zip(linears, pooled, strict=True)))

    def outline(self, masks: Float[Tensor, "R h w"]) -> Float[Tensor, "R P"]:
        """The mask itself at P×P, not thresholded: bilinear as published, or with `resize="soft"` the share of each cell."""
        size = (self.config.spatial_size, self.config.spatial_size)
        if self.config.resize == "soft":
            return F.adaptive_avg_pool2d(masks[:, None], size).flatten(1)
        return F.interpolate(masks[:, None], size, mode="bilinear", align_corners=False).flatten(1)

    def forward(
        self, features: list[Float[Tensor, "B _C _H _W"]], masks: list[Tensor]
    ) -> tuple[list[Float[Tensor, "_R D"]], list[Float[Tensor, "_R D"]]]:
        """`masks[i]` holds the R_i×h×w regions of image i, 0/1, at a size of their own. Returns two lists of R_i×D."""
        device, dtype = features[0].device, features[0].dtype
        masks = [_as_float(regions, device) for regions in masks]  # once for both tokens
        mask_tokens = self.mask_token(self.pool(features, masks))
        spatial_tokens = self.mask_linear(torch.cat([self.outline(regions) for regions in masks]).to(dtype))
        counts = [len(regions) for regions in masks]
        return list(mask_tokens.split(counts)), list(spatial_tokens.split(counts))
