"""Probes: something to move that changes a belief.

    state ──► pure function ──► values, figure        tested; no kernel or browser needed
    widget ──► changes the state, shows the figure     thin; `.static()` is the figure of the present state

    brush      BrushProbe      draws a mask; shows what it catches and its bytes in each form      (notebook 01)
    features   FeatureProbe    moves a point; shows which cells of a level hold the like           (02)
    pooling    MaskProbe       moves and grows a mask; shows the pooled vector on each level       (03)
    tokens     TokenProbe      chooses a record; shows which positions carry loss                  (06)
               prompt_tokens   which positions of a question are image, mask, spatial and text     (00)
               swap_tokens     the answers when regions trade their mask tokens                    (00)
    sampling   SamplingProbe   moves temperature and top-p; shows what may be said next            (08)
    clicking   ClickProbe      moves a click; shows its three masks and what is said of them       (09)
"""

from .brush import BrushProbe, BrushReading, brush_figure, read_brush
from .clicking import ClickProbe, ClickState, click_figure
from .features import FeatureProbe, FeatureState, Patch, cell_of, feature_figure, likeness_map, nearest_patches
from .pooling import LevelReading, MaskProbe, ProbeState, likeness, probe_figure, probe_mask, read_levels
from .sampling import SamplingProbe, SamplingState, next_token_probabilities, sampling_figure
from .tokens import TokenProbe, positions, prompt_tokens, swap_tokens

__all__ = [
    "BrushProbe", "BrushReading", "ClickProbe", "ClickState", "FeatureProbe", "FeatureState", "LevelReading", "MaskProbe",
    "Patch", "ProbeState", "SamplingProbe", "SamplingState", "TokenProbe", "brush_figure", "cell_of", "click_figure",
    "feature_figure", "likeness", "likeness_map", "nearest_patches", "next_token_probabilities", "positions", "probe_figure",
    "probe_mask", "prompt_tokens", "read_brush", "read_levels", "sampling_figure", "swap_tokens",
]  # fmt: skip
