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
# # 01 · Images and masks
#
# **"This thing there." Before a model can answer, somebody must say which pixels are meant.**
# That is a mask. Every data set stores it in its own way, and each way loses something, or nothing.
#
# **You will learn**
#
# - to write COCO's *run-length encoding* (RLE) by hand, down to its letters, and read it again;
# - to fill a polygon the way COCO's own tools do, pixel for pixel;
# - what a polygon cannot say, and how a mask goes wrong in silence.
#
# | | |
# |---|---|
# | **You need first** | Python and NumPy: indexing, slices, `for` |
# | **Time** | 40 minutes with the exercises; all cells run in about 10 seconds |
# | **Memory** | 1 GB at most, no GPU |
# | **Measured** | 2026-11-25, 2 CPU cores, by `python notebooks/make.py 01` |
# | **Module** | `osprey_nb/masks.py`: at the end, your codecs and the package's agree |

# %%
# %matplotlib inline
import numpy as np
from pycocotools import mask as coco
from scipy.ndimage import binary_fill_holes
from skimage.measure import approximate_polygon, find_contours

import osprey_nb
from osprey_nb import diagrams, masks, viz
from osprey_nb.data.scenes import make_scene
from osprey_nb.exercises import check
from osprey_nb.masks import stroke_mask, to_masks, to_rle
from osprey_nb.widgets.probes import BrushProbe

scene = make_scene(21, size=256, split="eval")
viz.overlay(scene.image, [thing.mask for thing in scene.objects], labels=[thing.kind for thing in scene.objects])

# %% [markdown]
# ## 1 · Two arrays
#
# A picture is three numbers for each pixel: red, green, blue. A mask is one: *inside*, or not.

# %%
bicycle = scene.objects[0].mask
print("picture", scene.image.shape, scene.image.dtype)
print("mask   ", bicycle.shape, bicycle.dtype, "with", bicycle.sum(), "pixels inside")

# %% [markdown]
# Both are indexed `[row, column]`, from the top left corner. A point in a picture is usually written the
# other way round, `(x, y)`: `x` counts columns to the right, `y` counts rows downward. So the pixel at
# (x, y) is `mask[y, x]`. Half of all mistakes with masks are this one.
#
# > **Predict before you run.** One byte for each pixel: how many bytes does this mask take? And a million
# > regions, as in Osprey's training data, on pictures of 640×480?

# %%
print(f"{bicycle.nbytes:,} bytes; a million of 640×480: {1e6 * 640 * 480 / 1e9:.0f} GB")

# %% [markdown]
# Too much. And nearly all of it says the same as its neighbour. So nobody stores arrays.
#
# ## 2 · Run lengths
#
# Lay all pixels in one row, and write down only *how many* equal ones follow each other.
#
# > **Predict.** Line after line, as you read? Look at the numbers in the next picture.

# %%
small = np.array([[0, 0, 1, 0, 0],
                  [0, 1, 1, 1, 0],
                  [0, 1, 1, 1, 0],
                  [0, 0, 0, 1, 0]], dtype=bool)

diagrams.runs(small)

# %% [markdown]
# Column after column, from the top down. COCO's tools come from MATLAB, which stores arrays that way. Now
# count. One more rule: **the first run counts zeros**. If the first pixel is a one, that run is 0.

# %%
def encode(mask):
    """H×W bool to run lengths: zeros, ones, zeros, …"""
    counts, value = [0], False
    for pixel in mask.T.ravel():     # .T: columns first
        if pixel != value:           # something new begins
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return counts


print(encode(small))
diagrams.runs(small, encode(small))

# %% [markdown]
# ### Exercise 01.1 · Runs by hand
# ★☆☆ · 3 minutes
#
# ```
# 0 1 1
# 0 1 0
# 1 1 0
# ```
#
# Write the run lengths of this mask as a list, without running code.
#
# <details><summary>Hint</summary>
#
# The row is 0 0 1 · 1 1 1 · 1 0 0: three columns, each from the top down.
#
# </details>
# <details><summary>Solution</summary>
#
# ```python
# my_runs = [2, 5, 2]
# ```
#
# </details>

