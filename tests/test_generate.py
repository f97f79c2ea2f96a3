"""One reading of a picture for all its regions: the same answers as one region at a time, whatever the LLM."""

import copy
import warnings

import numpy as np
import pytest
import torch
from test_model import FAMILIES, IDS, build
from transformers import (
    DeepseekV3Config,
    DiffLlamaConfig,
    FalconH1Config,
    Gemma2Config,
    GPTBigCodeConfig,
    GptOssConfig,
    JetMoeConfig,
    Lfm2Config,
    MambaConfig,
    MiniMaxConfig,
    MistralConfig,
    OPTConfig,
)

from osprey_nb import Osprey
from osprey_nb.data.scenes import make_scene
from osprey_nb.generate import ImageSession
from osprey_nb.prefix import Rows, way_to_read
from osprey_nb.prompt import DETAILED, SHORT
from osprey_nb.train.language import train_tokenizer

SIZES = {"vocab_size": 640, "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}  # fmt: skip
GREEDY = {"do_sample": False, "eos_token_id": 2, "pad_token_id": 0}
MORE = {
    # a window shorter than what stands before a question, mixed layers, recurrent states, a cache that is not transformers' own
    "mistral": lambda: MistralConfig(**SIZES, sliding_window=24),
    "lfm2": lambda: Lfm2Config(**SIZES, layer_types=["conv", "full_attention"]),
    "falcon_h1": lambda: FalconH1Config(
        **SIZES, mamba_d_ssm=96, mamba_n_heads=12, mamba_d_head=8, mamba_d_state=8, mamba_chunk_size=16
    ),
    "mamba": lambda: MambaConfig(
        vocab_size=640, hidden_size=48, num_hidden_layers=2, state_size=8, bos_token_id=1, eos_token_id=2, pad_token_id=0
    ),
}
OWN_ATTENTION = {  # caps of its scores, sinks
    "gemma2": lambda: Gemma2Config(
        **SIZES, head_dim=12, sliding_window=24, attn_logit_softcapping=0.05, query_pre_attn_scalar=1
    ),
    "gpt_oss": lambda: GptOssConfig(
        **SIZES, head_dim=12, sliding_window=24, num_local_experts=4, num_experts_per_tok=2,
        layer_types=["sliding_attention", "full_attention"], rope_scaling=None,
    ),  # fmt: skip
}
LINES = {  # learned positions; one key for all heads
    "opt": lambda: OPTConfig(**SIZES, ffn_dim=64, word_embed_proj_dim=48),
    "gpt_bigcode": lambda: GPTBigCodeConfig(vocab_size=640, n_embd=48, n_layer=2, n_head=4, n_positions=512, **IDS),
}
NO_LINES = {  # keys made of what is cached, keys changed once cached, two softmaxes, a cache that no other stands in for
    "deepseek_v3": lambda: DeepseekV3Config(
        **SIZES | {"num_key_value_heads": 4}, q_lora_rank=16, kv_lora_rank=16, qk_rope_head_dim=8, qk_nope_head_dim=8,
        v_head_dim=12, n_routed_experts=4, num_experts_per_tok=2, n_group=1, topk_group=1, moe_intermediate_size=32,
    ),
    "jetmoe": lambda: JetMoeConfig(**SIZES | {"num_attention_heads": 2}, kv_channels=12, num_local_experts=2),
    "diffllama": lambda: DiffLlamaConfig(**SIZES),
    "minimax": lambda: MiniMaxConfig(**SIZES, num_local_experts=4, layer_types=["linear_attention", "full_attention"]),
}  # fmt: skip
NEW = 10
NO_REGION = "No region was given. Give one at least, or ask about the whole picture with chat"


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([make_scene(i) for i in range(40)], 640, seed=0)


def regions_of(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture and as many masks, parts among them; the same ones again when there are no more."""
    scene = make_scene(seed, split="eval")
    masks = np.stack([x.mask for thing in scene.objects for x in (thing, *thing.parts)])
    return scene.image, masks[np.arange(count) % len(masks)]


def alone(model: Osprey, image, mask, question: str, new: int = NEW) -> str:
    """The published way: the whole sequence of one region, by transformers' generate."""
    batch = model.processor(image, [mask], [(question, None)], inline=True)
    ids = model.generate(
        batch["images"], batch["masks"], batch["input_ids"], max_new_tokens=new, **GREEDY
    )
    return model.processor.tokenizer.decode(ids[0], skip_special_tokens=True).strip()


def unhurried(model: Osprey, image, mask, new: int = NEW) -> str:
    """As `alone`, without any cache: some families' `generate` takes no embeddings."""
    batch, said = model.processor(image, [mask], [(SHORT, None)], inline=True), []
    with torch.no_grad():
        embeds = model.prepare(batch["images"], batch["masks"], batch["input_ids"]).embeds
        while len(said) < new and said[-1:] != [2]:
            said.append(int(model.llm(inputs_embeds=embeds).logits[0, -1].argmax()))
            embeds = torch.cat([embeds, model.get_input_embeddings()(torch.tensor([said[-1:]]))], 1)
    return model.processor.tokenizer.decode(said, skip_special_tokens=True).strip()


@torch.no_grad()
def likelihood(model: Osprey, image, mask, answer: str) -> float:
    """The log-likelihood of an answer, from the whole sequence."""
    batch = model.processor(image, [mask], [(SHORT, answer)], inline=True)
    spliced = model.prepare(batch["images"], batch["masks"], batch["input_ids"], labels=batch["labels"])
    likely = model.llm(inputs_embeds=spliced.embeds).logits[0, :-1].log_softmax(-1)
    rows = (spliced.labels[0, 1:] >= 0).nonzero()[:, 0]
    return likely[rows, spliced.labels[0, 1:][rows]].sum().item()


@pytest.fixture
def reads(monkeypatch) -> list[tuple[int, int]]:
    """A list that grows by the rows, and the places of what all begin with, of each reading."""
    sizes, read = [], Rows.read

    def look(self, embeds, opening=None, last=True):
        sizes.append((len(embeds), 0 if opening is None else opening.shape[1]))
        return read(self, embeds, opening, last)

    monkeypatch.setattr(Rows, "read", look)
    return sizes


@pytest.mark.parametrize("family", [*FAMILIES, *MORE, *OWN_ATTENTION, *LINES, *NO_LINES])
def test_together_as_alone_for_every_family(tokenizer, family):
    model = build(tokenizer, (FAMILIES | MORE | OWN_ATTENTION | LINES | NO_LINES)[family]())
    image, masks = regions_of(7, 5)
    session = model.read(image)
    if family in LINES | NO_LINES:
        assert (way_to_read(model.llm) == "line") == (family in LINES)
    expected = [unhurried(model, image, mask) for mask in masks]
    assert session.describe(masks, max_new_tokens=NEW) == expected
    assert session.describe(masks[3:4], max_new_tokens=NEW) == expected[3:4]  # and again, from what was read
    # Random models say much the same of everything; how likely they hold an answer tells regions apart.
    scores = session.score(masks, ["a car"])[:, 0]
    for score, mask in zip(scores.tolist(), masks, strict=True):
        assert score == pytest.approx(likelihood(model, image, mask, "a car"), abs=1e-4)
    assert scores.std() > 1e-4


@pytest.mark.parametrize("count", [1, 2, 17, 64])
def test_together_as_alone_for_the_trained_model(tiny, count):
    image, masks = regions_of(11, count)
    different = {mask.tobytes(): alone(tiny, image, mask, SHORT, 48) for mask in masks}
    assert tiny.describe(image, masks) == [different[mask.tobytes()] for mask in masks]


def test_prompts_of_their_own_and_of_different_length(tiny):
    image, masks = regions_of(3, 5)
    prompts = [SHORT, DETAILED, "What is <region1>?", SHORT, "What colour is <region1>? Answer with one word."]
    expected = [alone(tiny, image, mask, prompt, 48) for mask, prompt in zip(masks, prompts, strict=True)]
    assert tiny.read(image).describe(masks, prompt=prompts) == expected
    streamed = dict.fromkeys(range(5), "")
    for region, piece in tiny.read(image).describe(masks, prompt=prompts, stream=True):
        streamed[region] += piece
    assert [text.strip() for text in streamed.values()] == expected
    with pytest.raises(ValueError, match="2 prompts for 5 regions"):
        tiny.describe(image, masks, prompt=prompts[:2])


def test_a_conversation_of_several_turns(tiny):
    image, masks = regions_of(3, 3)
    turns = [("What is <region1>?", "a car"), ("And <region3>?", "a wheel"), ("Is <region2> red?", None)]
    messages = [{"role": ("user", "assistant")[i], "content": turn[i]} for turn in turns for i in (0, 1)]
    batch = tiny.processor(image, masks, turns)
    ids = tiny.generate(
        batch["images"], batch["masks"], batch["input_ids"], max_new_tokens=30, **GREEDY
    )
    expected = tiny.processor.tokenizer.decode(ids[0], skip_special_tokens=True).strip()
    session = tiny.read(image)
    assert session.chat(masks, messages[:-1], max_new_tokens=30) == expected
    assert "".join(session.chat(masks, messages[:-1], max_new_tokens=30, stream=True)).strip() == expected


def test_regions_may_be_named_as_people_type(tiny):
    image, masks = regions_of(3, 3)
    session = tiny.read(image)
    expected = session.describe(masks, prompt="What colour is <region1>?")
    for name in ("<Region 1>", "<region01>", "<mask><pos>"):
        assert session.describe(masks, prompt=f"What colour is {name}?") == expected
    said = [session.chat(masks, [{"role": "user", "content": f"What is {name}?"}]) for name in ("<region2>", "<REGION 02>")]
    assert said[0] == said[1]


def test_a_picture_is_encoded_once(tiny):
    image, masks = regions_of(5, 4)
    calls = []
    handle = tiny.encoder.register_forward_hook(lambda *_: calls.append(1))
    try:
        session = tiny.read(image)
        session.describe(masks)
        session.describe(masks[:1], detail="detailed")
        session.chat(masks[:1], [{"role": "user", "content": "What is <region1>?"}])
        session.score(masks[:2], ["a cat", "a dog"])
    finally:
        handle.remove()
    assert len(calls) == 1


def test_rows_that_have_ended_leave(tiny, reads):
    image, masks = regions_of(11, 12)
    answers = tiny.read(image).describe(masks)
    lengths = [len(tiny.processor.tokenizer(" " + text)["input_ids"]) for text in answers]
    assert len(set(lengths)) > 1
    rows = [count for count, _ in reads]
    assert rows[:2] == [12, 12] and rows == sorted(rows, reverse=True) and rows[-1] < 12


def test_what_questions_begin_with_is_read_once(tiny, reads):
    image, masks = regions_of(5, 4)
    fresh = {detail: tiny.describe(image, masks, detail) for detail in ("short", "detailed")}
    session, openings = ImageSession(tiny, image), []
    for detail in ("short", "short", "detailed", "detailed", "short"):
        reads.clear()
        assert session.describe(masks, detail) == fresh[detail]
        assert all(opening == 0 for _, opening in reads[1:])
        openings.append(reads[0][1])
        assert session.describe(masks[2:3], "short") == fresh["short"][2:3]
    assert openings[0] > tiny.config.num_image_tokens
    assert openings[1] == openings[4] == 0  # the single region's question began alike
    assert 0 < openings[2] == openings[3] < 30


def test_one_row_alone_is_read_in_one_pass_where_its_beginning_cannot_be_kept(tokenizer, reads):
    model = build(tokenizer, MORE["mistral"]())
    image, masks = regions_of(7, 3)
    session = model.read(image)
    reads.clear()
    session.describe(masks[:1], max_new_tokens=1)
    session.describe(masks, max_new_tokens=1)
    assert [(rows, opening > 0) for rows, opening in reads] == [(1, False), (3, True)]


def test_in_bf16_rows_stand_in_a_line_too(tiny):
    half = copy.deepcopy(tiny).to(torch.bfloat16)
    image, masks = regions_of(3, 3)
    assert way_to_read(half.llm) == "line"
    together = half.read(image).score(masks, ["a red car", "cat"])
    alone = [half.read(image).score(masks[i : i + 1], ["a red car", "cat"])[0] for i in range(3)]
    torch.testing.assert_close(together, torch.stack(alone), rtol=0.02, atol=0.1)
    torch.testing.assert_close(together, tiny.read(image).score(masks, ["a red car", "cat"]), rtol=0.05, atol=0.5)


def test_scores_are_those_of_the_whole_sequence(tiny):
    image, masks = regions_of(3, 3)
    candidates = ["a red car", "a small striped yellow butterfly", "cat"]
    scores = tiny.read(image).score(masks, candidates)
    assert scores.shape == (3, 3)
    for i, mask in enumerate(masks):
        for j, answer in enumerate(candidates):
            assert scores[i, j].item() == pytest.approx(likelihood(tiny, image, mask, answer), abs=2e-3)
    said = tiny.describe(image, masks[:1])[0]
    assert tiny.read(image).score(masks[:1], [said, "a blue house"])[0].argmax() == 0


def test_an_overview_of_its_own_and_a_question_that_begins_unlike_any(tiny):
    image, masks = regions_of(3, 2)
    session = tiny.read(image, overview="demo")
    batch = tiny.processor(image, masks[:1], [(SHORT, None)], inline=True, overview="demo")
    ids = tiny.generate(
        batch["images"], batch["masks"], batch["input_ids"], max_new_tokens=20, **GREEDY
    )
    assert session.describe(masks[:1], max_new_tokens=20) == [tiny.processor.tokenizer.decode(ids[0], True).strip()]
    session = tiny.read(image)
    session._seen = session._seen.flip(0)  # a tokenizer that joins a question to what stands before it
    assert session.describe(masks) == tiny.describe(image, masks)


def test_many_regions_go_in_turn(tiny, reads):
    image, masks = regions_of(3, 7)
    together = tiny.describe(image, masks)
    reads.clear()
    assert tiny.read(image, max_regions_at_once=3).describe(masks) == together
    assert max(reads)[0] == 3
    with pytest.raises(ValueError, match="max_regions_at_once is 0"):
        tiny.read(image, max_regions_at_once=0)


def test_two_thousand_regions(tiny):
    image, masks = regions_of(3, 2000)
    answers = tiny.describe(image, masks, max_new_tokens=2)
    assert len(answers) == 2000 and answers[0] == tiny.describe(image, masks[:1], max_new_tokens=2)[0]


def test_when_memory_runs_out_half_as_many_are_tried(tiny, monkeypatch):
    image, masks = regions_of(3, 9)
    expected = tiny.describe(image, masks)
    session = tiny.read(image)
    decoded, tried = ImageSession._decoded, []

    def short_of_memory(self, rows, *args):
        tried.append(len(rows))
        if len(rows) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        yield from decoded(self, rows, *args)

    def short_of_all(**_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(ImageSession, "_decoded", short_of_memory)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert session.describe(masks) == expected
    assert tried == [9, 4, 2, 2, 2, 2, 1]
    assert [str(x.message) for x in said] == [f"Memory ran out; going on with {n} regions at once." for n in (4, 2)]
    monkeypatch.setattr(tiny.llm, "forward", short_of_all)
    with pytest.warns(UserWarning, match="with 1 regions"), pytest.raises(torch.OutOfMemoryError):
        session.describe(masks[:2])


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda session, mask: session.describe([]), NO_REGION),
        (lambda session, mask: session.describe(None), NO_REGION),
        (lambda session, mask: session.describe(mask[None][:0]), NO_REGION),
        (lambda session, mask: session.score(None, ["a cat"]), NO_REGION),
        (lambda session, mask: session.chat([], [{"role": "user", "content": "<region1>?"}]), "but 0 regions were given"),
        (lambda session, mask: session.describe([(500, 500, 600, 600)]), "box"),
        (lambda session, mask: session.score([mask], []), "one or more answers"),
        (lambda session, mask: session.score([mask], "a cat"), "one or more answers"),
        (lambda session, mask: session.describe([mask], temperature=-1), "temperature is -1"),
        (lambda session, mask: session.describe([mask], prompt="What? <mask>"), "holds <mask>. Write <region1>"),
        (lambda session, mask: session.describe([mask], prompt="<mask><pos> and <region1>?"), "exactly once"),
        (lambda session, mask: session.describe([mask], prompt="<region1> on <image>?"), "holds <image>"),
        (lambda session, mask: session.describe([mask], prompt="What is <Region X>?"), "^<Region X> names no region"),
        (lambda session, mask: session.score([mask], ["a cat"], prompt="What is <region0>?"), "^<region0> names no region"),
        (lambda session, mask: session.chat([mask], [{"role": "user", "content": "<region>?"}]), "^<region> names no region"),
        (lambda session, mask: session.chat([mask], [{"role": "user", "content": "What is <mask><pos>?"}]), "holds <mask>"),
        (lambda session, mask: session.chat([mask], [{"role": "user", "content": "<region2>?"}]), "but 1 region was given"),
    ],
)
def test_refused_before_anything_is_read(tiny, ask, message):
    image, masks = regions_of(3, 1)
    session = ImageSession(tiny, image)
    with pytest.raises(ValueError, match=message):
        ask(session, masks[0])
    assert session._features is None
