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
# # 09 · SAM
#
# **Nobody likes to draw outlines. Can one click be enough?**
# Osprey describes a region, whoever made it. *Segment Anything* (SAM) makes regions: you click, it outlines. The two
# together turn a click into a sentence, and a whole picture into a list.
#
# **You will learn**
#
# - how two numbers, x and y, become a vector that a network can compare;
# - why the picture is read once, and each click is nearly free;
# - why one click gives **three** masks, and what Osprey says of each;
# - how much a bad mask matters to the answer.
#
# | | |
# |---|---|
# | **You need first** | [03 · The mask extractor](03_mask_extractor.ipynb); the idea of attention |
# | **Time** | 50 minutes with the exercises; all cells run in about 20 seconds |
# | **Memory** | 1.7 GB at most, no GPU |
# | **Measured** | 2026-11-28, 2 CPU cores, by `python notebooks/make.py 09` |
# | **Module** | `osprey_nb/segment.py`, `osprey_nb/tiny_sam.py` and `osprey_nb/everything.py` |

# %%
# %matplotlib inline
import numpy as np
import torch

import osprey_nb
from osprey_nb import diagrams
from osprey_nb.data.phrases import parse_phrase
from osprey_nb.data.scenes import make_scene
from osprey_nb.diagrams import Panel, prompted
from osprey_nb.evaluate.segmenting import innermost, iou
from osprey_nb.everything import describe_click, describe_everything
from osprey_nb.exercises import check
from osprey_nb.masks import box_of
from osprey_nb.segment import LEVELS, load_segmenter
from osprey_nb.tiny_sam import CHANNELS, FINE, MIDDLE, unfolded
from osprey_nb.widgets.probes import ClickProbe, ClickState

model = osprey_nb.Osprey.from_pretrained("tiny").eval()
segmenter = load_segmenter("tiny")
scene = make_scene(3, size=256, split="eval")
segmenter.set_image(scene.image)

# %% [markdown]
# ## 1 · A click, three masks
#
# `tiny SAM` is SAM's own code at a small size, with some convolutions before it (section 3), trained on our drawings. It
# is here so that this notebook runs anywhere. We click on a wheel.
#
# > **Predict before you run.** What does somebody mean who points *there*?

# %%
click = (92, 86)
found = segmenter.predict([click])
print("masks", found.masks.shape, " scores", found.scores.shape)
prompted(scene.image, [Panel("the click", None, [click]),
                       *(Panel(level, mask, [click]) for level, mask in zip(LEVELS, found.masks, strict=True))])

# %% [markdown]
# The wheel, the wheels, or the train. All are right: **one click is ambiguous.** A network that had to give one mask
# would learn a blurred mean of the three. So SAM gives three, each with a score, and leaves the choice to you.
#
# Let us see how it does that, piece by piece.

# %% [markdown]
# ## 2 · The prompt encoder: from x and y to a vector
#
# Raw coordinates suit attention badly. It compares by dot products: (92, 86) and (93, 86) should be similar,
# (92, 86) and (20, 200) should not. So each click becomes many *waves*: sines and cosines of its place, in fixed random
# directions and frequencies. Near places then agree on most waves, far ones on few.

# %%
sam = segmenter.predictor.model
gaussian = sam.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
print("random directions", tuple(gaussian.shape), "→ a vector of", 2 * gaussian.shape[1], "numbers")


def fourier(points):
    """N×2 places in pixels of a 256×256 picture to N×96."""
    places = 2 * (points + 0.5) / 256 - 1  # the middle of a pixel, from −1 to 1
    angles = 2 * torch.pi * places @ gaussian
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


# %% [markdown]
# > **Predict.** We take the vector of our click, and its dot product with the vector of every other place. What will
# > the picture look like: a cross, a disc, stripes?

