"""LoRA and 4 bits: only adapters learn, and what is saved is a plain model that says the same."""

import builtins
import copy

import pytest
import torch

from osprey_nb import Osprey
from osprey_nb.train.lora import add_lora, in_4_bits, merge
from osprey_nb.train.stages import PAPER, begin, summary


@pytest.fixture
def model():
    return Osprey.from_pretrained("tiny").requires_grad_(False)


@pytest.mark.parametrize("four_bit", [False, True])
def test_adapters_learn_and_merge_into_a_plain_model(model, four_bit):
    x, names = torch.randn(1, 9, 192, generator=torch.Generator().manual_seed(0)), list(model.state_dict())
    before = model.llm(inputs_embeds=x).logits
    if four_bit:
        in_4_bits(model.llm)
        rounded = model.llm(inputs_embeds=x).logits
        assert 0 < float((rounded - before).norm() / before.norm()) < 0.5
        assert model.llm.model.layers[0].mlp.up_proj.weight.dtype == torch.uint8
        before = rounded
    add_lora(model.llm, 4)
    torch.testing.assert_close(model.llm(inputs_embeds=x).logits, before)  # B begins at zero
    learning = {name: p for name, p in model.llm.named_parameters() if p.requires_grad}
    assert len(learning) == 2 * 7 * 4 and all("lora_" in name for name in learning)
    optimizer = torch.optim.AdamW(learning.values(), 1e-2)
    losses = []
    for _ in range(5):
        loss = model.llm(inputs_embeds=x).logits.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    after = model.llm(inputs_embeds=x).logits
    merge(model.llm)
    torch.testing.assert_close(model.llm(inputs_embeds=x).logits, after, atol=1e-4, rtol=1e-4)
    assert list(model.state_dict()) == names and model.llm.model.layers[0].mlp.up_proj.weight.dtype == torch.float32


def test_a_stage_with_lora_trains_the_other_parts_whole(model):
    groups = begin(model, PAPER[2], lora=8)
    counts = [sum(p.numel() for p in group["params"]) for group in groups]
    parts = model.parts
    assert counts[:2] == [sum(p.numel() for p in parts[name].parameters()) for name in ("projector", "mask_extractor")]
    assert counts[2] == 4 * 8 * (4 * (192 + 192) + 3 * (192 + 512)) and f"{counts[2]:,} learn" in summary(model)
    with pytest.raises(ValueError, match="does not train the LLM"):
        begin(copy.deepcopy(model), PAPER[1], lora=8)
    with pytest.raises(ValueError, match="lora is 0"):
        add_lora(model.llm, 0)


@pytest.mark.parametrize(("package", "call"), [("peft", lambda llm: add_lora(llm, 4)), ("bitsandbytes", in_4_bits)])
def test_without_the_extra_it_says_what_to_install(model, monkeypatch, package, call):
    real = builtins.__import__

    def missing(name, *rest, **options):
        if name.split(".")[0] == package:
            raise ImportError(name)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=rf"{package}: pip install \"osprey-nb\[lora\]\""):
        call(model.llm)
