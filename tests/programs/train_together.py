"""`train_together.py OUT STEPS ACCUMULATE [RESUME]`: a few steps of the tiny model, alone or as one of several processes.

The losses go to OUT/losses.json, the weights to OUT/model, checkpoints to OUT/checkpoints.
"""

import json
import sys
from functools import partial
from pathlib import Path

import torch
from accelerate import PartialState

from osprey_nb import Osprey
from osprey_nb.data.scenes import make_scene
from osprey_nb.train.checkpoints import Checkpoints
from osprey_nb.train.run import save
from osprey_nb.train.stages import TINY, begin, osprey_loss
from osprey_nb.train.tiny import record_batches
from osprey_nb.train.trainer import Budget, Objective, fit

out, steps, accumulate = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(1)
torch.cpu._is_avx512_bf16_supported = lambda: False  # float32: what differs is then the order of sums
torch.manual_seed(0)
model = Osprey.from_pretrained("tiny")
checkpoints = Checkpoints(out / "checkpoints", seconds=0)
scenes = [make_scene(seed) for seed in range(24)]
stage = TINY[-1]
done = fit(
    Objective(model, osprey_loss), partial(record_batches, scenes, stage, model.processor, 0), begin(model, stage),
    Budget(steps=steps), stage.name, accumulate=accumulate, checkpoints=checkpoints,
    resume=Path(sys.argv[4]) if len(sys.argv) > 4 else None,
)  # fmt: skip
save(model, done, out / "model", merged=False)
if PartialState().is_main_process:
    (out / "losses.json").write_text(json.dumps(done.losses))
