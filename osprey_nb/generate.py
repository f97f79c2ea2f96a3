"""Describe and chat: read the image once, answer for every region (notebook 08; paper sections 2 and 6).

    image ─► encoder ─► image tokens ──┐ once
    masks ─► mask extractor ─► pairs ──┤ all regions in one call
    question ─► one row a region ──────┴─► generate, rows side by side ─► one answer a region
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import torch
from transformers import StoppingCriteria, StoppingCriteriaList, TextIteratorStreamer

from .images import load_image
from .masks import to_masks
from .projector import image_tokens
from .prompt import DETAILED, MASK, POS, SHORT

#: Rows decoded side by side. Bounds the memory of `describe`; answers do not depend on it.
REGIONS_AT_ONCE = 32
QUESTIONS = {"short": SHORT, "detailed": DETAILED}
NEW_TOKENS = {"short": 48, "detailed": 192}


class Describe:
    """The calls for people. Mixed into `Osprey`; inputs are checked before anything is computed."""

    def describe(
        self,
        image,
        masks,
        detail: str = "short",
        prompt: str | None = None,
        stream: bool = False,
        max_new_tokens: int | None = None,
        temperature: float = 0.0,
        overview: str = "training",
    ) -> list[str] | Iterator[tuple[int, str]]:
        """One answer for each region.

        `image`: PIL, H×W×3 uint8, or path. `masks`: whatever `masks.to_masks` takes (arrays, PNG, polygon, RLE, box).
        `prompt` replaces the question; it must hold `<region1>` (or `<mask><pos>`) once. With `stream=True` an iterator
        of (region index, piece of text). `temperature=0` is greedy: the same answer every time (the published demo samples
        at 0.2). `overview` is how the prompt begins, a key of `prompt.OVERVIEWS`.
        """
        if detail not in QUESTIONS:
            raise ValueError(f'detail is {detail!r}; use "short" or "detailed".')
        question = (prompt or QUESTIONS[detail]).replace(MASK + POS, "<region1>")
        if question.count("<region1>") != 1:
            raise ValueError(f"The prompt must hold <region1> (or <mask><pos>) exactly once; it reads: {question!r}")
        image, regions = self._inputs(image, masks)
        options = self._options(max_new_tokens or NEW_TOKENS[detail], temperature)
        text = self.processor.text([(question, None)], 1, True, overview, room_for=options["max_new_tokens"])
        chunks = self._spliced(image, regions, text["input_ids"], 1 if stream else REGIONS_AT_ONCE)
        if stream:
            return ((i, piece) for i, spliced in enumerate(chunks) for piece in self._stream(spliced, options))
        with torch.inference_mode():
            return [answer for spliced in chunks for answer in self._answers(spliced, options)]

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
        """Answer the last message of a conversation about one or several regions.

        `messages`: `[{"role": "user", "content": "What is <region1>?"}, {"role": "assistant", …}, …]`, user and assistant in
        turn, the user last. `<regionN>` counts from 1; `masks=None` asks about the whole picture. With `stream=True` an
        iterator of pieces of text.
        """
        roles = [message.get("role") for message in messages]
        if not roles or roles != ["user", "assistant"] * (len(roles) // 2) + ["user"]:
            raise ValueError(f"Messages must go user, assistant, …, user; these go {roles}.")
        contents = [message["content"] for message in messages] + [None]
        image, regions = self._inputs(image, masks)
        options = self._options(max_new_tokens, temperature)
        text = self.processor.text(
            list(zip(contents[::2], contents[1::2], strict=True)), len(regions), overview=overview, room_for=max_new_tokens
        )
        (spliced,) = self._spliced(image, regions[None], text["input_ids"], 1)
        if stream:
            return self._stream(spliced, options)
        with torch.inference_mode():
            return self._answers(spliced, options)[0]

    # --- shared steps ------------------------------------------------------------------------------------------------

    def _inputs(self, image, masks):
        if self.processor is None:
            raise ValueError("This model has no tokenizer. Load it with from_pretrained, or set model.processor.")
        image = load_image(image)
        if masks is None:
            return image, torch.zeros(0, image.height, image.width, dtype=torch.bool)
        return image, torch.from_numpy(to_masks(masks, size=(image.height, image.width)))

    def _options(self, max_new_tokens: int, temperature: float) -> dict:
        if temperature < 0:
            raise ValueError(f"temperature is {temperature}; it must be 0 (greedy) or above.")
        sampling = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
        tokenizer = self.processor.tokenizer
        pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        return {"max_new_tokens": max_new_tokens, "pad_token_id": pad, "eos_token_id": tokenizer.eos_token_id, **sampling}

    @torch.inference_mode()
    def _spliced(self, image, rows: torch.Tensor, input_ids: torch.Tensor, at_once: int) -> Iterator:
        """`rows` holds the regions of each row: N×H×W (one a row) or N×R×H×W. The image is encoded once for all; the rows
        are spliced `at_once` at a time, when they are asked for."""
        self._check_counts(input_ids[None].expand(len(rows), -1), None, len(rows), rows if rows.ndim == 4 else rows[:, None])
        features = self.encoder(self.processor.image(image)[None].to(self.device, self.dtype))
        tokens = self.projector(image_tokens(features[2]))
        per_row = 1 if rows.ndim == 3 else rows.shape[1]
        mask_tokens, spatial_tokens = (x[0] for x in self.mask_extractor(features, [rows.flatten(0, -3)]))

        @torch.inference_mode()
        def chunk(start: int):
            n = min(at_once, len(rows) - start)
            pick = slice(start * per_row, (start + n) * per_row)
            pairs = tuple(list(x[pick].unflatten(0, (n, per_row))) for x in (mask_tokens, spatial_tokens))
            ids = input_ids.to(self.device).expand(n, -1)
            return self.splice(ids, tokens.expand(n, -1, -1), pairs, padding_side="left")

        return (chunk(start) for start in range(0, len(rows), at_once))

    def _answers(self, spliced, options: dict) -> list[str]:
        ids = self.llm.generate(
            inputs_embeds=spliced.embeds, attention_mask=spliced.attention_mask.long(), **options
        )
        return [answer.strip() for answer in self.processor.tokenizer.batch_decode(ids, skip_special_tokens=True)]

    def _stream(self, spliced, options: dict) -> Iterator[str]:
        """Pieces of one answer as they are written. Closing the iterator stops the model; its errors are raised here."""
        streamer = TextIteratorStreamer(self.processor.tokenizer, skip_prompt=False, skip_special_tokens=True)
        closed, failure = threading.Event(), []

        class Closed(StoppingCriteria):
            def __call__(self, input_ids, scores, **kwargs):
                return torch.full((len(input_ids),), closed.is_set(), device=input_ids.device)

        def work():
            try:
                with torch.inference_mode():
                    self.llm.generate(
                        inputs_embeds=spliced.embeds, attention_mask=spliced.attention_mask.long(), streamer=streamer,
                        stopping_criteria=StoppingCriteriaList([Closed()]), **options,
                    )
            except BaseException as error:
                failure.append(error)
            finally:
                streamer.end()

        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        try:
            first = True
            for piece in streamer:
                if piece:
                    yield piece.lstrip() if first else piece
                    first = False
            if failure:
                raise failure[0]
        finally:
            closed.set()
            worker.join()
