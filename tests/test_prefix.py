"""A cache whose beginning is shared: rows read with it as they would each on their own."""

import threading

import pytest
import torch
from transformers import AutoModelForCausalLM, DynamicCache, Gemma3TextConfig, LlamaConfig, Qwen2Config

from osprey_nb.prefix import NAME, SharedLayer, beginning_of, can_be_cut, for_rows, sharable, shared_attention

SIZES = {
    "vocab_size": 60, "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2,
}  # fmt: skip
FAMILIES = {
    "llama": LlamaConfig(**SIZES),
    "qwen2": Qwen2Config(**SIZES),
    "gemma3": Gemma3TextConfig(**SIZES, head_dim=12, sliding_window=8, layer_types=["sliding_attention", "full_attention"]),
}


@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_rows_read_as_on_their_own(family):
    torch.manual_seed(0)
    llm = AutoModelForCausalLM.from_config(FAMILIES[family]).eval()
    assert sharable(llm)
    usual = llm.config._attn_implementation
    beginning, suffix, step = torch.randn(1, 13, 48), torch.randn(5, 4, 48), torch.randn(5, 1, 48)
    cache = DynamicCache(config=llm.config)
    with shared_attention(llm):
        llm(inputs_embeds=beginning, past_key_values=cache)
        wide = for_rows(cache, 5, share=True)
        assert any(isinstance(layer, SharedLayer) for layer in wide.layers)
        first = llm(inputs_embeds=suffix, past_key_values=wide).logits
        wide.reorder_cache(torch.tensor([0, 2, 3]))  # rows 1 and 4 leave
        second = llm(inputs_embeds=step[[0, 2, 3]], past_key_values=wide).logits
    assert llm.config._attn_implementation == usual
    assert cache.get_seq_length() == 13  # as it was
    whole = torch.cat([beginning.expand(5, -1, -1), suffix, step], 1)
    alone = llm(inputs_embeds=whole).logits
    torch.testing.assert_close(first, alone[:, 13:17], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(second, alone[[0, 2, 3], 17:], rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_the_beginning_of_a_cache_goes_on_by_itself():
    torch.manual_seed(0)
    llm = AutoModelForCausalLM.from_config(FAMILIES["llama"]).eval()
    embeds, cache = torch.randn(1, 13, 48), DynamicCache(config=llm.config)
    llm(inputs_embeds=embeds, past_key_values=cache)
    assert can_be_cut(cache) and not can_be_cut(DynamicCache(config=FAMILIES["gemma3"]))
    whole = [layer.keys.clone() for layer in cache.layers]
    short = beginning_of(cache, 7)
    assert short.get_seq_length() == 7
    logits = llm(inputs_embeds=embeds[:, 7:].flip(1), past_key_values=short).logits
    alone = llm(inputs_embeds=torch.cat([embeds[:, :7], embeds[:, 7:].flip(1)], 1)).logits[:, 7:]
    torch.testing.assert_close(logits, alone, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(layer.keys, keys) for layer, keys in zip(cache.layers, whole, strict=True))


@torch.inference_mode()
def test_a_further_token_moves_none_before_it():
    first = DynamicCache(config=FAMILIES["llama"]).layers[0]
    first.update(torch.randn(1, 2, 5, 12), torch.randn(1, 2, 5, 12))
    layer, states = SharedLayer(first), torch.randn(3, 2, 40, 12)
    places = set()
    for start, stop in ((0, 4), *((i, i + 1) for i in range(4, 40))):
        keys, values = layer.update(states[:, :, start:stop], -states[:, :, start:stop])
        assert torch.equal(keys, states[:, :, :stop]) and torch.equal(values, -keys)
        assert keys.shared is first and layer.get_seq_length() == 5 + stop
        places.add(keys.data_ptr())
    assert len(places) <= 5
    layer.reorder_cache(torch.tensor([2, 0]))
    keys, _ = layer.update(states[:2, :, :1], states[:2, :, :1])
    assert torch.equal(keys, torch.cat([states[[2, 0]], states[:2, :, :1]], 2))


@torch.inference_mode()
def test_threads_take_turns():
    llm = AutoModelForCausalLM.from_config(FAMILIES["llama"]).eval()
    usual, inside = llm.config._attn_implementation, []

    def enter():
        with shared_attention(llm):
            inside.append(llm.config._attn_implementation)

    other = threading.Thread(target=enter)
    with shared_attention(llm):
        other.start()
        other.join(0.2)
        assert not inside, "the other waits"
    other.join()
    assert inside == [NAME] and llm.config._attn_implementation == usual
