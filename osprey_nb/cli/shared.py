"""What the commands share: models and records by the names that people give them."""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def quiet() -> None:
    """Only our own words on the terminal: no progress bars and notices of transformers."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def load_model(name: str):
    """`tiny`, a folder of ours, or a folder with the published files; `paper` and `small` are new ones, on downloaded parts.

    On the GPU if there is one.
    """
    import torch

    from ..checkpoint import load_published
    from ..config import OspreyConfig
    from ..model import Osprey

    quiet()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "tiny":
        model = Osprey.from_pretrained("tiny")
    elif name in ("paper", "small") and not Path(name).exists():
        model = Osprey.assemble(OspreyConfig.preset(name))
    else:
        config = Path(name) / "config.json"
        if not config.exists():
            raise FileNotFoundError(f"no model in {name} (no config.json); give tiny or a folder with a saved model")
        published = json.loads(config.read_text(encoding="utf-8")).get("model_type") == "osprey"
        half = torch.bfloat16 if device == "cuda" else torch.float32
        model = load_published(name, dtype=half) if published else Osprey.from_pretrained(Path(name))
    return model.eval().to(device)


def read_records(data: Path, images, format, limit, fraction, seed: int, progress: bool = True, salvage: bool = False):
    """The records of an annotation file, of one's own folder or of a mixture, or a part of them."""
    from ..data.mixture import Mixture, shipped
    from ..data.readers import FORMATS, guess_format

    if data.suffix in (".yaml", ".yml") or str(data) in shipped():
        mixture = Mixture.load(data, images, progress=progress)
    else:
        if not data.exists():
            raise FileNotFoundError(f"nothing at {data}; give an annotation file, a mixture file, or {', '.join(shipped())}")
        format = format or guess_format(data)
        if format not in FORMATS:
            raise ValueError(f"format is {format!r}; known are {', '.join(FORMATS)}")
        mixture = Mixture.of(FORMATS[format](data, images or data.parent, progress=progress, salvage=salvage))
    return mixture if limit is None and fraction is None else mixture.subset(limit, fraction, seed)
