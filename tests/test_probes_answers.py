"""Probes that ask a model: their values against other ways to work them out, the widgets, and that nothing is left behind."""

import copy

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from test_generate import MORE
from test_model import FAMILIES, build
from transformers import Gemma2Config

from osprey_nb.data.scenes import make_scene
from osprey_nb.prompt import DETAILED, SHORT
from osprey_nb.train.language import train_tokenizer
from osprey_nb.widgets import probes
from osprey_nb.widgets.probes.asked import Asked, still

ATTEND = [family for family in [*FAMILIES, *MORE] if family != "mamba"]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([make_scene(i) for i in range(40)], 640, seed=0)


@pytest.fixture(scope="module")
def scene():
    return make_scene(2, 128, split="eval")


@pytest.fixture(scope="module")
def masks(scene):
    return np.stack([thing.mask for thing in scene.objects])


@pytest.fixture(scope="module")
def asked(tiny, scene, masks):
    return Asked(tiny, scene.image, masks)


def words(figure) -> str:
    """All that a figure says."""
    texts = [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
    labels = [label for axes in figure.axes for label in [*axes.get_xticklabels(), *axes.get_yticklabels()]]
    titles = [axes.get_title(loc) for axes in figure.axes for loc in ("left", "center")]
    return " | ".join([*titles, *(text.get_text() for text in [*texts, *labels])])


def state_of(model) -> tuple:
    """Modes, hooks, the way to attend, and gradients: what a probe must leave as it was."""
    modes = [module.training for module in model.modules()]
    hooks = [sorted(name for name in vars(module) if name.startswith("_output")) for module in model.modules()]
    hooks += [(len(module._forward_hooks), len(module._forward_pre_hooks)) for module in model.modules()]
    return modes, hooks, model.llm.config._attn_implementation, [p.grad is None for p in model.parameters()]


# --- a picture that is asked about ----------------------------------------------------------------------------------


def test_it_says_what_describe_says(tiny, asked, scene, masks):
    said = [asked.text(asked.answer(mask)) for mask in masks]
    assert said == tiny.describe(scene.image, masks)
    together = asked.write(asked.pair(masks))
    assert [asked.text(answer) for answer in together] == said
    assert all(answer[-1] == tiny.processor.tokenizer.eos_token_id for answer in together)
    with torch.no_grad():
        total = asked.likelihoods(asked.pair(masks[:1]), together[0]).sum()
    assert total.item() == pytest.approx(tiny.read(scene.image).score(masks[:1], [said[0]]).item(), abs=1e-3)


def test_what_cannot_be_asked_is_refused(tiny, scene, masks):
    with pytest.raises(ValueError, match="<region1> exactly once"):
        Asked(tiny, scene.image, masks, "What is this?")
    with pytest.raises(ValueError, match="<region> names no region"):
        Asked(tiny, scene.image, masks, "What is <region>?")
    assert Asked(tiny, scene.image, masks, "What is <Region 1>?").question == "What is <region1>?"
    with pytest.raises(ValueError, match="empty"):
        Asked(tiny, scene.image, masks & False)
    bare = copy.copy(tiny)
    bare.processor = None
    with pytest.raises(ValueError, match="no tokenizer"):
        Asked(bare, scene.image, masks)


def test_every_module_gets_its_mode_back(tokenizer):
    model = build(tokenizer, FAMILIES["llama"]()).train()
    model.encoder.eval()
    before = state_of(model)
    with pytest.raises(RuntimeError, match="within"), still(model):
        assert not any(module.training for module in model.modules())
        raise RuntimeError("within")
    assert state_of(model) == before and before[0].count(True) and before[0].count(False)


# --- attention --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ATTEND)
def test_attention_is_taken_beside_what_the_model_computes(tokenizer, scene, masks, family):
    model = build(tokenizer, (FAMILIES | MORE)[family]()).train()
    model.encoder.eval()
    asked = Asked(model, scene.image, masks)
    embeds = asked.embeds(asked.pair(masks[:1]), [20, 21, 22])
    before = state_of(model)

    def usual():
        with still(model), torch.no_grad():
            return model.llm(inputs_embeds=embeds, use_cache=False).logits[0]

    first = usual()
    reading = probes.read_attention(model.llm, embeds)
    assert torch.equal(first, usual()) and state_of(model) == before
    torch.testing.assert_close(reading.logits, first, atol=1e-4, rtol=1e-4)
    for layer in reading.layers:
        assert layer.shape == (4, embeds.shape[1], embeds.shape[1])
        torch.testing.assert_close(layer.sum(-1), torch.ones(layer.shape[:2]), atol=1e-5, rtol=0)
        assert layer.triu(1).abs().max() == 0  # nothing looks ahead
    if family == "mistral":  # 24 positions back, itself among them
        assert reading.layers[0].tril(-24).abs().max() == 0 and reading.layers[0].tril(-23).abs().max() > 0
    if family == "lfm2":
        assert len(reading.layers) == 1  # the other layer is a convolution


def test_attention_is_that_of_queries_and_keys(tokenizer, scene, masks):
    """The first layer of a Qwen2 with two groups of keys, by hand."""
    model = build(tokenizer, FAMILIES["qwen2"]())
    asked = Asked(model, scene.image, masks)
    embeds = asked.embeds(asked.pair(masks[:1]))
    layer, rope = model.llm.model.layers[0], model.llm.model.rotary_emb
    with torch.no_grad():
        x = layer.input_layernorm(embeds)[0]
        query = layer.self_attn.q_proj(x).view(len(x), 4, 12).transpose(0, 1)
        key = layer.self_attn.k_proj(x).view(len(x), 2, 12).transpose(0, 1).repeat_interleave(2, 0)
        cos, sin = (part[0] for part in rope(embeds, torch.arange(len(x))[None]))
        turned = [y * cos + torch.cat([-y[..., 6:], y[..., :6]], -1) * sin for y in (query, key)]
        scores = turned[0] @ turned[1].transpose(1, 2) / 12**0.5
        expected = scores.masked_fill(torch.ones(len(x), len(x)).triu(1).bool(), -torch.inf).softmax(-1)
    torch.testing.assert_close(probes.read_attention(model.llm, embeds).layers[0], expected, atol=1e-5, rtol=1e-4)


def test_a_family_without_attention_is_refused_and_left_as_it_was(tokenizer, scene, masks):
    model = build(tokenizer, MORE["mamba"]())
    before = state_of(model)
    with pytest.raises(ValueError, match="MambaForCausalLM gives no attention"):
        probes.AttentionProbe(model, scene.image, masks)
    assert state_of(model) == before


def test_after_an_error_the_model_is_as_it_was(tokenizer):
    model = build(tokenizer, FAMILIES["llama"]()).train()
    before = state_of(model)
    with pytest.raises(RuntimeError):
        probes.read_attention(model.llm, torch.zeros(1, 5, 47))  # one number too few
    with pytest.raises(RuntimeError):
        probes.lens(model.llm, torch.zeros(1, 5, 47), 1)
    assert state_of(model) == before


def test_rollout_of_two_layers_by_hand():
    first = torch.tensor([[[1.0, 0], [0.5, 0.5]], [[1.0, 0], [0.1, 0.9]]])  # two heads: their mean is 0.3, 0.7
    second = torch.tensor([[[1.0, 0], [0.8, 0.2]]])
    # half itself: [1, 0], [0.15, 0.85] and [1, 0], [0.4, 0.6]; 0.4 + 0.6 · 0.15 = 0.49, 0.6 · 0.85 = 0.51
    torch.testing.assert_close(probes.rollout([first, second]), torch.tensor([[1.0, 0], [0.49, 0.51]]))
    assert probes.attention_row([first, second], 1, 0, "mean").tolist() == pytest.approx([0.3, 0.7])
    assert probes.attention_row([first, second], 1, 0, 1).tolist() == pytest.approx([0.1, 0.9])
    assert probes.attention_row([first, second], 1, "rollout", 1).tolist() == pytest.approx([0.49, 0.51])
    with pytest.raises(ValueError, match="layer is 2; there are 2"):
        probes.attention_row([first, second], 1, 2, 0)
    with pytest.raises(ValueError, match="head is 1; there are 1"):
        probes.attention_row([first, second], 1, 1, 1)


def test_groups_share_a_row_out():
    kinds = ["text", "image", "image", "mask", "spatial", "text", "text"]
    groups = probes.grouped(np.array([0.1, 0.2, 0.1, 0.3, 0.05, 0.05, 0.2]), kinds, answer_from=6)
    assert list(groups.values()) == pytest.approx([0.3, 0.3, 0.05, 0.15, 0.2])


def test_the_attention_probe_follows_its_controls(tiny, scene, masks):
    before = state_of(tiny)
    probe = probes.AttentionProbe(tiny, scene.image, masks)
    assert "writes “a” · all layers (rollout)" in words(probe.static())
    shown = probe.picture.value
    probe.controls["word"].value = 3
    probe.controls["layer"].value = 2
    probe.controls["head"].value = 1
    assert probe.picture.value != shown
    assert "writes “butterfly” · layer 3, head 2" in words(probe.static())
    # each word's row is that of the position before it: the last of a sequence that ends there
    asked, mask = probe.asked, masks[0]
    answer = asked.answer(mask)
    for word in range(len(answer)):
        probe.move(word=word, layer=0, head="mean")
        cut = probes.read_attention(tiny.llm, asked.embeds(asked.pair(mask[None]), answer[:word]))
        kinds = [kind for kind, _ in asked.positions(answer[:word])]
        expected = probes.grouped(cut.layers[0].mean(0)[-1].numpy(), kinds, len(asked.positions()))
        (bars,) = (axes for axes in probe.static().axes if axes.get_title("left") == "shares of its attention")
        assert [bar.get_width() for bar in bars.patches] == pytest.approx(list(expected.values()), abs=1e-4)
    probe.move(word=3)
    probe.controls["region"].value = 1
    assert probe.controls["word"].options[3][0] == "4 · </s>" and probe.state.word == 3
    assert "“</s>”" in words(probe.static()) and state_of(tiny) == before
    shown = probe.state, probe.picture.value
    with pytest.raises(ValueError, match="region is 9"):
        probe.move(region=9)
    with pytest.raises(ValueError, match="word is 9"):
        probe.move(word=9)
    assert (probe.state, probe.picture.value) == shown and probe.controls["word"].value == 3


# --- a token at a time ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [*FAMILIES, *MORE])
def test_the_lens_of_the_last_layer_is_the_model(tokenizer, scene, masks, family):
    model = build(tokenizer, (FAMILIES | MORE)[family]())
    asked, before = Asked(model, scene.image, masks), state_of(model)
    embeds = asked.embeds(asked.pair(masks[:1]), [20, 21])
    looked = probes.lens(model.llm, embeds, 3)
    assert looked.shape == (3, 3, 640) and state_of(model) == before
    with torch.no_grad():
        expected = model.llm(inputs_embeds=embeds).logits[0, -3:]
        hidden = model.llm.base_model(inputs_embeds=embeds, output_hidden_states=True).hidden_states
        norm = next(module for name, module in model.llm.base_model.named_children() if "norm" in name)
        first = model.llm.get_output_embeddings()(norm(hidden[0][0, -3:]))
    torch.testing.assert_close(looked[-1], expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(looked[0], first, atol=1e-4, rtol=1e-4)
    assert probes.final_norm(model.llm, embeds) is norm


def test_before_the_norm_the_last_layer_says_the_same(tiny, asked, masks):
    """A lens of the last layer made as for those before it: what enters the norm, through norm and lm_head."""
    embeds = asked.embeds(asked.pair(masks[:1]))
    entered = []
    hook = tiny.llm.model.norm.register_forward_pre_hook(lambda _, given: entered.append(given[0]))
    with torch.no_grad():
        tiny.llm.model(inputs_embeds=embeds)
        hook.remove()
        again = tiny.llm.lm_head(tiny.llm.model.norm(entered[0]))[0, -1:]
    torch.testing.assert_close(probes.lens(tiny.llm, embeds, 1)[-1], again)


def test_families_that_change_their_logits_are_refused(tokenizer):
    config = Gemma2Config(vocab_size=640, hidden_size=48, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                          num_key_value_heads=2, head_dim=12, final_logit_softcapping=30.0)  # fmt: skip
    with pytest.raises(ValueError, match="changes its logits"):
        probes.lens(build(tokenizer, config).llm, torch.zeros(1, 4, 48), 1)


def test_next_words_and_temperature():
    logits = torch.tensor([0.0, 2.0, 1.0])
    (first, likely), (second, _) = probes.next_words(logits, 1.0, 2)
    assert (first, second) == (1, 2) and likely == pytest.approx(np.exp(2) / (1 + np.exp(2) + np.exp(1)))
    assert probes.next_words(logits, 0.5, 1)[0][1] == pytest.approx(np.exp(4) / (1 + np.exp(4) + np.exp(2)))
    assert len(probes.next_words(logits, 1.0, 9)) == 3
    for temperature in (0, -1.0):
        with pytest.raises(ValueError, match="above 0"):
            probes.next_words(logits, temperature, 1)


def test_the_stepper_writes_the_answer(tiny, scene, masks):
    probe = probes.StepperProbe(tiny, scene.image, masks)
    asked, answer = probe.asked, probe.asked.answer(masks[0])
    for step in range(len(answer)):
        probe.controls["step"].value = step
        bars = [axes for axes in probe.static().axes if "temperature" in axes.get_title("left")][0]
        assert bars.get_yticklabels()[0].get_text() == asked.word(answer[step])
    assert "Step 5 of 5" in words(probe.static()) and "after layer 2" in words(probe.static())
    shown = probe.picture.value
    probe.controls["temperature"].value = 2.5
    assert probe.picture.value != shown and "temperature 2.5" in words(probe.static())
    probe.play.value = 1  # "play" moves the slider, the slider the state
    assert probe.state.step == 1
    probe.move(step=4)
    probe.controls["region"].value = 1  # a shorter answer
    assert probe.state.step == probe.controls["step"].max == probe.play.max == 3
    with pytest.raises(ValueError, match="step is 7"):
        probes.stepper_figure(asked, probe._lens(1), probes.StepState(1, 7))


# --- another mask -----------------------------------------------------------------------------------------------------


def test_masks_grow_shrink_and_move():
    square = np.zeros((9, 9), bool)
    square[3:6, 3:6] = True
    assert (probes.changed_mask(square) == square).all()
    grown = probes.changed_mask(square, grow=1)
    assert grown.sum() == 9 + 12 and grown[2, 3] and not grown[2, 2]  # a disc's corner is not a square's
    shrunk = probes.changed_mask(square, grow=-1)
    assert shrunk.sum() == 1 and shrunk[4, 4]
    moved = probes.changed_mask(square, right=2, down=-3)
    assert moved.sum() == 9 and moved[0:3, 5:8].all()
    assert not probes.changed_mask(square, right=9).any() and probes.changed_mask(square, right=5).sum() == 3
    assert probes.changed_mask(np.ones((5, 5), bool), grow=-1).sum() == 9  # beyond the border is outside


def test_both_answers_with_both_masks(tiny, asked, scene, masks):
    found = probes.change(asked, probes.WhatIfState(region=2, instead=3))
    first, second = tiny.describe(scene.image, masks[2:4])
    assert [asked.text(answer) for answer in found.answers] == [first, second] and first != second
    session = tiny.read(scene.image)
    for chances, said in ((found.of_first, first), (found.of_second, second)):
        scores = session.score(masks[2:4], [said])[:, 0]
        assert np.log(chances).sum(1) == pytest.approx(scores.numpy(), abs=1e-2)
    moved = probes.WhatIfState(0, 0, grow=2, right=9, down=4)
    mask = probes.changed_mask(masks[0], 2, 9, 4)
    assert (probes.change(asked, moved).mask == mask).all()
    assert asked.text(probes.change(asked, moved).answers[1]) == tiny.describe(scene.image, [mask])[0]
    with pytest.raises(ValueError, match="instead is 8"):
        probes.change(asked, probes.WhatIfState(instead=8))


def test_the_whatif_probe_moves_its_mask(tiny, scene, masks):
    probe = probes.WhatIfProbe(tiny, scene.image, masks)
    text = words(probe.static())
    assert "the words of the answer: probability" in text and text.count("“a striped brown butterfly”") == 2
    shown = probe.picture.value
    probe.controls["instead"].value = 2
    assert probe.picture.value != shown and "“a red mushroom”" in words(probe.static())
    assert "the words of the answer after" in words(probe.static())
    probe.controls["right"].value = 128
    assert "empty" in words(probe.static()) and "after: 0 pixels" in words(probe.static())
    probe.controls["region"].value = 1
    assert probe.state == probes.WhatIfState(1, 1) and probe.controls["right"].value == 0


# --- switches ---------------------------------------------------------------------------------------------------------


def test_a_level_that_is_off_is_a_mask_that_vanished_there(tiny, asked, masks):
    """All levels off, against an extractor that pools nothing: only the biases of its Linears are left."""
    (mask_token, spatial), seen = probes.switched(asked, masks[0], ("res2", "res3", "res4", "res5"))
    extractor = tiny.mask_extractor
    linears = (extractor.res2, extractor.res3, extractor.res4, extractor.res5)
    with torch.no_grad():
        biases = extractor.feat_linear(sum(linear.bias for linear in linears))
    torch.testing.assert_close(mask_token[0], biases)
    usual = asked.pair(masks[:1])
    assert torch.equal(spatial, usual[1]) and torch.equal(seen, asked.seen)

    blind = copy.deepcopy(tiny)
    blind.encoder.register_forward_hook(lambda *args: [torch.zeros_like(level) for level in args[2]])
    pair = Asked(blind, asked.image, masks).pair(masks[:1])
    torch.testing.assert_close(pair[0], mask_token)


def test_one_level_off_takes_its_own_share(tiny, asked, masks):
    pooled = tiny.mask_extractor.pool(asked.features, [torch.from_numpy(masks[:1])])
    (without, _), _ = probes.switched(asked, masks[0], ("res3",))
    with torch.no_grad():
        share = tiny.mask_extractor.feat_linear.weight @ tiny.mask_extractor.res3.weight @ pooled[1][0]
    torch.testing.assert_close(asked.pair(masks[:1])[0][0] - without[0], share, atol=1e-4, rtol=1e-3)
    (_, spatial), seen = probes.switched(asked, masks[0], ("spatial", "image"))
    assert not spatial.any() and not seen.any()
    with pytest.raises(ValueError, match="no switch 'res6'"):
        probes.switched(asked, masks[0], ("res6",))


def test_what_each_switch_takes_from_the_answer(asked, masks):
    lost = probes.losses(asked, masks[0])
    answer = asked.answer(masks[0])
    assert set(lost) == {*probes.switches.LEVELS, "spatial", "image"}
    for name in lost:
        pair, seen = probes.switched(asked, masks[0], (name,))
        with torch.no_grad():
            alone = asked.likelihoods(pair, answer, seen).sum() - asked.likelihoods(asked.pair(masks[:1]), answer).sum()
        assert lost[name] == pytest.approx(-alone.item(), abs=1e-3)
    assert max(lost[level] for level in probes.switches.LEVELS) > 0.5


def test_the_switches_change_the_answer(tiny, scene, masks):
    probe = probes.SwitchProbe(tiny, scene.image, masks)
    assert "Everything is on" in words(probe.static())
    shown, lost = probe.picture.value, probes.losses(probe.asked, masks[0])
    off = max(probes.switches.LEVELS, key=lost.get)
    probe.controls[off].value = False
    text = words(probe.static())
    assert probe.picture.value != shown and f"Off: {off}" in text
    pair, seen = probes.switched(probe.asked, masks[0], (off,))
    now = probe.asked.text(probe.asked.write(pair, seen)[0])
    assert now != "a striped brown butterfly" and now.split()[-1] in text.replace("\n", " ")
    probe.move(**{off: True}, region=2)
    assert words(probe.static()).count("“a red mushroom”") == 2 and probe.controls[off].value


# --- saliency ---------------------------------------------------------------------------------------------------------


def test_the_gradient_is_a_slope(tiny, scene, masks):
    """Along a random direction of pixels, and at one pixel of the mask: against finite differences in double precision."""
    model = copy.deepcopy(tiny).double()
    asked = Asked(model, scene.image, masks)
    answer, whole = asked.answer(masks[0]), torch.from_numpy(masks[:1]).double()
    found = probes.gradient(asked, masks[0])
    assert found.picture.shape == found.mask.shape == (128, 128)

    def likely(pixels, mask):
        with torch.no_grad():
            return probes.saliency.answer_likelihoods(asked, pixels, mask, answer).sum().item()

    row, column = np.unravel_index(found.picture.argmax(), found.picture.shape)
    slopes = []
    for channel in range(3):
        step = torch.zeros_like(asked.pixels)
        step[0, channel, row, column] = 0.02
        slopes.append((likely(asked.pixels + step, whole) - likely(asked.pixels - step, whole)) / 0.04)
    assert np.linalg.norm(slopes) == pytest.approx(found.picture[row, column], rel=0.05)

    row, column = np.unravel_index(np.abs(found.mask).argmax(), found.mask.shape)
    step = torch.zeros_like(whole)
    step[0, row, column] = 0.05
    slope = (likely(asked.pixels, whole + step) - likely(asked.pixels, whole - step)) / 0.1
    assert slope == pytest.approx(found.mask[row, column], rel=0.05)


def test_slopes_of_words_add_up_and_leave_no_gradient(tiny, asked, masks):
    before = state_of(tiny)
    whole = probes.gradient(asked, masks[0])
    each = sum(probes.gradient(asked, masks[0], word).mask for word in range(len(asked.answer(masks[0]))))
    np.testing.assert_allclose(each, whole.mask, atol=1e-4)
    assert state_of(tiny) == before and asked.pixels.grad is None and not asked.pixels.requires_grad
    with pytest.raises(ValueError, match="word is 12"):
        probes.gradient(asked, masks[0], 12)


def test_occlusion_is_asking_again_without_the_cell(tiny, asked, scene, masks):
    picture, mask = probes.occlusion(asked, masks[0], cells=4)
    said, session = asked.text(asked.answer(masks[0])), tiny.read(scene.image)
    usual = session.score(masks[:1], [said]).item()
    assert picture.shape == mask.shape == (4, 4, len(asked.answer(masks[0])))
    row, column = np.unravel_index(picture.sum(-1).argmax(), (4, 4))
    rows, columns = slice(32 * row, 32 * row + 32), slice(32 * column, 32 * column + 32)
    hidden = scene.image.copy()
    hidden[rows, columns] = np.round(255 * np.array(tiny.config.vision_config.mean))  # the mean colour, whole grey levels
    lost = usual - tiny.read(hidden).score(masks[:1], [said]).item()
    assert picture[row, column].sum() == pytest.approx(lost, abs=0.1) and lost > 1

    cut = masks[0].copy()
    cut[rows, columns] = False
    assert mask[row, column].sum() == pytest.approx(usual - session.score([cut], [said]).item(), abs=1e-3)
    for r, c in np.ndindex(4, 4):  # nothing to cut: nothing is lost
        if not masks[0][32 * r : 32 * r + 32, 32 * c : 32 * c + 32].any():
            assert not mask[r, c].any()
    assert not probes.occlusion(asked, masks[0], cells=1)[1].any()  # nothing would be left


def test_the_saliency_probe_follows_its_controls(tiny, scene, masks):
    probe = probes.SaliencyProbe(tiny, scene.image, masks)
    assert "What “a striped brown butterfly” hangs on · gradient" in words(probe.static())
    shown = probe.picture.value
    probe.controls["word"].value = 3
    assert probe.picture.value != shown and "What “butterfly” hangs on" in words(probe.static())
    probe.controls["method"].value = "occlusion"
    lost = probes.occlusion(probe.asked, masks[0])[0][..., 3].max()
    assert "lost when a cell is hidden" in words(probe.static()) and f"{lost:.1f}" in words(probe.static())
    probe.controls["region"].value = 1
    assert probe.state.word == "all" and "“a red chair”" in words(probe.static())


# --- all of them ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["AttentionProbe", "StepperProbe", "WhatIfProbe", "SwitchProbe", "SaliencyProbe"])
def test_every_probe_has_a_title_a_notice_and_leaves_nothing(tiny, scene, masks, kind):
    before = state_of(tiny)
    probe = getattr(probes, kind)(tiny, scene.image, masks, question=SHORT)
    assert "Probe:" in probe.children[0].value and probe.notice in probe.children[-1].value
    assert bytes(probe.picture.value).startswith(b"\x89PNG") and state_of(tiny) == before
    assert {f"{name}" for name in probe.controls} <= set(vars(probe.state))


def test_what_a_model_writes_is_never_html(tiny, scene, masks):
    """Its words reach options of sliders and pictures only: both are shown as text."""
    tokenizer = copy.deepcopy(tiny.processor.tokenizer)
    tokenizer.add_tokens(["<img src=x onerror=alert(1)>"])
    asked = Asked(tiny, scene.image, masks)
    asked.model = copy.copy(tiny)
    asked.model.processor = copy.copy(tiny.processor)
    asked.model.processor.tokenizer = tokenizer
    answer = [len(tokenizer) - 1, *asked.answer(masks[0])[-1:]]
    asked._answers = {key: answer for key in asked._answers}
    assert "<img" in asked.text(answer)
    looked = torch.zeros(5, 2, len(tokenizer))
    assert "<img" in words(probes.stepper_figure(asked, looked, probes.StepState()))
    for kind in ("AttentionProbe", "StepperProbe", "WhatIfProbe", "SwitchProbe", "SaliencyProbe"):
        probe = getattr(probes, kind)(tiny, scene.image, masks)
        html = [child.value for child in probe.children if type(child).__name__ == "HTML"]
        assert len(html) == 2 and "butterfly" not in "".join(html)


def test_long_answers_stay_on_the_sheet(tiny, scene, masks):
    """No text of a figure reaches over its border, and the step that is looked at is always among those shown."""
    for kind in ("AttentionProbe", "StepperProbe", "WhatIfProbe", "SwitchProbe", "SaliencyProbe"):
        probe = getattr(probes, kind)(tiny, scene.image, masks[:1], question=DETAILED)
        answer = probe.asked.answer(masks[0])
        assert len(answer) > 20
        if kind == "StepperProbe":
            probe.move(step=len(answer) - 1)
            assert "</s>" in [text.get_text() for text in probe.static().axes[0].texts]
        figure = probe.static()
        FigureCanvasAgg(figure).draw()
        width, height = figure.canvas.get_width_height()
        for text in figure.findobj(Text):
            box = text.get_window_extent()
            if text.get_text() and text.get_visible():
                inside = box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height
                assert inside, f"{kind}: {text.get_text()!r} is cut off"


# --- what the notices below the probes say of the tiny model ----------------------------------------------------------


@pytest.fixture(scope="module")
def asked_of_scenes(tiny):
    """Regions whose answer names their kind: (asked, mask, answer, index of the kind's word)."""
    found = []
    for seed in range(3):
        scene = make_scene(seed, 128, split="eval")
        asked = Asked(tiny, scene.image, [thing.mask for thing in scene.objects])
        for mask, thing in zip(asked.masks, scene.objects, strict=True):
            answer = asked.answer(mask)
            if thing.kind in asked.words(answer):
                found.append((asked, mask, answer, asked.words(answer).index(thing.kind)))
    assert len(found) > 9
    return found


def test_notice_attention(tiny, asked_of_scenes):
    of_kind, of_a, of_image = [], [], []  # shares of attention, group by group
    for asked, mask, answer, kind in asked_of_scenes:
        reading = probes.read_attention(tiny.llm, asked.embeds(asked.pair(mask[None]), answer))
        kinds, start = [kind for kind, _ in asked.positions(answer)], len(asked.positions())
        rows = torch.stack([layer.mean(0) for layer in reading.layers]).mean(0)[start - 1 :].numpy()
        groups = [probes.grouped(row, kinds, start) for row in rows[: len(answer)]]
        of_kind.append(groups[kind])
        of_a.append(groups[0])
        of_image += [group["image tokens"] for group in groups]
    for shares, most in ((of_kind, "mask token"), (of_a, "the words before")):
        means = {name: np.mean([share[name] for share in shares]) for name in shares[0]}
        assert max(means, key=means.get) == most and means[most] > 0.3
    assert min(share["mask token"] for share in of_kind) > 0.2 and np.mean(of_image) < 0.15


def test_notice_stepper(tiny, asked_of_scenes):
    right = {1: [], 3: []}  # after so many layers
    for asked, mask, answer, kind in asked_of_scenes:
        looked = probes.lens(tiny.llm, asked.embeds(asked.pair(mask[None]), answer[:-1]), len(answer)).argmax(-1)
        assert looked[0, 1:].tolist() == answer[:-1] and looked[-1].tolist() == answer
        for layers, words in right.items():
            words += (looked[layers, 1 : kind + 1] == torch.tensor(answer[1 : kind + 1])).tolist()
    assert np.mean(right[3]) > 0.9 > np.mean(right[1]) > 0.5


def test_notice_switches(tiny, asked_of_scenes):
    for question, detailed in ((SHORT, False), (DETAILED, True)):
        each = [probes.losses(Asked(tiny, asked.image, [mask], question), mask) for asked, mask, *_ in asked_of_scenes]
        lost = {name: np.mean([losses[name] for losses in each]) for name in each[0]}
        assert lost["res3"] > 3 * max(lost[level] for level in ("res2", "res4", "res5"))
        assert np.mean([max(probes.switches.LEVELS, key=losses.get) == "res3" for losses in each]) > 0.7
        if detailed:  # 120 regions of 60 pictures: 2.02 times as much (1.74 – 2.36)
            assert min(lost["spatial"], lost["image"]) > 1.5 * lost["res3"]


def test_notice_whatif(asked_of_scenes):
    grown, half, whole = [], [], []
    for asked, mask, answer, kind in asked_of_scenes:
        width = int(mask.sum() ** 0.5)
        for kept, grow, right in ((grown, 2, 0), (grown, -2, 0), (half, 0, width // 2), (whole, 0, width)):
            now = probes.changed_mask(mask, grow, right)
            if now.any():
                said = asked.words(asked.answer(now))
                kept.append(asked.words(answer)[kind - 1] in said and asked.words(answer)[kind] in said)
    assert np.mean(grown) > 0.9 and np.mean(half) > 0.6 and np.mean(whole) < 0.4


def test_notice_saliency(asked_of_scenes):
    for asked, mask, *_ in asked_of_scenes[:4]:
        lost = np.abs(probes.occlusion(asked, mask, cells=4)[0].sum(-1))
        inside = mask.reshape(4, 32, 4, 32).any((1, 3))
        assert lost[~inside].max() < 0.5 and lost[inside].max() > 2 * lost[~inside].max()
