"""The language model, seen through its embeddings (notebook 05; docs/osprey.md, section 1).

Osprey never feeds words alone to its LLM: image, mask and spatial tokens stand between them. So all that is asked of an LLM
is `inputs_embeds`, which every transformers causal LM takes.
"""

from __future__ import annotations

from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from .prompt import PLACEHOLDERS


def build_llm(config: PreTrainedConfig, **kwargs) -> PreTrainedModel:
    """A causal LM of any family from its config, randomly initialised. Raises ValueError for a config of another task."""
    if type(config) not in AutoModelForCausalLM._model_mapping:
        raise ValueError(f"{type(config).__name__} is no causal language model. Give e.g. a LlamaConfig or Qwen2Config.")
    return AutoModelForCausalLM.from_config(config, **kwargs)


def load_llm(name: str | Path, **kwargs) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A pretrained LLM and its tokenizer (hub name or folder), with `<image>`, `<mask>` and `<pos>` added to both.

    The new rows of the embedding are never read, because region and image tokens take their places. `kwargs` go to
    transformers (`dtype`, `device_map`, `quantization_config`, …).
    """
    tokenizer = AutoTokenizer.from_pretrained(name)
    tokenizer.add_special_tokens({"additional_special_tokens": list(PLACEHOLDERS)})
    llm = AutoModelForCausalLM.from_pretrained(name, **kwargs)
    if len(tokenizer) > llm.get_input_embeddings().num_embeddings:
        llm.resize_token_embeddings(len(tokenizer))
    return llm, tokenizer
