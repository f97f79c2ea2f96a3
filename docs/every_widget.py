# ruff: noqa: B018, E402, F821
"""Every widget in a cell of its own: the notebook of make_screenshots.py (jupytext opens it in JupyterLab)."""

# %% begin
from pathlib import Path

import numpy as np
import torch

import osprey_nb
from osprey_nb.data.scenes import make_scene
from osprey_nb.segment import load_segmenter
from osprey_nb.widgets import LiveTraining, MaskCanvas, Studio, probes


def features(scene):
    with torch.no_grad():
        return [level[0] for level in model.encoder(model.processor.image(scene.image)[None])]


model = osprey_nb.Osprey.from_pretrained("tiny").eval()
scene, large = make_scene(3, size=128, split="eval"), make_scene(374, size=512, split="eval")
others = [make_scene(seed, size=128, split="eval") for seed in range(40)]
masks = [thing.mask for thing in scene.objects]

# %% studio
Studio(model, make_scene(133, size=512, split="eval").image)

# %% everything
Studio(model, make_scene(133, size=512, split="eval").image)

# %% canvas
canvas = MaskCanvas(large.image, segmenter=load_segmenter("tiny"), title="Mark what you ask about")
canvas.set_masks([thing.mask for thing in large.objects[:2]])
for number, thing in enumerate(large.objects[:3], start=1):
    canvas.rename(number, f"the {thing.kind}")
canvas

# %% keys
MaskCanvas(scene.image, height=200)

# %% live
import copy
from dataclasses import replace
from functools import partial

from osprey_nb.train import bridge, stages, tiny, trainer

torch.manual_seed(0)
learner, scenes = copy.deepcopy(model), [make_scene(seed) for seed in range(100)]
for module in learner.mask_extractor.modules():
    if hasattr(module, "reset_parameters"):
        module.reset_parameters()
bridge.bridge(learner, scenes, seed=0, steps=200)
learner.projector.load_state_dict(model.projector.state_dict())
live = LiveTraining(learner, scene.image, masks, predict_every=2)
display(live)
for stage in stages.TINY[1], replace(stages.TINY[2], trains=dict.fromkeys(stages.TINY[2].trains, 1e-4)):
    batches = partial(tiny.record_batches, scenes, stage, model.processor, 0)
    groups, budget = stages.begin(learner, stage), trainer.Budget(steps=25)
    trainer.fit(trainer.Objective(learner, stages.osprey_loss), batches, groups, budget, stage.name, [live])

# %% brush
brush = probes.BrushProbe(scene.image, masks[0])
brush.canvas.set_masks([np.roll(masks[0], (6, 5), (0, 1))])
brush

# %% features
probes.FeatureProbe(scene.image, features(scene), [(other.image, features(other)) for other in others[4:24]])

# %% pooling
pooling = probes.MaskProbe(scene.image, features(scene), probes.ProbeState(55, 62, 36))
pooling.move(x=70, size=20)
pooling

# %% microscope
probes.MicroscopeProbe(scene.image, features(scene), masks[0])

# %% tokens
from osprey_nb.data.readers import OspreyFile

data = Path(osprey_nb.__file__).parents[1] / "data_samples"
files = [data / f"osprey_{name}.json" for name in ("short_form", "conversation", "detail_description", "part_level")]
probes.TokenProbe(model.processor, [OspreyFile(file, data / "images", progress=False)[3] for file in files])

# %% sampling
asked = probes.Asked(model, scene.image, masks)
answer = asked.answer(masks[0])
with torch.no_grad():
    logits = model.llm(inputs_embeds=asked.embeds(asked.pair(masks[0][None]), answer)).logits[0, -len(answer) - 1 : -1]
probes.SamplingProbe(logits, answer, model.processor.tokenizer, probes.SamplingState(1, 2.0, 0.9))

# %% clicking
probes.ClickProbe(load_segmenter("tiny"), model.read(scene.image), probes.ClickState(72, 84))

# %% attention
probes.AttentionProbe(model, scene.image, masks, start=probes.AttentionState(word=3, layer=1, head=1))

# %% stepper
probes.StepperProbe(model, scene.image, masks, start=probes.StepState(step=3))

# %% whatif
probes.WhatIfProbe(model, scene.image, masks, start=probes.WhatIfState(right=14))

# %% switches
probes.SwitchProbe(model, scene.image, masks, start=probes.SwitchState(res3=False))

# %% saliency
probes.SaliencyProbe(model, scene.image, masks, start=probes.SaliencyState(method="occlusion"))

# %% space
probes.SpaceProbe(probes.read_regions(model, probes.scene_pictures(others)))

# %% quiz
quiz = probes.QuizProbe(model, probes.scene_questions(others[:5]))
quiz.choose(3)
quiz
