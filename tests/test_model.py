"""Osprey by transformers' conventions: any LLM, splice, save and load, clear refusals. Random weights: no answer is judged."""

import numpy as np
import pytest
import torch
from transformers import Gemma3TextConfig, GPTNeoXConfig, LlamaConfig, Qwen2Config
from transformers.modeling_outputs import CausalLMOutputWithPast

from osprey_nb import Osprey, OspreyConfig, OspreyProcessor
from osprey_nb.config import PRESETS
from osprey_nb.data.scenes import make_scene
from osprey_nb.mask_extractor import mask_pool
from osprey_nb.train.language import train_tokenizer

SIZES = {"vocab_size": 640, "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "max_position_embeddings": 512}
FAMILIES = {
    "llama": lambda: LlamaConfig(**SIZES, **IDS),
    "qwen2": lambda: Qwen2Config(**SIZES, **IDS, num_key_value_heads=2),
    "gemma3": lambda: Gemma3TextConfig(**SIZES, **IDS, num_key_value_heads=2, head_dim=12, sliding_window=64),
    "gpt_neox": lambda: GPTNeoXConfig(**SIZES, **IDS),
}


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([make_scene(i) for i in range(40)], 640, seed=0)


def build(tokenizer, text_config) -> Osprey:
    torch.manual_seed(0)
    config = OspreyConfig.preset("tiny")
    config.text_config = text_config
    model = Osprey(config).eval()
    model.processor = OspreyProcessor(config, tokenizer)
    return model


@pytest.fixture(scope="module")
def model(tokenizer):
    return build(tokenizer, FAMILIES["llama"]())


@pytest.fixture(scope="module")
def scene():
    return make_scene(7, split="eval")


@pytest.mark.parametrize("family", FAMILIES)
def test_any_llm_trains_and_generates(tokenizer, scene, family):
    model = build(tokenizer, FAMILIES[family]())
    masks = np.stack([obj.mask for obj in scene.objects[:2]])
    batch = model.processor(scene.image, masks, [("What is <region1>?", "a cat"), ("And <region2>?", "a red car")], inline=True)
    out = model(**batch)
    assert isinstance(out, CausalLMOutputWithPast)
    length = batch["input_ids"].shape[1] + model.config.num_image_tokens - 1
    assert out.logits.shape == (1, length, 640)
    out.loss.backward()
    for name, part in model.parts.items():
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters()), f"no gradient in {name}"
    one_by_one = [model.describe(scene.image, [mask], max_new_tokens=6)[0] for mask in masks]
    assert model.describe(scene.image, masks, max_new_tokens=6) == one_by_one
    new = model.generate(batch["images"], batch["masks"], batch["input_ids"], max_new_tokens=3, do_sample=False)
    assert new.shape[1] <= 3


def test_labels_cover_answers_only(model, scene):
    masks = np.stack([obj.mask for obj in scene.objects[:2]])
    turns = [("What are <region1> and <region2>?", "<region1> is a cat."), ("Sure?", "yes")]
    batch = model.processor(scene.image, masks, turns)
    spliced = model.prepare(batch["images"], batch["masks"], batch["input_ids"], batch["attention_mask"], batch["labels"])
    kept = spliced.labels[0][spliced.labels[0] != -100]
    assert model.processor.tokenizer.decode(kept) == " region1 is a cat.</s> yes</s>"
    placeholders = {model.config.image_token_id, model.config.mask_token_id, model.config.pos_token_id}
    assert not placeholders & set(kept.tolist())


def test_region_tokens_stand_where_their_placeholders_stood(model, scene):
    masks = np.stack([obj.mask for obj in scene.objects[:2]])
    batch = model.processor(scene.image, masks, [("<region2> or <region1>?", "a")], inline=True)
    with torch.no_grad():
        features = model.encoder(batch["images"])
        expected = model.mask_extractor(features, [torch.from_numpy(masks[::-1].copy())])
        spliced = model.prepare(None, batch["masks"], batch["input_ids"], features=features)
    grow = model.config.num_image_tokens - 1
    for token_id, tokens in zip((model.config.mask_token_id, model.config.pos_token_id), expected, strict=True):
        where = (batch["input_ids"][0] == token_id).nonzero().flatten() + grow
        assert torch.allclose(spliced.embeds[0, where], tokens[0])


