"""Probes: something to move that changes a belief.

    state ──► pure function ──► values, figure        tested; no kernel or browser needed
    widget ──► changes the state, shows the figure     thin; `.static()` is the figure of the present state

    brush       BrushProbe       draws a mask; shows what it catches and its bytes in each form      (notebook 01)
    features    FeatureProbe     moves a point; shows which cells of a level hold the like           (02)
    pooling     MaskProbe        moves and grows a mask; shows the pooled vector on each level       (03)
    tokens      TokenProbe       chooses a record; shows which positions carry loss                  (06)
                prompt_tokens    which positions of a question are image, mask, spatial and text     (00)
                swap_tokens      the answers when regions trade their mask tokens                    (00)

Of a model and a picture (`asked.Asked` reads it once):

    attention   AttentionProbe   chooses a word, layer and head; shows where the model looks         (08)
    stepper     StepperProbe     writes a token at a time; shows the next words, and the logit lens  (05, 08)
    whatif      WhatIfProbe      moves, grows or trades a mask; shows both answers, word by word     (03, 08)
    switches    SwitchProbe      turns off levels and tokens of a region; shows the answer           (03)
"""

from .attention import (
    AttentionProbe,
    AttentionReading,
    AttentionState,
    attention_figure,
    attention_row,
    grouped,
    read_attention,
    rollout,
)
from .brush import BrushProbe, BrushReading, brush_figure, read_brush
from .features import FeatureProbe, FeatureState, Patch, cell_of, feature_figure, likeness_map, nearest_patches
from .pooling import LevelReading, MaskProbe, ProbeState, likeness, probe_figure, probe_mask, read_levels
from .stepper import StepperProbe, StepState, final_norm, lens, next_words, stepper_figure
from .switches import SwitchProbe, SwitchState, losses, switched, switches_figure
from .tokens import TokenProbe, positions, prompt_tokens, swap_tokens
from .whatif import Change, WhatIfProbe, WhatIfState, change, changed_mask, whatif_figure

__all__ = [
    "AttentionProbe", "AttentionReading", "AttentionState", "BrushProbe", "BrushReading", "Change", "FeatureProbe",
    "FeatureState", "LevelReading", "MaskProbe", "Patch", "ProbeState", "StepState", "StepperProbe", "SwitchProbe",
    "SwitchState", "TokenProbe", "WhatIfProbe", "WhatIfState", "attention_figure", "attention_row", "brush_figure",
    "cell_of", "change", "changed_mask", "feature_figure", "final_norm", "grouped", "lens", "likeness", "likeness_map",
    "losses", "nearest_patches", "next_words", "positions", "probe_figure", "probe_mask", "prompt_tokens", "read_attention",
    "read_brush", "read_levels", "rollout", "stepper_figure", "swap_tokens", "switched", "switches_figure", "whatif_figure",
]  # fmt: skip
