"""Read a picture once, then answer for every region, side by side (notebook 08; paper sections 2 and 6).

    image ─► encoder ─┬► image tokens ─► system, image, overview ─► the LLM ─► KV cache     once a picture: ImageSession
                      │                                                          │ shared by all rows
    masks ────────────┴► mask extractor ─► pairs ─► the question, a row a region ┴─► answers, all rows a token at a time

In Osprey's sequence the image stands before any region, so all up to the question is the same for every region of a picture.
Row by row or together, in float32 the answers are the same token for token; in bf16 two words that are almost equally likely
may change places, because sums of another shape are rounded elsewhere.
"""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import psutil
import torch
from torch import Tensor
from transformers import DynamicCache

from .images import load_image
from .masks import to_masks
from .prefix import beginning_of, can_be_cut, for_rows, sharable, shared_attention
from .projector import image_tokens
from .prompt import DETAILED, MASK, POS, SHORT

if TYPE_CHECKING:
    from .model import Osprey

MOST_ROWS = 256  # side by side; more gain nothing
QUESTIONS = {"short": SHORT, "detailed": DETAILED}
NEW_TOKENS = {"short": 48, "detailed": 192}
Step = tuple[list[int], list[int]]  # the rows that go on, and the next token of each
UNFINISHED = "\ufffd"  # what a tokenizer gives for half a character


class Describe:
    """The calls for people. Mixed into `Osprey`; inputs are checked before anything is computed."""

    def read(self, image, overview: str = "training", max_regions_at_once: int | None = None) -> ImageSession:
        """Read a picture, once for all that is asked about it. `image`: PIL, H×W×3 uint8, or path."""
        session = ImageSession(self, image, overview, max_regions_at_once)
        session.prefill()
        return session

    def describe(
        self,
        image,
        masks,
        detail: str = "short",
        prompt: str | Sequence[str] | None = None,
        stream: bool = False,
        max_new_tokens: int | None = None,
        temperature: float = 0.0,
        overview: str = "training",
    ) -> list[str] | Iterator[tuple[int, str]]:
        """One answer for each region: `ImageSession.describe` of a picture that is asked about once.

        `overview` is how the prompt begins, a key of `prompt.OVERVIEWS`.
        """
        return ImageSession(self, image, overview).describe(masks, detail, prompt, stream, max_new_tokens, temperature)

    def chat(
        self,
        image,
        masks,
        messages: Sequence[dict],
        stream: bool = False,
        max_new_tokens: int = 192,
        temperature: float = 0.0,
        overview: str = "training",
    ) -> str | Iterator[str]:
        """Answer the last message of a conversation about one or several regions: `ImageSession.chat`."""
        return ImageSession(self, image, overview).chat(masks, messages, stream, max_new_tokens, temperature)


