"""The published Osprey layout, and fetching it (docs/osprey.md, section 7).

    published key                                        here
    model.vision_tower.vision_tower.visual.trunk.*   →   encoder.trunk.*
    model.mm_projector.{0,2}.*                       →   projector.{0,2}.*
    mask_extractor.*                                 →   mask_extractor.*
    model.* , lm_head.*                              →   llm.model.* , llm.lm_head.*

Our own format needs none of this: `Osprey.save_pretrained` and `Osprey.from_pretrained` are transformers' own.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoTokenizer, LlamaConfig

from .config import OspreyConfig
from .files import read_tensors
from .model import Osprey
from .processor import OspreyProcessor

TOWER = "model.vision_tower.vision_tower."
TOWER_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")
#: name → the hub repositories of its parts, and the files taken from each (docs/osprey.md, section 7).
_CLIP = ("laion/CLIP-convnext_large_d_320.laion2B-s29B-b131K-ft-soup", "open_clip_pytorch_model.bin")
RELEASES = {
    "osprey-7b": (("sunshine-lwt/Osprey-7b", None), _CLIP),
    "osprey-chat-7b": (("sunshine-lwt/Osprey-Chat-7b", None), _CLIP),
    "osprey-7b-stage2": (("sunshine-lwt/Osprey-7b-stage2", None), _CLIP),
}


def load_published(
    source: str | Path | Mapping[str, Tensor],
    config: OspreyConfig | None = None,
    tower: str | Path | None = None,
    dtype: torch.dtype = torch.float32,
) -> Osprey:
    """An `Osprey` from a checkpoint in the published layout.

    `source`: a folder (single or sharded `.bin`/`.safetensors` with `config.json`) or a state dict. The image tower is taken
    from the same tensors or, if they have none, from `tower` (an open_clip file) or an open_clip file beside them.
    `config` is read from the folder when not given. Raises ValueError naming missing, unexpected and misshapen keys.
    """
    folder = None if isinstance(source, Mapping) else Path(source)
    tokenizer = None
    if folder is not None:
        published = json.loads(_existing(folder / "config.json").read_text())
        if any((folder / name).exists() for name in ("tokenizer.json", "tokenizer.model")):
            tokenizer = AutoTokenizer.from_pretrained(folder)
            tokenizer.pad_token = tokenizer.unk_token
        tensors = _read_shards(folder)
    else:
        tensors = dict(source)
        if config is None:
            raise ValueError("A state dict alone does not tell its sizes. Give config, e.g. OspreyConfig.preset('paper').")
    if not any("visual.trunk." in key for key in tensors):
        beside = [folder / name for name in TOWER_FILES if folder and (folder / name).exists()]
        if tower is None and not beside:
            raise ValueError(
                "The checkpoint holds no image tower. Put open_clip_pytorch_model.bin of "
                "laion/CLIP-convnext_large_d_320.laion2B-s29B-b131K-ft-soup beside it, or give tower=PATH."
            )
        half = read_tensors(tower or beside[0])
        tensors |= {TOWER + key: x for key, x in half.items() if key.startswith("visual.")}

    config = config or _config(published, tensors)
    renamed = {_rename(key): tensor for key, tensor in tensors.items()}
    renamed.pop(None, None)
    _check(renamed, config)
    model = Osprey.from_pretrained(None, config=config, state_dict=renamed, dtype=dtype)
    if tokenizer is not None:
        model.processor = OspreyProcessor(config, tokenizer)
    return model


def fetch(name: str, out: str | Path) -> Path:
    """Download a release from the hub into `out`, resuming what is there. Prints every file's size first.

    Raises ValueError for an unknown name, ConnectionError (with what to do) without a network.
    """
    from huggingface_hub import HfApi, hf_hub_download

    if name not in RELEASES:
        raise ValueError(f"Unknown release {name!r}. Known: {', '.join(RELEASES)}.")
    out = Path(out)
    try:
        wanted = []
        for repository, only in RELEASES[name]:
            for file in HfApi().model_info(repository, files_metadata=True).siblings:
                if only in (None, file.rfilename) and not file.rfilename.startswith("."):
                    wanted.append((repository, file.rfilename, file.size or 0))
        for repository, file, size in wanted:
            print(f"{size / 1e9:8.3f} GB  {repository}/{file}")
        print(f"{sum(size for *_, size in wanted) / 1e9:8.3f} GB  in all → {out}")
        for repository, file, _ in wanted:
            hf_hub_download(repository, file, local_dir=out)
    except Exception as error:  # the hub client's network errors have no common base class
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise
        raise ConnectionError(
            f"The model hub cannot be reached ({type(error).__name__}). Check the network and call this again: it goes on "
            f"where it stopped. Or copy the files of {', '.join(r for r, _ in RELEASES[name])} into {out} by hand."
        ) from error
    return out


def _read_shards(folder: Path) -> dict[str, Tensor]:
    for index in ("model.safetensors.index.json", "pytorch_model.bin.index.json"):
        if (folder / index).exists():
            shards = sorted(set(json.loads((folder / index).read_text())["weight_map"].values()))
            missing = [shard for shard in shards if not (folder / shard).exists()]
            if missing:
                raise FileNotFoundError(f"{folder} lacks the shards {missing} that {index} names. Fetch again.")
            return {key: x for shard in shards for key, x in read_tensors(folder / shard).items()}
    for single in ("model.safetensors", "pytorch_model.bin"):
        if (folder / single).exists():
            return read_tensors(folder / single)
    raise FileNotFoundError(f"{folder} holds neither model.safetensors nor pytorch_model.bin, nor an index of shards.")


def _config(published: dict, tensors: Mapping[str, Tensor]) -> OspreyConfig:
    """The released config.json is LLaMA's with extras; its tower path is of its authors' machine and not used."""
    config = OspreyConfig.preset("paper")
    known = config.text_config.to_dict().keys() - {"architectures", "model_type", "dtype", "transformers_version"}
    text = {key: value for key, value in published.items() if key in known and value is not None}
    text["vocab_size"] = len(tensors["model.embed_tokens.weight"]) if "model.embed_tokens.weight" in tensors else 0
    config.text_config = LlamaConfig(**text)
    config.mask_token_id, config.pos_token_id = text["vocab_size"] - 2, text["vocab_size"] - 1  # the two added rows
    return config


def _rename(key: str) -> str | None:
    """Our name for a published key; None for what is not used (text half, heads, recomputed buffers)."""
    if key.endswith("rotary_emb.inv_freq"):
        return None
    if key.startswith(TOWER):
        inner = key.removeprefix(TOWER).removeprefix("visual.")
        return f"encoder.{inner}" if inner.startswith("trunk.") and not inner.startswith("trunk.head.") else None
    if key.startswith("model.mm_projector."):
        return key.removeprefix("model.mm_")
    if key.startswith("mask_extractor."):
        return key
    return f"llm.{key}"


def _check(renamed: Mapping[str, Tensor], config: OspreyConfig) -> None:
    with torch.device("meta"):
        own = Osprey(config).state_dict()
    missing = sorted(own.keys() - renamed.keys())
    unexpected = sorted(renamed.keys() - own.keys())
    misshapen = [
        f"{key}: file {tuple(renamed[key].shape)}, model {tuple(own[key].shape)}"
        for key in sorted(own.keys() & renamed.keys()) if own[key].shape != renamed[key].shape
    ]
    if missing or unexpected or misshapen:
        named = {"missing": missing, "unexpected": unexpected, "misshapen": misshapen}
        lines = [f"  {kind} ({len(keys)}): {', '.join(keys[:10])}" for kind, keys in named.items() if keys]
        raise ValueError("The checkpoint does not fit the model.\n" + "\n".join(lines))


def _existing(path: Path) -> Path:
    if not path.exists():
        raise FileNotFoundError(f"No {path.name} in {path.parent}. Give a folder with the published files.")
    return path
