"""Pictures that people bring to the studio: a drawing's number, a file, an upload from the browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..data.scenes import make_scene
from ..images import load_image

if TYPE_CHECKING:
    from PIL import Image

SAMPLE_SIDE = 512  # of a drawing, in pixels


def opened(image) -> tuple[str, Image.Image]:
    """Where a picture is from, in words for people and `session_code`, and the picture. A number is a drawing's."""
    if isinstance(image, int) and not isinstance(image, bool):
        return f"drawing {image}", load_image(make_scene(image, SAMPLE_SIDE, "eval").image)
    source = str(image) if isinstance(image, (str, Path)) else getattr(image, "filename", "") or ""
    return source, load_image(image)


def uploaded(data: bytes, name: str) -> Image.Image:
    """A picture that came from the browser; it keeps its file's name. ValueError when it is none."""
    image = load_image(data)
    image.filename = name[:120]
    return image
