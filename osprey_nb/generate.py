"""Read a picture once, then answer for every region, side by side (notebook 08; docs/osprey.md, sections 2 and 6).

    image ─► encoder ─┬► image tokens ─► system, image, overview ─► the LLM ─► KV cache     once a picture: ImageSession
                      │                                                          │ shared by all rows
    masks ────────────┴► mask extractor ─► pairs ─► the question, a row a region ┴─► answers, all rows a token at a time

In Osprey's sequence the image stands before any region, so all up to the question is the same for every region of a picture.
Row by row or together, in float32 the answers are the same token for token; in bf16 two words that are almost equally likely
may change places, because sums of another shape are rounded elsewhere.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import psutil
import torch
from torch import Tensor
from transformers import DynamicCache

from .images import load_image
from .masks import to_masks
from .prefix import Rows, beginning_of, can_be_cut, way_to_read
from .projector import image_tokens
from .prompt import DETAILED, MASK, POS, SHORT, checked_question

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
        published demo samples at 0.2). Raises ValueError for no region at all: `chat` is for the whole picture.
        """
        questions = _questions(detail, prompt)
        regions = self._some_regions(masks)
        new = max_new_tokens or NEW_TOKENS[detail]
        _check_temperature(temperature)
        if len(questions) not in (1, len(regions)):
            raise ValueError(f"{len(questions)} prompts for {len(regions)} regions; give one, or one for each region.")
        rows = [self._text([(question, None)], 1, new)["input_ids"] for question in questions]
        pieces = self._written(rows, regions[:, None], new, temperature, stream)
        return self._streamed(pieces, len(regions)) if stream else self._whole(pieces, len(regions))

    def chat(
        self, masks, messages: Sequence[dict], stream: bool = False, max_new_tokens: int = 192, temperature: float = 0.0
    ) -> str | Iterator[str]:
        """Answer the last message of a conversation about one or several regions.

        `messages`: `[{"role": "user", "content": "What is <region1>?"}, {"role": "assistant", …}, …]`, user and assistant in
        turn, the user last. `<regionN>` counts from 1; `masks=None`, or an empty list, asks about the whole picture. With
        `stream=True` an iterator of pieces of text.
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
        regions = self._some_regions(masks)
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
        self._encode()
        return self._features

    @torch.inference_mode()
    def prefill(self) -> None:
        """Encode the picture and let the LLM read all that stands before a question. Does nothing the second time."""
        self._encode()
        if self._cache is None or len(self._seen):
            return
        unlike = [self._text([(question, None)], 0, 0, inline=False)["input_ids"] for question in ("What?", "In")]
        seen = self._beginning(unlike)
        embeds = self._spliced(seen[None], self._features)
        self.model.llm(inputs_embeds=embeds, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        self._seen = seen

    @torch.inference_mode()
    def _encode(self) -> None:
        if self._features is None:
            model = self.model
            if way_to_read(model.llm):
                self._cache = DynamicCache(config=model.llm.config)
            self._features = model.encoder(model.processor.image(self.image)[None].to(model.device, model.dtype))

    # --- rows --------------------------------------------------------------------------------------------------------

    def _regions(self, masks) -> Tensor:
        return torch.from_numpy(to_masks(masks, size=(self.image.height, self.image.width), may_be_none=True))

    def _some_regions(self, masks) -> Tensor:
        regions = self._regions(masks)
        if not len(regions):
            raise ValueError("No region was given. Give one at least, or ask about the whole picture with chat.")
        return regions

    def _text(self, turns, n_regions: int, room_for: int, inline: bool = True) -> dict:
        return self.model.processor.text(turns, n_regions, inline, self.overview, room_for=room_for)

    def _written(self, rows: list[Tensor], masks: Tensor, new: int, temperature: float, stream: bool) -> Iterator[Step]:
        """N rows of tokens, or one for all, and N×R×H×W masks to answers, a token of each at a time, until all have ended."""
        for row in rows:
            self.model._check_counts(row[None], None, 1, masks[:1])
        rows = rows * len(masks) if len(rows) == 1 else rows
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
        for number, tokens in enumerate(said):  # an answer may end with half a character
            if rest := decode(tokens, skip_special_tokens=True).lstrip()[len(shown[number]) :]:
                yield number, rest

    def _in_chunks(self, work, rows: list[Tensor], masks: Tensor, new: int, *others) -> Iterator[tuple[int, tuple]]:
        """What `work` gives for so many rows at a time as memory holds, each with the number of its first row."""
        self._encode()
        at_once, start = self.max_regions_at_once or self._rows_that_fit(rows, masks, new), 0
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

    def _rows_that_fit(self, rows: list[Tensor], masks: Tensor, new: int) -> int:
        """How many rows half of the free memory holds: their keys and values, scores of attention, logits and masks."""
        llm = self.model.llm
        config, size = llm.config.get_text_config(), llm.dtype.itemsize
        unread = len(rows[0]) - len(self._beginning(rows))
        length, before = unread + new, len(rows[0]) + self.model.config.num_image_tokens
        width = config.hidden_size
        own = length if way_to_read(llm) == "line" else length + before
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
        ids, pairs = torch.stack(rows), self._pairs(masks)
        if self._cache is None:  # an LLM that remembers in a way of its own writes whole answers
            pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
            options = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
            options |= {"max_new_tokens": new, "pad_token_id": pad, "eos_token_id": tokenizer.eos_token_id}
            embeds = self._spliced(ids, self._features, pairs)
            seen = torch.ones_like(embeds[..., 0], dtype=torch.long)
            for column in llm.generate(inputs_embeds=embeds, attention_mask=seen, **options).T.tolist():
                yield list(range(len(rows))), column
            return
        embed, end, numbers = llm.get_input_embeddings(), tokenizer.eos_token_id, list(range(len(rows)))
        logits, side_by_side = self._begun(ids, pairs)
        for count in range(1, new + 1):
            logits = logits[:, -1].float()
            if temperature:
                tokens = torch.multinomial((logits / temperature).softmax(-1), 1)[:, 0]
            else:
                tokens = logits.argmax(-1)
            said = tokens.tolist()
            yield numbers, said
            on = [i for i, token in enumerate(said) if token != end]
            if count == new or not on:
                return
            if len(on) < len(said):
                numbers, index = [numbers[i] for i in on], torch.tensor(on, device=tokens.device)
                side_by_side.keep(index)
                tokens = tokens[index]
            logits = side_by_side.read(embed(tokens)[:, None])

    @torch.inference_mode()
    def _scored(self, rows: list[Tensor], masks: Tensor, new: int, labels: list[Tensor]) -> Iterator[Tensor]:
        """The log-likelihood of what has labels, of each row."""
        ids, pairs = torch.stack(rows), self._pairs(masks)
        if self._cache is None:
            logits = self.model.llm(inputs_embeds=self._spliced(ids, self._features, pairs)).logits
        else:
            logits, _ = self._begun(ids, pairs, last=False)
        after_image = len(rows[0]) - 1 - rows[0].tolist().index(self.model.config.image_token_id)
        read = min(logits.shape[1], after_image)
        labels = torch.stack(labels)[:, -read:][:, 1:].to(logits.device)
        log_likely = logits[:, -read:-1].float().log_softmax(-1)
        given = log_likely.gather(-1, labels.clamp(min=0)[..., None])[..., 0]
        yield (given * (labels >= 0)).sum(-1).cpu()

    def _pairs(self, masks: Tensor) -> tuple[list[Tensor], list[Tensor]] | None:
        """The mask tokens and the spatial tokens of N×R×H×W masks, N lists of R."""
        if not masks.shape[1]:
            return None
        each = self.model.mask_extractor(self._features, [masks.flatten(0, 1)])
        return tuple(list(x[0].split(masks.shape[1])) for x in each)

    def _begun(self, ids: Tensor, pairs, last: bool = True) -> tuple[Tensor, Rows]:
        """N×T tokens, read: logits, and the rows to go on with. What all begin with is read once, and kept where the cache can
        be cut: the next question often begins alike."""
        model, cut = self.model, can_be_cut(self._cache)
        if not cut:
            self.prefill()
        beginning = self._beginning(ids)
        known, start = _alike([self._seen, beginning]), len(beginning)
        if model.config.image_token_id not in beginning[:known] or known < len(self._seen) and not cut:
            known, cache = 0, DynamicCache(config=model.llm.config)
        elif cut:
            cache = beginning_of(self._cache, known - 1 + model.config.num_image_tokens)
        else:
            cache = copy.deepcopy(self._cache)
        if known and not cut and len(ids) == 1:
            start = known  # nobody shares the rest, and it can't be kept
        opening = self._spliced(beginning[None, known:], None if known else self._features) if known < start else None
        rows = Rows(model.llm, cache, len(ids), way_to_read(model.llm))
        logits = rows.read(self._spliced(ids[:, start:], None, pairs), opening, last)
        if cut:
            self._seen, self._cache = beginning, cache
        return logits, rows

    def _beginning(self, rows: Sequence[Tensor]) -> Tensor:
        """The tokens that all rows begin with, before the first region."""
        alike = min(_alike(rows), len(rows[0]) - 1)
        regions = (rows[0] == self.model.config.mask_token_id).nonzero()
        return rows[0][: min(alike, int(regions[0, 0])) if len(regions) else alike]

    def _spliced(self, ids: Tensor, features: list[Tensor] | None = None, pairs=None) -> Tensor:
        image = None if features is None else self.model.projector(image_tokens(features[2])).expand(len(ids), -1, -1)
        return self.model.splice(ids, image, pairs).embeds


def ran_out(error: RuntimeError) -> bool:
    """Is this what torch says when memory has run out? On a CPU that error has no class of its own."""
    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)


def _questions(detail: str, prompt: str | Sequence[str] | None) -> list[str]:
    if detail not in QUESTIONS:
        raise ValueError(f'detail is {detail!r}; use "short" or "detailed".')
    given = [prompt or QUESTIONS[detail]] if prompt is None or isinstance(prompt, str) else list(prompt)
    questions = [checked_question(question.replace(MASK + POS, "<region1>")) for question in given]
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
