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
# # 10 · Probing
#
# **It says "a striped yellow clock". Did it look at your mask, or did it guess?**
# A model that answers well is easily believed. Here we don't. Each part begins with a claim, and ends with a number
# or a picture that speaks for it or against it.
#
# **You will learn**
#
# - how to test whether a model *uses* what it is given: change one thing, keep all else;
# - which of the three kinds of token carries which claim, and what each of the four levels brings;
# - to look inside: attention, attention rollout, the logit lens, saliency;
# - why a map of attention is no proof.
#
# | | |
# |---|---|
# | **You need first** | [03 · The mask extractor](03_mask_extractor.ipynb), [08 · Generation](08_generation.ipynb) |
# | **Time** | 60 minutes with the exercises; all cells run in about 25 seconds |
# | **Memory** | 1.2 GB at most, no GPU |
# | **Measured** | 2026-11-27, 2 CPU cores, by `python notebooks/make.py 10` |
# | **Module** | `osprey_nb/widgets/probes/asked.py` and its neighbours: each probe is a function that you can call |

# %%
# %matplotlib inline
import numpy as np
import torch

import osprey_nb
from osprey_nb import diagrams
from osprey_nb.data.phrases import parse_phrase
from osprey_nb.data.scenes import make_scene
from osprey_nb.evaluate.controls import EXCHANGED, blind, controls
from osprey_nb.exercises import check
from osprey_nb.prompt import DETAILED, SHORT
from osprey_nb.viz import overlay
from osprey_nb.widgets import probes

model = osprey_nb.Osprey.from_pretrained("tiny").eval()
scene = make_scene(3, size=128, split="eval")
masks = [thing.mask for thing in scene.objects]
answers = model.describe(scene.image, masks)
overlay(scene.image, masks, answers)

# %% [markdown]
# ## 1 · Claim: the answer follows the mask
#
# The simplest test is a **swap**: the same picture, the same question, another mask. What else could make the
# difference?
#
# > **Predict before you run.** In one picture the answers above differ. Is that enough to believe the claim?

# %%
said, true = [], []
for seed in range(40):
    each = make_scene(seed, size=128, split="eval")
    texts = model.describe(each.image, [thing.mask for thing in each.objects])
    said.append([parse_phrase(text)["kind"] for text in texts])
    true.append([thing.kind for thing in each.objects])
right = sum(a == b for row, others in zip(said, true, strict=True) for a, b in zip(row, others, strict=True))
print(f"{right} of {sum(map(len, true))} objects named rightly, in {len(true)} pictures")

# %% [markdown]
# Impressive, but is it the mask? A picture of one object needs none. And of five objects, a model that names the
# largest each time is right once in five. So we count **pairs**: two regions of one picture, *both* named rightly.

# %% [markdown]
# ### Exercise 10.1 · Both
# ★★☆ · 6 minutes
#
# `said` and `true` are lists, a list of kinds for each picture. Return the share of pairs (two regions of the same
# picture) of which **both** are named rightly. Pictures with one region have no pair.
#
# <details><summary>Hint</summary>
#
# Two loops over the regions of a picture, `for j in range(i)`. Keep a list of True and False, and take its mean.
#
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def my_pairs(said, true):
#     both = []
#     for row, others in zip(said, true):
#         hits = [a == b for a, b in zip(row, others)]
#         both += [hits[i] and hits[j] for i in range(len(hits)) for j in range(i)]
#     return sum(both) / len(both)
# ```
#
# </details>

# %% tags=["exercise"]
def my_pairs(said, true):
    """Lists of lists of kinds to a share."""
    ...


# %%
check("10.1", my_pairs)

# %% [markdown]
# And the **control**: the same model, with the region's tokens set to zero. Now it sees the picture, and not where we
# point.

# %%
def shares_of(said):
    hits = [[a == b for a, b in zip(row, others, strict=True)] for row, others in zip(said, true, strict=True)]
    both = [row[i] and row[j] for row in hits for i in range(len(row)) for j in range(i)]
    return {"one region": np.mean(sum(hits, [])), "both of a pair": np.mean(both)}


blindly = []
with blind(model):
    for seed in range(40):
        each = make_scene(seed, size=128, split="eval")
        texts = model.describe(each.image, [thing.mask for thing in each.objects])
        blindly.append([parse_phrase(text)["kind"] for text in texts])
seeing, guessing = shares_of(said), shares_of(blindly)
diagrams.shares({what: {"with the region's tokens": seeing[what], "without": guessing[what]} for what in seeing})

# %% [markdown]
# The claim holds, in the drawings of this course. We have not tested photographs, and this model knows none.

