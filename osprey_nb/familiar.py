"""Is a picture like those that a model was trained on? The studio asks, and says so.

    known pictures ─► res3 ─► mean and spread of each channel, 2C numbers ─► their mean, their covariance
    this picture   ─► res3 ─► the same numbers ─► Mahalanobis distance ─► above the limit: unlike

A model answers anything with the same ease. How far a picture lies from the known ones is a better witness than its words.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

if TYPE_CHECKING:
    from .model import Osprey

FILE = "familiar.safetensors"  # beside a model's weights
LEVEL = 1  # res3: fine enough for how a picture is made, coarse enough not to hang on its size
SHARE = 0.995  # of known pictures lie within the limit
LEAST = 100  # pictures; a covariance of fewer says little


@dataclass(frozen=True)
class Familiar:
    """What a model's known pictures have in common: `mean` 2C, `precision` 2C×2C, and the distance up to which one is alike."""

    mean: Tensor
    precision: Tensor
    limit: float

    def distance(self, features: list[Tensor]) -> float:
        """How far a picture lies from the known ones, per number; those have about 1. `features`: its four levels 1×C×H×W."""
        difference = _summary(features)[0] - self.mean
        return float((difference @ self.precision @ difference / len(difference)).clamp(min=0).sqrt())

    def unlike(self, features: list[Tensor]) -> bool:
        """Does the picture lie further away than (nearly) all known ones?"""
        return self.distance(features) > self.limit

    def save(self, folder: str | Path) -> None:
        tensors = {"mean": self.mean, "precision": self.precision, "limit": torch.tensor([self.limit])}
        save_file({name: tensor.float().contiguous() for name, tensor in tensors.items()}, Path(folder) / FILE)


def familiar_of(model) -> Familiar | None:
    """What stands beside a model's weights, if it does; models from elsewhere have none."""
    path = Path(getattr(model, "name_or_path", "") or "") / FILE
    if not path.is_file():
        return None
    tensors = load_file(path)
    return Familiar(tensors["mean"], tensors["precision"], float(tensors["limit"]))


@torch.inference_mode()
def fit_familiar(model: Osprey, images: Iterable) -> Familiar:
    """From pictures (PIL, H×W×3 uint8, or path) that the model was trained on, or others of their kind.

    Three quarters give mean and covariance, the rest the limit. ValueError for fewer than 100.
    """
    summaries = []
    for image in images:
        pixels = model.processor.image(image)[None].to(model.device, model.dtype)
        summaries.append(_summary(model.encoder(pixels))[0])
    if len(summaries) < LEAST:
        raise ValueError(f"got {len(summaries)} pictures; give {LEAST} or more")
    known, others = torch.stack(summaries).double().tensor_split([len(summaries) * 3 // 4])
    covariance = known.T.cov()
    size = len(covariance)
    # Few pictures and many channels: a little of a ball keeps directions that nobody has seen from deciding alone.
    precision = torch.linalg.inv(covariance + 1e-3 * covariance.trace() / size * torch.eye(size, dtype=torch.double))
    difference = others - known.mean(0)
    distances = (torch.einsum("nc,cd,nd->n", difference, precision, difference) / size).sqrt()
    return Familiar(known.mean(0).float(), precision.float(), float(distances.quantile(SHARE)))


def _summary(features: list[Tensor]) -> Tensor:
    """B×2C: mean and spread of each channel."""
    level = features[LEVEL].float().cpu()
    return torch.cat([level.mean((2, 3)), level.std((2, 3))], 1)
