# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 07 · Training
#
# **All of Osprey's training is one loop and a plan.** The loop is twenty lines; you write it here. The plan says
# which parts may move, on what data, and how fast. It is where most runs are won or lost.
#
# **You will learn**
#
# - what each of the three stages trains, what it leaves alone, and what that costs in memory;
# - to write the loop, and to try it on eight samples before you spend a night on it;
# - what the learning rate does, and how a run that goes wrong is stopped;
# - to watch a model learn, to skip a stage, and to measure what that changes;
# - why a killed run loses nothing.
#
# | | |
# |---|---|
# | **You need first** | [03](03_mask_extractor.ipynb) and [06](06_instruction_data.ipynb): what learns, and from what |
# | **Time** | 45 minutes with the exercises; all cells run in about 80 seconds |
# | **Memory** | 2.4 GB at most, no GPU |
# | **Measured** | 2026-11-26, 2 CPU cores, by `python notebooks/make.py 07` |
# | **Modules** | `osprey_nb/train/`: stages, trainer, guards, checkpoints; `osprey_nb/widgets/live.py` |

# %%
# %matplotlib inline
import copy
import itertools
import math
import os
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

import osprey_nb
from osprey_nb import diagrams, viz
from osprey_nb.config import OspreyConfig
from osprey_nb.data.language import parse_phrase
from osprey_nb.data.scenes import make_scene
from osprey_nb.exercises import check
from osprey_nb.train.bridge import bridge
from osprey_nb.train.checkpoints import Checkpoints
from osprey_nb.train.machines import fast_bf16
from osprey_nb.train.stages import PAPER, TINY, Stage, begin, memory, osprey_loss, summary
from osprey_nb.train.tiny import record_batches
from osprey_nb.train.trainer import Budget, Objective, fit
from osprey_nb.widgets import LiveTraining

os.chdir(tempfile.mkdtemp())                    # a folder of our own, which the system clears away
model = osprey_nb.Osprey.from_pretrained("tiny")
scenes = [make_scene(seed) for seed in range(200)]

# %% [markdown]
# ## 1 · Who may learn
#
# Osprey has four parts. Two of them come from elsewhere and know a lot already: the encoder has learnt to see, the
# LLM to speak. Between them stand two that know nothing: the projector and the mask extractor. Train all at once, and
# the loud errors of the new parts wreck the old ones. So it goes in stages, and what is not named is **frozen**:
#
# > **Predict before you run.** In which stage may the encoder move?

# %%
diagrams.stages_figure({stage.name: stage.trains for stage in PAPER})

# %% [markdown]
# In none. The numbers are **learning rates**: how far a weight moves in a step, as a highest value. Those of an LLM are
# a hundredth of those of a projector that begins from nothing.
#
# A stage is nothing but these facts, and the data. Here is the second, as the package holds it:

# %%
PAPER[1]

# %% [markdown]
# `begin` turns it into PyTorch: `requires_grad` is switched off everywhere, and on again in the parts that learn. It
# gives back what the optimizer may touch.

# %%
groups = begin(model, TINY[1])
print(summary(model))
print(sum(weight.numel() for group in groups for weight in group["params"]), "numbers may move")

# %% [markdown]
# A frozen part is not idle. It computes in every step, and the gradient even flows *through* the LLM, back to the
# region tokens. It just is not *changed*.
#
# What does it cost, then, to let a number learn? The number itself: 4 bytes. Its gradient: 4. And AdamW, which sets a
# pace for each number of its own, keeps two more: 8.

# %% [markdown]
# ### Exercise 07.1 · The bill
# ★☆☆ · 3 minutes
#
# You want to train all of a model of 7 000 000 000 numbers, in float32. How many GB (10⁹ bytes) do weights, gradients
# and AdamW take together, before the first picture is looked at?
#
# <details><summary>Hint</summary>
#
# Sixteen bytes for each number.
#
# </details>
# <details><summary>Solution</summary>
#
# ```python
# gigabytes = 7 * (4 + 4 + 8)
# ```
#
# </details>

# %% tags=["exercise"]
gigabytes = ...

# %%
check("07.1", gigabytes)

# %% [markdown]
# We can ask the published model itself, without its weights. On PyTorch's `meta` device a tensor has a shape and takes
# no memory.
#
# > **Predict.** Stage 3 by **LoRA** leaves the LLM as it is and learns small corrections beside it, of rank 64. Does it
# > need a half, a tenth, or a hundredth of the memory for gradients?