# %% [markdown]
# ## 2 · Claim: each token carries its own
#
# The LLM is given three things beside the words: the **mask token** (what is there?), the **spatial token** (where, how
# large?), and the 64 **image tokens** (what else is in the picture?). Does it need all three, each for its own?
#
# We exchange **one kind at a time** for that of another region or picture, and read each claim of the answer: does it now
# follow the other, or does it stay? Only claims count in which the two differ.
#
# > **Predict.** Into a prompt about a small cat at the top left goes the spatial token of a large bus at the bottom. What
# > will change in *This is a small red cat at the top left of the picture*?

# %%
table = controls(model, seed=1, scenes=24, progress=False)


def moved(token, claim):
    """How often a claim goes with the token that was exchanged."""
    group = f"{token} token {EXCHANGED}: {claim}"
    if f"{group} follows" in table:
        return table[f"{group} follows"]["value"]
    return 1 - table[f"{group} stays"]["value"] if f"{group} stays" in table else 0.0  # it has no such token


claims = ("kind", "colour", "pattern", "part", "place", "size", "existence", "caption", "background", "relation")
tokens = ("mask", "spatial", "image")
diagrams.verdicts(claims, [f"{token} exchanged" for token in tokens],
                  [[moved(token, claim) for token in tokens] for claim in claims])

# %% [markdown]
# Read it row by row: how often did the claim go with the new token? *Relation* (*A red car is to its left*) hangs on two
# tokens: where I am (spatial), and where the others are (image). A single number is not all: of an exchange only those claims
# count in which the two differ, and a relation that was false before can follow nothing. docs/results.md says how often
# that is.
#
# The same controls over 250 scenes, with zeros and means in place of tokens as well, are part of `osprey-nb eval tiny`.

# %% [markdown]
# ## 3 · Claim: a mask need not be exact
#
# Move the mask, let it grow, take another object's. Both answers stand side by side, and each word with its probability
# under **both** masks: so you see not only what it says, but what it nearly said.
#
# > **Predict.** The clock's mask moves by half its width. Which word goes first: the pattern, the colour, or the kind?

# %%
what_if = probes.WhatIfProbe(model, scene.image, masks)
what_if

# %%
what_if.move(right=14)
what_if.static()

# %% [markdown]
# One mask, one move. Over the objects of twelve pictures, each mask moved to the right by a share of its own width:

# %%
kept = {}
for share in (0, 0.25, 0.5, 1):
    hits = []
    for seed in range(12):
        each = make_scene(seed, size=128, split="eval")
        shifts = [round(share * float(np.ptp(np.flatnonzero(thing.mask.any(0))) + 1)) for thing in each.objects]
        wandered = [np.pad(thing.mask, ((0, 0), (by, 0)))[:, :128] for thing, by in zip(each.objects, shifts, strict=True)]
        inside = [i for i, mask in enumerate(wandered) if mask.any()]
        named = model.describe(each.image, [wandered[i] for i in inside])
        hits += [parse_phrase(text)["kind"] == each.objects[i].kind for i, text in zip(inside, named, strict=True)]
    kept[f"moved by {share:.0%} of its width"] = {"kind still named": float(np.mean(hits))}
diagrams.shares(kept)

# %% [markdown]
# ## 4 · Claim: all four levels are needed
#
# The mask token is pooled on `res2` … `res5` and summed (paper, section 3.2). Here each can be turned off, and so can the
# spatial token and the picture's own tokens.
#
# > **Predict.** Turn each off alone. Which one will hurt most, and which least?

# %%
switches = probes.SwitchProbe(model, scene.image, masks)
switches

# %%
switches.move(res3=False)
switches.static()

# %% [markdown]
# One picture is an anecdote. Twelve, and two questions: one asks for a short phrase, the other for all that can be said.

# %%
def what_each_brings(question):
    """The mean log-likelihood of the usual answer that is lost when one thing alone is off."""
    lost = {name: [] for name in probes.SWITCHES}
    for seed in range(12):
        each = make_scene(seed, size=128, split="eval")
        asked = probes.Asked(model, each.image, [thing.mask for thing in each.objects], question)
        for mask in asked.masks:
            for name, value in probes.losses(asked, mask).items():
                lost[name].append(value)
    return {name: float(np.mean(values)) for name, values in lost.items()}


short = what_each_brings(SHORT)
diagrams.bars({name: max(value, 0) for name, value in short.items()}, "short phrase: log-likelihood that is lost")

# %%
detailed = what_each_brings(DETAILED)
diagrams.bars({name: max(value, 0) for name, value in detailed.items()}, "detailed description: log-likelihood that is lost")

