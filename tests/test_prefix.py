"""Rows in a line behind a shared beginning: each is read as it would be on its own."""

import threading

import pytest
import torch
from transformers import AutoModelForCausalLM, DynamicCache, Gemma3TextConfig, LlamaConfig, Qwen2Config

from osprey_nb.prefix import NAME, Rows, RowsLayer, beginning_of, can_be_cut, way_to_read

SIZES = {
    "vocab_size": 60, "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2,
}  # fmt: skip
FAMILIES = {
    "llama": LlamaConfig(**SIZES),
    "qwen2": Qwen2Config(**SIZES),
    "gemma3": Gemma3TextConfig(**SIZES, head_dim=12, sliding_window=8, layer_types=["sliding_attention", "full_attention"]),
}


def build(family: str):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(FAMILIES[family]).eval()


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("known", [0, 9, 13])
@torch.inference_mode()
def test_rows_read_as_on_their_own(family, known):
    llm = build(family)
    usual = llm.config._attn_implementation
    beginning, suffix, steps = torch.randn(1, 13, 48), torch.randn(5, 4, 48), torch.randn(2, 5, 1, 48)
    cache = DynamicCache(config=llm.config)
    way = way_to_read(llm)
    assert way == ("batch" if family == "gemma3" else "line")
    if known:
        llm(inputs_embeds=beginning[:, :known], past_key_values=cache)
    rows = Rows(llm, cache, 5, way)
    first = rows.read(suffix, beginning[:, known:] if known < 13 else None, last=False)
    assert cache.get_seq_length() == 13  # the rest of the beginning is there, and nothing of the rows
    second = rows.read(steps[0])
    rows.keep(torch.tensor([0, 2, 3]))  # rows 1 and 4 leave
    third = rows.read(steps[1][[0, 2, 3]])
    assert llm.config._attn_implementation == usual
    alone = llm(inputs_embeds=torch.cat([beginning.expand(5, -1, -1), suffix, *steps], 1)).logits
    close(first, alone[:, 13:17])
    close(second, alone[:, 17:18])
    close(third, alone[[0, 2, 3], 18:])
    close(Rows(llm, cache, 5, way).read(suffix), alone[:, 16:17])  # and again, from what was kept


def test_a_way_is_tried_once_and_leaves_no_trace():
    llm, calls = build("llama"), []
    llm.train()
    llm.model.layers[0].eval()  # as a frozen part may be
    handle = llm.register_forward_hook(lambda *_: calls.append(llm.training))
    assert way_to_read(llm) == way_to_read(llm) == "line"
    assert calls == [False] * 3
    handle.remove()
    assert llm.training and not llm.model.layers[0].training and llm.model.layers[1].training
    short = build("llama")
    short.model.forward = lambda **_: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(torch.OutOfMemoryError):
        way_to_read(short)
    del short.model.forward
    assert way_to_read(short) == "line"  # memory that ran out says nothing of the way
    lost = build("llama")
    rotary = lost.model.rotary_emb
    usual = rotary.forward
    rotary.forward = lambda x, position_ids: usual(x, torch.arange(x.shape[1])[None])  # places are counted anew each time
    assert way_to_read(lost) is None


@torch.inference_mode()
def test_the_beginning_of_a_cache_goes_on_by_itself():
    llm = build("llama")
    embeds, cache = torch.randn(1, 13, 48), DynamicCache(config=llm.config)
    llm(inputs_embeds=embeds, past_key_values=cache)
    assert can_be_cut(cache) and not can_be_cut(DynamicCache(config=FAMILIES["gemma3"]))
    whole = [layer.keys.clone() for layer in cache.layers]
    short = beginning_of(cache, 7)
    assert short.get_seq_length() == 7
    logits = llm(inputs_embeds=embeds[:, 7:].flip(1), past_key_values=short).logits
    close(logits, llm(inputs_embeds=torch.cat([embeds[:, :7], embeds[:, 7:].flip(1)], 1)).logits[:, 7:])
    assert all(torch.equal(layer.keys, keys) for layer, keys in zip(cache.layers, whole, strict=True))


@torch.inference_mode()
def test_a_further_token_moves_none_before_it():
    first = DynamicCache(config=FAMILIES["llama"]).layers[0]
    first.update(torch.randn(1, 2, 5, 12), torch.randn(1, 2, 5, 12))
    layer, states = RowsLayer(first, 3), torch.randn(2, 3, 40, 12)  # G×N×S×d
    places = set()
    for start, stop in ((0, 4), *((i, i + 1) for i in range(4, 40))):
        line = states[:, :, start:stop].reshape(1, 2, -1, 12)
        layer.update(line, -line)
        assert torch.equal(layer.keys[:, :, :stop], states[:, :, :stop])
        assert torch.equal(layer.values[:, :, :stop], -states[:, :, :stop])
        assert layer.get_seq_length() == 5 + stop
        places.add(layer.keys.data_ptr())
    assert len(places) <= 5
    layer.reorder_cache(torch.tensor([2, 0]))
    line = states[:, :2, :1].reshape(1, 2, -1, 12)
    layer.update(line, line)
    assert torch.equal(layer.keys[:, :, :41], torch.cat([states[:, [2, 0]], states[:, :2, :1]], 2))


@torch.inference_mode()
def test_threads_take_turns():
    llm, opening, embeds = build("llama"), torch.randn(1, 4, 48), torch.randn(2, 3, 48)
    usual, inside, let_go, seen = llm.config._attn_implementation, threading.Event(), threading.Event(), []

    def wait(*_):
        seen.append(llm.config._attn_implementation)
        inside.set()
        assert let_go.wait(20)

    handle = llm.model.layers[0].register_forward_pre_hook(wait)
    answers = {}

    def read(name):
        with torch.inference_mode():
            answers[name] = Rows(llm, DynamicCache(config=llm.config), 2, "line").read(embeds, opening)

    threads = [threading.Thread(target=read, args=(name,)) for name in "ab"]
    threads[0].start()
    assert inside.wait(20)
    threads[1].start()
    threads[1].join(0.2)
    assert seen == [NAME], "the other waits"
    let_go.set()
    for thread in threads:
        thread.join(20)
    handle.remove()
    assert seen == [NAME, NAME] and llm.config._attn_implementation == usual
    close(answers["a"], answers["b"])
    close(answers["a"], llm(inputs_embeds=torch.cat([opening.expand(2, -1, -1), embeds], 1), logits_to_keep=1).logits)
