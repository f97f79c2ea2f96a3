"""One reading for many rows: they stand in one line behind what all begin with (notebook 08).

    the line    │ the beginning of all rows │ row 1 │ row 2 │ … │ row N │     one sequence; each place knows its position
    keys, values  1×G×P×d, held once, read    G×N×S×d, a row's own, read
                  by all rows                 by this row alone

"System + image + overview" is a thousand tokens, a question about a region twenty. Repeating the first for each of N regions,
as caches do, takes N times the memory; here the queries of all rows meet the shared keys in one matrix product, and rows are
read in the same pass as their beginning. Serving engines hand transformers the tokens of many requests in such a line, too:
a family that lets others attend for it (`_supports_attention_backend`) takes it.
"""

from __future__ import annotations

import copy
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward

NAME = "osprey_rows"
LOCK = threading.Lock()
WAYS: weakref.WeakKeyDictionary[PreTrainedModel, str | None] = weakref.WeakKeyDictionary()


class Rows:
    """N rows, read and written side by side. They begin with what `cache`, an ordinary one of one row, holds, and an opening;
    one of these may be empty.

    An LLM that can't read them in a line (`way_to_read`) reads a batch, and remembers the beginning once for each row.
    """

    def __init__(self, llm: PreTrainedModel, cache: DynamicCache, count: int, way: str):
        self.llm, self.count, self.beginning, self.in_a_line = llm, count, cache, way == "line"
        self.cache: DynamicCache | None = None

    def read(self, embeds: Tensor, opening: Tensor | None = None, last: bool = True) -> Tensor:
        """The next places of each row, N×S×D, to logits N×S×V; with `last` N×1×V, those of the last place.

        An `opening`, 1×B×D, is the rest of what all rows begin with. It may come with the first places; the cache that was
        given then holds it, too.
        """
        if opening is not None and not self.in_a_line:
            self.llm(inputs_embeds=opening, past_key_values=self.beginning, use_cache=True, logits_to_keep=1)
        if self.cache is None:
            self.cache = _for_rows(self.beginning, self.count, self.in_a_line)
        if self.in_a_line:
            return self._read_line(embeds, embeds[:1, :0] if opening is None else opening, last)
        return self.llm(inputs_embeds=embeds, past_key_values=self.cache, use_cache=True, logits_to_keep=int(last)).logits

    def _read_line(self, embeds: Tensor, opening: Tensor, last: bool) -> Tensor:
        (rows, length), first = embeds.shape[:2], opening.shape[1]
        before, own = self.beginning.get_seq_length(), self.cache.layers[0].count
        positions = torch.cat([torch.arange(first), torch.arange(first + own, first + own + length).repeat(rows)]) + before
        step = length if last else 1
        wanted = torch.arange(first + step - 1, first + rows * length, step)
        for layer in self.cache.layers:
            layer.unread = first
        line = torch.cat([opening, embeds.reshape(1, rows * length, -1)], 1)
        with _attending(self.llm):
            logits = self.llm(
                inputs_embeds=line, position_ids=positions[None].to(line.device), past_key_values=self.cache,
                use_cache=True, logits_to_keep=wanted.to(line.device),
            ).logits  # fmt: skip
        return logits[0].unflatten(0, (rows, -1))

    def keep(self, index: Tensor) -> None:
        """The rows that go on."""
        self.cache.reorder_cache(index)


class RowsLayer(DynamicLayer):
    """A layer of the cache of N rows in a line: `first` holds what all begin with; G×N×S×d keys and values are the rows' own.

    These lie in tensors with room for more, so that a further place moves none of those before it.
    """

    def __init__(self, first: DynamicLayer, rows: int):
        super().__init__()
        self.first, self.rows, self.count, self.unread = first, rows, 0, 0

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        """1×G×(B+N·S)×d of the line: the first `unread` places are of the beginning."""
        begin = self.unread
        if begin:
            self.first.update(key_states[:, :, :begin], value_states[:, :, :begin])
        keys, values = (x[0, :, begin:].unflatten(1, (self.rows, -1)) for x in (key_states, value_states))
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = keys[:, :, :0], values[:, :, :0]
        start, self.count = self.count, self.count + keys.shape[2]
        if self.count > self.keys.shape[2]:
            room = (0, 0, 0, 2 * self.count - self.keys.shape[2])
            self.keys, self.values = F.pad(self.keys, room), F.pad(self.values, room)
        self.keys[:, :, start : self.count], self.values[:, :, start : self.count] = keys, values
        key_states.layer = self  # `attend` finds it there
        return key_states, value_states

    def get_seq_length(self) -> int:
        return self.first.get_seq_length() + self.count

    def reorder_cache(self, beam_idx: Tensor) -> None:
        self.keys, self.values, self.rows = self.keys[:, beam_idx], self.values[:, beam_idx], len(beam_idx)


