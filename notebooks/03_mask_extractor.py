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
# # 03 · The mask extractor
#
# **You draw around something. How does a language model get to see it?**
# It reads tokens: vectors in a row. So your region must become vectors too. Osprey makes two of them.
#
# **You will learn**
#
# - how any shape becomes one vector: *mask pooling*;
# - how four levels become one **mask token**, and the outline one **spatial token**;
# - when a small mask is lost in silence, and what to do about it.
#
# | | |
# |---|---|
# | **You need first** | PyTorch: indexing, `sum`, `nn.Linear`. The features come ready-made. |
# | **Time** | 45 minutes with the exercises; all cells run in about 10 seconds |
# | **Memory** | 1.1 GB at most, no GPU |
# | **Measured** | 2026-11-24, 2 CPU cores, by `python notebooks/make.py 03` |
# | **Module** | `osprey_nb/mask_extractor.py`: at the end, yours computes the same |

# %%
# %matplotlib inline
import torch
import torch.nn.functional as F
from torch import nn

import osprey_nb
from osprey_nb import diagrams
from osprey_nb.data.scenes import make_scene
from osprey_nb.diagrams import number_grids
from osprey_nb.exercises import check
from osprey_nb.widgets.probes import MaskProbe, MicroscopeProbe, ProbeState, probe_figure

scene = make_scene(3, size=128, split="eval")
diagrams.question(scene.image, scene.objects[0].mask)

# %% [markdown]
# ## 1 · One mask, by hand
#
# An encoder turns a picture into a grid. Each cell says what was seen there.
# Let one number do: *how red is it here?* Something red lies in the middle. A mask says which cells we mean.

# %%
red = torch.tensor([[1.0, 1, 2, 1],
                    [1.0, 8, 9, 1],
                    [2.0, 9, 8, 1],
                    [1.0, 1, 1, 0]])

mask = torch.tensor([[0.0, 0, 0, 0],
                     [0.0, 1, 1, 0],
                     [0.0, 1, 1, 0],
                     [0.0, 0, 0, 0]])

number_grids(("red", red), ("mask", mask), ("red × mask", red * mask), signs="×=")

# %% [markdown]
# *Multiply*: everything outside becomes 0. Then *sum*. Then *divide* by the area. That is mask pooling.

# %%
total = (red * mask).sum()
area = mask.sum()
print(f"sum {total:.0f}, area {area:.0f}, mean {total / area:.1f}")

# %% [markdown]
# > **Predict before you run.** The next mask covers the whole grid.
# > Is the mean larger, smaller, or the same?

# %%
everything = torch.ones(4, 4)
print(f"{(red * everything).sum() / everything.sum():.2f}")

# %% [markdown]
# Smaller. The background votes too. A loose mask dilutes what you pointed at, and a box is a loose mask:
# this is why Osprey takes the exact shape.
#
# > **Predict.** Now only the upper two of the four red cells. Larger, smaller, or the same as 8.5?

