"""Weights in files: read without running code, fetched by URL without losing what has come."""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs
from tqdm.auto import tqdm

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 1 << 20


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Tensors of a `.safetensors` or a pickled `.bin`/`.pt`/`.pth` file. Of pickles no code runs (`weights_only=True`).

    Raises FileNotFoundError, and ValueError for a file that is damaged or holds something else.
    """
    import torch  # here, so that reading annotations does not load it
    from safetensors.torch import load_file

    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"No weights at {path}.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(f"{path.name} cannot be read as weights ({reason}). Fetch it again.") from error
    loaded = loaded.get("state_dict", loaded) if isinstance(loaded, Mapping) else loaded
    if not isinstance(loaded, Mapping) or not all(isinstance(x, torch.Tensor) for x in loaded.values()):
        raise ValueError(f"{path.name} holds no state dict (a mapping of names to tensors).")
    return dict(loaded)


def fetch_file(url: str, size: int, sha256: str, folder: str, progress: bool = True) -> Path:
    """The file of this URL in the cache folder; fetched if it is not there, from where an earlier try has stopped.

    The cache is OSPREY_NB_CACHE, else the usual one of the system. Raises ConnectionError when it cannot be fetched (what has
    come is kept), ValueError when it is not the file that was promised, OSError when the disk is full.
    """
    path = cache_folder() / folder / url.rsplit("/", 1)[1]
    if path.exists() and path.stat().st_size == size:
        return path
    part = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    have = part.stat().st_size if part.exists() else 0
    if have < size:
        try:
            _receive(url, part, have, size, progress)
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            reason = getattr(error, "reason", None) or error
            kept = part.stat().st_size if part.exists() else 0
            raise ConnectionError(
                f"{url} cannot be fetched ({reason}). {kept:,} of {size:,} bytes are kept; call this again, it goes on from "
                f"there. Or put the file at {path} by hand."
            ) from error
    found = hashlib.sha256()
    with open(part, "rb") as file:
        while block := file.read(BLOCK):
            found.update(block)
    if found.hexdigest() != sha256:
        part.unlink()
        wrong = found.hexdigest()[:16]
        raise ValueError(f"What {url} sent is not the file that was released (its SHA-256 is {wrong}…). Try again.")
    os.replace(part, path)
    return path


def cache_folder() -> Path:
    """Where fetched files and indexes are kept."""
    return Path(os.environ.get("OSPREY_NB_CACHE") or platformdirs.user_cache_dir("osprey_nb"))


def _receive(url: str, part: Path, have: int, size: int, progress: bool) -> None:
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=30) as answer:
        if answer.status != 206:  # the server begins anew
            have = 0
        bar = tqdm(total=size, initial=have, unit="B", unit_scale=True, desc=part.stem, disable=not progress)
        with bar, open(part, "ab" if have else "wb") as file:
            while block := answer.read(BLOCK):
                file.write(block)
                bar.update(len(block))
                have += len(block)
    if have < size:
        raise ConnectionError("the connection ended early")