# %%
grid = torch.stack(torch.meshgrid(torch.arange(0.0, 256, 4), torch.arange(0.0, 256, 4), indexing="xy"), -1).reshape(-1, 2)
here, there = fourier(torch.tensor([[92.0, 86.0]])), fourier(torch.tensor([[200.0, 180.0]]))
likeness = [(fourier(grid) @ vector[0] / 48).reshape(64, 64) for vector in (here, there)]
diagrams.heatmaps(("similar to (92, 86)", likeness[0]), ("similar to (200, 180)", likeness[1]))

# %% [markdown]
# A disc around the place, and next to nothing elsewhere. Every cell of the picture gets such a vector too. So *"is this
# cell near the click?"* is one dot product.
#
# Then comes a learned vector that says what kind of point this is: *inside*, *outside*, or *a corner of a box*. It is
# simply added.

# %%
at = torch.tensor([[[92.0, 86.0]]])
with torch.no_grad():
    inside = sam.prompt_encoder.point_embeddings[1].weight
    mine = fourier(at[0]) + inside
    theirs, _ = sam.prompt_encoder((at, torch.ones(1, 1)), boxes=None, masks=None)
torch.testing.assert_close(mine[0], theirs[0, 0], atol=1e-5, rtol=1e-4)
print("by hand, and by the prompt encoder: equal")

# %% [markdown]
# ### Exercise 09.1 · Encode a point
# ★★☆ · 6 minutes
#
# Write `fourier` for a picture of any size and any matrix: N×2 points in pixels, the side of the (square) picture, a
# 2×K matrix. Return N×2K: first the K sines, then the K cosines.
#
# <details><summary>Hint</summary>
#
# Middle of the pixel, divided by the side; to −1 … 1; times the matrix; times 2π.
#
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def my_fourier(points, side, gaussian):
#     places = 2 * (points + 0.5) / side - 1
#     angles = 2 * torch.pi * places @ gaussian
#     return torch.cat([angles.sin(), angles.cos()], dim=-1)
# ```
#
# </details>

# %% tags=["exercise"]
def my_fourier(points, side, gaussian):
    """N×2 to N×2K."""
    ...


# %%
check("09.1", my_fourier)

# %% [markdown]
# ## 3 · The picture is read once
#
# The picture becomes a grid of vectors: the **image embedding**. That is the heavy part, and it knows nothing of your
# click. `set_image` has done it, once.
#
# In the released SAM a ViT does this alone, and it has seen eleven million photographs. Ours has seen some thousand
# drawings. So it has help: a **ladder of convolutions** goes down from 2 to 16 pixels, a ViT looks at the lowest step, and
# the ladder goes up again. The embedding is the step of 8 pixels. Two finer steps are kept for later, as in SAM 2.

# %%
read = segmenter.predictor.features[0]  # the embedding, and behind it the finer steps, folded into its cells
embedding, middle, fine = read.split([CHANNELS, 4 * MIDDLE, 16 * FINE])
middle, fine = unfolded(middle[None], 1)[0], unfolded(fine[None], 2)[0]
sizes = {name: sum(x.numel() for x in getattr(sam, name).parameters()) for name in
         ("image_encoder", "prompt_encoder", "mask_decoder")}  # fmt: skip
print("embedding", tuple(embedding.shape))
for name, size in sizes.items():
    print(f"{name:15} {size:>10,} parameters")
steps = {"8 px": embedding, "4 px": middle, "2 px": fine}
diagrams.heatmaps(*((f"{name}, channel 0", step[0]) for name, step in steps.items()), cmap="viridis")

# %% [markdown]
# Then the **mask decoder**. The click's vector and five *output tokens* (one for a single mask, three for the three
# masks of a click, and one for the scores) attend to the grid, and the grid attends to them, twice. What comes out:
#
# - the grid, enlarged to 128×128, with the finer steps added on the way: a short vector for each place;
# - for each mask, a short vector of the same length;
# - from the fifth token, a score for each mask (section 4).
#
# > **Predict.** How does one get a *mask* from one vector, and a grid of vectors of the same length?

