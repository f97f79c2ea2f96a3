"""The drawings of the course: arrays in, a matplotlib figure out; knows no model.

    arrays    number_grids, heatmaps, pyramid …    tensors as numbers, heat or colours; curves     (02, 03)
    codecs    runs, outline, polygons, pointing    what a mask looks like in each of its forms     (01)
    model     question, pipeline, extractor        the way from pixels to a sentence               (00, 03)
    tokens    token_strip, batch, instruction      a conversation, a batch, as the LLM reads them (00, 06)
    stages    stages_figure, memory_figure         what a stage trains, and what that costs        (07)
    training  training_figure, runs_figure, rates  a training run, several runs                    (07)
    generation  computed, shared_prefix, bars …    what an answer computes, keeps and costs        (08)
    segmenting  Panel, prompted, sam_flow          clicks, boxes and the masks that they give      (09)

One colour for one thing, everywhere: image tokens blue, mask token orange, spatial token green, text grey.
"""

from .arrays import curve, heatmaps, number_grids, principal_colours, pyramid, shares
from .codecs import outline, pointing, polygons, runs
from .generation import bars, computed, shared_prefix, verdicts, who_sees_whom
from .model import extractor, pipeline, question
from .segmenting import Panel, prompted, sam_flow, scatter
from .stages import memory_figure, stages_figure
from .tokens import batch, instruction, token_strip
from .training import rates, runs_figure, smoothed, training_figure

__all__ = [
    "Panel", "bars", "batch", "computed", "curve", "extractor", "heatmaps", "instruction", "memory_figure", "number_grids",
    "outline", "pipeline", "pointing", "polygons", "principal_colours", "prompted", "pyramid", "question", "rates", "runs",
    "runs_figure", "sam_flow", "scatter", "shared_prefix", "shares", "smoothed", "stages_figure", "token_strip",
    "training_figure", "verdicts", "who_sees_whom",
]  # fmt: skip
