"""What each stage trains, on what, how fast (paper section 3; notebook 07).

    stage                          trains                             on
    0  eyes and words              encoder; LLM                       regions and phrases; text      tiny only
    1  image-text alignment        projector                          captions
    2  mask-text alignment         mask extractor                     short region-text pairs
    3  end-to-end                  projector, mask extractor, LLM     everything

The encoder is frozen from stage 1 on. In the paper stage 0 is other people's work: CLIP and Vicuna.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """`trains` names parts of `Osprey.parts`; `mixture` gives each maker of data/language.py its weight."""

    name: str
    trains: tuple[str, ...]
    mixture: dict[str, float]
    lr: float
    batch_size: int
    minutes: float  # of a budget of 25


#: tiny's own stages. Learning rates are those of a small model that starts from nothing.
TINY = (
    Stage("stage 1: image-text alignment", ("projector",), {"caption": 1}, 2e-3, 8, 0.3),
    Stage(
        "stage 2: mask-text alignment", ("mask_extractor",),
        {"describe_short": 5, "instances": 2, "part_level": 1}, 1e-3, 8, 1.2,
    ),
    Stage(
        "stage 3: end-to-end", ("projector", "mask_extractor", "llm"),
        {
            "describe_short": 7, "instances": 2, "part_level": 2, "asking": 4, "short_form": 2, "positive_negative": 2,
            "describe_detailed": 2, "detailed": 1, "conversation": 2, "caption": 1, "existence": 1,
        },
        1e-3, 8, 10.9,
    ),
)
#: Stage 0 of tiny, in minutes of a budget of 25. Lessons about one region come before whole conversations.
EYES_MINUTES, LESSONS_MINUTES, WORDS_MINUTES = 6.5, 1.3, 3.5
LESSONS = {"describe_short": 3, "instances": 1, "part_level": 1}
