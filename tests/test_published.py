"""The published layout, loaded exactly: golden outputs of the released implementation."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig

from osprey_nb.checkpoint import fetch, load_published, read_tensors
from osprey_nb.config import OspreyConfig

DATA = Path(__file__).parent / "data"


def golden_config() -> OspreyConfig:
    config = OspreyConfig.preset("paper")
    config.text_config = LlamaConfig(
        vocab_size=64, hidden_size=4096, intermediate_size=256, num_hidden_layers=1, num_attention_heads=32, rms_norm_eps=1e-5
    )
    config.mask_token_id, config.pos_token_id = 62, 63
    return config


def golden_tensor(key: str, shape: list[int]) -> torch.Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(key.encode())))
    if x.ndim <= 1:
        scale = ("norm" in key.split(".")[-2] or key.endswith("gamma")) and key.endswith(("weight", "gamma"))
        return 1 + 0.1 * x if scale else 0.02 * x
    return x / x[0].numel() ** 0.5


@pytest.fixture(scope="module")
def state_dict():
    layout = json.loads((DATA / "state_dict_layout.json").read_text())
    return {key: golden_tensor(key, shape) for key, (shape, dtype) in layout.items() if dtype == "float32"}


@pytest.fixture(scope="module")
def model(state_dict):
    return load_published(state_dict, golden_config()).eval()


def close(ours: torch.Tensor, golden: np.ndarray, name: str) -> None:
    gap = float((ours.detach() - torch.from_numpy(golden)).abs().max())
    assert gap < 1e-4, f"{name} differs by {gap:.2e}"


@pytest.mark.parametrize("name", ["one_region", "many_regions"])
def test_golden(model, name):
    golden = np.load(DATA / f"{name}.npz")
    images = torch.from_numpy(golden["images"])
    masks = [torch.from_numpy(golden[f"masks_{i}"]) for i in range(len(images))]
    ids, attention, labels = (torch.from_numpy(golden[key]) for key in ("input_ids", "attention_mask", "labels_in"))
    with torch.no_grad():
        features = model.encoder(images)
        for level, feature in enumerate(features, start=2):
            close(feature.mean(dim=(2, 3)), golden[f"res{level}_mean"], f"res{level}")
        for i, (mask_token, spatial_token) in enumerate(zip(*model.mask_extractor(features, masks), strict=True)):
            close(mask_token, golden[f"mask_tokens_{i}"], f"mask tokens of image {i}")
            close(spatial_token, golden[f"spatial_tokens_{i}"], f"spatial tokens of image {i}")
        spliced = model.prepare(None, masks, ids, attention, labels, features)
        real = torch.from_numpy(golden["embeds_mask"])
        assert torch.equal(spliced.attention_mask, real)
        assert torch.equal(spliced.labels[real], torch.from_numpy(golden["labels_out"])[real])
        close(spliced.embeds[..., ::16][real], golden["embeds"][real.numpy()], "embeddings")
        is_image = (ids == -200).int().argmax(1)
        for row, start in enumerate(is_image):
            tokens = spliced.embeds[row, start : start + golden["image_tokens_mean"].shape[1]]
            close(tokens.mean(-1), golden["image_tokens_mean"][row], "image tokens")
        out = model(images, masks, ids, attention, labels)
        close(out.logits[real], golden["logits"][real.numpy()], "logits")
        close(out.loss, golden["loss"], "loss")
