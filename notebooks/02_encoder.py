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
# # 02 · The encoder
#
# **A picture of 128×128 pixels is 49,152 numbers, and none of them says "car".** The encoder turns them into 1,360
# vectors from which it can be read. You build it, a ConvNeXt, block by block. Then you teach a small one what things are
# called.
#
# **You will learn**
#
# - what a convolution does, and why ConvNeXt splits it in two;
# - why the picture is read on *four levels*, and how far a cell of each one sees;
# - how contrast with words teaches an encoder, in half a minute, what no label said.
#
# | | |
# |---|---|
# | **You need first** | PyTorch: `nn.Module`, `nn.Linear`, a training step |
# | **Time** | 50 minutes with the exercises; all cells run in about 70 seconds on one core |
# | **Memory** | 1.6 GB at most, no GPU |
# | **Measured** | 2026-11-25, 2 CPU cores, by `python notebooks/make.py 02` |
# | **Modules** | `osprey_nb/encoder.py`, `osprey_nb/train/contrast.py` |

# %%
# %matplotlib inline
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss
from torch import nn

import osprey_nb
from osprey_nb import diagrams
from osprey_nb.config import OspreyConfig
from osprey_nb.data.kinds import COLOURS, KINDS
from osprey_nb.data.scenes import make_scene
from osprey_nb.exercises import check
from osprey_nb.prompt import SHORT
from osprey_nb.train.contrast import RegionCLIP, region_batches
from osprey_nb.train.trainer import Budget, fit, freeze
from osprey_nb.train.watch import Bar
from osprey_nb.widgets.probes import FeatureProbe, FeatureState

model = osprey_nb.Osprey.from_pretrained("tiny").eval()
scene = make_scene(374, size=128, split="eval")


@torch.no_grad()
def read(model, scene):
    """A scene to its four levels, C×H×W each."""
    return [level[0] for level in model.encoder(model.processor.image(scene.image)[None])]


diagrams.pyramid(scene.image, {"a picture, read on four levels": read(model, scene)})

# %% [markdown]
# Each square is a *cell*: a vector of 32 to 256 numbers. Cells of one grid with similar vectors have similar colours.
# On the left you can still make out the objects. On the right sixteen cells are left, and each of them can see the whole
# picture. How come?
#
# ## 1 · A convolution, by hand
#
# Take a small window of weights. Lay it on the picture, multiply, sum, write the sum down, move on by one.
#
# > **Predict before you run.** The picture below is dark on the left, bright on the right. The window is −1, 0, 1
# > in each row. Where will the result be large?

# %%
picture = torch.tensor([[0.0, 0, 5, 5, 5]] * 5)
window = torch.tensor([[-1.0, 0, 1]] * 3)

result = torch.zeros(3, 3)
for row in range(3):
    for column in range(3):
        result[row, column] = (picture[row : row + 3, column : column + 3] * window).sum()

assert torch.equal(result, F.conv2d(picture[None, None], window[None, None])[0, 0])
diagrams.number_grids(("picture", picture), ("window", window), ("result", result), signs="∗=")

# %% [markdown]
# Where dark meets bright: the window *looks for an edge*. Nobody writes such windows any more; they are learnt.
#
# ## 2 · Two jobs, two steps
#
# Real layers have many channels, and a full convolution does two jobs at once: it looks *around*, and it *mixes*
# the channels. That is expensive. ConvNeXt does one after the other:
#
# 1. **Depthwise**: each channel has its own 7×7 window, and sees nothing of the others.
# 2. **Two Linears**: at each cell alone, C channels become 4·C, and C again.
#
# > **Predict.** 64 channels, windows of 7×7. How many weights has the full convolution? How many have the two
# > steps together?

# %%
full = nn.Conv2d(64, 64, 7, padding=3)
depthwise = nn.Conv2d(64, 64, 7, padding=3, groups=64)
linears = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 64))


def weights(module):
    return sum(p.numel() for p in module.parameters())


print(f"full: {weights(full):,}   in two steps: {weights(depthwise):,} + {weights(linears):,} = "
      f"{weights(depthwise) + weights(linears):,}")