# %%
upper = torch.tensor([[0.0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
print(f"{(red * upper).sum() / upper.sum():.1f}")

# %% [markdown]
# > **A note that changes a belief.** Half the region, the same number. *A mean forgets how large the region
# > is, and where it lies.* Something else must carry that: the spatial token, in part 6.

# %% [markdown]
# ### Exercise 03.1 · By hand
# ★☆☆ · 3 minutes
#
# A third mask covers three cells: row 0 column 1, row 1 column 1, and row 1 column 2 (rows and columns
# count from 0). Read the numbers off the picture above, and work out the pooled value without running code.
#
# <details><summary>Hint</summary>
#
# Sum the three numbers under the mask. How many cells have a vote?
#
# </details>
# <details><summary>Solution</summary>
#
# ```python
# by_hand = (1 + 8 + 9) / 3
# ```
#
# </details>

# %% tags=["exercise"]
by_hand = ...

# %%
check("03.1", by_hand)

# %% [markdown]
# ## 2 · An empty mask
#
# > **Predict.** Zero cells have a vote. What is 0 divided by 0?

# %%
empty = torch.zeros(4, 4)
print("plain:      ", (red * empty).sum() / empty.sum())
print("with 1e-8:  ", (red * empty).sum() / (empty.sum() + 1e-8))

# %% [markdown]
# `nan` would poison every number after it. So the paper's code divides by *area + 0.00000001*.
# Now an empty mask gives a clean 0, and **nobody is told**. Keep that in mind for part 8.

# %% [markdown]
# ## 3 · Many channels, many regions: loop, then einsum
#
# Real features have many channels: red, striped, round, … And a picture has many regions. So:
#
# | array | shape | |
# |---|---|---|
# | `feature` | C×H×W | C numbers in each cell |
# | `masks` | R×H×W | R regions, 0 or 1 |
# | pooled | R×C | one vector for each region |

# %%
striped = torch.tensor([[0.0, 0, 0, 0],
                        [0.0, 0, 0, 0],
                        [0.0, 0, 0, 0],
                        [6.0, 6, 6, 6]])
feature = torch.stack([red, striped])
masks = torch.stack([mask, upper, 1 - mask])
print("feature", tuple(feature.shape), " masks", tuple(masks.shape))


# %%
def pool_with_loops(feature, masks):
    """The definition, word for word. C×H×W and R×H×W to R×C."""
    (channels, height, width), regions = feature.shape, len(masks)
    pooled = torch.zeros(regions, channels)
    for r in range(regions):
        for c in range(channels):
            total = area = 0.0
            for h in range(height):
                for w in range(width):
                    total += feature[c, h, w] * masks[r, h, w]
                    area += masks[r, h, w]
            pooled[r, c] = total / (area + 1e-8)
    return pooled


pool_with_loops(feature, masks)

# %% [markdown]
# Three rows, one for each region. Two columns, *red* and *striped*. The last region is the background:
# little red, and stripes.
#
# A loop in Python is slow. The published model has 192 × 128 × 128 numbers on its finest level, for every
# region.

# %% [markdown]
# ### Exercise 03.2 · No loops
# ★★☆ · 8 minutes
#
# Write the same without a `for`. It must hold for any number of regions, channels and cells, and give 0 for
# an empty mask.
#
# <details><summary>Hint</summary>
#
# `feature[None] * masks[:, None]` has shape R×C×H×W. Sum over the last two axes. Mind the shape of the
# area: R×1.
#
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def my_mask_pool(feature, masks):
#     total = (feature[None] * masks[:, None]).sum(dim=(2, 3))
#     area = masks.sum(dim=(1, 2))[:, None]
#     return total / (area + 1e-8)
# ```
#
# </details>

# %% tags=["exercise"]
def my_mask_pool(feature, masks):
    """C×H×W and R×H×W to R×C."""
    ...


# %%
check("03.2", my_mask_pool)

# %% [markdown]
# **einsum** says it in one line, and it reads like the loop: each letter is a loop variable.
# Letters that are missing on the right are summed. `chw,rhw->rc`: *for every r and c, sum over h and w.*

# %%
def pool(feature, masks):
    """C×H×W and R×H×W to R×C."""
    total = torch.einsum("chw,rhw->rc", feature, masks)
    area = masks.sum(dim=(1, 2))[:, None]
    return total / (area + 1e-8)


torch.testing.assert_close(pool(feature, masks), pool_with_loops(feature, masks))
print("loop and einsum agree")

# %% [markdown]
# ## 4 · The mask has another size
#
# You draw on pixels. The feature grid is coarser. So the mask must be **resized** first.
# Osprey resizes it *bilinearly*, then counts every cell above 0 fully (a *threshold*).
#
# > **Predict.** An 8×8 mask goes to a 4×4 grid. Of the 16 cells, how many will count?

# %%
drawn = torch.zeros(8, 8)
drawn[2:6, 1:4] = 1
drawn[1, 2] = 1

grey = F.interpolate(drawn[None, None], (4, 4), mode="bilinear", align_corners=False)[0, 0]
counts = (grey > 0).float()
number_grids(("your mask, 8×8", drawn), ("bilinear, 4×4", grey), ("above 0: it counts", counts), signs="→→")

# %% [markdown]
# Five. One pixel sticks out at the top, and it drags its whole cell in: a quarter counts as a full vote.
# The threshold **enlarges** a mask. For a large region that hardly matters. For a small one, wait for part 8.

# %%
def resize(masks, size):
    """R×h×w to R×H×W, the published way."""
    return (F.interpolate(masks[:, None], size, mode="bilinear", align_corners=False)[:, 0] > 0).float()


# %% [markdown]
# ## 5 · Four levels, one mask token
#
# The encoder gives four grids of the same picture. `res2` is fine: each of its cells sees a small piece, with its
# edges and colours. `res5` is coarse: each of its cells can see the whole picture. (The coarsest level need not
# know most about a thing. [10](10_probing.ipynb) measures what each level carries.) We pool on **all four**.
# The vectors differ in length, so each gets its own `Linear` to a common width. Then they are **summed**.
# A last `Linear` brings the sum to the width of the language model.
#
# > **Predict.** Two regions, and levels of 2, 3, 4 and 5 channels. What shapes will be printed? Which line
# > says "one token for each region"?

# %%
torch.manual_seed(0)
dims, sides, width, llm_width = [2, 3, 4, 5], [8, 4, 2, 1], 6, 7

levels = [torch.randn(dim, side, side) for dim, side in zip(dims, sides, strict=True)]
linears = [nn.Linear(dim, width) for dim in dims]
to_llm = nn.Linear(width, llm_width)
regions = torch.stack([drawn, torch.ones(8, 8)])

summed = 0
for level, linear in zip(levels, linears, strict=True):
    pooled = pool(level, resize(regions, level.shape[1:]))
    projected = linear(pooled)
    summed = summed + projected
    print(f"level {tuple(level.shape)} → pooled {tuple(pooled.shape)} → linear {tuple(projected.shape)}")
mask_tokens = to_llm(summed)
print("mask tokens", tuple(mask_tokens.shape))

# %% [markdown]
# A *sum* of four linear maps equals one linear map of the four vectors put end to end. So nothing is lost
# compared with concatenating them, and the code stays short.

# %% [markdown]
# ## 6 · The spatial token: where, and which outline
#
# Look at a flat wall: every cell holds the same numbers.
#
# > **Predict.** Two regions on that wall, one large on the left, one small on the right. How far apart are
# > their pooled vectors?

# %%
wall = torch.full((2, 8, 8), 3.0)
left, right = torch.zeros(8, 8), torch.zeros(8, 8)
left[1:7, 0:4] = 1
right[4:6, 6:8] = 1
places = torch.stack([left, right])

print("pooled:", pool(wall, places).tolist())

# %% [markdown]
# Not at all: a mean over equal cells is the same everywhere. From the mask token alone you could not tell
# them apart.
#
# So Osprey adds a second token. It is made **from the mask only**; no picture is involved.
# The mask is resized to a small square (no threshold this time), laid out in a row, and sent through an MLP.

# %%
small = F.interpolate(places[:, None], (4, 4), mode="bilinear", align_corners=False)[:, 0]
number_grids(("left", left), ("as 4×4", small[0]), ("right", right), ("as 4×4", small[1]), signs="→ →")

# %%
mlp = nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, llm_width))
spatial_tokens = mlp(small.flatten(1))
print("flattened", tuple(small.flatten(1).shape), "→ spatial tokens", tuple(spatial_tokens.shape))
print("equal?", torch.equal(spatial_tokens[0], spatial_tokens[1]))

# %% [markdown]
# ## 7 · The class, and the parity cell
#
# All of it in one place. Compare it with the parts above: there is nothing new.

# %%
class MyMaskExtractor(nn.Module):
    """Four feature maps of one picture (C×H×W) and masks (R×h×w) to mask and spatial tokens (R×D)."""

    def __init__(self, dims, width, spatial_size, spatial_width, llm_width):
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(dim, width) for dim in dims)
        self.to_llm = nn.Linear(width, llm_width)
        self.spatial_size = (spatial_size, spatial_size)
        self.mlp = nn.Sequential(
            nn.Linear(spatial_size**2, spatial_width), nn.ReLU(),
            nn.Linear(spatial_width, spatial_width), nn.ReLU(),
            nn.Linear(spatial_width, llm_width),
        )

    def forward(self, features, masks):
        pooled = [pool(feature, resize(masks, feature.shape[1:])) for feature in features]
        mask_tokens = self.to_llm(sum(linear(x) for linear, x in zip(self.linears, pooled, strict=True)))
        small = F.interpolate(masks[:, None], self.spatial_size, mode="bilinear", align_corners=False)
        return mask_tokens, self.mlp(small.flatten(1))


