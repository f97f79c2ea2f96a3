"""Osprey: the four parts in one model (notebook 06; docs/osprey.md, section 1).

    images ─► encoder ─► res2 … res5 ─┬─ res4 ─► projector ─────────► image tokens   B×T×D ─┐
                                      └─ masks ► mask extractor ─► mask, spatial tokens R×D ─┤ splice
    input_ids  "… <image> … <mask><pos> …"  ─► word embeddings ──────────────────────────────┘    │
                                                                                                  ▼
                                                                     the LLM reads B×T'×D and writes words

Every placeholder of `input_ids` is overwritten: `<image>` grows to T image tokens, each `<mask><pos>` pair becomes the two
tokens of the next region. Image tokens come before region tokens and do not depend on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from .config import PRESETS, OspreyConfig
from .encoder import Encoder
from .generate import Describe
from .llm import build_llm, load_llm
from .mask_extractor import MaskExtractor
from .processor import OspreyProcessor
from .projector import Projector, image_tokens

IGNORE = -100
CHANGED_LOGITS = ("final_logit_softcapping", "logit_scale", "logits_scaling")  # settings of families that do more than multiply
WEIGHTS = Path(__file__).parent / "weights"


@dataclass
class Spliced:
    """The sequence that the LLM reads. `attention_mask` is False on padding, `labels` is −100 where no loss is taken."""

    embeds: Float[Tensor, "B T D"]
    attention_mask: Bool[Tensor, "B T"]
    labels: Int[Tensor, "B T"] | None


class Osprey(Describe, PreTrainedModel):
    """Pixel-level multimodal LLM. `describe` and `chat` (generate.py) are the two calls for people."""

    config_class = OspreyConfig
    config: OspreyConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _no_split_modules = ["ConvNeXtBlock", "MaskExtractor"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    def __init__(self, config: OspreyConfig):
        super().__init__(config)
        width = config.text_config.hidden_size
        dims = config.vision_config.dims
        self.encoder = Encoder(config.vision_config)
        self.mask_extractor = MaskExtractor(config.extractor_config, dims, width)
        self.projector = Projector(dims[2], width)
        self.llm = build_llm(config.text_config)
        self.processor: OspreyProcessor | None = None
        self.post_init()

    # --- the model -------------------------------------------------------------------------------------------------

    def forward(
        self,
        images: Float[Tensor, "B 3 S S"] | None = None,
        masks: list[Tensor] | None = None,
        input_ids: Int[Tensor, "B T"] | None = None,
        attention_mask: Tensor | None = None,
        labels: Int[Tensor, "B T"] | None = None,
        features: list[Float[Tensor, "B _C _H _W"]] | None = None,
        **kwargs,
    ) -> CausalLMOutputWithPast:
        """Loss and logits over the spliced sequence.

        `images` are normalised, `masks[i]` is R_i×h×w with one region for each `<mask><pos>` pair of row i, in order.
        `features` (the encoder's output) may stand in for `images`, so that an image is read once for many questions.
        Raises ValueError when placeholders, images and regions do not agree.
        """
        spliced = self.prepare(images, masks, input_ids, attention_mask, labels, features)
        return self.llm(
            inputs_embeds=spliced.embeds, attention_mask=spliced.attention_mask, labels=spliced.labels, **kwargs
        )

    def answer_loss(
        self, embeds: Float[Tensor, "B T D"], labels: Int[Tensor, "B T"], attention_mask: Tensor | None = None, fixed: int = 0
    ) -> Float[Tensor, ""]:
        """The loss of `forward`, with logits only where an answer's token is predicted: that is where loss is taken.

        Of a spliced sequence padded on the right, which under causal attention needs no attention mask. The first `fixed`
        embeddings depend on nothing that learns, nor does the LLM: it reads them without gradients, which is as exact.
        """
        if any(getattr(self.llm.config, name, None) for name in CHANGED_LOGITS):
            return self.llm(inputs_embeds=embeds, attention_mask=attention_mask, labels=labels).loss
        reader = self.llm.base_model
        if fixed:
            cache = DynamicCache(config=self.llm.config)
            with torch.no_grad():
                before = reader(inputs_embeds=embeds[:, :fixed].detach(), past_key_values=cache).last_hidden_state
            after = reader(inputs_embeds=embeds[:, fixed:], past_key_values=cache).last_hidden_state
            hidden = torch.cat([before, after], dim=1)
        else:
            hidden = reader(inputs_embeds=embeds, attention_mask=attention_mask, use_cache=False).last_hidden_state
        predicted = labels[:, 1:] != IGNORE
        logits = self.llm.get_output_embeddings()(hidden[:, :-1][predicted])
        return F.cross_entropy(logits.float(), labels[:, 1:][predicted])

    @torch.no_grad()
    def generate(
        self, images=None, masks=None, input_ids=None, attention_mask=None, features=None, **kwargs
    ) -> Int[Tensor, "B T"]:
        """transformers' `generate` behind the same inputs as `forward`. Returns the new tokens only."""
        spliced = self.prepare(images, masks, input_ids, attention_mask, None, features, padding_side="left")
        return self.llm.generate(inputs_embeds=spliced.embeds, attention_mask=spliced.attention_mask.long(), **kwargs)

    def prepare(
        self, images, masks, input_ids, attention_mask=None, labels=None, features=None, padding_side="right"
    ) -> Spliced:
        """Encoder, projector and mask extractor, then `splice`."""
        count = images if features is None else features[0]
        self._check_counts(input_ids, attention_mask, 0 if count is None else len(count), masks)
        if features is None and images is not None:
            features = self.encoder(images.to(self.dtype))
        image = None if features is None else self.projector(image_tokens(features[2]))
        pairs = None if masks is None or features is None else self.mask_extractor(features, masks)
        return self.splice(input_ids, image, pairs, attention_mask, labels, padding_side)

    def splice(
        self,
        input_ids: Int[Tensor, "B T"],
        image: Float[Tensor, "B N D"] | None,
        pairs: tuple[list[Tensor], list[Tensor]] | None,
        attention_mask: Tensor | None = None,
        labels: Int[Tensor, "B T"] | None = None,
        padding_side: str = "right",
    ) -> Spliced:
        """Overwrite the placeholders. `pairs` holds the mask tokens and the spatial tokens, one R_i×D for each row."""
        config = self.config
        placeholders = (config.image_token_id, config.mask_token_id, config.pos_token_id)
        keep = torch.ones_like(input_ids, dtype=torch.bool) if attention_mask is None else attention_mask.bool()

        if attention_mask is None and labels is None and not (input_ids == config.image_token_id).any():
            ids, filled = input_ids, keep  # nothing grows and nothing is padded
        else:
            ids, filled, labels = self._grown(input_ids, keep, labels, 1 if image is None else image.shape[1], padding_side)
        # ids may well be on the CPU still: all this counting would make a GPU wait
        is_image, is_mask, is_pos = ((ids == p) & filled for p in placeholders)
        embed = self.llm.get_input_embeddings()
        device = embed.weight.device
        embeds = embed(ids.masked_fill(is_image | is_mask | is_pos, 0).to(device))
        for where, tokens in (
            (is_image, None if image is None else image.flatten(0, 1)),
            (is_mask, None if pairs is None else torch.cat(pairs[0])),
            (is_pos, None if pairs is None else torch.cat(pairs[1])),
        ):
            if tokens is not None and where.any():
                embeds = embeds.masked_scatter(where[..., None].to(device), tokens.to(embeds))
        return Spliced(embeds, filled.to(device), None if labels is None else labels.to(device))

    def _grown(self, input_ids: Tensor, keep: Tensor, labels: Tensor | None, places: int, padding_side: str):
        """ids, which of them are filled, and labels, with as many places for each `<image>`; padding moved to its side."""
        config, rows = self.config, {"ids": [], "keep": [], "labels": []}
        placeholders = (config.image_token_id, config.mask_token_id, config.pos_token_id)
        for i, kept in enumerate(keep):
            order = torch.argsort(kept.int(), stable=True) if padding_side == "left" else torch.arange(len(kept))
            order = order.to(kept.device)
            ids = input_ids[i, order]
            grow = torch.where(ids == config.image_token_id, places, 1)
            rows["ids"].append(ids.repeat_interleave(grow))
            rows["keep"].append(kept[order].repeat_interleave(grow))
            if labels is not None:
                own = labels[i, order].masked_fill(sum(ids == p for p in placeholders).bool(), IGNORE)
                rows["labels"].append(own.repeat_interleave(grow))

        grown = None if labels is None else _pad(rows["labels"], IGNORE, padding_side)
        return _pad(rows["ids"], 0, padding_side), _pad(rows["keep"], False, padding_side), grown

    def _check_counts(self, input_ids, attention_mask, n_images: int, masks) -> None:
        """Placeholders, images and regions agree, or a ValueError says where they don't. Nothing is computed before."""
        rows = len(input_ids)
        if n_images not in (0, rows) or (masks is not None and len(masks) != rows):
            raise ValueError(
                f"{rows} rows of input_ids, but {n_images} images and masks for {0 if masks is None else len(masks)} rows. "
                "Give one image and one R×h×w tensor of masks for each row."
            )
        for i in range(rows):
            ids = input_ids[i] if attention_mask is None else input_ids[i, attention_mask[i].bool()]
            n_image, n_mask, n_pos = (
                int((ids == p).sum())
                for p in (self.config.image_token_id, self.config.mask_token_id, self.config.pos_token_id)
            )
            regions = 0 if masks is None or not n_images else len(masks[i])
            if n_mask != n_pos or n_mask != regions:
                raise ValueError(
                    f"Row {i}: the prompt has {n_mask} <mask> and {n_pos} <pos> placeholders, but {regions} regions were "
                    "given. Give one mask for each <mask><pos> pair, in the order of the text."
                )
            if n_image != bool(n_images):
                raise ValueError(f"Row {i}: the prompt has {n_image} <image> placeholders and {int(bool(n_images))} images.")

    # --- parts, weights, conventions of transformers -----------------------------------------------------------------

    @property
    def parts(self) -> dict[str, nn.Module]:
        """The pieces that stages freeze and train."""
        return {name: getattr(self, name) for name in ("encoder", "mask_extractor", "projector", "llm")}

    def get_input_embeddings(self) -> nn.Module:
        return self.llm.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.llm.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        return self.llm.get_output_embeddings()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Conv2d | nn.LayerNorm):
            module.reset_parameters()

    @classmethod
    def from_pretrained(cls, name: str | Path | None = "tiny", *args, **kwargs) -> Osprey:
        """`"tiny"` (shipped), a folder made by `save_pretrained`, or a hub name. Arguments are transformers' own.

        Raises ValueError for the presets without weights, "small" and "paper", unless a folder is called so.
        """
        if name is None:
            return super().from_pretrained(None, *args, **kwargs)
        if name == "tiny":
            name = WEIGHTS / "tiny"
            if not (name / "config.json").exists():
                raise FileNotFoundError("The shipped tiny weights are missing. Train them: osprey-nb train tiny")
        elif name in PRESETS and not Path(name).is_dir():
            raise ValueError(
                f"{name!r} is a preset: the sizes of a model, without weights. OspreyConfig.preset({name!r}) gives them; "
                "Osprey.assemble(config) joins open_clip and LLM weights, which it downloads, in a new model. For "
                'the paper\'s weights: osprey-nb fetch osprey-7b, then osprey_nb.load_published("runs/osprey-7b").'
            )
        elif isinstance(name, Path) and not (name / "config.json").exists():
            raise FileNotFoundError(f"{name} holds no config.json. Give a folder made by save_pretrained, or \"tiny\".")
        kwargs.setdefault("dtype", torch.float32)
        model = super().from_pretrained(str(name), *args, **kwargs)
        if Path(name).is_dir() and not (Path(name) / "tokenizer_config.json").exists():
            return model  # saved without a tokenizer
        (model[0] if isinstance(model, tuple) else model).processor = OspreyProcessor.from_pretrained(str(name))
        return model

    def save_pretrained(self, path: str | Path, **kwargs) -> None:
        """Config, safetensors and tokenizer in one folder that `from_pretrained` takes."""
        super().save_pretrained(path, **kwargs)
        if self.processor is not None:
            self.processor.tokenizer.save_pretrained(path)

    @classmethod
    def assemble(cls, config: OspreyConfig, open_clip_file: str | Path | None = None, llm: str | Path | None = None):
        """A fresh Osprey on pretrained parts: open_clip tower and LLM (hub names of the config, or files and folders).

        Mask extractor and projector start random: this is where stage 1 begins.
        """
        language, tokenizer = load_llm(llm or config.llm_hub, dtype=torch.float32)
        config.text_config = language.config
        config.image_token_id, config.mask_token_id, config.pos_token_id = (
            tokenizer.convert_tokens_to_ids(token) for token in ("<image>", "<mask>", "<pos>")
        )
        model = cls(config)
        model.llm.load_state_dict(language.state_dict())
        model.encoder.load_open_clip(open_clip_file)
        model.processor = OspreyProcessor(config, tokenizer)
        return model


def _pad(rows: list[Tensor], value: int | bool, side: str) -> Tensor:
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value, padding_side=side)