# %% [markdown]
# A fifth, and it mixes channels better. Around the two steps stand three small things: a **LayerNorm** (each
# cell's vector is brought to mean 0 and spread 1), a **scale** for each channel that begins small, and the
# **shortcut**: the input is added at the end, so a block only has to learn what to *change*.

# %%
class Block(nn.Module):
    """A ConvNeXt block. B×C×H×W to the same shape."""

    def __init__(self, channels):
        super().__init__()
        self.conv_dw = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.fc1 = nn.Linear(channels, 4 * channels)
        self.fc2 = nn.Linear(4 * channels, channels)
        self.gamma = nn.Parameter(0.1 * torch.ones(channels))

    def forward(self, x):
        y = self.conv_dw(x)                                 # look around
        y = self.norm(y.permute(0, 2, 3, 1))                # channels last, as Linear wants them
        y = self.fc2(F.gelu(self.fc1(y)))                   # mix
        return x + (self.gamma * y).permute(0, 3, 1, 2)     # change a little


# %% [markdown]
# ### Exercise 02.1 · Weights of a block
# ★★☆ · 6 minutes
#
# Write `block_weights(c)`: how many numbers a block with `c` channels learns. Count the biases too, and two
# numbers a channel for the norm.
#
# <details><summary>Hint</summary>
#
# Five terms: windows 49·c + c, norm 2·c, first Linear c·4c + 4c, second 4c·c + c, scale c.
#
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def block_weights(c):
#     return (49 * c + c) + 2 * c + (c * 4 * c + 4 * c) + (4 * c * c + c) + c
# ```
#
# </details>

# %% tags=["exercise"]
def block_weights(c):
    """The number of weights of a ConvNeXt block."""
    ...


# %%
check("02.1", block_weights)

# %% [markdown]
# ## 3 · Four levels
#
# The encoder begins with a **stem**: squares of 4×4 pixels become one cell. Then come four stages of blocks. Before
# each but the first, 2×2 cells are joined into one. So the grid shrinks and the vectors grow.
#
# > **Predict.** Our picture has 128×128 pixels. How many cells has each level, and how many are there in all? And with
# > the 512×512 of the published model, which has six times as many channels?

