"""The image tower: a ConvNeXt trunk that returns four levels (notebook 02; docs/osprey.md, section 1).

    images  B×3×S×S
       │ stem, stride 4
       ▼
    stage 1 ─► res2  B×C₂×S/4 ×S/4      fine: edges, colours
    stage 2 ─► res3  B×C₃×S/8 ×S/8
    stage 3 ─► res4  B×C₄×S/16×S/16     also the image tokens of the LLM
    stage 4 ─► res5  B×C₅×S/32×S/32     coarse: what the thing is
"""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from timm.models.convnext import ConvNeXt
from torch import Tensor, nn

from .config import OspreyVisionConfig
from .files import read_tensors

#: Where a block's layer scale begins when a trunk is trained from nothing. timm's 1e-6 is for much deeper ones.
LAYER_SCALE = 0.1


class Encoder(nn.Module):
    """timm's ConvNeXt without its pooling and head. Frozen in every stage of the paper's training."""

    def __init__(self, config: OspreyVisionConfig):
        super().__init__()
        self.config = config
        self.trunk = ConvNeXt(
            dims=tuple(config.dims), depths=tuple(config.depths), ls_init_value=LAYER_SCALE, num_classes=0, global_pool=""
        )
        self.trunk.head = nn.Identity()

    def forward(self, images: Float[Tensor, "B 3 S S"]) -> list[Float[Tensor, "B _C _H _W"]]:
        """Normalised images, S a multiple of 32, to [res2, res3, res4, res5]."""
        x = self.trunk.stem(images)
        levels = []
        for stage in self.trunk.stages:
            x = stage(x)
            levels.append(x)
        return levels

    def load_open_clip(self, source: str | Path | dict[str, Tensor] | None = None) -> None:
        """Load the trunk from an open_clip checkpoint: a file, a state dict, or (None) the hub repository of the config.

        Only `visual.trunk.*` is taken; the text half and the heads are not used. Raises ValueError naming every key
        that is missing or misshapen, before anything is changed.
        """
        if source is None:
            if self.config.open_clip_hub is None:
                raise ValueError("This encoder's config names no open_clip weights. Give a file: load_open_clip(path).")
            from huggingface_hub import hf_hub_download

            source = hf_hub_download(self.config.open_clip_hub, "open_clip_pytorch_model.bin")
        if not isinstance(source, dict):
            source = read_tensors(source)
        trunk = {key.split("visual.trunk.", 1)[1]: x for key, x in source.items() if "visual.trunk." in key}
        own = self.trunk.state_dict()
        missing = sorted(own.keys() - trunk.keys())
        misshapen = [
            f"{key}: file {tuple(trunk[key].shape)}, model {tuple(own[key].shape)}"
            for key in own.keys() & trunk.keys() if own[key].shape != trunk[key].shape
        ]
        if missing or misshapen:
            raise ValueError(
                f"These open_clip weights do not fit the encoder.\n  missing: {missing[:8]}\n  misshapen: {misshapen[:8]}"
            )
        with torch.no_grad():
            self.trunk.load_state_dict({key: trunk[key] for key in own})