# %% [markdown]
# Is it right? The package has the same thing, trained. We read a picture with the tiny model, copy the
# package's weights into your class, and ask both about every object. (Tiny resizes masks in another way,
# which part 8 explains. For the comparison we switch it to the published one.)

# %%
model = osprey_nb.Osprey.from_pretrained("tiny").eval()
object_masks = torch.stack([torch.from_numpy(thing.mask) for thing in scene.objects]).float()

with torch.no_grad():
    features = model.encoder(model.processor.image(scene.image)[None])
for name, level in zip(("res2", "res3", "res4", "res5"), features, strict=True):
    print(name, tuple(level.shape[1:]))

# %%
package = model.mask_extractor
sizes = package.config
sizes.resize = "threshold"
mine = MyMaskExtractor(model.config.vision_config.dims, sizes.width, sizes.spatial_size, sizes.spatial_width,
                       model.config.text_config.hidden_size)
with torch.no_grad():
    for here, there in zip(mine.parameters(), package.parameters(), strict=True):
        here.copy_(there)
    my_tokens = mine([level[0] for level in features], object_masks)
    package_tokens = [tokens[0] for tokens in package(features, [object_masks])]
sizes.resize = "soft"  # as the tiny model was trained

for name, ours, theirs in zip(("mask tokens", "spatial tokens"), my_tokens, package_tokens, strict=True):
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    print(f"{name} {tuple(ours.shape)}: equal, to 1 part in 10 000")