# %% tags=["exercise"]
my_runs = ...

# %%
check("01.1", my_runs)

# %% [markdown]
# Are they the runs that the field's own tool means? We give ours to `pycocotools` and let it draw.

# %%
counts = encode(bicycle)
drawn = coco.decode(coco.frPyObjects({"size": [256, 256], "counts": counts}, 256, 256))
assert (drawn == bicycle).all()
print(f"{bicycle.size:,} pixels became {len(counts)} numbers, and pycocotools draws the same mask from them")

# %% [markdown]
# ### Exercise 01.2 · And back
# ★★☆ · 6 minutes
#
# Write the way back: run lengths to an H×W array of bool. It must hold for any size, and for a first run
# of 0.
#
# <details><summary>Hint</summary>
#
# `np.repeat(values, counts)` writes each value so many times. The values are False, True, False, …
# Then `reshape` to the *columns*, and turn.
#
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def decode(counts, height, width):
#     values = np.arange(len(counts)) % 2 == 1
#     return np.repeat(values, counts).reshape(width, height).T
# ```
#
# </details>

# %% tags=["exercise"]
def decode(counts, height, width):
    """Run lengths to H×W bool."""
    ...


# %%
check("01.2", decode)

# %% [markdown]
# ## 3 · Runs as letters
#
# In COCO's files you meet something like this instead:

# %%
print(to_rle(small)["counts"])
print(to_rle(bicycle)["counts"][:60], "…")

# %% [markdown]
# The same runs, packed. Three ideas, one after the other:
#
# 1. **Differences.** Neighbouring columns look alike, so a run is much like the last run *of its kind*.
#    From the fourth number on, write how much it differs from the one two places before.
# 2. **Five bits at a time.** A small number takes one piece, a large one takes more. A sixth bit says
#    *"more follows"*.
# 3. **A letter for each piece.** 6 bits are 64 values; add 48, and each is a printable character.
#
# > **Predict.** The runs of the small mask are 5, 2, 1, 3, 2, 3, 4. What is written for each?

# %%
runs = encode(small)
differences = [run - runs[i - 2] if i > 2 else run for i, run in enumerate(runs)]
print(runs, "→", differences)


# %%
def compress(counts):
    """Run lengths to COCO's text."""
    text = ""
    for i, count in enumerate(counts):
        value = count - counts[i - 2] if i > 2 else count
        more = True
        while more:
            piece = value & 31                              # the five lowest bits
            value >>= 5                                     # what is left; -1 or 0 when nothing is
            more = value != (-1 if piece & 16 else 0)       # the highest of the five is the sign
            text += chr(48 + piece + 32 * more)
    return text


print(compress(runs))
assert compress(runs) == coco.encode(np.asfortranarray(small, dtype=np.uint8))["counts"].decode()
assert compress(counts) == coco.encode(np.asfortranarray(bicycle, dtype=np.uint8))["counts"].decode()
print(f"bicycle: {bicycle.nbytes:,} bytes as an array, {len(compress(counts))} letters now")

# %% [markdown]
# Letter for letter what `pycocotools` writes.
#
# > **A note that changes a belief.** A mask looks like an area. Watch what happens to its size on disk when
# > a disc grows.

# %%
for radius in (15, 30, 60, 120):
    disc = stroke_mask([(128, 128)], radius, (256, 256))
    print(f"radius {radius:3}: {disc.sum():6,} pixels, {len(to_rle(disc)['counts']):4} letters")

# %% [markdown]
# Twice the radius is *four* times the pixels, and *twice* the letters or less. **What is stored is the
# outline, not the area.**
#
# ## 4 · Polygons
#
# If the outline is all that counts, why not write its corners? People who label pictures click corners, so
# this is what most of COCO is: flat lists `[x, y, x, y, …]`.
#
# > **Predict.** The outline cuts through pixels. Which of them belong to the mask?

