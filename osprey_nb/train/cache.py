"""The frozen encoder's features, computed once (notebook 07).

    picture ─► key ──────────────┐
    encoder's weights, size, mean, std ─► folder ─► row of features.f16, memory-mapped: res2 … res5 one after another

From stage 1 on the encoder never changes, so neither do the features of a picture. Other weights or another preparation of
pictures have another folder: nothing stale is ever read.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..model import Osprey

BATCH = 16
SPARE = 1 << 28  # bytes of the disk that are left alone
VERSION = 1  # of the file's layout and of images.preprocess
DIGEST = 16  # bytes of a picture's key


class FeatureCache:
    """`cache(picture)` gives the encoder's four levels C×H×W, float16, for pictures that `add` has seen.

    A picture is H×W×3 uint8 or a path; its key is its content, not its name. Lives in `folder`, a subfolder for each encoder.
    """

    def __init__(self, model: Osprey, folder: str | Path):
        vision = model.config.vision_config
        self.model = model
        self.shapes = [
            (width, vision.image_size // stride, vision.image_size // stride)
            for width, stride in zip(vision.dims, (4, 8, 16, 32), strict=True)
        ]
        self.row = sum(int(np.prod(shape)) for shape in self.shapes)
        self.folder = Path(folder) / fingerprint(model)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.file, self.index = self.folder / "features.f16", self.folder / "keys"
        self._open()

    def size(self, count: int) -> int:
        """Bytes that `count` pictures take."""
        return 2 * self.row * count

    def add(self, pictures: Sequence, progress: bool = True) -> int:
        """Compute what is missing of `pictures`, a batch at a time; goes on where an earlier call was stopped.

        Says first how large it will be. Raises OSError when the disk has too little room, before anything is computed.
        Returns how many were computed.
        """
        missing: dict[bytes, int] = {}
        for i in range(len(pictures)):
            if (name := key(pictures[i])) not in self.rows:
                missing.setdefault(name, i)
        need, free = self.size(len(missing)), shutil.disk_usage(self.folder).free
        told = f"{len(missing):,} pictures, {need / 1e6:,.0f} MB ({self.size(1) / 1e3:,.0f} kB each)"
        if need > free - SPARE:
            raise OSError(f"the cache of {told} does not fit: {self.folder} has {free / 1e6:,.0f} MB. Train without it.")
        if not missing:
            return 0
        if progress:
            tqdm.write(f"features of the frozen encoder: {told} in {self.folder}")
        bar = tqdm(total=len(missing), desc="encoding", unit="picture", disable=not progress)
        modes, todo = self.model.encoder.training, list(missing.items())
        self.model.encoder.eval()
        with bar, open(self.file, "r+b") as features, open(self.index, "ab") as index:
            features.seek(self.size(len(self.rows)))  # what an interrupted batch has left is written over
            for start in range(0, len(todo), BATCH):
                names, places = zip(*todo[start : start + BATCH], strict=True)
                images = torch.stack([self.model.processor.image(pictures[i]) for i in places])
                with torch.inference_mode():
                    levels = self.model.encoder(images.to(self.model.device, self.model.dtype))
                rows = torch.cat([level.flatten(1) for level in levels], dim=1).half()
                if not rows.isfinite().all():
                    raise ValueError("a feature is larger than float16 can hold; train without the cache")
                features.write(rows.cpu().numpy().tobytes())
                features.flush()
                os.fsync(features.fileno())
                index.write(b"".join(names))  # after the features: a key stands for a row that is whole
                index.flush()
                bar.update(len(names))
        self.model.encoder.train(modes)
        self._open()
        return len(missing)

    def __call__(self, picture) -> list[Tensor]:
        """Raises ValueError for a picture that `add` has not seen."""
        row = self.rows.get(key(picture))
        if row is None:
            raise ValueError(f"the cache has no features of {picture if isinstance(picture, Path) else 'this picture'}")
        flat = torch.from_numpy(self.features[row])
        sizes = [int(np.prod(shape)) for shape in self.shapes]
        return [part.view(shape) for part, shape in zip(flat.split(sizes), self.shapes, strict=True)]

    def __len__(self) -> int:
        return len(self.rows)

    def _open(self) -> None:
        for path in (self.file, self.index):
            path.touch()
        keys = self.index.read_bytes()
        count = min(len(keys) // DIGEST, self.file.stat().st_size // self.size(1))
        if len(keys) != count * DIGEST:  # a kill in the middle of a line
            os.truncate(self.index, count * DIGEST)
        self.rows = {keys[i * DIGEST : (i + 1) * DIGEST]: i for i in range(count)}
        # mode c: a tensor may be written to, the file stays as it is
        self.features = np.memmap(self.file, np.float16, "c", shape=(count, self.row)) if count else None


def key(picture) -> bytes:
    """What a picture is: a digest of its pixels and shape, or of its file."""
    if isinstance(picture, (str, Path)):
        return hashlib.blake2b(Path(picture).read_bytes(), digest_size=DIGEST).digest()
    picture = np.ascontiguousarray(picture)
    return hashlib.blake2b(picture.tobytes(), digest_size=DIGEST, salt=str(picture.shape).encode()[:16]).digest()


def fingerprint(model: Osprey) -> str:
    """Sixteen letters for the encoder's weights and the preparation of pictures."""
    vision = model.config.vision_config
    digest = hashlib.sha256(repr((VERSION, vision.image_size, list(vision.mean), list(vision.std))).encode())
    for name, weight in sorted(model.encoder.state_dict().items()):
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
        digest.update(weight.detach().contiguous().view(torch.uint8).cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def pictures(records: Iterable) -> list:
    """The pictures of records, each path once; records that cannot be read are passed over, as in training."""
    found, paths = [], set()
    for i in range(len(records)):
        try:
            image = records[i].image
        except (ValueError, TypeError, OSError):
            continue
        if not isinstance(image, Path):
            found.append(image)
        elif image not in paths and image.is_file():
            paths.add(image)
            found.append(image)
    return found
