"""load_image: what is refused, and with which words. preprocess: the published preparation, step by step."""

import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from osprey_nb.config import CLIP_MEAN, CLIP_STD
from osprey_nb.images import MAX_PIXELS, load_image, preprocess


@pytest.fixture
def photo():
    """A 40×60 picture, every pixel different enough that a flip or a rotation shows."""
    y, x = np.mgrid[:40, :60]
    return np.stack([4 * x, 6 * y, 2 * (x + y)], axis=-1).astype(np.uint8)


def huge_png(path, width, height):
    """A PNG that says it has width×height pixels and holds none: only the header is ever true."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    )
    return path


@pytest.mark.parametrize("suffix", ["png", "bmp", "webp", "tiff", "ppm"])
def test_every_way_in_gives_the_same_pixels(photo, tmp_path, suffix):
    path = tmp_path / f"photo.{suffix}"
    Image.fromarray(photo).save(path, **({"lossless": True} if suffix == "webp" else {}))
    for source in (photo, Image.fromarray(photo), path, str(path)):
        image = load_image(source)
        assert image.mode == "RGB" and np.array_equal(np.asarray(image), photo)


def test_grey_and_palette_become_rgb(photo, tmp_path):
    grey = Image.fromarray(photo[..., 0])
    assert np.array_equal(np.asarray(load_image(grey))[..., 2], photo[..., 0])
    assert load_image(photo[..., 0]).mode == "RGB"
    Image.fromarray(photo).convert("P").save(tmp_path / "p.gif")
    assert load_image(tmp_path / "p.gif").mode == "RGB"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_honoured_once(photo, tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    Image.fromarray(photo).save(path, exif=exif)
    upright = {1: photo, 2: photo[:, ::-1], 3: photo[::-1, ::-1], 4: photo[::-1],
               5: photo.transpose(1, 0, 2), 6: np.rot90(photo, -1),
               7: np.rot90(photo.transpose(1, 0, 2), 2), 8: np.rot90(photo)}[orientation]  # fmt: skip
    once = load_image(path)
    assert np.array_equal(np.asarray(once), upright)
    assert np.array_equal(np.asarray(load_image(once)), upright)
    with Image.open(path) as opened:
        assert np.array_equal(np.asarray(load_image(opened)), upright)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_truncated_file(photo, tmp_path, suffix):
    path = tmp_path / f"cut.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut\.\w+ is truncated or damaged .*again"):
        load_image(path)
    path.write_bytes(whole[:20])
    with pytest.raises(ValueError, match="damaged"):
        load_image(path)


def test_cmyk(photo, tmp_path):
    path = tmp_path / "print.jpg"
    Image.fromarray(photo).convert("CMYK").save(path)
    with pytest.raises(ValueError, match=r"print\.jpg is CMYK.*RGB"):
        load_image(path)


def test_alpha(photo, tmp_path):
    rgba = Image.fromarray(np.dstack([photo, np.full(photo.shape[:2], 128, np.uint8)]))
    rgba.save(tmp_path / "glass.png")
    Image.fromarray(photo).convert("P").save(tmp_path / "keyed.png", transparency=0)
    for source in (rgba, rgba.convert("LA"), tmp_path / "glass.png", tmp_path / "keyed.png"):
        with pytest.raises(ValueError, match="alpha channel.*flatten"):
            load_image(source)
    with pytest.raises(ValueError, match="alpha channel.*flatten"):
        load_image(np.asarray(rgba))
    flat = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    assert load_image(flat).size == rgba.size


@pytest.mark.parametrize("size", [(20_000, 10_000), (10_000, 8_950), (9_000, 7_500)])
def test_too_many_pixels_names_the_limit_and_decodes_nothing(tmp_path, size, recwarn):
    # 200 megapixels (Pillow raises), 89.5 (Pillow warns) and 67.5 (Pillow is silent).
    path = huge_png(tmp_path / "huge.png", *size)
    with pytest.raises(ValueError, match=rf"huge\.png has .*limit .*{MAX_PIXELS:,}.*shrink"):
        load_image(path)
    assert not recwarn.list


def test_the_limit_is_an_argument(photo):
    with pytest.raises(ValueError, match="2,400 pixels; the limit is 2,399"):
        load_image(photo, max_pixels=2399)
    with pytest.raises(ValueError, match="2,400 pixels; the limit is 2,399"):
        load_image(Image.fromarray(photo), max_pixels=2399)
    assert load_image(photo, max_pixels=2400).size == (60, 40)


def test_a_thread_of_pixels_is_refused():
    with pytest.raises(ValueError, match="101×2.*crop"):
        load_image(np.zeros((2, 101, 3), np.uint8))


@pytest.mark.parametrize(
    ("array", "error", "words"),
    [
        (np.zeros((4, 4, 3), np.float32), TypeError, "float32; expected uint8"),
        (np.full((4, 4, 3), np.nan), TypeError, "NaN"),
        (np.zeros((4, 4, 3), np.int64), TypeError, "int64; expected uint8"),
        (np.zeros((3, 4, 5), np.uint8), ValueError, r"\(3, 4, 5\); expected H×W×3; channels come last"),
        (np.zeros((1, 4, 4, 3), np.uint8), ValueError, r"\(1, 4, 4, 3\); expected H×W×3"),
        (np.zeros((0, 4, 3), np.uint8), ValueError, "nothing in it"),
        (torch.zeros(3, 4, 4), TypeError, "got Tensor.*uint8 array"),
        (None, TypeError, "got NoneType"),
    ],
)
def test_arrays_of_another_kind(array, error, words):
    with pytest.raises(error, match=words):
        load_image(array)


def test_deep_pixels_are_refused():
    with pytest.raises(ValueError, match="mode I;16"):
        load_image(Image.fromarray(np.zeros((4, 4), np.uint16)))


def test_files_that_are_no_image(tmp_path):
    with pytest.raises(FileNotFoundError, match="no image at .*nowhere.png"):
        load_image(tmp_path / "nowhere.png")
    with pytest.raises(ValueError, match="is a folder"):
        load_image(tmp_path)
    (tmp_path / "notes.png").write_text("not a picture")
    with pytest.raises(ValueError, match=r"notes\.png is no image.*PNG"):
        load_image(tmp_path / "notes.png")


@pytest.mark.parametrize("shape", [(40, 60), (60, 40), (50, 50), (33, 71)])
def test_preprocess_is_clips_own_resize_then_bilinear(shape):
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8))
    clip = CLIPImageProcessorPil(
        size={"shortest_edge": 48}, do_center_crop=False, resample=Image.Resampling.BICUBIC
    )
    expected = torch.as_tensor(np.asarray(clip(image)["pixel_values"][0]), dtype=torch.float32)
    expected = torch.nn.functional.interpolate(
        expected[None], size=(48, 48), mode="bilinear", align_corners=False
    )[0]
    got = preprocess(image, 48, CLIP_MEAN, CLIP_STD)
    assert got.shape == (3, 48, 48) and got.dtype == torch.float32
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


def test_preprocess_keeps_the_whole_picture():
    image = np.zeros((20, 80, 3), np.uint8)
    image[:, :8] = 255  # a crop to the centre would lose this edge
    got = preprocess(image, 32, mean=(0, 0, 0), std=(1, 1, 1))
    assert got[:, :, 0].min() > 0.9 and got[:, :, 16:].abs().max() < 0.05


def test_preprocess_normalises_with_clips_numbers():
    got = preprocess(np.full((8, 8, 3), 255, np.uint8), 8, CLIP_MEAN, CLIP_STD)
    expected = (1 - torch.tensor(CLIP_MEAN)) / torch.tensor(CLIP_STD)
    torch.testing.assert_close(got[:, 3, 3], expected)
