"""Stage 0, words: a small BPE tokenizer and a small LM that speaks the scene language before it sees anything (notebook 05).

    records of scenes ─► conversations as text ─┬─► byte-level BPE
                                                └─► next-token loss on the answers; a region is a blurred sum of its words
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from ..data import language
from ..data.collate import POOL, TOKENS, ahead, like_length
from ..data.language import records
from ..data.record import Record
from ..data.scenes import Scene
from ..model import Osprey
from ..processor import OspreyProcessor
from ..prompt import PLACEHOLDERS, conversation, place_regions

BLUR = 0.1  # standard deviation of the noise on every number of a sum of words
SPECIAL = ("<pad>", "<s>", "</s>", *PLACEHOLDERS)


def train_tokenizer(scenes: list[Scene], vocab_size: int, seed: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE on the conversations of some scenes; ids 0–5 are `SPECIAL`. The same scenes give the same tokenizer."""
    rng = np.random.default_rng(seed)
    texts = []
    for scene in scenes:
        for record in records(scene, rng):
            questions, _ = place_regions([q for q, _ in record.turns], len(record.regions), record.inline)
            pairs = [(question, answer) for question, (_, answer) in zip(questions, record.turns, strict=True)]
            texts.append("".join(text for text, _ in conversation(pairs)))
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=list(SPECIAL), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token="<pad>", bos_token="<s>", eos_token="</s>",
        additional_special_tokens=list(PLACEHOLDERS), clean_up_tokenization_spaces=False,
    )


def text_batches(
    scenes: list[Scene], mixture: dict[str, float], processor: OspreyProcessor, size: int, seed: int,
    limit: int | None = None, start: int = 0, lane: int = 0, lanes: int = 1,
) -> Iterator[dict]:
    """Endless right-padded batches of conversations: `input_ids`, `labels` (answers), and `words`: R×V, for each `<mask>`, in
    order, how often each token stands in what its region is (`small striped red bicycle wheel`). From step `start` on.

    `limit` makes lessons of them: at most so many regions, without system text and image. With nothing else to look at, the
    LM soon finds out that the answer is in the region. The makers of the mixture must take `limit`.
    """
    fewer, bare = ({"limit": limit}, {"system": "", "with_image": False}) if limit else ({}, {})

    def draw(rng: np.random.Generator) -> dict:
        scene, record = draw_record(scenes, mixture, rng, **fewer)
        text = processor.text(record.turns, len(record.regions), record.inline, **bare)
        names = {mask.tobytes(): words for mask, words in region_words(scene)} if text["order"] else {}
        return {**text, "id": record.id, "words": [names[record.masks[i].tobytes()] for i in text["order"]]}

    def together(samples: list[dict]) -> dict:
        return {
            "input_ids": processor.padded([sample["input_ids"] for sample in samples], 0, TOKENS),
            "labels": processor.padded([sample["labels"] for sample in samples], -100, TOKENS),
            "words": word_counts([words for sample in samples for words in sample["words"]], processor),
            "ids": [sample["id"] for sample in samples],
        }

    return drawn_batches(draw, together, size, seed, start, lane, lanes)


def draw_record(
    scenes: list[Scene], mixture: dict[str, float], rng: np.random.Generator, **options
) -> tuple[Scene, Record]:
    """A record of a random scene; `mixture` gives each maker of data/language.py its weight, `options` go to them."""
    makers, weights = list(mixture), np.array(list(mixture.values()), float)
    while True:
        scene = scenes[int(rng.integers(len(scenes)))]
        maker = makers[int(rng.choice(len(makers), p=weights / weights.sum()))]
        record = getattr(language, maker)(scene, rng, **options)
        if record.turns:
            return scene, record


def drawn_batches(
    draw: Callable[[np.random.Generator], dict], together: Callable[[list[dict]], dict], size: int, seed: int, start: int = 0,
    lane: int = 0, lanes: int = 1,
) -> Iterator[dict]:
    """Endless batches of samples of like length, made ahead, from step `start` on; step n is the same wherever one starts.

    `draw` makes a sample, `together` a batch. `lanes` such streams, numbered from 0, share out the pools: none is in two.
    """  # fmt: skip

    def pool(number: int) -> list[dict]:
        rng = np.random.default_rng([seed, lanes * number + lane])
        return [together(batch) for batch in like_length([draw(rng) for _ in range(POOL * size)], POOL, rng)]

    return ahead(pool, start, POOL)


def text_loss(model: Osprey, batch: dict) -> Tensor:
    """Next-token loss of the answers, where a blurred sum of the embeddings of a region's words is added to that of `<mask>`.

    The LM learns to read regions before it ever sees one. Blurred, because real mask tokens will only come near such sums.
    Padding stands on the right, where causal attention never looks: no attention mask is needed, and the fast kernel runs.
    """
    ids, labels, words = (batch[key].to(model.device) for key in ("input_ids", "labels", "words"))
    embed = model.llm.get_input_embeddings()
    sums = words @ embed.weight
    sums = sums + BLUR * torch.randn_like(sums)
    embeds, is_mask = embed(ids), (ids == model.config.mask_token_id)[..., None]
    embeds = embeds + torch.zeros_like(embeds).masked_scatter(is_mask, sums.to(embeds))
    return model.answer_loss(embeds, labels)


def region_words(scene: Scene) -> list[tuple[np.ndarray, str]]:
    """The mask of every part and object of a scene, and what it is in words: ` small striped red bicycle wheel`."""
    words = []
    for obj in scene.objects:
        name = f" {obj.size} {obj.pattern} {obj.colour} {obj.kind}"
        words += [(part.mask, f"{name} {part.name}") for part in obj.parts]
        words.append((obj.mask, name))
    return words


def word_counts(words: Sequence[str], processor: OspreyProcessor) -> Tensor:
    """R×V: how often each token of the vocabulary stands in each text."""
    counts = torch.zeros(len(words), processor.config.text_config.vocab_size)
    ids = processor.tokenizer(list(words), add_special_tokens=False)["input_ids"] if words else []
    for row, tokens in zip(counts, ids, strict=True):
        row += torch.bincount(torch.tensor(tokens, dtype=torch.long), minlength=len(row))
    return counts