# %%
kept = {}
hooks = [sam.mask_decoder.output_upscaling.register_forward_hook(lambda _m, _in, out: kept.update(cells=out[0]))]
for k, mlp in enumerate(sam.mask_decoder.output_hypernetworks_mlps):
    hooks.append(mlp.register_forward_hook(lambda _m, _in, out, k=k: kept.update({k: out[0]})))
_, _, logits = segmenter.predictor.predict(np.array([click]) - 0.5, np.array([1]), return_logits=True)
for hook in hooks:
    hook.remove()

vectors = torch.stack([kept[k] for k in (1, 2, 3)])
places = unfolded(kept["cells"].flatten(1).T.reshape(1, -1, 32, 32), 2)[0]  # the decoder keeps them cell by cell
print("places", tuple(places.shape), " mask vectors", tuple(vectors.shape))
by_hand = torch.einsum("mc,chw->mhw", vectors, places)
diagrams.heatmaps(*zip(LEVELS, by_hand, strict=True), cmap="RdBu")

# %% [markdown]
# By a dot product: the bluer, the larger, and above 0 it is inside. *The mask is a question that each place
# answers for itself.* Compare it with what SAM gave:

# %%
torch.testing.assert_close(by_hand, torch.from_numpy(logits), atol=1e-4, rtol=1e-4)
print("the decoder's masks are these dot products: equal")

# %% [markdown]
# **Parity.** And `segmenter.predict` enlarges them to the picture's size, and asks: above 0?

# %%
large = torch.nn.functional.interpolate(by_hand[None], (256, 256), mode="bilinear", align_corners=False)[0]
large = large[(large > 0).sum((1, 2)).argsort()]
same = (large > 0).numpy() == found.masks
assert same[large.abs() > 1e-3].all()  # a pixel nearer to 0 may be rounded to either side
print("pixel for pixel the same masks as segmenter.predict")

# %% [markdown]
# What are the finer steps for? Take them away, and see.
#
# > **Predict.** The decoder now knows what is in each cell of 8 pixels, and no more. What will the masks look like?

# %%
with_steps = segmenter.predictor.features
blurred = with_steps.clone()
blurred[:, CHANNELS:] = blurred[:, CHANNELS:].mean((2, 3), keepdim=True)  # the same everywhere: nothing to be seen in it
segmenter.predictor.features = blurred
without = segmenter.predict([click])
segmenter.predictor.features = with_steps
prompted(scene.image, [Panel(f"{level}, {how}", mask, [click])
                       for how, three in (("with", found.masks), ("without", without.masks))
                       for level, mask in zip(LEVELS[1:], three[1:], strict=True)])  # fmt: skip

# %% [markdown]
# Nothing is left. The decoder has learnt to ask the finest step for the outline, and the embedding only for *which* thing
# is meant. (The released SAM has no such steps. Its decoder finds the outline in the embedding alone, and needs far more
# pictures to learn it.)
#
# > **A note that changes a belief.** "SAM segments the picture." It doesn't. It *reads* the picture once, for 86 % of
# > its weights, and decides nothing. Each click then asks a small question of what was read. That is the same plan as
# > in [08](08_generation.ipynb), where all regions share one reading.

# %% [markdown]
# ## 4 · Does it know how good it is?
#
# With each mask comes a **score**: SAM's guess of the IoU with what was meant. The decoder makes it from the fifth output
# token, the *IoU token*. We click on every part of five scenes, and compare the guess with the truth (for each mask, the
# better of part and object).
#
# > **Predict.** Points on the diagonal would be an honest score. Will it be over- or underconfident?

# %%
guessed, true = [], []
for seed in range(5):
    each = make_scene(seed, size=256, split="eval")
    segmenter.set_image(each.image)
    for thing in each.objects:
        for part in thing.parts:
            answer = segmenter.predict([innermost(part.mask)])
            guessed += answer.scores.tolist()
            true += [max(iou(mask, part.mask), iou(mask, thing.mask)) for mask in answer.masks]
diagrams.scatter(guessed, true, "the score", "the true IoU")

