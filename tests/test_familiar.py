"""osprey_nb.familiar: photographs are told from the drawings that tiny knows."""

import numpy as np
import pytest
import torch

from osprey_nb.data.scenes import make_scene
from osprey_nb.familiar import Familiar, familiar_of, fit_familiar
from osprey_nb.images import load_image


def test_tiny_knows_drawings_from_photographs(tiny, shared):
    known = familiar_of(tiny)
    drawings = [make_scene(number, size, "eval").image for number in range(5000, 5060) for size in (128, 256)]
    photographs = [load_image(path) for path in sorted((shared / "coco128" / "images").iterdir())]
    assert len(photographs) == 96
    unlike = [[known.unlike(tiny.read(image).features) for image in images] for images in (drawings, photographs)]
    assert np.mean(unlike[0]) < 0.05 and np.mean(unlike[1]) > 0.95


def test_the_distance_is_mahalanobis():
    mean, precision = torch.tensor([1.0, 0.0]), torch.tensor([[4.0, 0.0], [0.0, 1.0]])
    level = torch.full((1, 1, 2, 2), 3.0)  # mean 3, spread 0
    features = [None, level, None, None]
    known = Familiar(mean, precision, limit=2.0)
    assert known.distance(features) == pytest.approx(np.sqrt(4 * 2**2 / 2))
    assert known.unlike(features) and not Familiar(mean, precision, 3.0).unlike(features)


def test_it_is_kept_beside_the_weights(tiny, tmp_path):
    images = [np.random.default_rng(i).integers(0, 255, (64, 64, 3), np.uint8) for i in range(120)]
    fitted = fit_familiar(tiny, images)
    fitted.save(tmp_path)
    tiny_path, tiny.name_or_path = tiny.name_or_path, str(tmp_path)
    try:
        read = familiar_of(tiny)
    finally:
        tiny.name_or_path = tiny_path
    assert read.limit == pytest.approx(fitted.limit)
    torch.testing.assert_close(read.precision, fitted.precision)
    assert familiar_of(object()) is None
    with pytest.raises(ValueError, match="give 100 or more"):
        fit_familiar(tiny, images[:20])
