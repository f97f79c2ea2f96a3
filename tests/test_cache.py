"""The frozen encoder's cache: the same features, of the right weights, whole after a kill."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from osprey_nb import Osprey
from osprey_nb.data.scenes import make_scene
from osprey_nb.train import cache as module
from osprey_nb.train.cache import FeatureCache, fingerprint, key
from osprey_nb.train.stages import TINY, begin, osprey_loss
from osprey_nb.train.tiny import record_batches


@pytest.fixture(scope="module")
def scenes():
    return [make_scene(seed) for seed in range(20)]


@pytest.fixture
def pictures(scenes):
    return [scene.image for scene in scenes]


@pytest.fixture
def cache(tiny, tmp_path, pictures):
    cache = FeatureCache(tiny, tmp_path)
    assert cache.add(pictures, progress=False) == len(pictures)
    return cache


def same(ours, theirs):
    """Equal but for half precision, and for the order of sums, which depends on what else is in a batch."""
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.float(), b.float(), atol=2e-2, rtol=2e-3)


def test_features_are_the_encoders_to_half_precision(tiny, cache, pictures):
    with torch.no_grad():
        levels = tiny.encoder(torch.stack([tiny.processor.image(picture) for picture in pictures[17:]]))
    for i, picture in enumerate(pictures[17:]):
        for ours, theirs in zip(cache(picture), levels, strict=True):
            assert ours.dtype == torch.float16 and ours.shape == theirs[i].shape
        same(cache(picture), [level[i] for level in levels])


def test_nothing_is_computed_twice_and_a_path_is_its_content(tiny, cache, pictures, tmp_path, monkeypatch):
    Image.fromarray(pictures[0]).save(tmp_path / "a.png")
    shutil.copy(tmp_path / "a.png", tmp_path / "b.png")
    again = FeatureCache(tiny, tmp_path)
    assert again.add([*pictures, tmp_path / "a.png", tmp_path / "b.png"], progress=False) == 1
    assert len(again) == len(pictures) + 1 and key(tmp_path / "a.png") == key(tmp_path / "b.png") != key(pictures[0])
    same(again(tmp_path / "b.png"), again(pictures[0]))
    monkeypatch.setattr(tiny.encoder, "forward", lambda images: pytest.fail("computed again"))
    assert FeatureCache(tiny, tmp_path).add(pictures, progress=False) == 0


def test_other_weights_and_another_preparation_have_another_file(tiny, cache, pictures, tmp_path):
    other = Osprey.from_pretrained("tiny")
    with torch.no_grad():
        other.encoder.trunk.stages[2].blocks[0].conv_dw.weight[0, 0, 0, 0] += 1e-4
    assert fingerprint(other) != fingerprint(tiny)
    fresh = FeatureCache(other, tmp_path)
    with pytest.raises(ValueError, match="no features of this picture"):
        fresh(pictures[0])
    resized = Osprey.from_pretrained("tiny")
    resized.config.vision_config.mean = [0.5, 0.5, 0.5]
    assert fingerprint(resized) != fingerprint(tiny)


def test_training_from_the_cache_is_training_from_pictures(tiny, cache, scenes):
    stage = TINY[1]
    model = Osprey.from_pretrained("tiny")
    begin(model, stage)
    plain, cached = (next(record_batches(scenes, stage, model.processor, 0, features=f)) for f in (None, cache))
    assert "images" not in cached and torch.equal(plain["input_ids"], cached["input_ids"])
    torch.testing.assert_close(osprey_loss(model, cached), osprey_loss(model, plain), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("spoil", ["features", "keys"])
def test_a_kill_while_it_is_written_loses_one_batch_at_most(tiny, cache, pictures, tmp_path, spoil):
    path = cache.file if spoil == "features" else cache.index
    whole = path.read_bytes()
    path.write_bytes(whole[: -len(whole) // 8])
    again = FeatureCache(tiny, tmp_path)
    missing = len(pictures) - len(again)
    assert 0 < missing < len(pictures) and again.add(pictures, progress=False) == missing
    for picture in pictures:
        same(again(picture), cache(picture))


def test_its_size_is_said_first_and_a_disk_too_small_is_refused(tiny, pictures, tmp_path, capsys, monkeypatch):
    cache = FeatureCache(tiny, tmp_path)
    assert cache.size(1) == 2 * (32 * 32**2 + 64 * 16**2 + 128 * 8**2 + 256 * 4**2)
    small = shutil.disk_usage(tmp_path)._replace(free=module.SPARE + 100)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: small)
    monkeypatch.setattr(tiny.encoder, "forward", lambda images: pytest.fail("computed"))
    with pytest.raises(OSError, match=r"20 pictures, 2 MB \(123 kB each\) does not fit"):
        cache.add(pictures)
    monkeypatch.undo()
    cache.add(pictures[:2])
    assert "2 pictures, 0 MB (123 kB each)" in "".join(capsys.readouterr())


def test_numbers_that_half_precision_cannot_hold(tiny, pictures, tmp_path, monkeypatch):
    large = [torch.full((1, *shape), 1e6) for shape in FeatureCache(tiny, tmp_path).shapes]
    monkeypatch.setattr(tiny.encoder, "forward", lambda images: large)
    with pytest.raises(ValueError, match="float16"):
        FeatureCache(tiny, tmp_path).add(pictures[:1], progress=False)
    assert len(FeatureCache(tiny, tmp_path)) == 0
    assert np.array_equal(pictures[0], make_scene(0).image)
