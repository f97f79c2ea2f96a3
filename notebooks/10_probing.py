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
# - what its parts carry: the four levels, the spatial token, the picture's own tokens;
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
from osprey_nb.evaluate.controls import blind
from osprey_nb.exercises import check
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
# The claim holds. In the drawings of this course, that is: on photographs nobody has measured it, and this model knows
# none.

# %% [markdown]
# ## 2 · Claim: it knows *this* outline, not just this place
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
# ## 3 · Claim: all four levels are needed
#
# The paper pools on `res2` … `res5`, and sums. Here each can be turned off, and so can the spatial token and the picture's
# own tokens.
#
# > **Predict.** Turn each off alone. Which one will hurt most, and which least?

# %%
switches = probes.SwitchProbe(model, scene.image, masks)
switches

# %%
switches.move(res3=False)
switches.static()

# %% [markdown]
# One picture is an anecdote. Twelve:

# %%
lost = {name: [] for name in probes.SWITCHES}
for seed in range(12):
    each = make_scene(seed, size=128, split="eval")
    asked = probes.Asked(model, each.image, [thing.mask for thing in each.objects])
    for mask in asked.masks:
        for name, value in probes.losses(asked, mask).items():
            lost[name].append(max(value, 0))
diagrams.bars({name: np.mean(values) for name, values in lost.items()}, "log-likelihood of its answer that is lost, on average")

# %% [markdown]
# > **A note that changes a belief.** *One level carries nearly all of it.* And the picture's own 64 tokens, which take half
# > of the prompt, hardly matter to a short answer. That is no law of nature. This model is small, its drawings are simple,
# > and the region's token tells all that a short answer needs. A larger model with harder questions will share the work
# > otherwise. The claim isn't proven *here*, and that is a finding, too.
#
# It is also a warning. Had we only read the paper's table, in which four levels are better than one, we would have
# believed it of every model of this kind.

# %% [markdown]
# ## 4 · Where does it look?
#
# Each position of the LLM shares out its **attention** over those before it. We take the position that *writes* a word,
# and see what it looks at.
#
# > **Predict.** When it writes *clock*: the image tokens, the mask token, or the words before?

# %%
looking = probes.AttentionProbe(model, scene.image, masks)
looking

# %%
looking.move(word=3, layer=1, head=0)
looking.static()

# %% [markdown]
# The heads differ: some stare at the region's tokens, some at the words, hardly any at the picture. One layer is not the
# whole way, though. **Rollout** multiplies the layers: what the last one reads, the ones before have put there.

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
# ## 5 · When does it know?
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
# ## 6 · What does the answer hang on?
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
# Compare it with part 4. In the attention map the picture's tokens got next to nothing. Here, cells *of the picture* matter
# a lot: those under the mask.
#
# > **A note that changes a belief.** Both are right. The LLM hardly looks at the picture, because the **mask token** has
# > already read it: mask pooling happened before the LLM. *A map of attention shows one road, not where the goods come
# > from.* To know what matters, change it and see.

# %% [markdown]
# ## 7 · Break it on purpose: point at nothing
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
# never learnt. The probabilities don't warn you either: what was never wrong in training is said with confidence. This is
# the reason for the notice in the studio, and for the paper's negative samples ("Is there a car in this region? No.").

# %% [markdown]
# ## 8 · Which regions are alike?
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
# ## 9 · Now you
#
# Before the model tells: would *you* have known? Choose, then compare.

# %%
quiz = probes.QuizProbe(model, probes.scene_questions(make_scene(seed, size=128, split="eval") for seed in range(50, 55)))
quiz

# %%
quiz.static()

# %% [markdown]
# ## 10 · What you found

# %%
diagrams.bars({"the mask token, its res3 alone": np.mean(lost["res3"]), "the spatial token": np.mean(lost["spatial"]),
               "the picture's own tokens": np.mean(lost["image"])}, "what a short answer of tiny hangs on")

# %% [markdown]
# - **Swap and control**: the answer follows the mask, and without the region's tokens it is a guess.
# - **Switches**: in this model one level carries nearly all. A claim of a paper is a claim about *its* model.
# - **Attention** shows a road; **occlusion** shows what is lost. They answer different questions.
# - **Pointing at nothing** gets an answer all the same.
#
# **Where it goes next.** [11 · The studio](11_studio.ipynb): your own picture, your own question.
