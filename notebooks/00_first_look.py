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
# # 00 · First look
#
# **Brush over an object. Read what it is. Then look inside, at the tokens that carried it.**
#
# **You will learn**
#
# - how to ask *Osprey* about a region of a picture, in three lines or with the mouse;
# - the way of a picture through the model, from pixels to a sentence;
# - which token says *what* you pointed at, which one *where*, and which one *what else there is*. You will swap them, and
#   see what happens.
#
# | | |
# |---|---|
# | **You need first** | nothing: a little Python, no GPU |
# | **Time** | 15 minutes; all cells run in about 15 seconds |
# | **Memory** | 1.2 GB at most |
# | **Measured** | 2026-11-24, 2 CPU cores, by `python notebooks/make.py 00` |
#
# The model here is called *tiny*. It has all the parts of the published Osprey (CVPR 2024), each one small,
# and it was trained by this repository on **drawn scenes like the one below, and on nothing else**. Of
# photographs it knows nothing. You will see that too.

# %% [markdown]
# ## 1 · A picture, a region, a sentence
#
# Run a cell with **Shift + Enter**: it runs, and the next one is chosen.

# %%
# %matplotlib inline
import re

import numpy as np
import skimage.data
import torch

import osprey_nb
from osprey_nb import diagrams, viz
from osprey_nb.data.scenes import make_scene
from osprey_nb.exercises import check
from osprey_nb.prompt import DETAILED, SHORT
from osprey_nb.widgets import Studio
from osprey_nb.widgets.probes import QuizProbe, prompt_tokens, scene_questions, swap_tokens

model = osprey_nb.Osprey.from_pretrained("tiny").eval()
print(f"{sum(weights.numel() for weights in model.parameters()) / 1e6:.1f} million weights")

# %% [markdown]
# A scene is drawn from a number, the seed. The model never saw this one: it comes from the scenes kept for
# examination. Since we drew it, we know the exact **mask** of every object: which pixels belong to it. A
# mask is how you point.

# %%
SEED = 844
scene = make_scene(SEED, size=512, split="eval")
masks = [thing.mask for thing in scene.objects]

answers = model.describe(scene.image, masks)
viz.overlay(scene.image, masks, labels=answers)

# %% [markdown]
# Each sentence was written by a language model, word by word, about *one* region of the same picture.
#
# ## 2 · Now you
#
# Run the next cell. **Drag the brush over one thing, let go, and read.** A second stroke adds to the same
# region. For another thing, first press **2**, or click the 2 under the picture. The polygon tool (P) draws a
# lasso *around* a thing. Erase, undo, ask a question.
#
# Press *Describe in detail* on its card, and one of the ready questions below. The first, *What do you see in this picture?*,
# needs no region at all.
#
# Then try to find the model's limits. Begin each one as a region of its own, or press *Delete* to clear the old one:
#
# - Only half of a thing. Only a wing, a leaf, a wheel.
# - A stroke over two things at once.
# - A piece of bare wall. *What do you expect it to say?*

# %%
studio = Studio(model, scene.image)
studio

# %% [markdown]
# Reading without a kernel? Here is a still picture of the studio, with a region already drawn.

# %%
still = Studio(model, scene.image)
still.set_masks(masks[:1])
still.wait()
still.static()

# %% [markdown]
# ## 3 · What happened between the stroke and the sentence
#
# Here is the whole model with the real numbers of the first region. Colours on `res2` … `res5` are
# features: cells that look alike to the encoder have like colours.

# %%
with torch.no_grad():
    levels = [level[0].numpy() for level in model.encoder(model.processor.image(scene.image)[None])]

diagrams.pipeline(scene.image, masks[0], levels, SHORT, answers[0])

# %% [markdown]
# 1. You point with a mask.
# 2. The **encoder** turns the picture into four grids of features, from fine to coarse.
# 3. **Mask pooling** takes the mean of the cells under your region: the **mask token**, *what is there*.
#    The outline itself becomes the **spatial token**, *where, and which shape*.
# 4. The tokens take their places in the prompt, among ordinary words.
# 5. The **language model** continues the text. That is the answer.