# %% [markdown]
# It mostly knows: what it is sure of is good. Well below the diagonal lie masks that it holds to be better than they are.
# Some of them are no mistake: masks of *one* wheel, where our drawing counts all wheels as one part. The score is what
# `everything` sorts by, further down.

# %% [markdown]
# ## 5 · More clicks, and a box
#
# When the mask isn't what you meant, click again: inside what is missing, or, with label 0, on what is too much. A
# second click takes the ambiguity away, so SAM then gives one mask.

# %%
segmenter.set_image(scene.image)
train = next(thing for thing in scene.objects if thing.kind == "train")
cab = next(part for part in train.parts if part.name == "cab")
one = segmenter.predict([innermost(cab.mask)])
not_below, box = [innermost(cab.mask), (50, 66), (92, 88)], box_of(cab.mask)
less = segmenter.predict(not_below, [1, 0, 0])
mended = segmenter.predict(not_below, [1, 0, 0], mask_input=one.logits[-1], local=True)
boxed = segmenter.predict(box=box)
prompted(scene.image, [
    Panel(f"one click, the largest: IoU {iou(one.masks[-1], cab.mask):.2f} with the cab", one.masks[-1], not_below[:1]),
    Panel(f"two clicks say what not: {iou(less.masks[0], cab.mask):.2f}", less.masks[0], not_below, [1, 0, 0]),
    Panel(f"the same, to mend the first: {iou(mended.masks[0], cab.mask):.2f}", mended.masks[0], not_below, [1, 0, 0]),
    Panel(f"a box: {iou(boxed.masks[0], cab.mask):.2f}", boxed.masks[0], box=box),
])  # fmt: skip

# %% [markdown]
# The box says it at once, and so do two clicks that say *not this*. In the third picture SAM got its first answer back
# (`mask_input`), to mend it. Ours then keeps what no click touches (`local=True`): right for a mask with a small mistake, and
# no help where the whole train was never meant. (The released SAM has practised both.)

# %% [markdown]
# ### Exercise 09.2 · The next click
# ★★☆ · 8 minutes
#
# SAM learnt by being corrected. In its training the next click is a pixel drawn at random from all that are wrong, each
# with the same chance. (Ours prefers pixels with much that is wrong around them: so do people.) A person corrects the
# larger mistake first. Do that: given a mask and the target (both H×W bool), look at what is *missing* and at what is
# *too much*, choose the larger, and return x, y (inside it) and the label.
#
# <details><summary>Hint</summary>
#
# `missing = target & ~mask`. `np.argwhere(wrong)` gives rows and columns; any of them will do here. x is the column.
#
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def my_next_click(mask, target):
#     missing, surplus = target & ~mask, mask & ~target
#     wrong = missing if missing.sum() >= surplus.sum() else surplus
#     places = np.argwhere(wrong)
#     y, x = places[len(places) // 2]
#     return x + 0.5, y + 0.5, int(wrong is missing)
# ```
#
# </details>

# %% tags=["exercise"]
def my_next_click(mask, target):
    """H×W and H×W bool to x, y, label."""
    ...


# %%
check("09.2", my_next_click)

# %% [markdown]
# ## 6 · Click → sentence
#
# Now Osprey. All masks of the click go into **one batch** of one reading of the picture. What lies in what makes a small
# tree.

# %%
print(describe_click(scene.image, click, model, segmenter))

# %%
snail = next(thing for thing in scene.objects if thing.kind == "snail")
shell = next(part for part in snail.parts if part.name == "shell")
said = describe_click(scene.image, innermost(shell.mask), model, segmenter)
said.figure()

# %% [markdown]
# One click, two true sentences, at two sizes. The paper makes this point: a model that takes *any* mask can speak of a
# thing and of its parts; a model that takes boxes cannot tell a wheel from the air around it.

# %% [markdown]
# ## 7 · Everything
#
# And with no click at all? Then click everywhere: a grid of 16×16 clicks, three masks each. Most of the 768 are the
# same few things again and again. Keep those with a good score that don't change when the threshold is moved a little,
# and each of them **once**.