# %%
corners = [1, 1, 7, 2, 5, 7.5, 1.5, 6]
diagrams.outline(corners, to_masks([[corners]], (8, 8))[0])

# %% [markdown]
# Those whose **middle** (the dot) lies inside. To find them, go down each column of dots. Each time the
# outline crosses your way you change sides: outside, inside, outside, … The crossings *are* run lengths.

# %%
def fill(polygon, height, width):
    """Flat polygon to H×W bool: go down the middle of each column, change sides at each crossing."""
    mask = np.zeros((height, width), bool)
    points = np.reshape(polygon, (-1, 2))
    middles = np.arange(height) + 0.5
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        for column in range(width):
            x = column + 0.5
            if (x0 <= x) != (x1 <= x):                              # this edge crosses the column
                crossing = y0 + (x - x0) / (x1 - x0) * (y1 - y0)
                mask[:, column] ^= middles > crossing               # below it, everything changes sides
    return mask


fill(corners, 8, 8).astype(int)

# %% [markdown]
# Now a real outline: walk around the bicycle, and keep a corner only where the line bends by more than a
# pixel. This is about what a patient person would click.

# %%
def click_around(mask, tolerance):
    """H×W bool to flat polygons, one for each piece, as a person with a mouse would draw them."""
    whole = np.pad(binary_fill_holes(mask), 1)                      # people go around the outside only
    tolerance += 1e-6                                               # a bend of exactly that much is none, however it is rounded
    lines = [approximate_polygon(line, tolerance)[:-1] - 0.5 for line in find_contours(whole.astype(float), 0.5)]
    return [line[:, ::-1].ravel().tolist() for line in lines if len(line) > 2]      # (row, column) to x, y


outline = max(click_around(bicycle, 1), key=len)
ours, theirs = fill(outline, 256, 256), coco.decode(coco.frPyObjects([outline], 256, 256))[..., 0]
print(f"{len(outline) // 2} corners; ours {ours.sum():,} pixels, pycocotools {theirs.sum():,}, "
      f"different {(ours != theirs).sum()}")

# %% [markdown]
# Nearly the same, and *nearly* is a bug that nobody finds. What does `pycocotools` do differently? It works
# in whole numbers, on a grid that is **five times finer**. It walks along the outline in steps of one fine
# cell, and looks where a step passes the middle of a column. So a crossing is rounded to a fifth of a pixel.

