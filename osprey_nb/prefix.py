"""One reading for many rows: a KV cache whose beginning is shared (notebook 08).

                    ┌ keys, values of what all rows begin with   1×G×P×d   held once, read by all
    row r attends ──┤
                    └ keys, values of its own tokens             N×G×S×d   one for each row

"System + image + overview" is a thousand tokens, a question about a region twenty. Repeating the first for each of N regions,
as caches do, takes N times the memory; here the queries of all rows meet the shared keys in one matrix product.
Layers that keep something else (a sliding window, a recurrent state) are repeated: theirs is small.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

NAME = "osprey_shared_prefix"
LOCK = threading.Lock()


class SharedLayer(DynamicLayer):
    """A layer of a cache: `first` is an ordinary one of one row that all N rows begin with; its own keys are theirs alone.

    They lie in tensors with room for more, so that a further token moves none of those before it.
    """

    def __init__(self, first: DynamicLayer):
        super().__init__()
        self.first, self.count = first, 0

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]
        start, self.count = self.count, self.count + key_states.shape[2]
        if self.count > self.keys.shape[2]:
            room = (0, 0, 0, 2 * self.count - self.keys.shape[2])
            self.keys, self.values = F.pad(self.keys, room), F.pad(self.values, room)
        self.keys[:, :, start : self.count], self.values[:, :, start : self.count] = key_states, value_states
        keys = self.keys[:, :, : self.count]
        keys.shared = self.first  # `attend` finds it there
        return keys, self.values[:, :, : self.count]

    def get_seq_length(self) -> int:
        return self.first.get_seq_length() + self.count

    def reorder_cache(self, beam_idx: Tensor) -> None:
        self.keys, self.values = self.keys[beam_idx], self.values[beam_idx]


def attend(
    module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, scaling: float | None = None, **kwargs
) -> tuple[Tensor, None]:
    """Attention of N×H×Q×d queries to N×G×S×d keys of their own and to 1×G×P×d shared ones. Returns N×Q×H×d."""
    first = getattr(key, "shared", None)
    if first is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    n, heads, length, width = query.shape
    groups, own = key.shape[1:3]
    query = query * (width**-0.5 if scaling is None else scaling)
    query = query.unflatten(1, (groups, heads // groups)).flatten(2, 3)  # N×G×gQ×d
    together = query.transpose(0, 1).flatten(1, 2)  # G×NgQ×d: to the shared keys all rows are one
    early = (together @ first.keys[0].transpose(1, 2)).unflatten(1, (n, -1)).transpose(0, 1)
    late = query @ key.transpose(2, 3)
    if attention_mask is not None:  # of the shared tokens everything is seen
        mask = attention_mask[:, :, :, -own:]
        late = late.unflatten(2, (-1, length)).masked_fill(~mask[:, :, None], torch.finfo(late.dtype).min).flatten(2, 3)
    weights = torch.cat([early, late], -1).softmax(-1, dtype=torch.float32).to(value.dtype)
    early, late = weights.split([early.shape[-1], own], -1)
    output = (early.transpose(0, 1).flatten(1, 2) @ first.values[0]).unflatten(1, (n, -1)).transpose(0, 1) + late @ value
    return output.unflatten(2, (-1, length)).flatten(1, 2).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)


def sharable(llm: PreTrainedModel) -> bool:
    """Can this family attend through `attend`? Not where scores are capped, or attention is written in the model itself."""
    config = llm.config
    capped = getattr(config, "attn_logit_softcapping", None) is not None
    return llm._supports_attention_backend and llm._supports_sdpa and not capped


@contextmanager
def shared_attention(llm: PreTrainedModel) -> Iterator[None]:
    """Inside, an LLM that is `sharable` attends through `attend`, which is sdpa for ordinary caches; others as ever.

    One thread at a time: the way to attend is set in the LLM's config, and a studio answers on a thread of its own.
    """
    if not sharable(llm):
        yield
        return
    config = llm.config
    with LOCK:
        usual, config._attn_implementation = config._attn_implementation, NAME
        try:
            yield
        finally:
            config._attn_implementation = usual


def can_be_cut(cache: DynamicCache) -> bool:
    """Does it hold the keys and values of all places? A window or a state can't go back to an earlier one."""
    return bool(cache.layers) and all(type(layer) is DynamicLayer for layer in cache.layers)


def beginning_of(cache: DynamicCache, length: int) -> DynamicCache:
    """A cache of the first `length` places of one that can be cut, and stays as it is. Nothing is copied."""
    short = copy.copy(cache)
    short.layers = [copy.copy(layer) for layer in cache.layers]
    for layer in short.layers:
        layer.keys, layer.values = layer.keys[:, :, :length], layer.values[:, :, :length]
    return short


def for_rows(cache: DynamicCache, rows: int, share: bool) -> DynamicCache:
    """A cache for N rows that all begin with what `cache` (of one row) holds, which stays as it is."""
    wide = copy.copy(cache)
    wide.layers = []
    for layer in cache.layers:
        if share and type(layer) is DynamicLayer:
            wide.layers.append(SharedLayer(layer))
        else:
            layer = copy.deepcopy(layer)
            layer.reorder_cache(torch.zeros(rows, dtype=torch.long, device=layer.device))
            wide.layers.append(layer)
    return wide