# %% [markdown]
# > **A note that changes a belief.** *What a part is worth depends on the question.* A short phrase hangs on `res3` most. Ask
# > for detail, and the spatial token and the picture's own tokens are worth far more than any level. Had we tried the short
# > question only, we would have called two of Osprey's three inputs minor.
#
# Two warnings go with such bars. A zero is no neutral value: the model never saw one, so it may hurt even where a token
# carries nothing of the answer. And what is lost when *one* thing is off does not show what two things say alike: if two
# levels both held the colour, each could go alone and nothing would be lost. (A bar of 0 may also be a little below: then
# the answer became *likelier*.)

# %% [markdown]
# ## 5 · Where does it look?
#
# Each position of the LLM shares out its **attention** over those before it. We take the position that *writes* a word,
# and see what it looks at.
#
# > **Predict.** When it writes *clock*: the image tokens, the mask token, or the words before?

# %%
looking = probes.AttentionProbe(model, scene.image, masks)
looking

# %%
looking.move(word=3, layer=2, head=0)
looking.static()

# %% [markdown]
# The heads differ: some stare at the region's tokens, some at the words. Step through them. One layer is not the whole
# way, though. **Rollout** multiplies the layers: what the last one reads, the ones before have put there.

# %% [markdown]
# ### Exercise 10.2 · Rollout
# ★★★ · 10 minutes
#
# `layers` is a list of H×T×T attentions, first to last. Take each layer as half its heads' mean, half the identity (the
# residual path carries half of what a position holds), and multiply all of them. Return T×T.
#
# <details><summary>Hint</summary>
#
# Start from `torch.eye(T)`. The next layer stands on the left: `step @ through`.
#
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def my_rollout(layers):
#     through = torch.eye(layers[0].shape[-1])
#     for layer in layers:
#         step = (layer.mean(0) + torch.eye(len(through))) / 2
#         through = step @ through
#     return through
# ```
#
# </details>

# %% tags=["exercise"]
def my_rollout(layers):
    """A list of H×T×T to T×T."""
    ...


# %%
check("10.2", my_rollout)

# %% [markdown]
# **Parity.** Two layers by hand, against the package:

# %%
asked = probes.Asked(model, scene.image, masks)
answer = asked.answer(masks[0])
reading = probes.read_attention(model.llm, asked.embeds(asked.pair(masks[0][None]), answer))
eye = torch.eye(reading.layers[0].shape[-1])
halves = [(layer.mean(0) + eye) / 2 for layer in reading.layers]
by_hand = halves[3] @ halves[2] @ halves[1] @ halves[0]
torch.testing.assert_close(by_hand, probes.rollout(reading.layers))
print(len(reading.layers), "layers by hand, and the package's rollout: equal")

# %% [markdown]
# Looking must not change what is seen. The pass that writes out attention gives the same logits as the usual one:

# %%
with torch.no_grad():
    usual = model.llm(inputs_embeds=asked.embeds(asked.pair(masks[0][None]), answer)).logits[0]
torch.testing.assert_close(reading.logits, usual, atol=1e-4, rtol=1e-4)
print("the same logits, attention written out or not")

# %% [markdown]
# ## 6 · When does it know?
#
# After each layer one can ask: *if you had to speak now, what would you say?* Send the half-finished state through the
# last norm and the output matrix. That is the **logit lens**.
#
# > **Predict.** Four layers. After which of them will *clock* stand there?

# %%
stepper = probes.StepperProbe(model, scene.image, masks)
stepper

# %%
stepper.move(step=3)
stepper.static()

# %% [markdown]
# The embedding knows nothing of it yet; the last layers agree. What lies between is what the layers are for.

# %% [markdown]
# ## 7 · What does the answer hang on?
#
# Attention says where it *looks*. Whether that *matters* is another question. Two ways to ask it:
#
# - **gradient**: if this pixel changed a little, how much would the answer's likelihood move?
# - **occlusion**: hide a cell of the picture. What is lost?

# %% [markdown]
# ### Exercise 10.3 · Hide and see
# ★★☆ · 8 minutes
#
# `image` is H×W×3 in 0..1, `score` a function of a picture. Divide the picture into `cells`×`cells`; hide each cell in
# turn (set it to 0.5); return cells×cells: how much of the score is **lost**.
#
# <details><summary>Hint</summary>
#
# `hidden = image.copy()`; a slice of rows and one of columns; `score(image) - score(hidden)`.
#
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def my_occlusion(image, score, cells):
#     height, width = len(image) // cells, image.shape[1] // cells
#     lost = np.zeros((cells, cells))
#     for row in range(cells):
#         for column in range(cells):
#             hidden = image.copy()
#             hidden[row * height : (row + 1) * height, column * width : (column + 1) * width] = 0.5
#             lost[row, column] = score(image) - score(hidden)
#     return lost
# ```
#
# </details>

# %% tags=["exercise"]
def my_occlusion(image, score, cells):
    """H×W×3 and a function to cells×cells."""
    ...


# %%
check("10.3", my_occlusion)

