"""A conversation as the model reads it, and what each of its tokens does (notebooks 00 and 06)."""

from __future__ import annotations

import ipywidgets
import numpy as np
import torch
from matplotlib.figure import Figure

from osprey_nb import diagrams
from osprey_nb.data.collate import fitted
from osprey_nb.processor import IGNORE
from osprey_nb.projector import image_tokens
from osprey_nb.prompt import SHORT

from ..pointed import PointedFigure
from .controls import APART, beside, heading


def positions(processor, input_ids, labels=None) -> tuple[list[tuple[str, str]], list[bool]]:
    """The positions of a prompt as the LLM sees them: (kind, text), and whether each carries loss.

    `input_ids` and `labels` are T, as `processor.text` gives them. Kinds are image, mask, spatial, text; the one `<image>` of
    the text becomes as many positions as the picture has tokens.
    """
    config = processor.config
    kinds = {config.mask_token_id: ("mask", "mask"), config.pos_token_id: ("spatial", "spatial")}
    tokens, loss = [], []
    labels = [IGNORE] * len(input_ids) if labels is None else labels.tolist()
    for token, label in zip(input_ids.tolist(), labels, strict=True):
        if token == config.image_token_id:
            new = [("image", "image")] * config.num_image_tokens
        else:
            new = [kinds.get(token) or ("text", processor.tokenizer.decode([token]))]
        tokens += new
        loss += [label != IGNORE] * len(new)
    return tokens, loss


def prompt_tokens(model, question: str = SHORT, n_regions: int = 1) -> list[tuple[str, str]]:
    """The positions of a question as the LLM sees them: (kind, text); kinds are image, mask, spatial, text.

    `question` names its regions `<region1>`, `<region2>` … as in `describe` and `chat`.
    """
    return positions(model.processor, model.processor.text([(question, None)], n_regions, inline=True)["input_ids"])[0]


class TokenProbe(ipywidgets.VBox):
    """Choose a record and a limit; see which positions the model reads and which it is trained to write.

    `records` are `Record`s; `limit` counts positions, those of the image included. What does not fit is left out, whole turns
    from the end.
    """

    def __init__(self, processor, records, limit: int = 256):
        self.processor, self.records = processor, list(records)
        names = [f"{n} · {record.source}" for n, record in enumerate(self.records, 1)]
        context = processor.context
        self.controls = {
            "record": ipywidgets.Dropdown(options=list(zip(names, range(len(names)), strict=True)), description="record"),
            "limit": ipywidgets.IntSlider(limit, min=80, max=context, step=1, description="limit", continuous_update=False),
        }
        for control in self.controls.values():
            control.observe(self._draw, "value")
        title = "Probe: what carries loss?"
        self.picture, self.said = PointedFigure(alt=title), ipywidgets.Label()
        line = ipywidgets.HBox([beside(control) for control in self.controls.values()], layout={"flex_flow": "row wrap"})
        super().__init__([heading(title), line, self.said, self.picture], layout=APART)
        self._draw()

    def static(self) -> Figure:
        """The present choice as a figure, for readers without a kernel. ValueError when nothing fits the limit."""
        sample = self._sample()
        return diagrams.token_strip(*positions(self.processor, sample["input_ids"], sample["labels"]))

    def _sample(self) -> dict:
        return fitted(self.records[self.controls["record"].value], self.processor, self.controls["limit"].value)

    def _draw(self, _=None) -> None:
        try:
            shortened = self._sample()["shortened"]
        except ValueError as error:
            self.said.value, self.picture.layout.display = str(error), "none"
            return
        self.said.value = "The last turns do not fit: they are left out." if shortened else "All turns fit."
        self.picture.show(self.static())
        self.picture.layout.display = ""


@torch.inference_mode()
def swap_tokens(model, image, masks: np.ndarray, question: str = SHORT) -> list[list[str]]:
    """Answers with traded tokens: `answers[i][j]` has region i's mask token and region j's spatial token.

    `masks` is R×H×W bool. The diagonal holds the answers of `describe`. Image tokens and words do not change.
    """
    processor, llm = model.processor, model.llm
    features = model.encoder(processor.image(image)[None])
    mask_tokens, spatial_tokens = (x[0] for x in model.mask_extractor(features, [torch.from_numpy(masks)]))
    regions = len(masks)
    pairs = (
        list(mask_tokens.repeat_interleave(regions, 0)[:, None]),
        list(spatial_tokens.repeat(regions, 1)[:, None]),
    )
    ids = processor.text([(question, None)], 1, inline=True)["input_ids"].expand(regions**2, -1)
    seen = model.projector(image_tokens(features[2])).expand(regions**2, -1, -1)
    spliced = model.splice(ids, seen, pairs, padding_side="left")
    tokenizer = processor.tokenizer
    written = llm.generate(
        inputs_embeds=spliced.embeds, attention_mask=spliced.attention_mask.long(), do_sample=False,
        max_new_tokens=48, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    answers = [answer.strip() for answer in tokenizer.batch_decode(written, skip_special_tokens=True)]
    return [answers[i * regions : (i + 1) * regions] for i in range(regions)]
