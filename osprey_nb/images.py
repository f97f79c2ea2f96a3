"""From whatever a person has to the picture the model sees (docs/osprey.md, section 1, "Image preparation").

    path | PIL | H×W×3 uint8 ── load_image ──> RGB, upright ── preprocess ──> 3×S×S float32, normalised

A picture that would be read wrongly is refused before a pixel of it is decoded, and the message says what
to do. Grey and palette pictures become RGB, as nothing is lost; of an animation the first frame is taken.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

if TYPE_CHECKING:
    import torch

MAX_PIXELS = 64_000_000
MAX_ASPECT = 50  # a 1×10000 strip would be blown up to 512×5 million pixels
# Pillow reads many more; the rare ones have had most of its security holes.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
MODES = ("RGB", "L", "P", "1")


def load_image(
    source: Image.Image | np.ndarray | str | os.PathLike | bytes, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """An upright RGB picture; an EXIF rotation is applied once and then forgotten.

    `source` is a path, the bytes of a file, a PIL image, or an H×W×3 (or H×W, grey) uint8 array. Raises FileNotFoundError for a
    missing file, TypeError for a wrong kind of object or dtype, and ValueError for a picture that is
    truncated, too large (more than `max_pixels`, checked before decoding), very elongated, CMYK, transparent,
    or not a picture at all.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, max_pixels)
    if isinstance(source, Image.Image):
        return _from_pil(source, "the picture", max_pixels)
    if isinstance(source, (str, os.PathLike)):
        return _from_path(Path(source), max_pixels)
    if isinstance(source, bytes):
        return _from_file(io.BytesIO(source), "the file", max_pixels)
    raise TypeError(
        f"got {type(source).__name__} for the image; give a path, a PIL image, or an H×W×3 uint8 array"
    )


def preprocess(
    image: Image.Image | np.ndarray | str | os.PathLike,
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
) -> torch.Tensor:
    """The encoder's input, 3×S×S float32: shorter edge to S (bicubic), normalised, then bilinear to S×S.

    The whole picture is kept and its aspect ratio is not, exactly as published. Masks need no such treatment:
    they stay at their own resolution until they are pooled.
    """
    import torch

    image = load_image(image)
    short, long = sorted(image.size)
    scaled = int(size * long / short)
    width, height = (size, scaled) if image.width <= image.height else (scaled, size)
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32) / 255
    pixels = (pixels - np.float32(mean)) / np.float32(std)
    tensor = torch.from_numpy(pixels.transpose(2, 0, 1).copy())
    return torch.nn.functional.interpolate(
        tensor[None], size=(size, size), mode="bilinear", align_corners=False
    )[0]


def _from_path(path: Path, max_pixels: int) -> Image.Image:
    if not path.exists():
        raise FileNotFoundError(f"no image at {path}; give the path of a file on this machine")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give the path of one image in it")
    return _from_file(path, str(path), max_pixels)


def _from_file(file: Path | io.BytesIO, name: str, max_pixels: int) -> Image.Image:
    try:
        with warnings.catch_warnings():
            # Pillow warns of a huge picture; our own limit, below, speaks for both.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            opened = Image.open(file, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise ValueError(
            f"{name} has more pixels than Pillow opens safely ({error}); the limit here is {max_pixels:,} "
            f"pixels: shrink the picture first"
        ) from error
    except Exception as error:  # a damaged header can make a decoder raise nearly anything
        raise ValueError(
            f"{name} is no image that can be read, or damaged from its first bytes ({type(error).__name__}); "
            f"the formats read are {', '.join(FORMATS)}"
        ) from error
    with opened:
        return _from_pil(opened, name, max_pixels)


def _from_pil(image: Image.Image, name: str, max_pixels: int) -> Image.Image:
    _check_size(image.width, image.height, name, max_pixels)
    if image.mode == "CMYK":
        raise ValueError(
            f"{name} is CMYK, made for print, and its colours depend on a printing profile; save it as RGB, "
            f'for instance image.convert("RGB") if the colours need not be exact'
        )
    if image.has_transparency_data:
        raise ValueError(
            f"{name} has an alpha channel (mode {image.mode}), so its background is unknown; flatten it: "
            f'background = Image.new("RGBA", image.size, "white"); '
            f'Image.alpha_composite(background, image.convert("RGBA")).convert("RGB")'
        )
    if image.mode not in MODES:
        raise ValueError(
            f"{name} has mode {image.mode}; expected 8-bit RGB or grey (modes {', '.join(MODES)}): "
            f"scale its values to 0…255 and save it as RGB"
        )
    try:
        image.load()
    except Exception as error:  # a damaged file can make a decoder raise nearly anything
        raise ValueError(f"{name} is truncated or damaged ({error}); copy or download it again") from error
    return ImageOps.exif_transpose(image).convert("RGB")


def _from_array(array: np.ndarray, max_pixels: int) -> Image.Image:
    if array.dtype != np.uint8:
        what = f"an image array of dtype {array.dtype}"
        if array.dtype.kind == "f" and np.isnan(array).any():
            what += " with NaN in it"
        raise TypeError(
            f"got {what}; expected uint8 with values 0…255 "
            f"(from floats in 0…1: (a * 255).round().astype(np.uint8))"
        )
    if array.ndim == 3 and array.shape[2] == 4:
        raise ValueError(
            f"got an image array of shape {array.shape}, which has an alpha channel; expected H×W×3: "
            f"drop it with a[..., :3] if everything is opaque, else flatten it over a background"
        )
    if array.ndim != 2 and (array.ndim != 3 or array.shape[2] != 3):
        hint = "; channels come last: a.transpose(1, 2, 0)" if array.ndim == 3 and array.shape[0] == 3 else ""
        raise ValueError(f"got an image array of shape {array.shape}; expected H×W×3{hint}")
    _check_size(array.shape[1], array.shape[0], "the image array", max_pixels)
    return Image.fromarray(array).convert("RGB")


def _check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    if width == 0 or height == 0:
        raise ValueError(f"{name} is {width}×{height} pixels: there is nothing in it")
    if width * height > max_pixels:
        raise ValueError(
            f"{name} has {width}×{height} = {width * height:,} pixels; the limit is {max_pixels:,} "
            f"(max_pixels): shrink it first, the model sees far fewer"
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ValueError(
            f"{name} is {width}×{height}, one side over {MAX_ASPECT} times the other; crop it first"
        )
