"""Probes: something to move that changes a belief.

    state ──► pure function ──► values, figure        tested; no kernel or browser needed
    widget ──► changes the state, shows the figure     thin; `.static()` is the figure of the present state

    brush       BrushProbe       draws a mask; shows what it catches and its bytes in each form      (notebook 01)
    features    FeatureProbe     moves a point; shows which cells of a level hold the like           (02)
    pooling     MaskProbe        moves and grows a mask; shows the pooled vector on each level       (03)
    tokens      TokenProbe       chooses a record; shows which positions carry loss                  (06)
                prompt_tokens    which positions of a question are image, mask, spatial and text     (00)
                swap_tokens      the answers when regions trade their mask tokens                    (00)
    sampling    SamplingProbe    moves temperature and top-p; shows what may be said next            (08)
    clicking    ClickProbe       moves a click; shows its three masks and what is said of them       (09)

Of a model and a picture (`asked.Asked` reads it once):

    attention   AttentionProbe   chooses a word, layer and head; shows where the model looks         (08)
    stepper     StepperProbe     writes a token at a time; shows the next words, and the logit lens  (05, 08)
    whatif      WhatIfProbe      moves, grows or trades a mask; shows both answers, word by word     (03, 08)
    switches    SwitchProbe      turns off levels and tokens of a region; shows the answer           (03)
    saliency    SaliencyProbe    chooses a word and a method; shows which pixels and cells count     (02, 08)
    space       SpaceProbe       chooses regions on a map of many; shows which are alike, and where  (03, 04)
    microscope  MicroscopeProbe  chooses a cell; shows its patch and its share of the pooled mean    (03)
    quiz        QuizProbe        the reader guesses before the model tells                           (00)
"""

from .asked import Asked
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
from .clicking import ClickProbe, ClickState, click_figure
from .features import FeatureProbe, FeatureState, Patch, cell_of, feature_figure, likeness_map, nearest_patches
from .microscope import CellReading, MicroscopeProbe, MicroscopeState, cells_at, microscope_figure, read_cells
from .pooling import LevelReading, MaskProbe, ProbeState, likeness, probe_figure, probe_mask, read_levels
from .quiz import Question, QuizProbe, QuizState, Verdict, judge, quiz_figure, scene_questions, tally
from .saliency import Saliency, SaliencyProbe, SaliencyState, gradient, occlusion, saliency_figure
from .sampling import SamplingProbe, SamplingState, next_token_probabilities, sampling_figure
from .space import (
    Regions,
    SpaceProbe,
    SpaceState,
    cosines,
    flat,
    neighbours,
    read_regions,
    scene_pictures,
    space_figure,
)
from .stepper import StepperProbe, StepState, final_norm, lens, next_words, stepper_figure
from .switches import SWITCHES, SwitchProbe, SwitchState, losses, switched, switches_figure
from .tokens import TokenProbe, positions, prompt_tokens, swap_tokens
from .whatif import Change, WhatIfProbe, WhatIfState, change, changed_mask, whatif_figure

__all__ = [
    "Asked", "AttentionProbe", "AttentionReading", "AttentionState", "BrushProbe", "BrushReading", "CellReading", "Change",
    "ClickProbe", "ClickState", "FeatureProbe", "FeatureState", "LevelReading", "MaskProbe", "MicroscopeProbe",
    "MicroscopeState", "Patch", "ProbeState", "Question", "QuizProbe", "QuizState", "Regions", "SWITCHES", "Saliency",
    "SaliencyProbe", "SaliencyState", "SamplingProbe", "SamplingState", "SpaceProbe", "SpaceState", "StepState",
    "StepperProbe", "SwitchProbe", "SwitchState", "TokenProbe", "Verdict", "WhatIfProbe", "WhatIfState", "attention_figure",
    "attention_row", "brush_figure", "cell_of", "cells_at", "change", "changed_mask", "click_figure", "cosines",
    "feature_figure", "final_norm", "flat", "gradient", "grouped", "judge", "lens", "likeness", "likeness_map", "losses",
    "microscope_figure", "nearest_patches", "neighbours", "next_token_probabilities", "next_words", "occlusion", "positions",
    "probe_figure", "probe_mask", "prompt_tokens", "quiz_figure", "read_attention", "read_brush", "read_cells", "read_levels",
    "read_regions", "rollout", "saliency_figure", "sampling_figure", "scene_pictures", "scene_questions", "space_figure",
    "stepper_figure", "swap_tokens", "switched", "switches_figure", "tally", "whatif_figure",
]  # fmt: skip