# %%
class NormChannels(nn.LayerNorm):
    """LayerNorm over the channels of B×C×H×W."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class MyEncoder(nn.Module):
    """Images B×3×S×S to [res2, res3, res4, res5]."""

    def __init__(self, dims, depths):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, dims[0], 4, stride=4), NormChannels(dims[0], eps=1e-6))
        self.stages = nn.ModuleList()
        for i, (dim, depth) in enumerate(zip(dims, depths, strict=True)):
            join = [NormChannels(dims[i - 1], eps=1e-6), nn.Conv2d(dims[i - 1], dim, 2, stride=2)] if i else []
            self.stages.append(nn.Sequential(*join, *(Block(dim) for _ in range(depth))))

    def forward(self, images):
        x, levels = self.stem(images), []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        return levels


sizes, paper = model.config.vision_config, OspreyConfig.preset("paper").vision_config
mine = MyEncoder(sizes.dims, sizes.depths).eval()
with torch.device("meta"):                                      # shapes without numbers: the published one is large
    published = MyEncoder(paper.dims, paper.depths)
for name, encoder, device, side in (("tiny", mine, "cpu", 128), ("published", published, "meta", 512)):
    with torch.no_grad():
        shapes = [tuple(level.shape[1:]) for level in encoder(torch.zeros(1, 3, side, side, device=device))]
    print(f"{name}, {side}×{side}: {shapes}, {sum(height * width for _, height, width in shapes):,} cells")

# %% [markdown]
# ## 4 · The parity cell
#
# The package uses timm's ConvNeXt, so that the published CLIP weights fit. Is yours the same machine? The weights
# are laid side by side in the order in which both name them, and both read the picture.

# %%
ours, theirs = mine.state_dict(), model.encoder.trunk.state_dict()
renamed = {}
for name in ours:
    parts = name.split(".")
    if parts[0] == "stages":                                    # stages.1.2.fc1.weight: the third of its Sequential
        stage, place = int(parts[1]), int(parts[2]) - (2 if parts[1] != "0" else 0)
        inner = ".".join(parts[3:]).replace("fc", "mlp.fc")
        name = f"stages.{stage}.blocks.{place}.{inner}" if place >= 0 else f"stages.{stage}.downsample.{place + 2}.{inner}"
    renamed[name] = theirs[name]
mine.load_state_dict(dict(zip(ours, renamed.values(), strict=True)))

image = model.processor.image(scene.image)[None]
with torch.no_grad():
    for name, a, b in zip(("res2", "res3", "res4", "res5"), mine(image), model.encoder(image), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
        print(name, tuple(a.shape[1:]), "equal, to 1 part in 10 000")

# %% [markdown]
# ## 5 · How far does a cell see?
#
# A window of 7 sees 3 cells in each direction. The next block sees 3 cells further, and after the cells are joined,
# a step is twice as wide. What a cell *can* see is its **receptive field**.

# %% [markdown]
# ### Exercise 02.2 · The receptive field
# ★★★ · 10 minutes
#
# Write `fields(depths)`: the width in pixels of what a cell can see after each of the four stages. Keep two numbers:
# `field`, the width, and `jump`, the pixels between two neighbouring cells. A window of size k makes `field` grow by
# `(k - 1) * jump`; *then* a stride s multiplies `jump` by s.
#
# - stem: window 4, stride 4, from `field = 1`, `jump = 1`;
# - before each stage but the first: window 2, stride 2;
# - each block: window 7, stride 1.
#
# <details><summary>Hint</summary>
#
# After the stem: field 4, jump 4. A block adds 6 · jump.
#
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def fields(depths):
#     field, jump, found = 4, 4, []
#     for i, depth in enumerate(depths):
#         if i > 0:
#             field, jump = field + jump, 2 * jump
#         field += depth * 6 * jump
#         found.append(field)
#     return found
# ```
#
# </details>

# %% tags=["exercise"]
def fields(depths):
    """Receptive field after each stage, in pixels."""
    ...


# %%
check("02.2", fields)

# %% [markdown]
# With tiny's depths (2, 2, 3, 1) these are 52, 152, 448 and 656 pixels, around the middle of the cell. The picture has
# 128. So a cell in the middle of `res3` can just see all of it, and a cell in its corner 80×80 pixels. From `res4` on,
# every cell can see everything.
#
# > **Predict.** Does it use it all? We ask: if a pixel changed a little, how much would the cell change? That is a
# > gradient. How much of it comes from the cell itself and its eight neighbours?

# %%
def influence(level, row, column, pictures=16):
    """S×S: how much each pixel moves a cell of a level, a mean over pictures; all together 1."""
    total = torch.zeros(128, 128)
    for seed in range(pictures):
        image = model.processor.image(make_scene(seed, size=128, split="eval").image)[None].requires_grad_()
        feature = model.encoder(image)[level][0]
        feature[:, row, column].norm().backward()
        total += image.grad[0].abs().sum(0)
    return total / total.sum()


corner = influence(1, 0, 0, pictures=1) > 0
print(f"the corner cell of res3 sees {corner.float().mean():.0%} of the picture")

titled, shares = [], []
for level, cells in enumerate((32, 16, 8, 4)):
    middle, pixels = cells // 2, 128 // cells
    moves = influence(level, middle, middle)
    near = slice((middle - 1) * pixels, (middle + 2) * pixels)  # its own 3×3 cells
    shares.append(moves[near, near].sum().item())
    area = (3 / cells) ** 2
    assert shares[-1] / area > 2 * (1 - shares[-1]) / (1 - area)
    print(f"res{level + 2}: its own 3×3 cells are {area:.0%} of the picture, and {shares[-1]:.0%} of the influence")
    titled.append((f"res{level + 2}: what moves a middle cell", moves.sqrt()))
assert 0.25 < shares[1] < 0.4 and 0.4 < shares[2] < 0.6
diagrams.heatmaps(*titled)

# %% [markdown]
# Dark is nothing, bright is much. (The pictures show square roots, or you would see the brightest pixels only.)
#
# > **A note that changes a belief.** A receptive field says what a cell *can* see. What it *uses* is not spread evenly
# > over it. Outside of its own 3×3 cells lie about two thirds of the influence on `res3`, and about half on `res4`. But there
# > are many more pixels out there. Pixel by pixel, its own place counts several times as much. **This is why mask pooling
# > works at all:** what lies under your mask weighs far more than its area. And it is why a region's vector also tells of
# > what stands around it.

# %% [markdown]
# ## 6 · Words as teachers
#
# Where does an encoder learn what a car is? Osprey takes CLIP's. It learnt from LAION-2B: two billion pictures with their
# captions. The lesson is simple: **a picture and its text belong together, all other pairs do not.**
#
# Take four regions and four phrases, all as vectors of length 1. Their products say how well they fit.
#
# > **Predict.** Which numbers of the square should become large in training? What about all the others?

# %%
torch.manual_seed(0)
regions, texts = (F.normalize(torch.randn(4, 8), dim=1) for _ in range(2))
fit_of_pairs = regions @ texts.T
diagrams.number_grids(("region × phrase", (10 * fit_of_pairs).round() / 10 + 0.0))

# %% [markdown]
# The diagonal: region 1 with phrase 1, and so on. Read a *row* as a question with four answers: *which phrase is this
# region's?* That is cross entropy. Read a *column* the same way: *which region is this phrase's?* CLIP's loss is the
# mean of both. Before that, all products are multiplied by a **scale**, which is learnt: it says how sure to be.

# %% [markdown]
# ### Exercise 02.3 · The loss of CLIP
# ★★☆ · 8 minutes
#
# Write `clip_loss(regions, texts, scale)` for N×D unit vectors. `F.cross_entropy(logits, target)` takes N×N logits
# and, for each row, the index of the right answer.
#
# <details><summary>Hint</summary>
#
# `target = torch.arange(N)`: the right answer of row i is i. For the columns, turn the square: `logits.T`.
#
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def clip_loss(regions, texts, scale):
#     logits = scale * regions @ texts.T
#     target = torch.arange(len(logits))
#     return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
# ```
#
# </details>

# %% tags=["exercise"]
def clip_loss(regions, texts, scale):
    """N×D and N×D unit vectors and a number to a loss."""
    ...


# %%
check("02.3", clip_loss)

# %% [markdown]
# open_clip has the same, and the package uses it:

# %%
logits, target = 10 * fit_of_pairs, torch.arange(4)
by_hand = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
torch.testing.assert_close(by_hand, ClipLoss()(regions, texts, torch.tensor(10.0)))
print("by hand and open_clip: the same loss")

# %% [markdown]
# ## 7 · Train one, from nothing
#
# A fresh encoder, 600 drawn scenes, 250 steps. Each step takes 16 pictures with all their objects and some parts, and
# the phrases that tell what they are. Nobody says *class 7*; there are only words. (When the package trains tiny, there
# is a second lesson with labels: what covers each cell of `res4`, which pattern does an object have? We leave it out.)

# %%
class OnlyWords(nn.Module):
    """In place of the second lesson: no loss."""

    def forward(self, res4, pooled, batch):
        return 0


torch.manual_seed(0)
fresh = osprey_nb.Osprey(OspreyConfig.preset("tiny"))
fresh.processor = model.processor
untrained = read(fresh.eval(), scene)

scenes = [make_scene(seed) for seed in range(600)]
clip = RegionCLIP(fresh)
clip.naming = OnlyWords()
freeze(clip, [clip])                            # all of it learns
losses = fit(
    clip, partial(region_batches, scenes, 16, 0, sizes.mean, sizes.std), lr=6e-3, weight_decay=0.05,
    budget=Budget(steps=250), name="contrast", watchers=[Bar()],
).losses
diagrams.curve(losses, "contrast: the loss, step by step")

# %% [markdown]
# Did it learn *things*, or only colours? Colours are easy: they are in the pixels. So ask for each alone. For a yellow
# car, which of *a yellow car, a yellow cat, a yellow house …* fits best? And which of *a red car, a yellow car …*?
#
# > **Predict.** There are 20 kinds and 9 colours. What would guessing give?

# %%
@torch.no_grad()
def zero_shot(clip, scenes):
    """How often the right kind, and the right colour, fits an object best."""
    right = {"kind": [], "colour": []}
    for scene in scenes:
        masks = torch.stack([torch.from_numpy(thing.mask) for thing in scene.objects]).float()
        vectors = clip.embed_regions(clip.encoder(model.processor.image(scene.image)[None]), [masks])
        for thing, vector in zip(scene.objects, vectors, strict=True):
            kinds = clip.embed_texts([f"a {thing.colour} {kind}" for kind in KINDS])
            colours = clip.embed_texts([f"a {colour} {thing.kind}" for colour in COLOURS])
            right["kind"].append(list(KINDS)[int((kinds @ vector).argmax())] == thing.kind)
            right["colour"].append(COLOURS[int((colours @ vector).argmax())] == thing.colour)
    return {name: float(np.mean(values)) for name, values in right.items()}


after = zero_shot(clip.eval(), [make_scene(seed, split="eval") for seed in range(40)])
guessing = {"kind": 1 / len(KINDS), "colour": 1 / len(COLOURS)}
assert after["colour"] > 0.8 and after["kind"] > 3 * guessing["kind"]
diagrams.shares({name: {"by guessing": guessing[name], "after 250 steps": after[name]} for name in after},
                "right, of the objects of 40 new scenes")

# %% [markdown]
# Colour comes at once. Kind is well above guessing after half a minute, and goes on rising: tiny's own encoder learnt
# far longer, from the same loss and the second lesson.

# %%
diagrams.pyramid(scene.image, {
    "untrained": untrained, "250 steps": read(fresh.eval(), scene), "tiny": read(model, scene),
})

# %% [markdown]
# Even the untrained one shows outlines: colours and edges are there without any learning. What learning adds is that
# *similar things* get *similar vectors*. That you can't see in one picture. So look into others.
#
# ## 8 · What does a cell know?
#
# **Move the point over the picture, and change the level.** Below, the patches of forty other pictures whose vectors
# are nearest.
#
# - On `res2`, point at something yellow. What do the nearest patches have in common?
# - On `res4`, point at a wheel, a window, an eye.
# - And on `res5`?

# %%
gallery = [(other.image, read(model, other)) for other in (make_scene(seed, split="eval") for seed in range(40))]
probe = FeatureProbe(scene.image, read(model, scene), gallery)
probe

# %% [markdown]
# Reading without a kernel? Here is the body of the car, on the finest level and on the third.

# %%
still = FeatureProbe(scene.image, read(model, scene), gallery, FeatureState(44, 26, level=0))
still.static()

# %%
still.move(level=2)
still.static()

# %% [markdown]
# `res2` finds yellow, whatever it is. `res4` asks for more than the colour: what stands around it counts, too. Osprey
# pools a region on **all four**, for no single level knows everything.
#
# ## 9 · Break it on purpose
#
# A picture is red, green, blue. One of the best known libraries, OpenCV, reads it as *blue, green, red*. The shape of
# the array is the same, nothing complains.
#
# > **Predict.** What will the model say of the yellow car? Of the red clock?

# %%
masks = [thing.mask for thing in scene.objects]
print("red, green, blue: ", model.describe(scene.image, masks))
print("blue, green, red: ", model.describe(scene.image[..., ::-1].copy(), masks))

# %% [markdown]
# The kinds are right and the colours are those of another world, and it speaks as fluently as ever. Such bugs are
# common, and quiet: a wrong order of colours, a forgotten mean and deviation, a picture that was resized in another way.
# The numbers become a little worse, and nobody knows why. So the preparation belongs to the weights: `model.processor`
# carries it with them.
#
# ## 10 · What you built
#
# Pixels in, four grids of vectors out: step 2 of the whole.

# %%
answer = model.describe(scene.image, masks[1:2])[0]
diagrams.pipeline(scene.image, masks[1], [level.numpy() for level in read(model, scene)], SHORT, answer)

# %% [markdown]
# Next: [03 · The mask extractor](03_mask_extractor.ipynb) takes these four grids and your mask, and makes two tokens
# of them.