@pytest.mark.parametrize("size", [(128, 128), (256, 384), (200, 130), (40, 32)])
def test_a_soft_mask_is_pooled_the_same_at_once_and_level_by_level(tiny, size):
    masks = torch.rand(3, *size, generator=torch.Generator().manual_seed(0)) > 0.6
    levels = [torch.randn(1, dim, side, side) for dim, side in zip((32, 64, 128, 256), (32, 16, 8, 4), strict=True)]
    pooled = tiny.mask_extractor.pool(levels, [masks])
    for level, rows in zip(levels, pooled, strict=True):
        torch.testing.assert_close(rows, mask_pool(level, masks[None].float(), "soft")[0], atol=1e-6, rtol=0)


def test_a_padded_row_equals_the_row_alone(model, scene):
    processor = model.processor
    short = processor(scene.image, scene.objects[0].mask[None], [("<region1>?", "a")], inline=True)
    same = {"image": short["images"][0], "masks": short["masks"][0]}
    longer = processor.text([("What is <region1>, please, in a short phrase?", "a red house")], 1, inline=True)
    both = processor.collate([{**same, "input_ids": short["input_ids"][0], "labels": short["labels"][0]}, {**same, **longer}])
    with torch.no_grad():
        alone, padded = model(**short), model(**both)
    n = alone.logits.shape[1]
    assert torch.allclose(alone.logits[0], padded.logits[0, :n], atol=1e-5)
    left = model.prepare(both["images"], both["masks"], both["input_ids"], both["attention_mask"], padding_side="left")
    assert left.attention_mask[0].tolist() == sorted(left.attention_mask[0].tolist())
    right = model.prepare(short["images"], short["masks"], short["input_ids"])
    assert torch.allclose(left.embeds[0, -n:], right.embeds[0], atol=1e-5)