def attend(
    module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, scaling: float | None = None, **kwargs
) -> tuple[Tensor, None]:
    """Attention of a line's queries, 1×H×(B+N·S)×d: the beginning's to what stands before them, a row's to the beginning and
    to its own places. Returns 1×(B+N·S)×H×d."""
    layer = key.layer
    first, begin, rows = layer.first, layer.unread, layer.rows
    keys, values = layer.keys[:, :, : layer.count], layer.values[:, :, : layer.count]  # G×N×C×d
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    own = query[0, :, begin:].unflatten(1, (rows, -1)).unflatten(0, (len(keys), -1))  # G×g×N×S×d
    length = own.shape[3]
    own = own.transpose(1, 2).flatten(2, 3) * scaling  # G×N×gS×d
    early = own.flatten(1, 2) @ first.keys[0].transpose(1, 2)  # to the shared keys all rows are one
    late = own @ keys.transpose(2, 3)
    if length > 1:
        unseen = torch.ones(length, layer.count, dtype=torch.bool, device=own.device).triu(layer.count - length + 1)
        late.unflatten(2, (-1, length)).masked_fill_(unseen, torch.finfo(late.dtype).min)
    weights = torch.cat([early.view(*late.shape[:3], -1), late], -1).softmax(-1, dtype=torch.float32).to(value.dtype)
    early, late = weights.split([early.shape[-1], layer.count], -1)
    output = (early.flatten(1, 2) @ first.values[0]).view(len(keys) * rows, -1, values.shape[-1])
    output = torch.baddbmm(output, late.flatten(0, 1), values.flatten(0, 1))
    output = output.view(len(keys), rows, -1, length, values.shape[-1]).permute(1, 3, 0, 2, 4).flatten(2, 3).flatten(0, 1)[None]
    if begin:
        seen = first.keys.shape[2]
        mask = torch.ones(begin, seen, dtype=torch.bool, device=own.device).tril(seen - begin) if seen > begin else None
        opening = sdpa_attention_forward(module, query[:, :, :begin], first.keys, first.values, mask, scaling=scaling)[0]
        output = torch.cat([opening, output], 1)
    return output, None


AttentionInterface.register(NAME, attend)  # no function for masks: `attend` knows who sees whom


@contextmanager
def _attending(llm: PreTrainedModel) -> Iterator[None]:
    """Inside, the LLM attends through `attend`.

    One thread at a time: the way to attend is set in the LLM's config, and a studio answers on a thread of its own.
    """
    config = llm.config
    with LOCK:
        usual, config._attn_implementation = config._attn_implementation, NAME
        try:
            yield
        finally:
            config._attn_implementation = usual


def way_to_read(llm: PreTrainedModel) -> str | None:
    """How an LLM reads rows that begin alike: in a "line"; as a "batch", with a cache repeated for each row; or None, where its
    memory is of a kind of its own.

    What a family says of itself is not enough (keys may change once cached, a cache may be refused), so the way is tried, once
    for each LLM: a few rows must come out as they do whole, without a cache.
    """
    if llm not in WAYS:
        modes = {module: module.training for module in llm.modules()}
        llm.eval()
        try:
            WAYS[llm] = next((way for way in ("line", "batch") if _reads_alike(llm, way)), None)
        finally:
            for module, training in modes.items():
                module.training = training
    return WAYS[llm]


@torch.inference_mode()
def _reads_alike(llm: PreTrainedModel, way: str) -> bool:
    capped = getattr(llm.config, "attn_logit_softcapping", None) is not None  # with few rows caps and sinks hardly show
    if way == "line" and (capped or not llm._supports_attention_backend or not llm._supports_sdpa):
        return False
    embed = llm.get_input_embeddings()
    ids = torch.arange(20, device=embed.weight.device) * 7 % embed.num_embeddings
    opening, places, step = embed(ids).split([10, 8, 2])
    opening, places, step = opening[None], places.unflatten(0, (2, 4)), step[:, None]
    try:
        cache = DynamicCache(config=llm.config)
        if way == "line" and not can_be_cut(cache):
            return False
        expected = llm(inputs_embeds=torch.cat([opening.expand(2, -1, -1), places, step], 1)).logits[:, -2:].float()
        rows = Rows(llm, cache, 2, way)
        first = rows.read(places, opening)
        rows.keep(torch.tensor([1, 0], device=ids.device))
        second = rows.read(step[[1, 0]])[[1, 0]]
        got = torch.stack([first[:, -1], second[:, -1]], 1).float()
    except torch.OutOfMemoryError:
        raise  # that says nothing of the way
    except Exception:  # whatever an LLM raises that can't read so
        return False
    # a right reading is 1e-6 off in float32 and 0.01 in bf16, a wrong one 0.5 (caps and sinks 0.03: these were asked for)
    return bool((got - expected).std() < (1e-3 if llm.dtype == torch.float32 else 0.1) * expected.std())


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


def _for_rows(cache: DynamicCache, rows: int, line: bool) -> DynamicCache:
    """A cache for N rows that all begin with what `cache` holds, which stays as it is."""
    wide = copy.copy(cache)
    if line:
        wide.layers = [RowsLayer(layer, rows) for layer in cache.layers]
    else:
        wide.layers = copy.deepcopy(cache.layers)
        wide.reorder_cache(torch.zeros(rows, dtype=torch.long, device=wide.layers[0].device))
    return wide
