"""A picture that is read once, and a question about one of its regions: what the probes of answers share.

    image ─► encoder ─► res2 … res5 ─┬► image tokens ──┐
                                     │                 ├► system, image, question ─► the LLM ─► answer, a token at a time
    mask  ─► mask extractor ◄────────┘─► pair of tokens┘

The whole sequence is read for every token, without a KV cache: slower, but the same for every family of LLM, and a probe may
change any token on the way. `ImageSession` (generate.py) is the fast way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from osprey_nb.images import load_image
from osprey_nb.masks import to_masks
from osprey_nb.projector import image_tokens
from osprey_nb.prompt import SHORT, checked_question

from .tokens import positions

LONGEST = 48  # tokens of an answer
HOOKED = "_output_capturing_hooks_installed"  # where transformers remembers its hooks
Pair = tuple[Tensor, Tensor]  # mask tokens and spatial tokens, R×D each: one row for each region


@contextmanager
def still(model: nn.Module) -> Iterator[None]:
    """Inside, every module is in evaluation mode: no dropout. Afterwards each has its mode and its hooks as before, after an
    error too. (Asked for attention or hidden states, transformers puts hooks into a model and leaves them there.)"""
    before = [(module, module.training, set(module._forward_hooks), HOOKED in vars(module)) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training, hooks, hooked in before:
            module.training = training
            for key in set(module._forward_hooks) - hooks:
                del module._forward_hooks[key]
            if HOOKED in vars(module) and not hooked:
                delattr(module, HOOKED)


class Asked:
    """One picture, its regions, one question. Features and answers are worked out once and kept.

    `image`: H×W×3 uint8, PIL or path. `masks`: whatever `to_masks` takes. `question` names `<region1>` once.
    Raises ValueError, before anything is computed, for a model without tokenizer, another question, or bad masks.
    """

    def __init__(self, model, image, masks, question: str = SHORT):
        if model.processor is None:
            raise ValueError("This model has no tokenizer. Load it with from_pretrained, or set model.processor.")
        question = checked_question(question)
        if question.count("<region1>") != 1:
            raise ValueError(f"The question must hold <region1> exactly once; it reads: {question!r}")
        picture = load_image(image)
        self.masks = to_masks(masks, size=(picture.height, picture.width))
        self.model, self.image, self.question = model, np.asarray(picture), question
        self.ids = model.processor.text([(question, None)], 1, inline=True, room_for=LONGEST)["input_ids"]
        self.pixels = model.processor.image(picture)[None].to(model.device, model.dtype)  # 1×3×S×S
        with still(model), torch.no_grad():
            self.features = model.encoder(self.pixels)
            self.seen = model.projector(image_tokens(self.features[2]))  # 1×N×D
        self._answers: dict[bytes, list[int]] = {}

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the image tokens."""
        return tuple(self.features[2].shape[-2:])

    def mask(self, region: int) -> np.ndarray:
        """H×W bool. ValueError for a region that isn't there."""
        check_choice("region", region, len(self.masks))
        return self.masks[region]

    def pair(self, masks: np.ndarray | Tensor) -> Pair:
        """R×H×W masks, 0/1, to their mask tokens and spatial tokens."""
        with still(self.model), torch.no_grad():
            return tuple(tokens[0] for tokens in self.model.mask_extractor(self.features, [torch.as_tensor(masks)]))

    def embeds(self, pair: Pair, answer: Sequence[int] = (), seen: Tensor | None = None) -> Tensor:
        """R×T×D: the sequence that the LLM reads for each row of `pair`, with the beginning of an answer.

        `seen`, 1×N×D or R×N×D, stands in for the picture's own image tokens.
        """
        rows = len(pair[0])
        ids = torch.cat([self.ids, torch.as_tensor(list(answer), dtype=torch.long)]).expand(rows, -1)
        seen = (self.seen if seen is None else seen).expand(rows, -1, -1)
        return self.model.splice(ids, seen, tuple(list(tokens[:, None]) for tokens in pair)).embeds

    def write(self, pair: Pair, seen: Tensor | None = None) -> list[list[int]]:
        """The greedy answer of each row as token ids, its end token included."""
        llm, end = self.model.llm, self.model.processor.tokenizer.eos_token_id
        said: list[list[int]] = [[] for _ in pair[0]]
        with still(self.model), torch.no_grad():
            embeds = self.embeds(pair, seen=seen)
            for _ in range(LONGEST):
                tokens = llm(inputs_embeds=embeds, use_cache=False).logits[:, -1].argmax(-1)
                for row, token in zip(said, tokens.tolist(), strict=True):
                    if end not in row:
                        row.append(token)
                if all(end in row for row in said):
                    break
                embeds = torch.cat([embeds, llm.get_input_embeddings()(tokens)[:, None]], 1)
        return said

    def answer(self, mask: np.ndarray) -> list[int]:
        """The greedy answer about one H×W mask, as token ids with the end token."""
        key = np.packbits(mask).tobytes()
        if key not in self._answers:
            (self._answers[key],) = self.write(self.pair(mask[None]))
        return self._answers[key]

    def likelihoods(self, pair: Pair, answer: Sequence[int], seen: Tensor | None = None) -> Tensor:
        """R×A: the log-likelihood of each token of an answer, given those before it. Gradients flow, unless they are off."""
        embeds = self.embeds(pair, answer, seen)
        logits = self.model.llm(inputs_embeds=embeds, use_cache=False).logits[:, -len(answer) - 1 : -1]
        given = torch.as_tensor(list(answer), device=logits.device).expand(len(embeds), -1)
        return logits.float().log_softmax(-1).gather(-1, given[..., None])[..., 0]

    def chances(self, pair: Pair, answer: Sequence[int], seen: Tensor | None = None) -> np.ndarray:
        """R×A: the probability of each token of an answer, given those before it."""
        with still(self.model), torch.no_grad():
            return self.likelihoods(pair, answer, seen).exp().cpu().numpy()

    def region_at(self, point: tuple[float, float]) -> dict[str, int]:
        """{"region": number} of the smallest mask at (x, y), shares of the picture's sides; {} where there is none."""
        height, width = self.masks.shape[1:]
        x, y = int(point[0] * width), int(point[1] * height)
        inside = [i for i, mask in enumerate(self.masks) if 0 <= x < width and 0 <= y < height and mask[y, x]]
        return {"region": min(inside, key=lambda i: self.masks[i].sum())} if inside else {}

    # --- as text ----------------------------------------------------------------------------------------------------

    def text(self, answer: Sequence[int]) -> str:
        return self.model.processor.tokenizer.decode(answer, skip_special_tokens=True).strip()

    def word(self, token: int) -> str:
        """One token, readable: the end and other special tokens by name, blanks made visible."""
        text = self.model.processor.tokenizer.decode([token]).replace("\n", "↵")
        return text.strip() or "␣"

    def words(self, answer: Sequence[int]) -> list[str]:
        return [self.word(token) for token in answer]

    def positions(self, answer: Sequence[int] = ()) -> list[tuple[str, str]]:
        """(kind, text) of each position of `embeds`: image, mask, spatial or text."""
        ids = torch.cat([self.ids, torch.as_tensor(list(answer), dtype=torch.long)])
        return positions(self.model.processor, ids)[0]


def check_choice(name: str, value: int, count: int) -> None:
    """ValueError unless `value` is one of 0 … count - 1."""
    if value not in range(count):
        raise ValueError(f"{name} is {value!r}; there are {count}, counted from 0.")
