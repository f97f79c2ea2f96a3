"""Every size of the model in one place (notebook 00; docs/osprey.md, section 1).

    OspreyConfig ── vision_config     ConvNeXt trunk: dims, depths, image size, normalisation
                 ├─ extractor_config  mask pooling and the two region tokens
                 ├─ text_config       any transformers causal LM
                 └─ image_token_id, mask_token_id, pos_token_id

`OspreyConfig.preset("tiny" | "small" | "paper")` gives the three sizes that this project names. `paper` is the published
model exactly; `small` joins an open_clip ConvNeXt-B to SmolLM2-135M; `tiny` is trained and shipped here.
"""

from __future__ import annotations

from transformers import AutoConfig, LlamaConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
PRESETS = ("tiny", "small", "paper")


class OspreyVisionConfig(PreTrainedConfig):
    """The ConvNeXt trunk. `dims[i]` channels and `depths[i]` blocks at stride 4 · 2^i give `res{i+2}`."""

    model_type = "osprey_vision"
    base_config_key = "vision_config"

    image_size: int = 512
    dims: tuple[int, ...] | list[int] = (192, 384, 768, 1536)
    depths: tuple[int, ...] | list[int] = (3, 3, 27, 3)
    mean: tuple[float, ...] | list[float] = CLIP_MEAN
    std: tuple[float, ...] | list[float] = CLIP_STD
    #: open_clip architecture and hub file that pretrained weights come from; None if trained here.
    open_clip_name: str | None = None
    open_clip_hub: str | None = None


class OspreyExtractorConfig(PreTrainedConfig):
    """Mask-aware visual extractor. `resize="threshold"` is the published mask resize, `"soft"` the area-weighted one, which
    loses no edge between sampling points; it then holds for the spatial token's outline as well."""

    model_type = "osprey_extractor"
    base_config_key = "extractor_config"

    width: int = 1024
    spatial_size: int = 112
    spatial_width: int = 1024
    resize: str = "threshold"


class OspreyConfig(PreTrainedConfig):
    """All parts of an Osprey, in the manner of transformers' composite configurations."""

    model_type = "osprey_nb"
    sub_configs_defaults = {
        "vision_config": SubConfigSpec(config_class=OspreyVisionConfig),
        "extractor_config": SubConfigSpec(config_class=OspreyExtractorConfig),
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="llama"),
    }

    vision_config: dict | PreTrainedConfig | None = None
    extractor_config: dict | PreTrainedConfig | None = None
    text_config: dict | PreTrainedConfig | None = None
    #: Placeholders in `input_ids`. The published code uses -200 for the image, which is no entry of the vocabulary.
    image_token_id: int = -200
    mask_token_id: int = 32000
    pos_token_id: int = 32001
    #: Hub name of the LLM (weights before training, and tokenizer).
    llm_hub: str | None = None
    #: What the shown weights have seen; interfaces say it to the user.
    trained_on: str | None = None
    tie_word_embeddings: bool = False

    @property
    def num_image_tokens(self) -> int:
        """Tokens an image takes in the sequence: the cells of `res4`, at stride 16."""
        return (self.vision_config.image_size // 16) ** 2

    @classmethod
    def preset(cls, name: str) -> OspreyConfig:
        """One of `PRESETS`. Raises ValueError for any other name."""
        if name == "paper":
            return cls(
                vision_config=OspreyVisionConfig(
                    open_clip_name="convnext_large_d_320",
                    open_clip_hub="laion/CLIP-convnext_large_d_320.laion2B-s29B-b131K-ft-soup",
                ),
                extractor_config=OspreyExtractorConfig(),
                text_config=LlamaConfig(
                    vocab_size=32002, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32,
                    num_attention_heads=32, max_position_embeddings=4096, rms_norm_eps=1e-5,
                    bos_token_id=1, eos_token_id=2, pad_token_id=0,
                ),
                llm_hub="lmsys/vicuna-7b-v1.5",
            )
        if name == "small":
            return cls(
                vision_config=OspreyVisionConfig(
                    image_size=320, dims=(128, 256, 512, 1024), depths=(3, 3, 27, 3),
                    open_clip_name="convnext_base_w_320",
                    open_clip_hub="laion/CLIP-convnext_base_w_320-laion_aesthetic-s13B-b82K",
                ),
                extractor_config=OspreyExtractorConfig(width=512, spatial_size=56, spatial_width=512),
                text_config=LlamaConfig(
                    vocab_size=49155, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
                    num_attention_heads=9, num_key_value_heads=3, max_position_embeddings=8192, rms_norm_eps=1e-5,
                    rope_parameters={"rope_type": "default", "rope_theta": 100000.0}, tie_word_embeddings=True,
                    bos_token_id=1, eos_token_id=2, pad_token_id=2,
                ),
                image_token_id=49152, mask_token_id=49153, pos_token_id=49154,
                llm_hub="HuggingFaceTB/SmolLM2-135M-Instruct",
            )
        if name == "tiny":
            return cls(
                vision_config=OspreyVisionConfig(image_size=128, dims=(32, 64, 128, 256), depths=(2, 2, 3, 1)),
                extractor_config=OspreyExtractorConfig(width=256, spatial_size=32, spatial_width=256, resize="soft"),
                text_config=LlamaConfig(
                    vocab_size=1024, hidden_size=192, intermediate_size=512, num_hidden_layers=4,
                    num_attention_heads=4, max_position_embeddings=1024, rms_norm_eps=1e-5, tie_word_embeddings=True,
                    initializer_range=0.05, bos_token_id=1, eos_token_id=2, pad_token_id=0,
                ),
                image_token_id=3, mask_token_id=4, pos_token_id=5,
                trained_on="synthetic drawings only: it knows nothing of photographs",
            )
        raise ValueError(f"Unknown preset {name!r}. Use one of {', '.join(PRESETS)}.")


AutoConfig.register("osprey_nb", OspreyConfig)