class ImageSession:
    """A picture that a model has read: `Osprey.read` makes one. Ask as often as you like, about any regions.

    `max_regions_at_once` rows are answered side by side; by default as many as half of the free memory holds. It changes how
    much memory is taken, not what is said. Where memory runs out all the same, half as many are tried, with a warning.
    """

    def __init__(self, model: Osprey, image, overview: str = "training", max_regions_at_once: int | None = None):
        if model.processor is None:
            raise ValueError("This model has no tokenizer. Load it with from_pretrained, or set model.processor.")
        if max_regions_at_once is not None and max_regions_at_once < 1:
            raise ValueError(f"max_regions_at_once is {max_regions_at_once}; it must be 1 or more.")
        self.model, self.image, self.overview = model, load_image(image), overview
        self.max_regions_at_once = max_regions_at_once
        self._features: list[Tensor] | None = None
        self._seen = torch.zeros(0, dtype=torch.long)  # what was read: all before a question, and how the last one began
        self._cache: DynamicCache | None = None  # what the LLM remembers of it

    # --- for people --------------------------------------------------------------------------------------------------

    def describe(
        self,
        masks,
        detail: str = "short",
        prompt: str | Sequence[str] | None = None,
        stream: bool = False,
        max_new_tokens: int | None = None,
        temperature: float = 0.0,
    ) -> list[str] | Iterator[tuple[int, str]]:
        """One answer for each region.

        `masks`: whatever `masks.to_masks` takes (arrays, PNG, polygon, RLE, box). `prompt` replaces the question, one for all
        regions or one for each; it must hold `<region1>` (or `<mask><pos>`) once. With `stream=True` an iterator of (region
        index, piece of text), all regions as they are written. `temperature=0` is greedy: the same answer every time (the
        published demo samples at 0.2).
        """
        questions = _questions(detail, prompt)
        regions = self._regions(masks)
        new = max_new_tokens or NEW_TOKENS[detail]
        _check_temperature(temperature)
        if len(questions) not in (1, len(regions)):
            raise ValueError(f"{len(questions)} prompts for {len(regions)} regions; give one, or one for each region.")
        rows = [self._text([(question, None)], 1, new)["input_ids"] for question in questions]
        if len(rows) == 1:
            rows = rows * len(regions)
        pieces = self._written(rows, regions[:, None], new, temperature, stream)
        return self._streamed(pieces, len(rows)) if stream else self._whole(pieces, len(rows))

    def chat(
        self, masks, messages: Sequence[dict], stream: bool = False, max_new_tokens: int = 192, temperature: float = 0.0
    ) -> str | Iterator[str]:
        """Answer the last message of a conversation about one or several regions.

        `messages`: `[{"role": "user", "content": "What is <region1>?"}, {"role": "assistant", …}, …]`, user and assistant in
        turn, the user last. `<regionN>` counts from 1; `masks=None` asks about the whole picture. With `stream=True` an
        iterator of pieces of text.
        """
        roles = [message.get("role") for message in messages]
        if not roles or roles != ["user", "assistant"] * (len(roles) // 2) + ["user"]:
            raise ValueError(f"Messages must go user, assistant, …, user; these go {roles}.")
        _check_temperature(temperature)
        contents = [message["content"] for message in messages] + [None]
        regions = self._regions(masks)
        turns = list(zip(contents[::2], contents[1::2], strict=True))
        row = self._text(turns, len(regions), max_new_tokens, inline=False)["input_ids"]
        pieces = self._written([row], regions[None], max_new_tokens, temperature, stream)
        return (piece for _, piece in self._streamed(pieces, 1)) if stream else self._whole(pieces, 1)[0]

    def score(self, masks, candidates: Sequence[str], detail: str = "short", prompt: str | None = None) -> Tensor:
        """R×C: the log-likelihood of each of C given answers, its end included, for each of R regions.

        All are read in one batch (or as many at once as memory holds). Longer answers are less likely; divide by their number
        of tokens to compare answers of different length.
        """
        (question,) = _questions(detail, prompt)
        regions = self._regions(masks)
        if isinstance(candidates, str) or not candidates or not all(isinstance(x, str) and x.strip() for x in candidates):
            raise ValueError(f"candidates are {candidates!r}; give a list of one or more answers that are not empty.")
        texts = [self._text([(question, answer)], 1, 0) for answer in candidates]
        ids, labels = ([text[key] for text in texts] for key in ("input_ids", "labels"))
        place = {"batch_first": True, "padding_side": "right"}  # where causal attention never looks
        ids = torch.nn.utils.rnn.pad_sequence(ids, **place)
        labels = torch.nn.utils.rnn.pad_sequence(labels, padding_value=-100, **place)
        ids, labels = (x.repeat(len(regions), 1) for x in (ids, labels))
        masks = regions[:, None].repeat_interleave(len(candidates), 0)
        scores = torch.cat([part for _, part in self._in_chunks(self._scored, list(ids), masks, 0, list(labels))])
        return scores.view(len(regions), len(candidates))

    @property
    def features(self) -> list[Tensor]:
        """The picture's four levels, 1×C×H×W each."""
        self.prefill()
        return self._features

    @torch.inference_mode()
    def prefill(self, rows: Sequence[Tensor] = ()) -> None:
        """Encode the picture and let the LLM read all that stands before a question. Does nothing the second time.

        Where several `rows` of tokens wait for it, what these have in common is read in the same pass.
        """
        if self._features is not None:
            return
        model = self.model
        features = model.encoder(model.processor.image(self.image)[None].to(model.device, model.dtype))
        if {"past_key_values", "logits_to_keep"} <= set(inspect.signature(model.llm.forward).parameters):
            self._cache = DynamicCache(config=model.llm.config)
            if len(rows) < 2 or not can_be_cut(self._cache):
                rows = [self._text([(question, None)], 0, 0, inline=False)["input_ids"] for question in ("What?", "In")]
            self._seen = self._beginning(rows)
            self._forward(self._spliced(self._seen[None], features), self._cache)
        self._features = features

    # --- rows --------------------------------------------------------------------------------------------------------

    def _regions(self, masks) -> Tensor:
        height, width = self.image.height, self.image.width
        if masks is None:
            return torch.zeros(0, height, width, dtype=torch.bool)
        return torch.from_numpy(to_masks(masks, size=(height, width)))

    def _text(self, turns, n_regions: int, room_for: int, inline: bool = True) -> dict:
        return self.model.processor.text(turns, n_regions, inline, self.overview, room_for=room_for)

    def _written(self, rows: list[Tensor], masks: Tensor, new: int, temperature: float, stream: bool) -> Iterator[Step]:
        """Rows of tokens and N×R×H×W masks to answers, a token of each row at a time, until all have ended."""
        for row in {tuple(row.tolist()) for row in rows}:
            self.model._check_counts(torch.tensor([row]), None, 1, masks[:1])
        work = self._decoded if stream else lambda *args: list(self._decoded(*args))

        def written():
            for length in dict.fromkeys(map(len, rows)):  # rows of one length go together: nothing is padded
                chosen = [i for i, row in enumerate(rows) if len(row) == length]
                some = [rows[i] for i in chosen]
                for start, (numbers, tokens) in self._in_chunks(work, some, masks[chosen], new, temperature):
                    yield [chosen[start + i] for i in numbers], tokens

        return written()

    def _whole(self, pieces: Iterator[Step], count: int) -> list[str]:
        said: list[list[int]] = [[] for _ in range(count)]
        for numbers, tokens in pieces:
            for number, token in zip(numbers, tokens, strict=True):
                said[number].append(token)
        return [text.strip() for text in self.model.processor.tokenizer.batch_decode(said, skip_special_tokens=True)]

    def _streamed(self, pieces: Iterator[Step], count: int) -> Iterator[tuple[int, str]]:
        """(row, piece of text) as soon as its characters are whole. Closing the iterator stops the model."""
        decode = self.model.processor.tokenizer.decode
        said: list[list[int]] = [[] for _ in range(count)]
        shown = [""] * count
        for numbers, tokens in pieces:
            for number, token in zip(numbers, tokens, strict=True):
                said[number].append(token)
                text = decode(said[number], skip_special_tokens=True).lstrip()
                if len(text) > len(shown[number]) and not text.endswith(UNFINISHED):
                    yield number, text[len(shown[number]) :]
                    shown[number] = text

    def _in_chunks(self, work, rows: list[Tensor], masks: Tensor, new: int, *others) -> Iterator[tuple[int, tuple]]:
        """What `work` gives for so many rows at a time as memory holds, each with the number of its first row."""
        self.prefill(rows)
        at_once, start = self.max_regions_at_once or self._rows_that_fit(rows[0], masks, new), 0
        while start < len(rows):
            part, given = slice(start, start + at_once), False
            mine = [x[part] if isinstance(x, list) else x for x in others]
            try:
                for piece in work(rows[part], masks[part], new, *mine):
                    given = True
                    yield start, piece
            except RuntimeError as error:
                if given or not ran_out(error) or at_once == 1:
                    raise
                at_once = min(at_once, len(rows) - start) // 2 or 1
                warnings.warn(f"Memory ran out; going on with {at_once} regions at once.", stacklevel=2)
                continue
            start += at_once

    def _rows_that_fit(self, row: Tensor, masks: Tensor, new: int) -> int:
        """How many rows half of the free memory holds: their keys and values, scores of attention, logits and masks."""
        llm = self.model.llm
        config, size = llm.config.get_text_config(), llm.dtype.itemsize
        unread = len(row) - _alike([self._seen, row])
        length, before = unread + new, len(row) + self.model.config.num_image_tokens
        width = config.hidden_size
        own = length if self._cache is not None and sharable(llm) else length + before
        kept = 2 * config.num_hidden_layers * width * size * own
        scores = 3 * 4 * getattr(config, "num_attention_heads", 1) * unread * (before + new)
        a_row = kept + scores + 12 * config.vocab_size + 20 * width * length * size + 12 * masks[0].numel()
        cuda = self.model.device.type == "cuda"
        free = torch.cuda.mem_get_info(self.model.device)[0] if cuda else psutil.virtual_memory().available
        return max(1, min(MOST_ROWS, free // 2 // a_row))

    @torch.inference_mode()
    def _decoded(self, rows: list[Tensor], masks: Tensor, new: int, temperature: float) -> Iterator[Step]:
        """The rows a token at a time. One that has ended leaves, so that the others are sooner done."""
        llm, tokenizer = self.model.llm, self.model.processor.tokenizer
        embeds, cache = self._begun(rows, masks)
        if cache is None:  # an LLM that remembers in a way of its own writes whole answers
            pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
            options = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
            options |= {"max_new_tokens": new, "pad_token_id": pad, "eos_token_id": tokenizer.eos_token_id}
            seen = torch.ones_like(embeds[..., 0], dtype=torch.long)
            ids = llm.generate(inputs_embeds=embeds, attention_mask=seen, **options)
            for column in ids.T.tolist():
                yield list(range(len(rows))), column
            return
        embed, numbers = llm.get_input_embeddings(), torch.arange(len(rows))
        for _ in range(new):
            logits = self._forward(embeds, cache).float()
            if temperature:
                tokens = torch.multinomial((logits / temperature).softmax(-1), 1)[:, 0]
            else:
                tokens = logits.argmax(-1)
            said = tokens.tolist()
            yield numbers.tolist(), said
            on = torch.tensor([token != tokenizer.eos_token_id for token in said])
            if not on.any():
                return
            if not on.all():
                numbers, index = numbers[on], on.nonzero()[:, 0].to(tokens.device)
                cache.reorder_cache(index)
                tokens = tokens[index]
            embeds = embed(tokens)[:, None]

    @torch.inference_mode()
    def _scored(self, rows: list[Tensor], masks: Tensor, new: int, labels: list[Tensor]) -> Iterator[Tensor]:
        """The log-likelihood of what has labels, of each row."""
        llm, (embeds, cache) = self.model.llm, self._begun(rows, masks)
        kept = {} if cache is None else {"past_key_values": cache, "use_cache": True}
        with shared_attention(llm):
            logits = llm(inputs_embeds=embeds, **kept).logits
        after_image = len(rows[0]) - 1 - rows[0].tolist().index(self.model.config.image_token_id)
        read = min(logits.shape[1], after_image)
        labels = torch.stack(labels)[:, -read:][:, 1:].to(logits.device)
        log_likely = logits[:, -read:-1].float().log_softmax(-1)
        given = log_likely.gather(-1, labels.clamp(min=0)[..., None])[..., 0]
        yield (given * (labels >= 0)).sum(-1).cpu()

    def _begun(self, rows: list[Tensor], masks: Tensor) -> tuple[Tensor, DynamicCache | None]:
        """N×S×D to be read, and the cache of all before it. What the rows have in common is read once, as one row, and kept:
        the next question often begins alike."""
        model, ids = self.model, torch.stack(rows)
        pairs = None
        if masks.shape[1]:
            each = model.mask_extractor(self._features, [masks.flatten(0, 1)])
            pairs = tuple(list(x[0].split(masks.shape[1])) for x in each)
        if self._cache is None:
            return self._spliced(ids, self._features, pairs), None
        beginning, cache, cut = self._beginning(rows), self._cache, can_be_cut(self._cache)
        known = _alike([self._seen, beginning])
        if model.config.image_token_id not in beginning[:known] or known < len(self._seen) and not cut:
            return self._spliced(ids, self._features, pairs), DynamicCache(config=model.llm.config)
        if cut:
            cache = beginning_of(cache, known - 1 + model.config.num_image_tokens)
        if len(rows) > 1 and known < len(beginning):
            cache = cache if cut else copy.deepcopy(cache)
            self._forward(self._spliced(beginning[None, known:]), cache)
            known = len(beginning)
            if cut:
                self._seen, self._cache = beginning, cache
        return self._spliced(ids[:, known:], None, pairs), for_rows(cache, len(rows), sharable(model.llm))

    def _beginning(self, rows: Sequence[Tensor]) -> Tensor:
        """The tokens that all rows begin with, before the first region."""
        alike = min(_alike(rows), len(rows[0]) - 1)
        regions = (rows[0] == self.model.config.mask_token_id).nonzero()
        return rows[0][: min(alike, int(regions[0, 0])) if len(regions) else alike]

    def _spliced(self, ids: Tensor, features: list[Tensor] | None = None, pairs=None) -> Tensor:
        image = None if features is None else self.model.projector(image_tokens(features[2])).expand(len(ids), -1, -1)
        return self.model.splice(ids, image, pairs).embeds

    def _forward(self, embeds: Tensor, cache: DynamicCache) -> Tensor:
        """Logits N×V of what comes after the last place."""
        llm = self.model.llm
        with shared_attention(llm):
            return llm(inputs_embeds=embeds, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1]


def ran_out(error: RuntimeError) -> bool:
    """Is this what torch says when memory has run out? On a CPU that error has no class of its own."""
    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)


def _questions(detail: str, prompt: str | Sequence[str] | None) -> list[str]:
    if detail not in QUESTIONS:
        raise ValueError(f'detail is {detail!r}; use "short" or "detailed".')
    given = [prompt or QUESTIONS[detail]] if prompt is None or isinstance(prompt, str) else list(prompt)
    questions = [question.replace(MASK + POS, "<region1>") for question in given]
    for question in questions:
        if question.count("<region1>") != 1:
            raise ValueError(f"The prompt must hold <region1> (or <mask><pos>) exactly once; it reads: {question!r}")
    return questions


def _check_temperature(temperature: float) -> None:
    if temperature < 0:
        raise ValueError(f"temperature is {temperature}; it must be 0 (greedy) or above.")


def _alike(rows: Sequence[Tensor]) -> int:
    """How many tokens at the start are the same in all rows."""
    shortest = min(map(len, rows))
    beginnings = torch.stack([row[:shortest] for row in rows])
    return int((beginnings == beginnings[0]).all(0).cumprod(0).sum())