# %% [markdown]
# **Parity.** Your class computes what the package computes.

# %% [markdown]
# ## 8 · Break it on purpose: the small mask
#
# `res5` has 4×4 cells for 128×128 pixels. So one cell stands for 32×32 = 1024 pixels. How does the bilinear
# resize look at them? We can ask: the *gradient* of a cell shows how much each pixel weighs.
#
# > **Predict.** Of the 1024 pixels, how many have a say?

# %%
pixels = torch.zeros(1, 1, 32, 32, requires_grad=True)
F.interpolate(pixels, (1, 1), mode="bilinear", align_corners=False).sum().backward()
weights = pixels.grad[0, 0]
print("pixels that have a say:", int((weights > 0).sum()))
number_grids(("weights of rows and columns 12 … 19", weights[12:20, 12:20]))

# %% [markdown]
# > **A note that changes a belief.** *Four.* "Bilinear" sounds like averaging. When a picture shrinks a
# > lot, it isn't: it reads the two by two pixels in the middle of each cell, and skips the rest.
#
# So a small mask between those points is not seen at all. Move it by a few pixels, and it owns a whole cell.

# %%
levels = [level[0] for level in features]
between = ProbeState(x=96, y=46, size=14, shape="square")
probe_figure(scene.image, levels, between)

# %%
on_point = ProbeState(x=105, y=46, size=14, shape="square")
probe_figure(scene.image, levels, on_point)

# %% [markdown]
# The same square, nine pixels further to the right. In the second picture `res5` answers with a whole cell,
# 32×32 pixels: five times what was drawn. That is coarse, but no finer cell exists there. In the first
# picture `res4` and `res5` say *nothing there*: their vectors are exactly 0, and no error is raised. That
# is a **loss**.
#
# **What to do?** Let each cell count by the *share* of it that the mask covers: a **soft** mask. The
# package has it as `resize="soft"`. Then every pixel counts somewhere, and a cell that is only touched
# counts only a little.

# %%
probe_figure(scene.image, levels, ProbeState(x=96, y=46, size=14, shape="square", resize="soft"))

# %% [markdown]
# Nothing vanishes now. Why doesn't everyone use it? The published weights were trained with the threshold,
# and a model must be fed as it was trained. At 512 pixels it loses little. **Tiny was trained with the soft
# resize:** in its small pictures a cell of `res5` is a quarter of a side, and a wheel or a saddle would
# vanish all the time.