# %%
saliency = probes.SaliencyProbe(model, scene.image, masks, start=probes.SaliencyState(method="occlusion"))
saliency

# %%
saliency.static()

# %% [markdown]
# Compare it with part 5: attention is paid to *tokens*, and a short phrase needs the mask token most. Here, cells of the
# *picture* matter: those under the mask.
#
# > **A note that changes a belief.** Both are right. The **mask token** has already read the picture: mask pooling happened
# > before the LLM. *A map of attention shows routing, not causes.* To know what matters, change it and see.

# %% [markdown]
# ## 8 · Break it on purpose: point at nothing
#
# A mask on the water, where no object is.
#
# > **Predict.** Will it say "water"? "Nothing"? What would you want it to say?

# %%
water = np.zeros((128, 128), bool)
water[98:120, 10:32] = True
assert not any((water & mask).any() for mask in masks)
overlay(scene.image, [water], model.describe(scene.image, [water]))

# %% [markdown]
# It names a thing all the same. In training each mask held an object or a part of one, so *nothing* is an answer that it
# never learnt. Do the probabilities warn you?

# %%
def sureness(asked, mask):
    """The probability of the whole answer: the product of its words'."""
    answer = asked.answer(mask)
    return float(asked.chances(asked.pair(mask[None]), answer)[0].prod())


of_objects, of_ground = [], []
for seed in range(20):
    each = make_scene(seed, size=128, split="eval")
    there = probes.Asked(model, each.image, [thing.mask for thing in each.objects])
    of_objects += [sureness(there, mask) for mask in there.masks]
    free = ~np.logical_or.reduce(there.masks)
    corner = next((y, x) for y in range(0, 108, 4) for x in range(0, 108, 4) if free[y : y + 20, x : x + 20].all())
    ground = np.zeros((128, 128), bool)
    ground[corner[0] : corner[0] + 20, corner[1] : corner[1] + 20] = True
    of_ground.append(sureness(there, ground))
diagrams.bars({"objects, the median": np.median(of_objects), "bare ground, the median": np.median(of_ground),
               "bare ground, the highest of 20": max(of_ground)}, "probability of its whole answer", "{:.2f}")

# %% [markdown]
# On the whole it is less sure of bare ground. So here the probabilities do warn, on average; look at the third bar before you
# rely on them. They are those of *this* answer among all that it could say, and nowhere was it asked whether there is
# anything at all. This is the reason for the notice in the studio, and for the paper's negative samples ("Is there a car in
# this region? No.").

# %% [markdown]
# ## 9 · Which regions are alike?
#
# One last view. Take the mask tokens of many regions, and draw them as points: near means alike, to the model.
#
# > **Predict.** Will they be sorted by kind, by colour, or by size?

# %%
many = probes.read_regions(model, probes.scene_pictures(make_scene(seed, size=128, split="eval") for seed in range(40)))
space = probes.SpaceProbe(many)
space

# %%
space.static()

# %% [markdown]
# How good is that as a classifier? For each region, take the nearest other one. How often is it of the same kind, or of the
# same colour?

# %%
agreement = {}
for name in ("kind", "colour"):
    labels = many.labels[name]
    agreement[name] = {}
    for where in ("mask token", "spatial token", "res2", "res5"):
        nearest = [probes.neighbours(many.vectors[where], i, 1)[0] for i in range(len(labels))]
        agreement[name][where] = np.mean([labels[i] == labels[j] for i, j in enumerate(nearest)])
diagrams.shares(agreement)

# %% [markdown]
# ## 10 · Now you
#
# Before the model tells: would *you* have known? Choose, then compare.

# %%
quiz = probes.QuizProbe(model, probes.scene_questions(make_scene(seed, size=128, split="eval") for seed in range(50, 55)))
quiz

# %%
quiz.static()

# %% [markdown]
# ## 11 · What you found

# %%
both = {"short phrase": short, "detailed description": detailed}
parts = {}
for question, lost in both.items():
    whole = sum(max(value, 0) for value in lost.values())
    parts[question] = {name: max(lost[name], 0) / whole for name in ("res3", "spatial", "image")}
diagrams.shares(parts, "of all that is lost, switch by switch: the share of …")

# %% [markdown]
# - **Swap and control**: the answer follows the mask, and without the region's tokens it is a guess.
# - **Exchange**: kind, colour and pattern go with the mask token, place and size with the spatial token, what else is there
#   with the image tokens.
# - **Switches**: what a part is worth depends on what is asked. A claim of a paper is a claim about *its* model.
# - **Attention** shows routing; **occlusion** shows what is lost. They answer different questions.
# - **Pointing at nothing** gets an answer all the same.
#
# **Where it goes next.** [11 · The studio](11_studio.ipynb): your own picture, your own question.