# %% [markdown]
# ## 4 · The prompt, as the language model sees it
#
# A language model reads a row of tokens. Most of these are pieces of words. Some are not words at all.
#
# > **Predict before you run.** The region was thousands of pixels. How many positions does it take in the
# > row?

# %%
diagrams.token_strip(prompt_tokens(model))

# %% [markdown]
# Two. The whole picture takes the blue block, once: 64 **image tokens**, a cell of the picture each. Your region takes one
# orange token and one green one, right where the sentence says *description of …*. That is Osprey's idea: **a region
# becomes two words that you can put anywhere in a sentence.**

# %% [markdown]
# ### Exercise 00.1 · Count the tokens
# ★☆☆ · 2 minutes
#
# You ask about **three** regions of one picture in one prompt: *What are ⟨region1⟩, ⟨region2⟩ and
# ⟨region3⟩?* How many positions of the row are not words?
#
# <details><summary>Hint</summary>
#
# The picture appears once, whatever you ask. How many tokens has the blue block? And each region?
#
# </details>
# <details><summary>Solution</summary>
#
# ```python
# not_words = 64 + 3 * 2
# ```
#
# </details>

# %% tags=["exercise"]
not_words = ...

# %%
check("00.1", not_words)

# %% [markdown]
# ## 5 · Swap the tokens
#
# Which of the two tokens says *what* it is, and which says *where*? Let two regions trade, and ask for a detailed
# description. Picture and words stay the same. Only one token moves.
#
# > **Predict.** We keep the first region's spatial token, and give it the mask token of the second. Which thing will the
# > model name? Where will it say that it is?

# %%
swapped = swap_tokens(model, scene.image, np.stack(masks[:2]), DETAILED)

for i, row in enumerate(swapped, start=1):
    for j, answer in enumerate(row, start=1):
        print(f"mask token of region {i}, spatial token of region {j}:\n    {answer}")

# %% [markdown]
# Lines 1 and 4 are the regions as they are: what `describe` says of them, this time put together by hand.

# %%
assert [swapped[0][0], swapped[1][1]] == model.describe(scene.image, masks[:2], detail="detailed")

# %% [markdown]
# Compare the first with the second: *what* stays, *where* goes with the spatial token. Compare the first with the third: *what*
# goes with the mask token, its parts included.
#
# Look at the last sentences, too: *A green train is below it* needs the image tokens as well, and the positions of two
# things. About nine in ten of these sentences are true. How far you may believe each kind of sentence, the table in
# docs/results.md says.
#
# ### Move the mask
#
# So the spatial token should tell where a mask is, even where nothing lies under it. Take the outline of region 2, and push
# it through the picture. The mask token stays what it is; only the outline moves.
#
# > **Predict.** Nine places. How many of them will it name rightly?