def test_save_and_load_give_the_same_model(model, scene, tmp_path):
    model.save_pretrained(tmp_path, max_shard_size="1MB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    again = Osprey.from_pretrained(tmp_path)
    theirs = model.state_dict()
    assert all(torch.equal(x, theirs[key]) for key, x in again.state_dict().items())
    masks = [scene.objects[0].mask]
    assert again.describe(scene.image, masks, max_new_tokens=8) == model.describe(scene.image, masks, max_new_tokens=8)
    assert again.config.vision_config.dims == list(model.config.vision_config.dims)
    assert again.config.text_config.hidden_size == 48 and again.config.trained_on == model.config.trained_on


def test_attention_backends_agree(model, scene, tmp_path):
    model.save_pretrained(tmp_path)
    batch = model.processor(scene.image, scene.objects[0].mask[None], [("<region1>?", "a")], inline=True)
    logits = []
    for backend in ("sdpa", "eager"):
        loaded = Osprey.from_pretrained(tmp_path, attn_implementation=backend)
        assert loaded.llm.config._attn_implementation == backend
        with torch.no_grad():
            logits.append(loaded(**batch).logits)
    assert torch.allclose(*logits, atol=1e-5)


def test_device_map_and_half_precision(model, scene, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = Osprey.from_pretrained(tmp_path, device_map="cpu", dtype=torch.bfloat16)
    assert loaded.dtype == torch.bfloat16
    assert len(loaded.describe(scene.image, [scene.objects[0].mask], max_new_tokens=4)) == 1


def test_presets_have_their_sizes():
    with torch.device("meta"):
        models = {name: Osprey(OspreyConfig.preset(name)) for name in PRESETS}
    count = {name: sum(p.numel() for p in model.parameters()) for name, model in models.items()}
    assert count["tiny"] < 10e6 < 200e6 < count["small"] < 300e6
    paper = models["paper"].parts
    assert sum(p.numel() for p in paper["projector"].parameters()) == 768 * 4096 + 4096 + 4096 * 4096 + 4096
    assert paper["mask_extractor"].mask_linear.layers[0].weight.shape == (1024, 12544)
    assert models["paper"].config.num_image_tokens == 1024
    with pytest.raises(ValueError, match="tiny, small, paper"):
        OspreyConfig.preset("huge")


def test_open_clip_weights_load_by_name(model, tmp_path):
    trunk = {f"visual.trunk.{key}": torch.randn_like(x) for key, x in model.encoder.trunk.state_dict().items()}
    torch.save({**trunk, "text.token_embedding.weight": torch.zeros(3)}, tmp_path / "open_clip.bin")
    fresh = Osprey(model.config).encoder
    fresh.load_open_clip(tmp_path / "open_clip.bin")
    assert torch.equal(fresh.trunk.stem[0].weight, trunk["visual.trunk.stem.0.weight"])
    trunk["visual.trunk.stem.0.weight"] = torch.zeros(1)
    del trunk["visual.trunk.stem.0.bias"]
    with pytest.raises(ValueError, match=r"missing: \['stem.0.bias'\][\s\S]*stem.0.weight: file \(1,\)"):
        fresh.load_open_clip(trunk)
    with pytest.raises(ValueError, match="names no open_clip weights"):
        fresh.load_open_clip()


def test_encoder_levels_equal_open_clips_trunk():
    """The same weights through open_clip's own ConvNeXt give the same last level."""
    import open_clip

    from osprey_nb.encoder import Encoder

    vision = {"timm_model_name": "convnext_tiny", "timm_pool": "", "timm_proj": "linear", "image_size": 64}
    text = {"context_length": 8, "vocab_size": 16, "width": 32, "heads": 2, "layers": 1}
    clip = open_clip.model.CLIP(64, vision, text).eval()
    config = OspreyConfig.preset("tiny").vision_config
    config.dims, config.depths = (96, 192, 384, 768), (3, 3, 9, 3)
    ours = Encoder(config).eval()
    ours.load_open_clip(clip.state_dict())
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        levels, x = ours(images), clip.visual.trunk.stem(images)
        for level, stage in zip(levels, clip.visual.trunk.stages, strict=True):
            x = stage(x)
            assert torch.allclose(level, x, atol=1e-5)


# --- refusals ------------------------------------------------------------------------------------------------------------


def test_regions_and_placeholders_must_agree(model, scene, monkeypatch):
    batch = model.processor(scene.image, scene.objects[0].mask[None], [("<region1>?", "a")], inline=True)
    batch["masks"] = [torch.ones(2, 8, 8)]
    monkeypatch.setattr(model.encoder, "forward", lambda images: pytest.fail("the encoder ran"))
    with pytest.raises(ValueError, match="1 <mask> and 1 <pos> placeholders, but 2 regions"):
        model(**batch)
    batch["images"], batch["masks"] = None, None
    with pytest.raises(ValueError, match="0 regions|0 images"):
        model(**batch)


def test_a_prompt_longer_than_the_context(model, scene):
    with pytest.raises(ValueError, match=r"needs \d+ tokens .* this model reads 512"):
        model.describe(scene.image, [scene.objects[0].mask], prompt="What is <region1>? " + "Really? " * 400)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"detail": "long"}, 'use "short" or "detailed"'),
        ({"prompt": "What is it?"}, "must hold <region1>"),
        ({"prompt": "<region1> and <region2>?"}, "names <region2>"),
        ({"temperature": -1.0}, "temperature is -1.0"),
    ],
)
def test_describe_refuses(model, scene, kwargs, message):
    with pytest.raises(ValueError, match=message):
        model.describe(scene.image, [scene.objects[0].mask], **kwargs)


def test_describe_checks_masks_before_it_computes(model, scene):
    model.encoder.register_forward_hook(lambda *_: pytest.fail("the encoder ran"))
    try:
        for bad in (np.zeros((128, 128), bool), np.ones((64, 64), bool), np.full((128, 128), np.nan)):
            with pytest.raises((ValueError, TypeError), match="region 1"):
                model.describe(scene.image, [bad])
    finally:
        model.encoder._forward_hooks.clear()


