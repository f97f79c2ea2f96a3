"""Stage 0, words: a small BPE tokenizer and a small LM that speaks the scene language before it sees anything (notebook 05).

    records of scenes ─► conversations as text ─┬─► byte-level BPE
                                                └─► next-token loss on whole conversations
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from ..data.language import records
from ..data.scenes import Scene
from ..processor import OspreyProcessor
from ..prompt import PLACEHOLDERS, conversation, place_regions

SPECIAL = ("<pad>", "<s>", "</s>", *PLACEHOLDERS)


def train_tokenizer(scenes: list[Scene], vocab_size: int, seed: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE on the conversations of some scenes; ids 0–5 are `SPECIAL`. The same scenes give the same tokenizer."""
    rng = np.random.default_rng(seed)
    texts = []
    for scene in scenes:
        for record in records(scene, rng):
            questions, _ = place_regions([q for q, _ in record.turns], _regions(record), record.inline)
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


def text_batches(scenes: list[Scene], processor: OspreyProcessor, size: int, seed: int) -> Iterator[Tensor]:
    """Endless right-padded B×T ids of whole conversations; every token is to be predicted, padding (0) is not."""
    shuffle, rng = random.Random(seed), np.random.default_rng(seed)
    waiting: list = []
    while True:
        while len(waiting) < size * 8:
            waiting += records(shuffle.choice(scenes), rng)
        shuffle.shuffle(waiting)
        rows = [
            processor.text(record.turns, _regions(record), record.inline)["input_ids"]
            for record in (waiting.pop() for _ in range(size))
        ]
        yield torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


def text_loss(llm, ids: Tensor) -> Tensor:
    """Next-token loss of plain text."""
    ids = ids.to(llm.device)
    return llm(input_ids=ids, attention_mask=ids != 0, labels=ids.masked_fill(ids == 0, -100)).loss


def _regions(record) -> int:
    return 0 if record.masks is None else len(record.masks)
