"""Tiny SAM: segment_anything's ViT, prompt encoder and mask decoder at a small size, on a ladder of convolutions (notebook 09).

    picture ─► 2 px ─► 4 px ─► 8 px ─► 16 px ─► ViT      down: what is it?
                │       │       │        └──────┴─┐
                └► + ◄──┴► + ◄──┴► + ◄────────────┘      up: where is its edge?
                   │       │       └► embedding ─► two-way transformer ─► ×2 ─► ×2 ─► masks of 128×128
                   │       └────────────────────────────────────────────── + ───┘│
                   └────────────────────────────────────────────────────────── + ┘

SAM's ViT alone learns an edge from millions of pictures. Convolutions know from the beginning that what lies close belongs
together, so a few thousand are enough. The decoder sees the ladder's finer steps where it enlarges, as SAM 2's does (Ravi et
al. 2024, section 4).
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from segment_anything.modeling.common import LayerNorm2d
from segment_anything.modeling.mask_decoder import MLP
from torch import Tensor, nn

TINY_SIDE, TINY_WIDTH = 256, 160
CELL, CHANNELS = 8, 96  # pixels of a cell of the embedding, and its numbers
MIDDLE, FINE = 24, 24  # numbers of a place once the decoder has enlarged by two, and by four


def build_tiny() -> Sam:
    """At 256 px: 2.7 M parameters, a grid of 32×32 cells, masks of 128×128. Random weights."""
    grid = TINY_SIDE // CELL
    prompts = MaskKeeper(
        embed_dim=CHANNELS, image_embedding_size=(grid, grid), input_image_size=(TINY_SIDE, TINY_SIDE), mask_in_chans=16
    )
    return Sam(LadderEncoder(), prompts, EdgeDecoder()).eval()


class LadderEncoder(ImageEncoderViT):
    """B×3×256×256 to B×(96 + 4·24 + 16·24)×32×32: the embedding, and behind it the two finer steps, folded into its cells."""

    def __init__(self):
        super().__init__(
            img_size=TINY_SIDE // CELL, patch_size=2, in_chans=CHANNELS, embed_dim=TINY_WIDTH, depth=4, num_heads=5,
            out_chans=128, norm_layer=partial(nn.LayerNorm, eps=1e-6),
        )  # fmt: skip
        self.img_size = TINY_SIDE  # what SamPredictor asks for; the ViT itself reads the step of 8 px
        self.down = nn.ModuleList([_down(3, 24), _down(24, 48), _down(48, CHANNELS), _down(CHANNELS, 128)])
        self.up = nn.ModuleList([Up(128, CHANNELS), Up(CHANNELS, 48), Up(48, 24)])
        self.last = nn.ModuleList([nn.Conv2d(24, FINE, 1), nn.Conv2d(48, MIDDLE, 1), nn.Conv2d(CHANNELS, CHANNELS, 1)])
        self.norms = nn.ModuleList([LayerNorm2d(FINE), LayerNorm2d(MIDDLE), LayerNorm2d(CHANNELS)])

    def forward(self, x: Tensor) -> Tensor:
        steps = []
        for down in self.down:
            x = down(x)
            steps.append(x)
        x = x + super().forward(steps[-2])
        cells = self.up[0](x, steps[2])
        middle = self.up[1](cells, steps[1])
        fine = self.up[2](middle, steps[0])
        rows = zip(self.last, self.norms, (fine, middle, cells), strict=True)
        fine, middle, cells = (norm(last(x)) for last, norm, x in rows)
        return torch.cat([cells, folded(middle, 1), folded(fine, 2)], 1)


class Up(nn.Module):
    """One step up: enlarged by two, what was seen there on the way down added, and three looks around, two as a residual."""

    def __init__(self, channels: int, into: int):
        super().__init__()
        self.enlarge = nn.ConvTranspose2d(channels, into, 2, stride=2)
        self.look = nn.Sequential(nn.GELU(), nn.Conv2d(into, into, 3, padding=1), nn.GELU())
        self.refine = nn.Sequential(nn.Conv2d(into, into, 3, padding=1), nn.GELU(), nn.Conv2d(into, into, 3, padding=1))

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        x = self.look(self.enlarge(x) + seen)
        return x + self.refine(x)


class MaskKeeper(PromptEncoder):
    """`PromptEncoder` that hands on the mask so far as it is, too: behind its 96 numbers of a cell come the 16 logits there.

    The decoder adds them to its masks. So a further click says what is to change, and the rest stays; SAM draws all of it anew.
    """

    def _embed_masks(self, masks: Tensor) -> Tensor:
        return torch.cat([super()._embed_masks(masks), folded(masks, 2)], 1)


class EdgeDecoder(MaskDecoder):
    """`MaskDecoder` that enlarges with `Enlarge`, and goes on from a mask. Prompts on several pictures fit in one call."""

    def __init__(self):
        transformer = TwoWayTransformer(depth=2, embedding_dim=CHANNELS, mlp_dim=256, num_heads=4)
        super().__init__(transformer_dim=CHANNELS, transformer=transformer, iou_head_hidden_dim=CHANNELS)
        self.output_upscaling = Enlarge()
        heads = (MLP(CHANNELS, CHANNELS, 2 * FINE, 3) for _ in range(self.num_mask_tokens))
        self.output_hypernetworks_mlps = nn.ModuleList(heads)

    def predict_masks(
        self, image_embeddings: Tensor, image_pe: Tensor, sparse_prompt_embeddings: Tensor, dense_prompt_embeddings: Tensor
    ) -> tuple[Tensor, Tensor]:
        """B embeddings, P prompts on each: sparse BP×T×96, dense BP×(96 or 112)×32×32 → masks BP×4×128×128, IoUs BP×4."""
        count, size = len(sparse_prompt_embeddings), image_embeddings.shape[-2:]
        dense, so_far = dense_prompt_embeddings.tensor_split([CHANNELS], 1)
        cells, edges = image_embeddings.split([CHANNELS, 4 * MIDDLE + 16 * FINE], 1)
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight]).expand(count, -1, -1)
        said, seen = self.transformer(
            cells.repeat_interleave(count // len(cells), 0) + dense, image_pe.expand(count, -1, -1, -1),
            torch.cat([own, sparse_prompt_embeddings], 1),
        )  # fmt: skip
        places = self.output_upscaling(seen, edges)
        filters = torch.stack([head(said[:, 1 + i]) for i, head in enumerate(self.output_hypernetworks_mlps)], 2)
        masks = (places.flatten(1, 2) @ filters).view(count, size.numel(), -1)
        masks = unfolded(masks.transpose(1, 2).unflatten(2, size), 2)
        if so_far.shape[1]:
            masks = masks + unfolded(so_far, 2)
        return masks, self.iou_prediction_head(said[:, 0])


class Enlarge(nn.Sequential):
    """SAM's two transposed convolutions, with what the ladder saw at that size added to each: BP×hw×96 to BP×hw×16×48.

    The finest step is there once more as it is, so that a click can ask for "wheel" as well as for "here". The stride of the
    convolutions is their size, so each is a product, cell by cell; the masks leave the cells once they are made.
    """

    def __init__(self):
        first, second = (nn.ConvTranspose2d(*sizes, 2, stride=2) for sizes in ((CHANNELS, MIDDLE), (MIDDLE, FINE)))
        super().__init__(first, nn.LayerNorm(MIDDLE), nn.GELU(), second, nn.GELU())

    def forward(self, seen: Tensor, edges: Tensor) -> Tensor:
        """`edges` are those of the pictures, B×(4·24 + 16·24)×h×w."""
        first, norm, act, second, _ = self
        cells = _product(seen, first)
        middle, fine = edges.flatten(2).transpose(1, 2)[:, None].to(cells.dtype).split([4 * MIDDLE, 16 * FINE], -1)
        cells = act(norm((cells.unflatten(0, (len(edges), -1)) + middle).unflatten(-1, (4, MIDDLE))))
        fine = fine.unflatten(-1, (16, FINE))
        cells = act(_product(cells, second).unflatten(-1, (4, FINE)).flatten(-3, -2) + fine)
        return torch.cat([cells, fine.expand_as(cells)], -1).flatten(0, 1)


def folded(x: Tensor, times: int) -> Tensor:
    """B×C×2ⁿh×2ⁿw to B×4ⁿC×h×w: of each cell its four quarters, of each of them its own four …; channels last."""
    for _ in range(times):
        x = x.unflatten(-1, (-1, 2)).unflatten(-3, (-1, 2)).permute(0, 3, 5, 1, 2, 4).flatten(1, 3)
    return x


def unfolded(x: Tensor, times: int) -> Tensor:
    """B×4ⁿC×h×w to B×C×2ⁿh×2ⁿw: `folded`, undone."""
    for _ in range(times):
        x = x.unflatten(1, (2, 2, -1)).permute(0, 3, 4, 1, 5, 2).flatten(4, 5).flatten(2, 3)
    return x


def _down(channels: int, into: int) -> nn.Sequential:
    """One step down: half the size, and a look around."""
    halve = nn.Conv2d(channels, into, 3, stride=2, padding=1)
    return nn.Sequential(halve, nn.GroupNorm(4, into), nn.GELU(), nn.Conv2d(into, into, 3, padding=1), nn.GELU())


def _product(x: Tensor, enlarge: nn.ConvTranspose2d) -> Tensor:
    """…×C to …×4C': what `enlarge` makes of each cell."""
    return F.linear(x, enlarge.weight.permute(2, 3, 1, 0).flatten(0, 2), enlarge.bias.repeat(4))