def test_chat_refuses_messages_out_of_turn(model, scene):
    with pytest.raises(ValueError, match="user, assistant"):
        model.chat(scene.image, [scene.objects[0].mask], [{"role": "assistant", "content": "hi"}])


def test_without_a_tokenizer(model, scene):
    with pytest.raises(ValueError, match="no tokenizer"):
        Osprey(model.config).describe(scene.image, [scene.objects[0].mask])


def test_chat_without_masks_is_about_the_whole_picture(model, scene):
    messages = [{"role": "user", "content": "Describe the image."}]
    said = model.chat(scene.image, None, messages, max_new_tokens=4)
    for nothing in ([], (), np.zeros((0, 5, 5), bool)):
        assert model.chat(scene.image, nothing, messages, max_new_tokens=4) == said
        assert len(model.processor(scene.image, nothing, [("Describe the image.", None)])["masks"][0]) == 0
    with pytest.raises(ValueError, match="names <region1>, but 0 regions"):
        model.chat(scene.image, None, [{"role": "user", "content": "What is <region1>?"}])


def test_from_pretrained_names_an_empty_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="config.json"):
        Osprey.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["small", "paper"])
def test_a_preset_has_no_weights(model, name, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=rf"'{name}' is a preset.*preset\('{name}'\).*assemble.*osprey-7b.*load_published"):
        Osprey.from_pretrained(name)
    model.save_pretrained(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert Osprey.from_pretrained(name).config.text_config.hidden_size == 48


def test_no_encoder_as_llm():
    from transformers import CLIPVisionConfig

    from osprey_nb.llm import build_llm

    with pytest.raises(ValueError, match="no causal language model"):
        build_llm(CLIPVisionConfig())


# --- answers as they are written ---------------------------------------------------------------------------------------------


def test_streams_equal_whole_answers(model, scene):
    masks = [obj.mask for obj in scene.objects[:2]]
    pieces = ["", ""]
    for region, piece in model.describe(scene.image, masks, stream=True, max_new_tokens=8):
        pieces[region] += piece
    assert [text.strip() for text in pieces] == model.describe(scene.image, masks, max_new_tokens=8)
    messages = [{"role": "user", "content": "What is <region2>?"}]
    streamed = "".join(model.chat(scene.image, masks, messages, stream=True, max_new_tokens=8))
    assert streamed.strip() == model.chat(scene.image, masks, messages, max_new_tokens=8)


def test_a_stream_gives_what_an_answer_ends_with_even_half_a_character(model, scene):
    half = model.processor.tokenizer.convert_tokens_to_ids("Ã")  # the first byte of two
    session = model.read(scene.image)
    assert list(session._streamed(iter([((0,), (half,))]), 1)) == [(0, session._whole(iter([((0,), (half,))]), 1)[0])]


def test_a_closed_stream_stops_the_model(model, scene):
    steps = []
    handle = model.llm.register_forward_hook(lambda *_: steps.append(1))
    try:
        stream = model.describe(scene.image, [scene.objects[0].mask], stream=True, max_new_tokens=300)
        next(stream)
        stream.close()
    finally:
        handle.remove()
    assert len(steps) < 150


def test_an_error_while_streaming_reaches_the_caller(model, scene):
    stream = model.describe(scene.image, [scene.objects[0].mask], stream=True)
    def fail(*_):
        raise RuntimeError("out of paper")

    handle = model.llm.register_forward_hook(fail)
    try:
        with pytest.raises(RuntimeError, match="out of paper"):
            list(stream)
    finally:
        handle.remove()


def test_sampling_is_asked_for(model, scene):
    torch.manual_seed(0)
    masks = [scene.objects[0].mask]
    greedy = {model.describe(scene.image, masks, max_new_tokens=12)[0] for _ in range(2)}
    sampled = {model.describe(scene.image, masks, max_new_tokens=12, temperature=2.0)[0] for _ in range(4)}
    assert len(greedy) == 1 and len(sampled) > 1