# %%
def fill_like_coco(polygon, height, width):
    """Flat polygon to H×W bool, exactly as pycocotools: on a grid five times finer."""
    mask = np.zeros((height, width), bool)
    points = (5 * np.reshape(polygon, (-1, 2)) + 0.5).astype(int)           # to the nearest fine cell
    path = []
    for start, end in zip(points, np.roll(points, -1, axis=0), strict=True):
        step = end - start
        long = np.abs(step).argmax()                                        # the axis with more cells to walk
        low, high = (start, end) if step[long] >= 0 else (end, start)
        walked = np.arange(abs(step[long]) + 1)
        slope = (high - low)[1 - long] / max(len(walked) - 1, 1)
        cells = np.empty((len(walked), 2), int)
        cells[:, long] = low[long] + walked
        cells[:, 1 - long] = low[1 - long] + slope * walked + 0.5
        path.append(cells if step[long] >= 0 else cells[::-1])
    path = np.concatenate(path)
    for (x0, y0), (x1, y1) in zip(path[:-1], path[1:], strict=True):
        left = min(x0, x1)
        if x0 != x1 and left % 5 == 2 and 0 <= left // 5 < width:           # it passes the middle of a column
            row = max(0, int(np.ceil((min(y0, y1) + 0.5) / 5 - 0.5)))
            mask[row:, left // 5] ^= True
    return mask


for thing in scene.objects:
    for polygon in click_around(thing.mask, 1):
        theirs = coco.decode(coco.frPyObjects([polygon], 256, 256))[..., 0]
        assert (fill_like_coco(polygon, 256, 256) == theirs).all()
print("pixel for pixel as pycocotools, for every object of the picture")

# %% [markdown]
# ## 5 · What polygons lose
#
# To say how much of a mask is lost we need a number. The usual one is *intersection over union*, IoU: the
# pixels that are in both masks, divided by those that are in one or the other.

# %% [markdown]
# ### Exercise 01.3 · Intersection over union
# ★☆☆ · 3 minutes
#
# Write it for two arrays of bool. Two empty masks have nothing in common: give 0.
#
# <details><summary>Hint</summary>
#
# `a & b` is both, `a | b` is one or the other; `.sum()` counts. Take care not to divide by 0.
#
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def iou(a, b):
#     return (a & b).sum() / max((a | b).sum(), 1)
# ```
#
# </details>

# %% tags=["exercise"]
def iou(a, b):
    """Two H×W bool masks to a number from 0 to 1."""
    ...


# %%
check("01.3", iou)

# %% [markdown]
# Four attempts to write our bicycle as polygons.
#
# > **Predict.** The first follows every single bend of the outline. Will its IoU be 1?

# %%
attempts = []
for title, flat in (
    ("every bend", click_around(bicycle, 0)),
    ("within 1 pixel", click_around(bicycle, 1)),
    ("within 5 pixels", click_around(bicycle, 5)),
    ("the package's", masks.to_polygons(bicycle)),
):
    count = sum(len(polygon) // 2 for polygon in flat)
    shown = flat if count < 150 else []
    attempts.append((f"{title}: {count} corners", shown, to_masks([flat], (256, 256))[0]))
diagrams.polygons(scene.image, bicycle, attempts)

# %% [markdown]
# No: what is blue was not the bicycle. **The hole is filled.** COCO's polygons *add up*. Nothing in the format
# subtracts, so an outline swallows whatever it goes around: the sky inside a frame, the space under an arm,
# the wall behind the handle of a cup. Clicking to within a pixel costs little more than that. Clicking to
# within five costs a tenth, in red and blue.
#
# The last attempt is right, and has no more than polygons. How?

# %% [markdown]
# ### Exercise 01.4 · A ring
# ★★★ · 10 minutes
#
# Here is a ring, one pixel wide, on a 7×7 picture:
#
# ```
# . . . . . . .
# . # # # # # .
# . # . . . # .
# . # . . . # .
# . # . . . # .
# . # # # # # .
# . . . . . . .
# ```
#
# Write it as a list of polygons, `[[x, y, x, y, …], …]`. The corners lie *between* pixels: the ring reaches
# from 1 to 6. `pycocotools` must draw exactly this ring from them.
#
# <details><summary>Hint</summary>
#
# No polygon may go around the hole. Cut the ring into pieces: four bars will do.
#
# </details>
# <details><summary>Solution</summary>
#
# ```python
# ring = [
#     [1, 1, 6, 1, 6, 2, 1, 2],
#     [1, 5, 6, 5, 6, 6, 1, 6],
#     [1, 2, 2, 2, 2, 5, 1, 5],
#     [5, 2, 6, 2, 6, 5, 5, 5],
# ]
# ```
#
# </details>

# %% tags=["exercise"]
ring = ...

# %%
check("01.4", ring)

# %% [markdown]
# Cut through the hole: this is what `masks.to_polygons` does too.
#
# Does it matter to a model? We ask the tiny one about the same bicycle, pointed at in four ways.
#
# > **Predict.** The box holds the most ground and sky. Which answers will change?

# %%
model = osprey_nb.Osprey.from_pretrained("tiny").eval()
outer = to_masks([click_around(bicycle, 1)], (256, 256))[0]
box = to_masks([masks.box_of(bicycle)], (256, 256))[0]
dot = stroke_mask([(masks.box_of(bicycle)[0] + 12, masks.box_of(bicycle)[3] - 14)], 5, (256, 256))

ways = {"exact": bicycle, "outline, holes filled": outer, "box": box, "a dot": dot}
for name, answer in zip(ways, model.describe(scene.image, list(ways.values())), strict=True):
    print(f"{name:22} IoU {(ways[name] & bicycle).sum() / (ways[name] | bicycle).sum():.2f}   {answer}")

# %% [markdown]
# Look at the last line. The dot lies in a wheel, and the model may well speak of the wheel: *what you mark is what you
# ask about*. A loose mask costs details, the pattern first; a mask of something else costs the answer.
#
# ## 6 · The parity cell
#
# All the codecs together, against the package, on every object of five scenes. The package takes masks in
# any form and gives arrays; it must agree with what you built.

# %%
tested = 0
for seed in range(5):
    for thing in make_scene(seed, size=256, split="eval").objects:
        mask, runs = thing.mask, encode(thing.mask)
        assert runs == to_rle(mask, compressed=False)["counts"]
        assert compress(runs) == to_rle(mask)["counts"]
        polygons = click_around(mask, 1)
        filled = np.any([fill_like_coco(polygon, 256, 256) for polygon in polygons], axis=0)
        assert (filled == to_masks([polygons], (256, 256))[0]).all()
        tested += 1
print(f"{tested} masks: runs, letters and polygons as in osprey_nb.masks")

# %% [markdown]
# ## 7 · Draw one yourself
#
# **Drag the brush over the bicycle.** Orange is what you caught, red what you missed, blue what was too
# much. On the right: what your mask would weigh.
#
# - How high an IoU do you reach with one stroke? With a lasso around it (P)?
# - Make the outline rough on purpose. Which bars grow?
# - Erase a hole into it. Do the polygons notice?

# %%
probe = BrushProbe(scene.image, bicycle)
probe

# %% [markdown]
# Reading without a kernel? Here is one quick stroke along the frame.

# %%
still = BrushProbe(scene.image, bicycle)
x0, y0, x1, y1 = masks.box_of(bicycle)
still.canvas.set_masks([stroke_mask([(x0 + 8, y1 - 20), (x0 + 45, y0 + 25), (x1 - 8, y1 - 20)], 9, (256, 256))])
still.static()

# %% [markdown]
# A stroke of a second finds less than half of the thing. In [notebook 00](00_first_look.ipynb) such a
# stroke was enough for a right answer: mask pooling takes a mean, and half of a bicycle is mostly bicycle.
#
# ## 8 · Break it on purpose
#
# Two faults that real files have. First: somebody writes the size as *width, height*.
#
# > **Predict.** The runs still add up to the same number of pixels. Will there be an error?

# %%
wide = scene.image[:180]
part = bicycle[:180]
rle = to_rle(part, compressed=False)
swapped = masks.from_rle({"size": rle["size"][::-1], "counts": rle["counts"]})

seen = np.zeros_like(part)
seen[:, : swapped.shape[1]] = swapped[: len(seen)]
viz.overlay(wide, [part, seen & ~part], labels=["the mask", "what is read when the size is swapped"])

# %% [markdown]
# None at all. A wrong mask is still a mask, and a model would learn from it. Only a comparison with the
# picture finds it, and the package makes it each time:

# %%
try:
    to_masks([{"size": rle["size"][::-1], "counts": rle["counts"]}], size=wide.shape[:2])
except ValueError as error:
    print(error)

# %% [markdown]
# Second: the file was cut while it was copied.

# %%
cut = to_rle(bicycle)
cut["counts"] = cut["counts"][:-20]
try:
    to_masks([cut], size=bicycle.shape)
except ValueError as error:
    print(error)

# %% [markdown]
# ## 9 · What you built
#
# However somebody points, it ends as the same thing: one array, true or false for each pixel.

# %%
diagrams.pointing(scene.image, bicycle)

# %% [markdown]
# Next: [02 · The encoder](02_encoder.ipynb) reads the picture; [03 · The mask extractor](03_mask_extractor.ipynb) turns
# both into two vectors. And
# [06 · Instruction data](06_instruction_data.ipynb) reads a million of them, with what was said of each.
