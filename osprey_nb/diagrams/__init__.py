"""The drawings of the course: arrays in, a matplotlib figure out; knows no model.

    arrays    number_grids, principal_colours      small tensors with their numbers; features as colours
    codecs    runs, outline, polygons, pointing    what a mask looks like in each of its forms     (notebook 01)
    model     question, pipeline, extractor        the way from pixels to a sentence               (00, 03)
    tokens    token_strip, batch, instruction      a conversation, a batch, as the LLM reads them  (00, 06)

One colour for one thing, everywhere: image tokens blue, mask token orange, spatial token green, text grey.
"""

from .arrays import number_grids, principal_colours
from .codecs import outline, pointing, polygons, runs
from .model import extractor, pipeline, question
from .tokens import batch, instruction, token_strip

__all__ = [
    "batch", "extractor", "instruction", "number_grids", "outline", "pipeline", "pointing", "polygons",
    "principal_colours", "question", "runs", "token_strip",
]  # fmt: skip