# %%
def bill(stage: Stage, lora=None):
    """GiB of weights, gradients and AdamW for a stage of the published model."""
    with torch.device("meta"):
        big = osprey_nb.Osprey(OspreyConfig.preset("paper"))
        begin(big, stage, lora)
    return {what: size / 2**30 for what, size in memory(big).items()}


diagrams.memory_figure({
    "stage 1: projector": bill(PAPER[0]), "stage 2: mask extractor": bill(PAPER[1]),
    "stage 3: all but the encoder": bill(PAPER[2]), "stage 3 with LoRA, rank 64": bill(PAPER[2], lora=64),
})

# %% [markdown]
# Stage 3 as published does not fit on one card. The authors shared it out to four, with DeepSpeed; `configs/` has such
# files. LoRA makes it fit on one.
#
# ## 2 · The loop
#
# One step: **take a batch, ask for the loss, send its gradient back, let the optimizer move.** Three more lines make
# it a loop that works:
#
# - the gradient's length is **clipped** at 1: one odd batch can't throw the model far;
# - the rate **warms up**: AdamW does not know yet how long gradients usually are;
# - then it **decays** along a cosine to 0: small steps at the end settle what large ones found.

# %% [markdown]
# ### Exercise 07.2 · The rate
# ★★☆ · 6 minutes
#
# Write `lr_at(spent, peak)`. `spent` is the share of the training that is over, from 0 to 1.
#
# - up to 3 % the rate climbs evenly, from 0 at the start to the cosine's value;
# - the cosine is `peak` · ½ (1 + cos(π · spent)), for all of the training.
#
# <details><summary>Hint</summary>
#
# A product of three factors. The first is `min(1, spent / 0.03)`: it climbs, and then stays 1.
#
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def lr_at(spent, peak):
#     return min(1, spent / 0.03) * peak * (1 + math.cos(math.pi * spent)) / 2
# ```
#
# </details>

# %% tags=["exercise"]
def lr_at(spent, peak):
    """The learning rate when a share of the training is spent."""
    ...


# %%
check("07.2", lr_at)

# %% [markdown]
# Here is the whole loop. (The package adds 0.001 to the warm-up, so that the very first step is not lost. `autocast`
# multiplies in bfloat16 where the processor can. `fused` does all weights at once; it rounds differently, and
# bfloat16 amplifies that.)

