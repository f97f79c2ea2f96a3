"""Image + masks + conversation → the tensors that `Osprey.forward` takes (notebook 06; docs/osprey.md, sections 1 and 2).

    image ──── resize, normalise ───────────► images      B×3×S×S
    masks ──── checked, own resolution ─────► masks       list of R_i×h×w
    turns ──── template, tokenizer ─────────► input_ids   B×T    labels B×T (−100: no loss)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from .config import OspreyConfig
from .data.record import Record
from .images import load_image, preprocess
from .masks import to_masks
from .prompt import IMAGE, MASK, POS, SYSTEM, PromptTooLong, conversation, place_regions

IGNORE = -100


class OspreyProcessor:
    """Holds the tokenizer and the sizes of a config; made by `Osprey.from_pretrained`."""

    def __init__(self, config: OspreyConfig, tokenizer: PreTrainedTokenizerBase):
        # in this order: the published tokenizer lacks them, and its rows 32000 and 32001 are <mask> and <pos>
        missing = [token for token in (MASK, POS, IMAGE) if token not in tokenizer.get_vocab()]
        if missing:
            tokenizer.add_special_tokens({"additional_special_tokens": missing})
        ids = tokenizer.convert_tokens_to_ids([MASK, POS])
        if ids != [config.mask_token_id, config.pos_token_id]:
            raise ValueError(
                f"The tokenizer's <mask> and <pos> are {ids}; the config says {[config.mask_token_id, config.pos_token_id]}. "
                "Give the tokenizer that belongs to these weights."
            )
        self.config = config
        self.tokenizer = tokenizer

    @classmethod
    def from_pretrained(cls, path: str | Path) -> OspreyProcessor:
        return cls(OspreyConfig.from_pretrained(path), AutoTokenizer.from_pretrained(path))

    def save_pretrained(self, path: str | Path) -> None:
        self.config.save_pretrained(path)
        self.tokenizer.save_pretrained(path)

    @property
    def context(self) -> int | None:
        """Tokens that the LLM reads, those of an image included."""
        return getattr(self.config.text_config, "max_position_embeddings", None)

    def image(self, image) -> torch.Tensor:
        """PIL, H×W×3 uint8 or path to a normalised 3×S×S tensor (docs/osprey.md, section 1, image preparation)."""
        vision = self.config.vision_config
        return preprocess(load_image(image), vision.image_size, vision.mean, vision.std)

    def text(
        self,
        turns: Sequence[tuple[str, str | None]],
        n_regions: int = 0,
        inline: bool = False,
        overview: str = "training",
        system: str = SYSTEM,
        with_image: bool = True,
        room_for: int = 0,
        limit: int | None = None,
    ) -> dict:
        """One conversation to `input_ids` and `labels` (T), and `order`: the region of each `<mask><pos>` pair.

        `room_for` is the number of tokens still to be written. Raises PromptTooLong, a ValueError, when the tokens, with those
        of the image, do not fit the context or `limit`.
        """
        questions, order = place_regions([question for question, _ in turns], n_regions, inline)
        pairs = [(question, answer) for question, (_, answer) in zip(questions, turns, strict=True)]
        pieces = conversation(pairs, system, overview, with_image, self.tokenizer.eos_token)

        # As published, the texts before and after <image> are tokenised apart: SentencePiece begins each with its "▁".
        ids, last_chars, start = [], [], 0
        for i, chunk in enumerate("".join(text for text, _ in pieces).split(IMAGE)):
            if i:
                start += len(IMAGE)
                ids.append(self.config.image_token_id)
                last_chars.append(start - 1)
            encoded = self.tokenizer(chunk, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
            ids += encoded["input_ids"]
            last_chars += [max(start + end - 1, 0) for _, end in encoded["offset_mapping"]]
            start += len(chunk)
        ids, last_chars = np.array(ids), np.array(last_chars)
        carries_loss = np.repeat([loss for _, loss in pieces], [len(text) for text, _ in pieces])[last_chars]
        if self.tokenizer.bos_token_id is not None:
            ids, carries_loss = np.append(self.tokenizer.bos_token_id, ids), np.append(False, carries_loss)
        labels = np.where(carries_loss, ids, IGNORE)

        length = len(ids) + with_image * (self.config.num_image_tokens - 1) + room_for
        limit = min(limit or length, self.context or length)
        if length > limit:
            raise PromptTooLong(
                f"The prompt needs {length} tokens ({len(ids)} of text, {self.config.num_image_tokens} of image, "
                f"{room_for} for the answer); this model reads {limit}. Shorten the text or name fewer regions."
            )
        return {"input_ids": torch.from_numpy(ids), "labels": torch.from_numpy(labels), "order": order}

    def record(self, record: Record, features: Callable | None = None, **kwargs) -> dict:
        """A training record to one sample: `id`, `image` 3×S×S, `masks` R×h×w, `input_ids`, `labels`.

        `features(image)`, a cache of the frozen encoder (train/cache.py), puts the four levels in the image's place.
        """
        text = self.text(record.turns, len(record.regions), record.inline, **kwargs)
        seen = {"image": self.image(record.image)} if features is None else {"features": features(record.image)}
        return {**text, **seen, "id": record.id, "masks": torch.from_numpy(record.masks[text["order"]])}

    def collate(self, samples: Sequence[dict], pad_to_multiple_of: int = 1) -> dict:
        """Samples of `record` to one right-padded batch for `Osprey.forward`."""
        pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else 0
        ids, labels = (
            self.padded([sample[key] for sample in samples], value, pad_to_multiple_of)
            for key, value in (("input_ids", pad), ("labels", IGNORE))
        )
        lengths = torch.tensor([len(sample["input_ids"]) for sample in samples])
        if "image" in samples[0]:
            seen = {"images": torch.stack([sample["image"] for sample in samples])}
        else:
            seen = {"features": [torch.stack(level) for level in zip(*(x["features"] for x in samples), strict=True)]}
        return {
            **seen,
            "masks": [sample["masks"] for sample in samples],
            "input_ids": ids,
            "attention_mask": torch.arange(ids.shape[1]) < lengths[:, None],
            "labels": labels,
        }

    def padded(self, rows: Sequence[torch.Tensor], value: int, multiple: int = 1) -> torch.Tensor:
        """Rows of tokens, padded on the right to one length: a multiple of `multiple`, if the context has room for it."""
        rows = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=value)
        more = -rows.shape[1] % multiple
        if self.context is not None:
            more = min(more, max(0, self.context - (self.config.num_image_tokens - 1) - rows.shape[1]))
        return torch.nn.functional.pad(rows, (0, more), value=value)

    def __call__(self, image, masks, turns: Sequence[tuple[str, str | None]], inline: bool = False, **kwargs) -> dict:
        """One image, its masks (whatever `masks.to_masks` takes, or None) and turns to a batch of one."""
        image = load_image(image)
        masks = to_masks(masks, size=(image.height, image.width), may_be_none=True)
        return self.collate([self.record(Record("", "", image, masks, list(turns), inline), **kwargs)])
