"""Text of the drawn world: a small BPE tokenizer, records drawn from a mixture, and batches of what is drawn (notebook 05).

    records of scenes ─► conversations as text ─► byte-level BPE
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from ..data import language
from ..data.collate import POOL, ahead, like_length
from ..data.language import records
from ..data.record import Record
from ..data.scenes import Scene
from ..prompt import PLACEHOLDERS, conversation, place_regions

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