# %%
def by_hand(model, stage, batches, steps):
    """Train `model` on a stage; the loss of every step."""
    groups = begin(model, stage)
    peaks = [group["lr"] for group in groups]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0, fused=True)
    losses = []
    for step, batch in zip(range(steps), batches, strict=False):
        spent = step / steps
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = min(1, spent / 0.03 + 0.001) * peak * (1 + math.cos(math.pi * spent)) / 2
        with torch.autocast("cpu", torch.bfloat16, enabled=fast_bf16(model.device)):
            loss = osprey_loss(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([weight for group in groups for weight in group["params"]], 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses

# %% [markdown]
# ## 3 · First, eight samples
#
# Before you train for a night, **overfit eight samples**. A loop that can't learn eight pictures by heart won't learn
# a million. It takes seconds, and it finds most faults: a mask in the wrong order, a frozen part, labels off by one.
#
# We need a model with something left to learn. So we take tiny, and give it a mask extractor with random weights. Then
# comes what every recipe has before its first stage: a good **place to begin**. tiny's LLM first learnt to read *words* in
# place of regions (its stage 0). So we look for the matrix that best maps pooled features to the sum of the right words'
# embeddings: by least squares, and then trained on until the true word is the nearest. (`osprey_nb/train/bridge.py`. It fits
# the spatial MLP and the projector, too, by a short regression each; tiny's own projector stays as it is here.)

# %%
def untaught():
    """tiny with a mask extractor that knows nothing."""
    torch.manual_seed(0)
    fresh = osprey_nb.Osprey.from_pretrained("tiny")
    for module in fresh.mask_extractor.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return fresh


beginner = untaught()
bridge(beginner, scenes, seed=0, steps=200)     # its mask extractor begins where the words are
beginner.projector.load_state_dict(model.projector.state_dict())

stage2 = replace(TINY[1], mixture={"describe_short": 1})
eight = next(record_batches(scenes[:8], stage2, model.processor, seed=0))
crammer = copy.deepcopy(beginner)
losses = by_hand(crammer, stage2, itertools.repeat(eight), steps=20)
diagrams.curve(losses, "eight samples, again and again: the loss")

# %% [markdown]
# It goes down and down. On *these* eight. On others?
#
# > **Predict.** Is the loss on eight other samples as low? A bit higher? Several times as high?

# %%
others = next(record_batches(scenes[100:108], stage2, model.processor, seed=0))
with torch.no_grad():
    on_others = osprey_loss(crammer.eval(), others).item()
diagrams.number_grids(("loss, the eight", [[round(losses[-1], 2)]]), ("loss, eight others", [[round(on_others, 2)]]))

# %% [markdown]
# The difference is what it knows **by heart**. Learning by heart is not what we are after. It was a test of the *loop*,
# and the loop passed.

# %% [markdown]
# ## 4 · The parity cell
#
# Does the package train as our twenty lines do? Same model, same batches, five steps.

# %%
few = list(itertools.islice(record_batches(scenes, TINY[1], model.processor, seed=0), 5))
mine, theirs = (copy.deepcopy(beginner) for _ in range(2))
ours = by_hand(mine, TINY[1], few, steps=5)
groups = begin(theirs, TINY[1])
packages = fit(Objective(theirs, osprey_loss), lambda start=0: iter(few[start:]), groups, Budget(steps=5), "parity").losses
np.testing.assert_allclose(ours, packages, rtol=1e-4)
print("the loop by hand and osprey_nb.train: the same losses, five times")

# %% [markdown]
# What `fit` has besides: several devices and processes, a clock instead of a count of steps, watchers, checkpoints,
# and **accumulation**. When a batch of 16 does not fit in memory, take two of 8, and step once. The catch: a mean of
# means is not the mean.

# %% [markdown]
# ### Exercise 07.3 · A mean of pieces
# ★★☆ · 5 minutes
#
# A piece of a batch has the mean loss of its answer tokens, and their number: `losses = [2.0, 1.0]`, `counts = [10, 30]`.
# Write `whole(losses, counts)`: the loss that the whole batch would have had, in one go.
#
# <details><summary>Hint</summary>
#
# Each *token* weighs the same. The sum of all tokens' losses, by the number of all tokens.
#
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def whole(losses, counts):
#     return sum(loss * count for loss, count in zip(losses, counts)) / sum(counts)
# ```
#
# </details>

# %% tags=["exercise"]
def whole(losses, counts):
    """Mean losses of pieces, and their numbers of tokens, to the loss of all together."""
    ...


# %%
check("07.3", whole)

# %% [markdown]
# ## 5 · Break it on purpose
#
# The learning rate is the first thing to get wrong. Let us take 10 instead of 0.001.
#
# > **Predict.** The gradient is clipped, so nothing is ever longer than 1. Is the model safe?

# %%
wild = replace(TINY[2], trains=dict.fromkeys(TINY[2].trains, 10.0))
reckless = copy.deepcopy(beginner)
groups = begin(reckless, wild)
try:
    fit(Objective(reckless, osprey_loss), lambda start=0: itertools.repeat(eight), groups, Budget(steps=30), "reckless")
except FloatingPointError as error:
    print(type(error).__name__, "-", str(error).split(". ")[1].split(":")[0])

# %% [markdown]
# No. Adam divides by the gradient's usual length: each weight moves by about the *rate*, however short the gradient is.
# A few steps, and the loss is a thousand times what it was. A **guard** looks at every loss: one that leaps, or is no
# number at all, stops the run and names the samples of the batch, for sometimes it is one of them.
#
# There is a quieter way to fail. Let the mask extractor *alone* learn at 10 (try it): its tokens become huge, the LLM
# scales them back, and the loss just stays higher than where it began. No guard sees that. Somebody must look.
#
# ## 6 · Watch it learn
#
# Now for real, on a subset: 200 scenes, 20 steps of stage 2, and 20 of stage 3. (Stage 3 gets lower rates than tiny's own:
# this LLM has been trained already.) Run the cell with the widget, and then the next one. Watch the *words*, not only the
# curves.
#
# - What does it name first: colours, kinds, or parts?
# - The loss of stage 3 hardly falls. Does the model learn nothing there?

# %%
picture = make_scene(3, split="eval")
masks = [thing.mask for thing in picture.objects]
learner = copy.deepcopy(beginner)
live = LiveTraining(learner, picture.image, masks, predict_every=3)
live

# %%
def named(model, scenes):
    """The share of objects whose kind is named, and of parts whose name is."""
    kinds, parts = [], []
    for scene in scenes:
        things = [(thing.mask, thing.kind) for thing in scene.objects]
        pieces = [(part.mask, part.name) for thing in scene.objects for part in thing.parts]
        said = [parse_phrase(text) for text in model.eval().describe(scene.image, [mask for mask, _ in things + pieces])]
        kinds += [words["kind"] == kind for words, (_, kind) in zip(said, things, strict=False)]
        parts += [words["part"] == part for words, (_, part) in zip(said[len(things):], pieces, strict=True)]
    return {"kind": float(np.mean(kinds)), "part": float(np.mean(parts))}


def train(model, stage, steps, watchers=(), seed=0):
    """Some steps of a stage on our 200 scenes."""
    batches = partial(record_batches, scenes, stage, model.processor, seed)
    fit(Objective(model, osprey_loss), batches, begin(model, stage), Budget(steps=steps), stage.name, watchers)


stage3 = replace(TINY[2], trains={part: 1e-4 for part in TINY[2].trains})
new = [make_scene(seed, split="eval") for seed in range(20)]
results = {"at the beginning": named(beginner, new)}
train(learner, TINY[1], 20, [live])
results["stage 2"] = named(learner, new)
train(learner, stage3, 20, [live])
results["stage 2, stage 3"] = named(learner, new)
diagrams.shares({what: {after: results[after][what] for after in results} for what in ("kind", "part")},
                "20 new scenes: what is named")

# %% [markdown]
# Reading without a kernel? Here are the curves, and what it said of each region before the first step and after the last.

# %%
diagrams.training_figure(live.entries)

# %%
viz.overlay(picture.image, masks, labels=live.predictions[0].answers)

# %%
viz.overlay(picture.image, masks, labels=live.predictions[-1].answers)

# %% [markdown]
# > **A note that changes a belief.** The loss jumps up and down, and in stage 3 it hardly falls. One batch asks for whole
# > objects, the next for parts or long descriptions: *each has a loss of its own*. **A low loss may be an easy batch.**
# > Only fixed questions about pictures that were never trained on tell what a model has learnt. We ask them now.
#
# The widget as a page that stays, to keep with the run:

# %%
Path("training.html").write_text(live.static().data, encoding="utf-8")
print("wrote training.html")

# %% [markdown]
# ## 7 · Skip a stage
#
# The paper doesn't say what each stage is worth. So ask. 40 steps in all, three ways:
#
# - **both stages**: 20 steps of stage 2, then 20 of stage 3;
# - **without stage 2**: 40 steps of stage 3;
# - **from random weights**: both stages, but the mask extractor begins with random weights.
#
# A comparison is fair if *one* thing differs. So the mask extractor learns at the same rate in all of them. And one run is
# an anecdote: each way is trained three times, with batches of another seed.
#
# > **Predict.** Which one costs more? And does it cost kinds, or parts?

# %%
fair = replace(stage3, trains={**stage3.trains, "mask_extractor": TINY[1].trains["mask_extractor"]})
ways = {"both stages": (beginner, [(TINY[1], 20), (fair, 20)]), "without stage 2": (beginner, [(fair, 40)]),
        "from random weights": (untaught(), [(TINY[1], 20), (fair, 20)])}
runs = {way: [] for way in ways}
for seed in range(3):
    for way, (begun, plan) in ways.items():
        candidate = copy.deepcopy(begun)
        for stage, steps in plan:
            train(candidate, stage, steps, seed=seed)
        runs[way].append(named(candidate, new))
diagrams.shares({what: {way: [each[what] for each in found] for way, found in runs.items()} for what in ("kind", "part")},
                "20 new scenes: what is named. A dot is a run, a bar the mean of three")

# %% [markdown]
# Look at the three dots of each row before you look at the bars. A difference that is smaller than the spread within a row
# is none. So these runs *don't* show that stage 2 is worth anything: with the mask extractor at the same rate, forty
# steps of stage 3 do as well. A result that surprises is a reason to check what else differed. An earlier form of this
# notebook gave stage 3 a tenth of the rate, and "found" that half of the parts were lost without stage 2.
#
# From random weights most is missing: forty steps are far too few to find where the words of an LLM are. (Its encoder and
# LLM are tiny's own, trained already. Only the *beginning* of the mask extractor differs.)
#
# Are these laws? No. It is a small model, and a handful of steps. What you have now is the way to *ask*.

# %% [markdown]
# ### Exercise 07.4 · A stage of your own
# ★★★ · 10 minutes
#
# Write a fourth stage for tiny, in five lines. It should make the model better at **parts** and touch as little as it can:
#
# - the mask extractor learns at 3e-4, and the LLM at a *tenth* of that; the rest is frozen;
# - three of four records are `part_level`, the fourth is `describe_short`, so that whole objects are not forgotten;
# - batches of 8, for 2 minutes.
#
# <details><summary>Hint</summary>
#
# `Stage(name, trains, mixture, batch_size=…, minutes=…)`. `trains` is a dictionary from part to rate; `mixture` one from
# kind of record to weight.
#
# </details>
# <details><summary>Solution</summary>
#
# ```python
# stage4 = Stage(
#     "stage 4: parts",
#     trains={"mask_extractor": 3e-4, "llm": 3e-5},
#     mixture={"part_level": 3, "describe_short": 1},
#     batch_size=8, minutes=2,
# )
# ```
#
# </details>

# %% tags=["exercise"]
stage4 = ...

# %%
check("07.4", stage4)

# %% [markdown]
# ## 8 · Nothing is lost
#
# Machines are switched off. Sooner or later one will be, in the middle of your run, and perhaps while it is saving. So a
# checkpoint is written into a folder with another name, and renamed when it is whole. It holds the weights, AdamW's two
# numbers for each, and the state of the random numbers.
#
# > **Predict.** A run of eight steps is killed in the sixth, and goes on from its last checkpoint. Will its weights be
# > *near* those of a run that nobody disturbed?

# %%
steady, killed = (copy.deepcopy(beginner) for _ in range(2))
small = replace(stage2, batch_size=2)
eight_steps = list(itertools.islice(record_batches(scenes, small, model.processor, seed=1), 8))


def power_cut(start=0):
    """The batches; the lights go out at the sixth."""
    yield from eight_steps[start:5]
    raise OSError("no power")


def whole_run(start=0):
    return iter(eight_steps[start:])


checkpoints = Checkpoints("checkpoints", keep=2, seconds=0)                     # one after every step, keep two
options = {"lr": small.trains["mask_extractor"], "budget": Budget(steps=8), "name": "stage 2"}
for one in (steady, killed):
    begin(one, small)
fit(Objective(steady, osprey_loss), whole_run, **options)
try:
    fit(Objective(killed, osprey_loss), power_cut, checkpoints=checkpoints, **options)
except OSError as error:
    print(error, "- but there are", *sorted(path.name for path in checkpoints.all()))

revived = copy.deepcopy(beginner)                                                            # another day, another process
begin(revived, small)
fit(Objective(revived, osprey_loss), whole_run, resume=checkpoints.newest()[0], **options)
same = all(torch.equal(a, b) for a, b in zip(steady.parameters(), revived.parameters(), strict=True))
print("the same bits" if same else "other bits")

# %% [markdown]
# Not near: **equal**, to the last bit. For that, a step must have the same batch wherever one starts. `record_batches`
# draws it from the seed and the number of the step, and from nothing else.
#
# ## 9 · What you built
#
# A loop, a plan, a guard, a memory. The same `fit` trains everything in this project. In a terminal:
#
# ```sh
# osprey-nb train tiny --minutes 15 --compile        # from nothing: stage 0 and all three stages
# osprey-nb finetune mine/texts.csv --minutes 5      # on your own pictures
# osprey-nb train stage2 --images /data --out runs/stage2    # the published model, on the paper's data
# osprey-nb runs runs/*                              # runs side by side
# ```
#
# And on eight GPUs `accelerate launch --config_file configs/fsdp.yaml …` before it; the batches are shared out, and the
# losses stay the same.

# %%
diagrams.stages_figure({stage.name: stage.trains for stage in TINY})

# %% [markdown]
# The same three stages. The rate of stage 1 is the paper's; those of stages 2 and 3 are fifty and a hundred times as high, as
# small models take large steps. Where the data of these stages
# come from is in [06 · Instruction data](06_instruction_data.ipynb).