# %% [markdown]
# ### Exercise 03.3 · A soft resize
# ★★☆ · 8 minutes
#
# Resize masks so that each cell holds the share of its area that the mask covers: 1 when it is full, 0.0625
# when one of its 16 pixels is inside.
#
# <details><summary>Hint</summary>
#
# The share is the mean of the mask over the cell. `F.adaptive_avg_pool2d` and `F.interpolate(…,
# mode="area")` take means over cells. Both want R×1×h×w.
#
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def my_soft_resize(masks, height, width):
#     return F.adaptive_avg_pool2d(masks[:, None], (height, width))[:, 0]
# ```
#
# </details>

# %% tags=["exercise"]
def my_soft_resize(masks, height, width):
    """R×h×w to R×height×width, each cell its covered share."""
    ...


# %%
check("03.3", my_soft_resize)

# %% [markdown]
# ### Exercise 03.4 · Hide from the coarsest level
# ★★★ · 10 minutes
#
# How bad can it get? Make a 128×128 mask of **at least 16 000 pixels** (of 16 384) that `res5`, with its
# 4×4 cells, doesn't see at all.
#
# <details><summary>Hint</summary>
#
# Start from all ones. Which pixels does each cell read? In part 8 you saw it for one cell: rows and columns
# 15 and 16 of its 32.
#
# </details>
# <details><summary>Solution</summary>
#
# ```python
# hidden = torch.ones(128, 128)
# for row in range(4):
#     for column in range(4):
#         y, x = 32 * row + 15, 32 * column + 15
#         hidden[y : y + 2, x : x + 2] = 0
# ```
#
# </details>

# %% tags=["exercise"]
hidden = ...

# %%
check("03.4", hidden)

# %% [markdown]
# ## 9 · Two probes
#
# **One cell under the microscope.** Each level has its cells, and each cell its patch of the picture and its
# share of the mean. Click a cell, or a place in the picture.
#
# > **Predict.** A cell of `res5` at the edge of the clock: how much of the clock does its patch show, and how
# > much of what is not the clock?

# %%
microscope = MicroscopeProbe(scene.image, levels, scene.objects[0].mask, resize="soft")
microscope

# %% [markdown]
# Without a kernel you see a still picture: a cell of `res5` at the edge.

# %%
microscope.move(level=3, row=2, column=2)
microscope.static()

# %% [markdown]
# **A mask on the move.** Click a place, let the mask grow, and watch the vectors. Before you touch it, predict:
#
# 1. **Stay inside one object and move.** Which level changes first, which last?
# 2. **Grow within the object, then beyond.** When does *likeness to the start* fall?
# 3. **Shrink to 8 and wander along a white line of `res5`.** What turns red? Now switch to *soft*.

# %%
probe = MaskProbe(scene.image, levels, start=ProbeState(x=55, y=62, size=36))
probe

# %% [markdown]
# Without a kernel you see a still picture: the mask has left the clock and sits on the snail.

# %%
probe.move(x=112, y=92)
probe.static()

# %% [markdown]
# **What you may have noticed.** `res2` changes with every few pixels. `res5` moves in steps: its vector
# stays *exactly* the same until the mask reaches the middle of another cell, and then it jumps. One level
# alone would be either nervous or blind; four together are neither.

# %% [markdown]
# ## 10 · What you built

# %%
diagrams.extractor(
    levels=[(level.shape[0], level.shape[1]) for level in levels],
    width=sizes.width, spatial_size=sizes.spatial_size, llm_width=model.config.text_config.hidden_size,
)

# %% [markdown]
# - **Mask pooling** is multiply, sum, divide: one vector for any shape.
# - **Four levels**, each with its own `Linear`, are summed to the **mask token**: *what is there*.
# - The mask alone, at a small size, becomes the **spatial token**: *where, and which outline*.
# - The threshold counts a touched cell fully, and loses a small mask in silence. A **soft** resize does
#   neither.
#
# **Where it goes next.** The two tokens take the place of `<mask><pos>` in the prompt, after the tokens of
# the whole picture. Bringing those to the language model's width is the projector's work (chapter 04, in
# preparation; the code is in `osprey_nb/projector.py`). To see all of it at work, go back to [00 · First
# look](00_first_look.ipynb).