# %% [markdown]
# ### Exercise 09.3 · Each of them once
# ★★★ · 10 minutes
#
# `masks` are N×H×W bool, best first. Return the numbers of those to keep: go from first to last, and drop a mask whose
# IoU with one that was **kept** is `limit` or above.
#
# <details><summary>Hint</summary>
#
# A list `kept`, a loop, and `all(... for k in kept)`. IoU: pixels in both, divided by pixels in either.
#
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def my_distinct(masks, limit):
#     kept = []
#     for i, mask in enumerate(masks):
#         if all((mask & masks[k]).sum() < limit * (mask | masks[k]).sum() for k in kept):
#             kept.append(i)
#     return kept
# ```
#
# </details>

# %% tags=["exercise"]
def my_distinct(masks, limit):
    """N×H×W bool to a list of numbers."""
    ...


# %%
check("09.3", my_distinct)

# %% [markdown]
# `describe_everything` does all of it, from the picture to the list. In a terminal: `osprey-nb describe IMAGE
# --everything`, and for a whole folder, a line of JSON for each picture.

# %%
everything = describe_everything(scene.image, model, segmenter)
everything.figure()

# %% [markdown]
# ## 8 · How much does the mask matter?
#
# The paper's figures are measured with masks that people drew. What if the mask comes from a click? We ask Osprey the
# same question with four masks for each object:
#
# 1. **drawn**: the true outline, the *oracle*;
# 2. **SAM, from a box**; 3. **SAM, from one click** (the largest of the three);
# 4. **the box itself**, filled: no outline at all.
#
# > **Predict.** Order them by how often the *kind* is named rightly. Then by how often the *colour* is.

# %%
WAYS = ("drawn", "SAM, from a box", "SAM, from a click", "the filled box")
right = {what: {way: [] for way in WAYS} for what in ("kind", "colour")}
fits = {way: [] for way in WAYS}
for seed in range(12):
    each = make_scene(seed, size=256, split="eval")
    segmenter.set_image(each.image)
    session = model.read(each.image)
    for thing in each.objects:
        x0, y0, x1, y1 = box_of(thing.mask)
        filled = np.zeros_like(thing.mask)
        filled[y0:y1, x0:x1] = True
        masks = [thing.mask, segmenter.predict(box=(x0, y0, x1, y1)).masks[0],
                 segmenter.predict([innermost(thing.mask)]).masks[-1], filled]  # fmt: skip
        for way, mask, text in zip(WAYS, masks, session.describe(masks), strict=True):
            words = parse_phrase(text)
            fits[way].append(iou(mask, thing.mask))
            for what in right:
                right[what][way].append(words[what] == getattr(thing, what))
print(len(fits["drawn"]), "objects")
means = {what: {way: np.mean(values) for way, values in ways.items()} for what, ways in right.items()}
diagrams.shares({"IoU with the drawing": {way: np.mean(values) for way, values in fits.items()}} | means)

# %% [markdown]
# > **A note that changes a belief.** *The answers hardly differ.* SAM's masks fit at more than nine tenths and are as good
# > as drawn ones: SAM in front costs next to nothing. But look at the last row of each group. A filled box fits far worse,
# > and names kind and colour just as well! For a whole object that stands apart, most of what is in its box is the object.
# > The mean over the cells forgives the rest. Does the outline matter at all, then? Look at parts.

# %%
WAYS_OF_PARTS = ("drawn", "SAM, from a box", "the filled box")
named = {way: [] for way in WAYS_OF_PARTS}
for seed in range(6):
    each = make_scene(seed, size=256, split="eval")
    segmenter.set_image(each.image)
    session = model.read(each.image)
    for thing in each.objects:
        for part in thing.parts:
            x0, y0, x1, y1 = box_of(part.mask)
            filled = np.zeros_like(part.mask)
            filled[y0:y1, x0:x1] = True
            masks = [part.mask, segmenter.predict(box=(x0, y0, x1, y1)).masks[0], filled]
            for way, text in zip(WAYS_OF_PARTS, session.describe(masks), strict=True):
                named[way].append(parse_phrase(text)["part"] == part.name)
