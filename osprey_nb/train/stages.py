"""What each stage trains, on what, how fast (docs/osprey.md, section 3; notebook 07).

    stage                          trains                             on
    0  eyes and words              encoder; LLM                       regions, cells; lessons         tiny only
    1  image-text alignment        projector                          captions
    2  mask-text alignment         mask extractor                     short region-text pairs
    3  end-to-end                  projector, mask extractor, LLM     everything

The encoder is frozen from stage 1 on. In the paper stage 0 is other people's work: CLIP and Vicuna. A stage of your own is five
lines: `Stage("stage 4: parts", {"mask_extractor": 1e-4}, {"part_level": 1}, batch_size=8, minutes=2)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..model import Osprey
from .lora import add_lora
from .machines import compiled, shared_out
from .trainer import learning


@dataclass(frozen=True)
class Stage:
    """`trains` gives parts of `Osprey.parts` their learning rates. `mixture` is a mixture file, or one that is shipped, or
    weights of makers of drawn scenes (data/language.py). It lasts for `epochs`, or for `minutes` of a budget of 25.
    """

    name: str
    trains: Mapping[str, float]
    mixture: str | Mapping[str, float]
    batch_size: int
    minutes: float | None = None
    epochs: int | None = None


#: As published: AdamW without weight decay, a cosine after 3 % of warm-up, one sample on each of four GPUs.
PAPER = (
    Stage("stage 1: image-text alignment", {"projector": 1e-3}, "stage1", batch_size=4, epochs=1),
    Stage("stage 2: mask-text alignment", {"mask_extractor": 2e-5}, "stage2", batch_size=4, epochs=2),
    Stage(
        "stage 3: end-to-end", {"projector": 1e-5, "mask_extractor": 1e-5, "llm": 1e-5}, "stage3", batch_size=4, epochs=2,
    ),
)
#: tiny's own. Learning rates are those of a small model that starts from nothing.
TINY = (
    Stage(
        "stage 1: image-text alignment", {"projector": 3e-4}, {"caption": 1, "existence": 1, "finding": 1}, batch_size=8,
        minutes=0.7,
    ),
    Stage(
        "stage 2: mask-text alignment", {"mask_extractor": 3e-4},
        {"describe_short": 4, "instances": 1, "part_level": 1, "asking": 2}, batch_size=8, minutes=1.3,
    ),
    Stage(
        "stage 3: end-to-end", {"projector": 3e-4, "mask_extractor": 3e-4, "llm": 5e-4},
        {
            "describe_short": 5, "instances": 1, "part_level": 3, "asking": 3, "short_form": 4, "positive_negative": 4,
            "describe_detailed": 6, "detailed": 1, "conversation": 2, "comparisons": 4, "alike": 3, "numbers": 1, "caption": 3,
            "existence": 2, "finding": 2, "surroundings": 3,
        },
        batch_size=8, minutes=6,
    ),
)
#: Stage 0 of tiny, in minutes of a budget of 25: the encoder, and the LM's lessons.
EYES_MINUTES, LESSONS_MINUTES = 6, 9


def begin(model: Osprey, stage: Stage, lora: int | None = None) -> list[dict]:
    """Freeze all but what the stage trains. Returns AdamW's groups of parameters, each with its learning rate.

    What learns is held in float32: in fewer bits most steps would be rounded away. With `lora` the LLM learns through adapters
    of that rank only. Raises ValueError for a stage that trains nothing, or a part that there isn't.
    """
    if unknown := set(stage.trains) - set(model.parts):
        raise ValueError(f"{stage.name} trains {', '.join(sorted(unknown))}; the parts are {', '.join(model.parts)}.")
    if lora is not None and "llm" not in stage.trains:
        raise ValueError(f"{stage.name} does not train the LLM, so there is nothing for LoRA to do; leave it out.")
    model.requires_grad_(False).eval()
    for part in stage.trains:
        module = model.parts[part].train()
        if part == "llm" and lora is not None:
            add_lora(module, lora)
        else:
            module.requires_grad_(True)
        for weight in module.parameters():
            if weight.requires_grad:
                weight.data = weight.data.float()
    learning(model)
    return [
        {"params": [x for x in model.parts[part].parameters() if x.requires_grad], "lr": rate}
        for part, rate in stage.trains.items()
    ]


def osprey_loss(model: Osprey, batch: dict) -> Tensor:
    """Mean loss of the answers in a batch: `images` B×3×S×S or the encoder's `features`, `masks`, `input_ids`, `labels`."""
    device = model.device
    if "features" in batch:
        features = [level.to(device, torch.float32) for level in batch["features"]]
    else:
        with torch.set_grad_enabled(any(weight.requires_grad for weight in model.encoder.parameters())):
            features = model.encoder(batch["images"].to(device, model.dtype))
    ids = batch["input_ids"]
    spliced = model.prepare(None, batch["masks"], ids, labels=batch["labels"], features=features)
    return model.answer_loss(spliced.embeds, spliced.labels, fixed=fixed_tokens(model, ids))


def fixed_tokens(model: Osprey, ids: Tensor) -> int:
    """How many tokens at the start of all sequences depend on nothing that learns: those before the first region, in stage 2.

    0 where they are not half of a sequence (two readings take longer than one), where processes share out the weights, or where
    the LLM's layers are compiled: a cache of keys is another argument, and each layer would be compiled twice.
    """
    learns = any(x.requires_grad for part in (model.projector, model.llm) for x in part.parameters())
    if learns or shared_out() or compiled(model.llm):
        return 0
    grow = model.config.num_image_tokens - 1
    firsts = []
    for row in ids:
        region = (row == model.config.mask_token_id).nonzero()
        first = int(region[0]) if len(region) else len(row) - 1
        firsts.append(first + grow * int((row[:first] == model.config.image_token_id).sum()))
    return min(firsts) if 2 * min(firsts) >= ids.shape[1] + grow else 0


def memory(model: Osprey) -> dict[str, int]:
    """Bytes of the weights, of the gradients of those that learn, and of the two numbers that AdamW keeps for each."""
    weights = list(model.parameters())
    learning = sum(x.numel() for x in weights if x.requires_grad)
    return {"weights": sum(x.numel() * x.element_size() for x in weights), "gradients": 4 * learning, "AdamW": 8 * learning}


def summary(model: Osprey) -> str:
    """Which parts of a model learn, how many numbers they are, and what that takes in memory, activations not counted."""
    lines, total, learnt = [], 0, 0
    for name, part in model.parts.items():
        weights = list(part.parameters())
        count, learning = (sum(x.numel() for x in chosen) for chosen in (weights, [x for x in weights if x.requires_grad]))
        total, learnt = total + count, learnt + learning
        state = "frozen" if not learning else "learns" if learning == count else f"{learning:,} learn"
        lines.append(f"  {name:16}{count:>15,}  {state}")
    needed = f"{sum(memory(model).values()) / 2**20:,.0f} MiB with gradients and AdamW"
    lines.append(f"  {'together':16}{total:>15,}  {learnt / total:.1%} learn; {needed}")
    return "\n".join(lines)
