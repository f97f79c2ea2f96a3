"""Eight textured backgrounds, painted at any resolution from a seed.

They are paler or duller than the objects, and show nothing that has the silhouette of a kind.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

BACKGROUNDS: tuple[str, ...] = ("meadow", "beach", "snow", "desert", "night sky", "room", "street", "sea")
VARIANTS = 8  # different paintings of each background
SUPERSAMPLE = 2


def _noise(rng, cells: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """Smooth noise in [-1, 1]: a small random grid, enlarged. `size` is (W, H)."""
    grid = Image.fromarray(rng.uniform(-1, 1, cells).astype(np.float32))
    return np.asarray(grid.resize(size, Image.Resampling.BICUBIC))


def _gradient(image: Image.Image, top: float, bottom: float, first, last) -> None:
    """Fill the rows from `top` to `bottom` (fractions of the height) with a vertical gradient."""
    width, height = image.size
    start, stop = round(top * height), round(bottom * height)
    rows = np.linspace(first, last, max(stop - start, 1)).round().astype(np.uint8)
    image.paste(Image.fromarray(np.repeat(rows[:, None], width, 1)), (0, start))


def _hill(draw, rng, y: float, swing: float, colour, bottom: float = 1.0) -> None:
    """A wavy band from about `y` down to `bottom`."""
    width, height = draw.im.size
    x = np.linspace(0, 1, 60)
    phase, waves = rng.uniform(0, 6.3, 2), rng.uniform(3, 8, 2)
    line = y + swing * (np.sin(waves[0] * x + phase[0]) + 0.5 * np.sin(waves[1] * 2 * x + phase[1])) / 1.5
    points = [(float(a * width), float(b * height)) for a, b in zip(x, line, strict=True)]
    draw.polygon([*points, (width, bottom * height), (0, bottom * height)], fill=colour)


def _clouds(draw, rng, count: int, colour, low: float = 0.32) -> None:
    width, height = draw.im.size
    for _ in range(count):
        cx, cy, r = rng.uniform(0, 1), rng.uniform(0.05, low), rng.uniform(0.03, 0.055)
        for dx, scale in ((-1.3, 0.65), (0, 1), (1.2, 0.75), (2.1, 0.5)):
            x, y, half = (cx + dx * r) * width, (cy - 0.1 * r * scale) * height, r * scale
            rx, ry = half * 1.5 * width, half * 0.6 * height
            draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=colour)


def _marks(draw, rng, count: int, box, length: float, colours, slant: float = 0.0, thick: float = 0.004) -> None:
    """Short strokes: upright blades, or lying ripples with slant 1. Nearer (lower) ones are longer."""
    width, height = draw.im.size
    for x, y, wobble in zip(*rng.uniform(0, 1, (3, count)), strict=True):
        px, py = box[0] + x * (box[2] - box[0]), box[1] + y**0.8 * (box[3] - box[1])
        reach = length * (0.4 + 0.9 * py) * (0.7 + 0.6 * wobble)
        dx, dy = (reach, 0.1 * reach * (wobble - 0.5)) if slant else (0.5 * reach * (wobble - 0.5), -reach)
        draw.line(
            (px * width, py * height, (px + dx) * width, (py + dy) * height),
            fill=colours[int(wobble * len(colours))],
            width=max(1, round(thick * height)),
        )


def _dot(draw, x: float, y: float, radius: float, colour) -> None:
    width, height = draw.im.size
    cx, cy, half = x * width, y * height, radius * height
    draw.ellipse((cx - half, cy - half, cx + half, cy + half), fill=colour)


def _meadow(image, draw, rng):
    _gradient(image, 0, 0.5, (168, 212, 240), (222, 240, 246))
    _clouds(draw, rng, 4, (244, 250, 252))
    _hill(draw, rng, 0.4, 0.04, (172, 204, 160))
    _hill(draw, rng, 0.5, 0.03, (160, 198, 132))
    _marks(draw, rng, 260, (0, 0.56, 1, 1.03), 0.035, [(140, 184, 112), (178, 212, 146), (150, 192, 122)])


def _beach(image, draw, rng):
    _gradient(image, 0, 0.3, (178, 220, 244), (226, 242, 248))
    _clouds(draw, rng, 3, (246, 250, 252), 0.2)
    _gradient(image, 0.3, 0.52, (118, 182, 208), (160, 214, 222))
    _marks(draw, rng, 60, (-0.1, 0.32, 1, 0.48), 0.08, [(188, 226, 234), (140, 198, 216)], 1)
    _hill(draw, rng, 0.5, 0.012, (240, 246, 240))
    _hill(draw, rng, 0.53, 0.014, (234, 216, 174))
    _marks(draw, rng, 150, (-0.05, 0.58, 1, 1), 0.035, [(222, 200, 154), (242, 228, 194)], 1)


def _snow(image, draw, rng):
    _gradient(image, 0, 0.5, (176, 196, 222), (214, 224, 238))
    _hill(draw, rng, 0.36, 0.07, (190, 204, 224))
    _hill(draw, rng, 0.48, 0.03, (206, 218, 234))
    _hill(draw, rng, 0.64, 0.03, (214, 226, 240))
    _marks(draw, rng, 90, (-0.05, 0.55, 1, 1), 0.04, [(200, 212, 232), (226, 234, 244)], 1)
    for x, y, r in zip(*rng.uniform(0, 1, (3, 130)), strict=True):
        _dot(draw, x, y, 0.003 + 0.004 * r, (240, 245, 250))


def _desert(image, draw, rng):
    _gradient(image, 0, 0.5, (226, 222, 222), (248, 232, 204))
    _hill(draw, rng, 0.42, 0.06, (228, 200, 160))
    _hill(draw, rng, 0.56, 0.05, (222, 190, 146))
    _hill(draw, rng, 0.74, 0.04, (216, 182, 138))
    _marks(draw, rng, 130, (-0.05, 0.6, 1, 1), 0.07, [(206, 170, 126), (230, 202, 160)], 1)


def _night_sky(image, draw, rng):
    _gradient(image, 0, 1, (34, 40, 84), (92, 96, 148))
    for x, y, r in zip(*rng.uniform(0, 1, (3, 120)), strict=True):
        _dot(draw, x, y, 0.0015 + 0.004 * r**3, (226, 228, 240))
    _hill(draw, rng, 0.9, 0.02, (58, 66, 104))


def _room(image, draw, rng):
    tint = rng.integers(-10, 11, 3)
    wall = np.array((214, 206, 196)) + tint
    paper = tuple(int(v) for v in wall - 5)
    _gradient(image, 0, 0.68, wall + 6, wall)
    width, height = image.size
    for x in np.arange(0, 1, 1 / 14):
        draw.rectangle((x * width, 0, (x + 1 / 28) * width, 0.66 * height), fill=paper)
    _gradient(image, 0.66, 0.69, (236, 230, 222), (222, 214, 204))
    _gradient(image, 0.69, 1, (186, 160, 132), (204, 178, 150))
    for y in (0.69, 0.75, 0.83, 0.92):
        draw.line((0, y * height, width, y * height), fill=(168, 140, 112), width=max(1, height // 200))
    _marks(draw, rng, 120, (-0.1, 0.7, 1, 1), 0.09, [(178, 150, 122), (206, 182, 154)], 1, 0.002)


def _street(image, draw, rng):
    _gradient(image, 0, 0.6, (198, 214, 228), (226, 230, 234))
    width, height = image.size
    x = -0.05
    while x < 1:
        step, top, grey = rng.uniform(0.08, 0.2), rng.uniform(0.12, 0.4), int(rng.integers(176, 200))
        draw.rectangle((x * width, top * height, (x + step) * width, height), fill=(grey, grey + 2, grey + 6))
        x += step
    _gradient(image, 0.6, 0.7, (206, 204, 200), (196, 194, 190))
    _gradient(image, 0.7, 1, (150, 152, 158), (164, 166, 172))
    _marks(draw, rng, 160, (-0.05, 0.72, 1, 1), 0.015, [(140, 142, 148), (174, 176, 182)], 1)
    for x in np.arange(rng.uniform(-0.2, 0), 1, 0.25):
        draw.rectangle((x * width, 0.84 * height, (x + 0.13) * width, 0.86 * height), fill=(214, 214, 208))


def _sea(image, draw, rng):
    _gradient(image, 0, 0.36, (190, 216, 236), (230, 238, 240))
    _clouds(draw, rng, 4, (246, 249, 251), 0.24)
    _gradient(image, 0.36, 1, (140, 196, 214), (92, 156, 186))
    colours = [(162, 212, 226), (110, 172, 200), (186, 226, 236)]
    for _ in range(2):
        _marks(draw, rng, 110, (-0.1, 0.38, 1, 1), 0.09, colours, 1, 0.006)


_PAINTERS = dict(zip(BACKGROUNDS, (_meadow, _beach, _snow, _desert, _night_sky, _room, _street, _sea), strict=True))


@lru_cache(maxsize=96)
def paint(name: str, variant: int, height: int, width: int) -> np.ndarray:
    """H×W×3 uint8 painting of background `name`; read-only because it is shared between scenes."""
    rng = np.random.default_rng([BACKGROUNDS.index(name), variant])
    size = width * SUPERSAMPLE, height * SUPERSAMPLE
    image = Image.new("RGB", size)
    _PAINTERS[name](image, ImageDraw.Draw(image), rng)
    image = image.reduce(SUPERSAMPLE)
    grain = 5 * _noise(rng, (7, 7), image.size) + 3 * _noise(rng, (48, 48), image.size)
    pixels = np.clip(np.asarray(image) + grain[:, :, None], 0, 255).astype(np.uint8)
    pixels.setflags(write=False)
    return pixels