print(len(named["drawn"]), "parts")
diagrams.shares({"part named rightly": {way: np.mean(values) for way, values in named.items()}})

# %% [markdown]
# Here it does: the box around a wheel holds half of the train. The closer two regions lie, the more the outline says which
# of them is meant. And a part always lies close, to its whole.

# %% [markdown]
# ## 9 · Break it on purpose: another scale
#
# SAM wants clicks in pixels of **the picture that it was given**. People often click on a picture that was made smaller
# for the screen, and pass those numbers on.
#
# > **Predict.** We click on the chair, in a preview of half the size. No error will be raised. What will be outlined?

# %%
segmenter.set_image(scene.image)
chair = next(thing for thing in scene.objects if thing.kind == "chair")
x, y = innermost(chair.mask)
wrong, good = (x / 2, y / 2), (x, y)
prompted(scene.image, [
    Panel("meant: pixels of the picture", segmenter.predict([good]).masks[-1], [good]),
    Panel("given: pixels of the preview", segmenter.predict([wrong]).masks[-1], [wrong]),
])  # fmt: skip

# %% [markdown]
# It outlines whatever lies there, without a word. Only a click that falls *outside* can be caught, and this package
# does so:

# %%
try:
    segmenter.predict([(300, 40)])
except ValueError as error:
    print(error)

# %% [markdown]
# ## 10 · On photographs
#
# Tiny SAM has seen nothing but drawings. Two others stand behind the same three calls:
#
# - `load_segmenter("vit_b")` (or `"vit_l"`, `"vit_h"`): the released SAM. It is fetched once, 375 MB, with progress and a
#   checksum, and read without unpickling anything. Or give the path of a file that you have.
# - `load_segmenter("classic")`: nothing learnt. Superpixels, merged while their colours are similar.

# %%
classic = load_segmenter("classic")
classic.set_image(scene.image)
print(classic.name)
prompted(scene.image, [Panel(level, mask, [click]) for level, mask in
                       zip(("fine", "merged", "merged further"), classic.predict([click]).masks, strict=True)])

# %% [markdown]
# It knows colours, not things. That is the gap that SAM closed.

# %% [markdown]
# ## 11 · The probe
#
# Move the click, and predict before each move:
#
# 1. **From the wheel up to the window.** Which of the three masks jumps, which stays?
# 2. **Onto the water.** What do the scores say?
# 3. **Onto the border of clock and train.** Which one wins?

# %%
probe = ClickProbe(segmenter, model.read(scene.image), ClickState(92, 86))
probe

# %% [markdown]
# Without a kernel you see a still picture: the click has moved to the train's boiler.

# %%
probe.move(x=50, y=66)
probe.static()

# %% [markdown]
# **What you may have noticed.** The *whole* stays the same while you wander over the train; the smaller masks follow
# the click. On the water the scores fall: there is nothing to be meant.

# %% [markdown]
# ## 12 · What you built

# %%
found = segmenter.predict([click])
texts = model.describe(scene.image, found.masks)
diagrams.sam_flow(scene.image, segmenter.predictor.features[0, :CHANNELS], [
    Panel(f"{level}:\n{text}", mask, [click]) for level, mask, text in zip(LEVELS, found.masks, texts, strict=True)
])  # fmt: skip

# %% [markdown]
# - A click becomes a vector of waves; **near** means **alike**.
# - The picture is read once. A mask is a **dot product** of one vector with every place.
# - A click is ambiguous, so there are **three** masks, and a score for each.
# - **Everything** is a grid of clicks, and each mask kept once.
# - SAM's masks are as good as drawn ones to Osprey. For parts, the outline is what counts.
#
# **Where it goes next.** You have all pieces now: see, point, read, write. To watch them work together on pictures of
# your own, go back to [00 · First look](00_first_look.ipynb), and draw.
