"""Image tokens to the LLM's width (notebook 04; docs/osprey.md, section 1: `mlp2x_gelu`).

    res4 B×C×H×W ──► flatten row by row B×(H·W)×C ──► Linear ──► GELU ──► Linear ──► B×T×D
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


class Projector(nn.Sequential):
    """Two linear layers with a GELU between. The only part that stage 1 trains."""

    def __init__(self, channels: int, llm_width: int):
        super().__init__(nn.Linear(channels, llm_width), nn.GELU(), nn.Linear(llm_width, llm_width))


def image_tokens(res4: Float[Tensor, "B C H W"]) -> Float[Tensor, "B T C"]:
    """Cells of `res4` as a sequence, row by row."""
    return res4.flatten(2).transpose(1, 2)