# %%
outline = np.zeros((9, 512, 512), bool)
rows, columns = np.nonzero(masks[1])
for i in range(9):                              # the outline's middle goes to the middle of each of nine fields
    y, x = 512 * (2 * (i // 3) + 1) // 6, 512 * (2 * (i % 3) + 1) // 6
    down, right = y - (rows.min() + rows.max()) // 2, x - (columns.min() + columns.max()) // 2
    inside = (0 <= rows + down) & (rows + down < 512) & (0 <= columns + right) & (columns + right < 512)
    outline[i, (rows + down)[inside], (columns + right)[inside]] = True

said = swap_tokens(model, scene.image, np.concatenate([masks[1][None], outline]), DETAILED)[0][1:]
places = [re.search(r"(at|on|in) the [a-z ]+(?= of the picture)", answer)[0] for answer in said]
for i in range(0, 9, 3):
    print("".join(f"{place:<24}" for place in places[i : i + 3]))

# %% [markdown]
# > **A note that changes a belief.** The answers follow two vectors. *The model does not look again at the place you drew:
# > it reads what mask pooling collected there, and an outline.* What the picture's own tokens are for, you see where a
# > question goes beyond the region: *A red car is to its left*, *What do you see in this picture?*,
# > *Is there a cat?* [10](10_probing.ipynb) swaps those, too.

# %% [markdown]
# ### Exercise 00.2 · Point with a box
# ★☆☆ · 5 minutes
#
# A mask can have any shape. Write one that is a box: `True` inside, `False` outside. `x` counts columns to
# the right, `y` counts rows downward, and `x1`, `y1` are the first ones *outside*.
#
# <details><summary>Hint</summary>
#
# Start from `np.zeros((height, width), bool)`. An array is indexed `[rows, columns]`, that is `[y, x]`.
#
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def box_mask(height, width, x0, y0, x1, y1):
#     mask = np.zeros((height, width), bool)
#     mask[y0:y1, x0:x1] = True
#     return mask
# ```
#
# </details>

# %% tags=["exercise"]
def box_mask(height, width, x0, y0, x1, y1):
    """height×width bool, True for x0 ≤ x < x1 and y0 ≤ y < y1."""
    ...


# %%
check("00.2", box_mask)

# %% [markdown]
# Right? Then point with it: `model.describe(scene.image, [box_mask(512, 512, 46, 42, 216, 236)])`. Make the
# box larger and larger. When does the answer turn?

# %% [markdown]
# ## 6 · Do you see what the model sees?
#
# Something is outlined. **Choose first, then let the model answer.** It gives a probability to each of the
# four, and says what it would have said unasked.

# %%
scenes = [make_scene(seed, size=256, split="eval") for seed in range(60, 65)]
quiz = QuizProbe(model, scene_questions(scenes))
quiz

# %% [markdown]
# Without a kernel you see a still picture: the first question, with *B* chosen.

# %%
still = QuizProbe(model, scene_questions(scenes))
still.choose(1)
still.static()

# %% [markdown]
# ## 7 · Break it on purpose: a photograph
#
# Tiny has only ever seen drawings. Here is a photograph of a cat, and a box around its face.
#
# > **Predict.** Will it say "I don't know"?

# %%
photograph = skimage.data.chelsea()
face = np.zeros(photograph.shape[:2], bool)
face[40:260, 90:330] = True

viz.overlay(photograph, [face], labels=model.describe(photograph, [face]))

# %% [markdown]
# It can't say that. It must choose among the things it has words for, and it sounds just as sure as before.
# **A fluent sentence is no sign of a right one.** The published Osprey learnt from hundreds of thousands of
# photographs; this package loads its weights as well, on a larger machine (docs/training.md).
#
# ## 8 · Where to go from here
#
# Here is the way once more, this time for the second region.

# %%
diagrams.pipeline(scene.image, masks[1], levels, SHORT, answers[1])

# %% [markdown]
# You have seen all of Osprey. The course builds each piece with you, checks it against the package, and
# breaks it.
#
# | piece | code | notebook |
# |---|---|---|
# | images and masks: how to point | `osprey_nb/masks.py` | [01](01_images_and_masks.ipynb) |
# | encoder: picture → four grids | `osprey_nb/encoder.py` | [02](02_encoder.ipynb) |
# | **mask extractor: region → two tokens** | `osprey_nb/mask_extractor.py` | [03](03_mask_extractor.ipynb) |
# | projector: grid → image tokens | `osprey_nb/projector.py` | in preparation |
# | instruction data: annotation → labels | `osprey_nb/data/`, `osprey_nb/prompt.py` | [06](06_instruction_data.ipynb) |
# | language model, the whole | `osprey_nb/llm.py`, `osprey_nb/model.py` | in preparation |
# | training: what learns, and when | `osprey_nb/train/` | [07](07_training.ipynb) |
# | generation: all regions in one reading | `osprey_nb/generate.py` | [08](08_generation.ipynb) |
# | SAM: a click becomes a mask | `osprey_nb/segment.py` | [09](09_sam.ipynb) |
# | probing: does it use the mask? | `osprey_nb/widgets/probes/` | [10](10_probing.ipynb) |
# | the studio: your own picture | `osprey_nb/widgets/studio.py` | [11](11_studio.ipynb) |
#
# Next: [01 · Images and masks](01_images_and_masks.ipynb). What exactly do you give away when you point?
