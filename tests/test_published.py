"""The published layout, loaded exactly: golden outputs of the released implementation."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import torch
from transformers import LlamaConfig

from osprey_nb.checkpoint import fetch, load_published
from osprey_nb.config import OspreyConfig
from osprey_nb.files import read_tensors
from osprey_nb.processor import OspreyProcessor

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


def save_published(state_dict, folder: Path, tower_beside: bool) -> None:
    """Two pickled shards with an index and LLaMA's config.json, as released."""
    tower = {key: x for key, x in state_dict.items() if "vision_tower" in key}
    rest = {key: x for key, x in state_dict.items() if tower_beside is False or key not in tower}
    keys = list(rest)
    halves = {"pytorch_model-1.bin": keys[::2], "pytorch_model-2.bin": keys[1::2]}
    for name, half in halves.items():
        torch.save({key: rest[key] for key in half}, folder / name)
    index = {"weight_map": {key: name for name, half in halves.items() for key in half}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    if tower_beside:
        visual = {key.removeprefix("model.vision_tower.vision_tower."): x for key, x in tower.items()}
        torch.save({**visual, "transformer.text": torch.zeros(2)}, folder / "open_clip_pytorch_model.bin")
    text = {"hidden_size": 4096, "intermediate_size": 256, "num_hidden_layers": 1, "num_attention_heads": 32}
    extras = {"model_type": "osprey", "mm_vision_tower": "/home/somebody/convnext.bin", "rms_norm_eps": 1e-5}
    (folder / "config.json").write_text(json.dumps({**text, **extras, "vocab_size": 32000}))


def test_folder_of_shards_with_the_tower_beside(model, state_dict, tmp_path):
    save_published(state_dict, tmp_path, tower_beside=True)
    loaded = load_published(tmp_path)
    theirs = model.state_dict()
    assert all(torch.equal(x, theirs[key]) for key, x in loaded.state_dict().items())
    assert loaded.config.text_config.vocab_size == 64

    (tmp_path / "open_clip_pytorch_model.bin").unlink()
    with pytest.raises(ValueError, match="no image tower.*open_clip_pytorch_model.bin"):
        load_published(tmp_path)
    (tmp_path / "pytorch_model-2.bin").unlink()
    with pytest.raises(FileNotFoundError, match="pytorch_model-2.bin"):
        load_published(tmp_path)


def test_a_released_folder_with_its_sentencepiece_answers(state_dict, tmp_path):
    save_published(state_dict, tmp_path, tower_beside=False)
    letters = "a short description of the thing? USER: ASSISTANT: Please give me Using phrase. chat between curious human"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([letters] * 20), model_prefix=str(tmp_path / "tokenizer"), vocab_size=62, model_type="bpe",
        pad_id=-1, unk_id=0, bos_id=1, eos_id=2, minloglevel=2,
    )
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer", "legacy": False}))
    loaded = load_published(tmp_path).eval()
    tokenizer = loaded.processor.tokenizer
    assert tokenizer.convert_tokens_to_ids(["<mask>", "<pos>"]) == [62, 63]  # the rows that the release added
    ids = loaded.processor.text([("What is <region1>?", None)], 1, inline=True)["input_ids"].tolist()
    picture = ids.index(-200)
    assert ids.count(-200) == ids.count(62) == ids.count(63) == 1 and ids[0] == 1
    assert tokenizer.convert_ids_to_tokens(ids[picture + 1]) == "▁"  # the text after <image> begins anew, as published
    image, mask = np.zeros((40, 60, 3), np.uint8), np.ones((40, 60), bool)
    assert len(loaded.describe(image, [mask], max_new_tokens=1)) == 1
    with pytest.raises(ValueError, match=r"are \[62, 63\]; the config says \[32000, 32001\]"):
        OspreyProcessor(OspreyConfig.preset("paper"), tokenizer)


def test_keys_that_do_not_fit_are_named(state_dict):
    wrong = dict(state_dict)
    del wrong["mask_extractor.res3.bias"]
    wrong["mask_extractor.res6.bias"] = torch.zeros(2)
    wrong["model.mm_projector.0.weight"] = torch.zeros(3, 4)
    with pytest.raises(ValueError) as error:
        load_published(wrong, golden_config())
    text = str(error.value)
    assert "missing (1): mask_extractor.res3.bias" in text
    assert "unexpected (1): mask_extractor.res6.bias" in text
    assert "projector.0.weight: file (3, 4), model (4096, 768)" in text


def test_a_state_dict_needs_a_config(state_dict):
    with pytest.raises(ValueError, match="Give config"):
        load_published(state_dict)


class Bomb:
    def __reduce__(self):
        return (print, ("a pickle ran",))


def test_pickles_do_not_run(tmp_path, capsys):
    torch.save({"a": Bomb()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="cannot be read as weights"):
        read_tensors(tmp_path / "pytorch_model.bin")
    assert "a pickle ran" not in capsys.readouterr().out


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"half a file")
    with pytest.raises(ValueError, match="model.safetensors cannot be read"):
        read_tensors(tmp_path / "model.safetensors")


def test_fetch_says_what_to_do_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ValueError, match="osprey-7b"):
        fetch("osprey-70b", tmp_path)
    with pytest.raises(ConnectionError, match="goes on where it stopped"):
        fetch("osprey-7b", tmp_path)
