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
# # 11 · The studio
#
# **Your own picture, your own question.** You know the pieces. Here they work together, on whatever you bring.
#
# **You will learn**
#
# - to draw, click, ask, and let everything be found, in one place;
# - what must happen between your hand and the sentence, and what can go wrong;
# - how a model can *know that it doesn't know* a picture;
# - to take a session with you: as JSON, as a picture, and as code that runs.
#
# | | |
# |---|---|
# | **You need first** | [00 · First look](00_first_look.ipynb); the rest helps, but isn't needed |
# | **Time** | 40 minutes with the exercises; all cells run in about 15 seconds |
# | **Memory** | 1.8 GB at most, no GPU |
# | **Measured** | 2026-11-27, 2 CPU cores, by `python notebooks/make.py 11` |
# | **Module** | `osprey_nb/widgets/studio.py`, `osprey_nb/widgets/canvas.py`, `osprey_nb/familiar.py` |

# %%
# %matplotlib inline
import contextlib
import io
import json
import tempfile
from pathlib import Path

import osprey_nb
from osprey_nb import diagrams
from osprey_nb.data.photographs import load_photograph
from osprey_nb.data.scenes import make_scene
from osprey_nb.exercises import check
from osprey_nb.familiar import familiar_of
from osprey_nb.widgets import Studio

model = osprey_nb.Osprey.from_pretrained("tiny").eval()
studio = Studio(model, 3)
studio

# %% [markdown]
# Draw on something, and read. Then try each of these:
#
# 1. **S**, and click on a wheel. Three candidates: point at each, take one.
# 2. **2**, and draw another thing. Then press *Which is larger, region 1 or region 2?* below the conversation.
# 3. **Describe everything**, above the picture. The list is a tree; point at its rows.
# 4. **?** shows all keys. **Ctrl+Z** takes back anything, a taken candidate as well.
# 5. Give region 1 a **name**. Choose another drawing. Come back with *Earlier*: all is still there.
# 6. Erase all, and ask about the whole picture: *What do you see in this picture?* It needs no region.
# 7. **Upload** a photograph of yours, and read the line above it before you believe a word.
#
# Without a kernel you see what follows, from Python: all that the buttons do can be called.

# %%
scene = make_scene(3, size=512, split="eval")
studio.set_masks([thing.mask for thing in scene.objects[:3]])
studio.rename(1, "my clock")
studio.ask("What colour is <region1>?")
studio.wait()
studio.static()

# %%
for message in studio.conversation:
    print(f"{message['role']:>9}: {message['content']}")

# %% [markdown]
# ## 1 · From your hand to a pixel
#
# The browser knows where you clicked *on the page*. The picture there is smaller or larger than it is.

# %% [markdown]
# ### Exercise 11.1 · The pixel under the hand
# ★☆☆ · 4 minutes
#
# `click` is (x, y) within the picture on the page, `shown` its (width, height) there, `size` the picture's own (width,
# height). Return x and y in the picture's own pixels.
#
# <details><summary>Hint</summary>
#
# Which part of the width is x? The same part of the picture's width.
#
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def my_pixel(click, shown, size):
#     return click[0] / shown[0] * size[0], click[1] / shown[1] * size[1]
# ```
#
# </details>

# %% tags=["exercise"]
def my_pixel(click, shown, size):
    """(x, y), (width, height), (width, height) to (x, y)."""
    ...


# %%
check("11.1", my_pixel)

# %% [markdown]
# Then the stroke is drawn into a **label map**, one number a pixel, in the browser. Only when you let go, it goes to
# Python: as run lengths ([01](01_images_and_masks.ipynb)), once a stroke. That is why drawing stays smooth on a picture of
# twelve megapixels, and why a slow model never holds up your hand.

# %% [markdown]
# ## 2 · Answers that come too late
#
# The model needs a moment. You draw on. Now an answer arrives, about a shape that no longer exists.
#
# > **Predict before you run.** What should the studio do: show it, wait, or drop it?

# %% [markdown]
# ### Exercise 11.2 · Whose `<region1>`?
# ★★☆ · 6 minutes
#
# You asked about regions 2 and 5 of the canvas. The model is given two masks, and counts them from 1. So the question
# must be renumbered: `regions` is `[2, 5]`, and `<region5>` becomes `<region2>`.
#
# <details><summary>Hint</summary>
#
# `re.sub(r"<region(\d)>", function, text)` calls `function(match)` for each; `match[1]` is the number.
#
# </details>
# <details><summary>Solution</summary>
#
# ```python
# import re
#
#
# def my_renumber(text, regions):
#     return re.sub(r"<region(\d)>", lambda match: f"<region{regions.index(int(match[1])) + 1}>", text)
# ```
#
# </details>

# %% tags=["exercise"]
def my_renumber(text, regions):
    """The question as the model counts."""
    ...


# %%
check("11.2", my_renumber)

# %% [markdown]
# ### Exercise 11.3 · Stale
# ★★★ · 10 minutes
#
# `events` come in order: `("draw", region, version)` when a region changes, `("say", region, version, text)` when an answer
# comes, about the version it was asked for. Return what may stand on the page at the end: a list of (region, text). An
# answer about an older version is never shown, and a shown answer goes when its region changes.
#
# <details><summary>Hint</summary>
#
# Two dictionaries: the newest version of each region, and what is shown of each. "draw" takes away, "say" puts in, if the
# versions agree.
#
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def my_page(events):
#     newest, shown = {}, {}
#     for kind, region, version, *text in events:
#         if kind == "draw":
#             newest[region] = version
#             shown.pop(region, None)
#         elif newest.get(region) == version:
#             shown[region] = text[0]
#     return list(shown.items())
# ```
#
# </details>

# %% tags=["exercise"]
def my_page(events):
    """Events to a list of (region, text)."""
    ...


# %%
check("11.3", my_page)

# %% [markdown]
# The studio does this, and more: one thread asks the model, one question after another; a stale answer is stopped at its
# next word, so that the fresh one comes sooner.

# %% [markdown]
# ## 3 · Where do the milliseconds go?
#
# > **Predict.** Reading the picture, the first word, the whole answers: which takes longest?

# %%
times = studio.times
diagrams.bars({"the picture, read once": times["read"], "until the first word": times["first"],
               "until all answers are whole": times["whole"]}, "milliseconds, here and now", "{:.0f}")

# %% [markdown]
# The picture is read while you draw your first stroke, before you let go. So you don't wait for it.

# %% [markdown]
# ## 4 · Break it on purpose: a photograph
#
# This model has seen drawings only. Here is a cat, a real one, with a mask that somebody drew around it.
#
# > **Predict.** Will it say that it doesn't know?

# %%
cat = load_photograph("chelsea")
studio.set_image(cat.image)
studio.set_masks(cat.masks[:1])
studio.wait()
studio.static()

# %% [markdown]
# It names a thing from its small world, in a whole sentence. Fluent, and nonsense. Nothing in the words warns you.
#
# ### Can a model know what it doesn't know?
#
# Not from its words. But from the *picture*: how far is it from all that it was trained on? The studio takes `res3`, the
# mean and the spread of each channel, and asks how unusual they are: the **Mahalanobis distance**, a distance that counts
# how much each direction varies in known pictures.

# %%
known = familiar_of(model)
drawings = [make_scene(seed, size=128, split="eval").image for seed in range(30)]
photographs = [load_photograph(name).image for name in ("astronaut", "chelsea", "coffee", "rocket")]
far = sorted(known.distance(model.read(image).features) for image in drawings)
distances = {
    "drawings, the middle one of 30": far[15],
    "drawings, the furthest of 30": far[-1],
    "photographs, the nearest of 4": min(known.distance(model.read(image).features) for image in photographs),
}
diagrams.bars(distances, "distance from what it knows; the line: where the studio warns", "{:.2f}", most=known.limit)

# %% [markdown]
# One drawing in 200 exceeds the limit, so now and then a drawing is suspected, too. These four photographs all lie far
# beyond it.

# %%
print("is the cat unlike what it knows?", studio.unlike)

# %% [markdown]
# > **A note that changes a belief.** *Confidence and knowledge are two things.* The first is in the words and their
# > probabilities. The second must be measured from elsewhere. A distance is crude: it tells
# > drawings from photographs, and it won't tell a cat from a dog. But it is honest.

# %% [markdown]
# ## 5 · Everything at once
#
# Back to the drawing. SAM clicks everywhere ([09](09_sam.ipynb)), and all that it finds is described in one batch.

# %%
studio.reopen(0)
studio.everything()
studio.wait()
print(osprey_nb.describe_everything(studio.image, model))

# %% [markdown]
# ## 6 · Take it with you
#
# The **Export** buttons write three files: JSON with all masks and words, the picture with its answers, and code.

# %%
folder = tempfile.TemporaryDirectory()
for name in ("session.json", "session.png", "session.py"):
    studio.export(Path(folder.name) / name)

session = json.loads((Path(folder.name) / "session.json").read_text())
for region in session["regions"]:
    print(region["number"], region["name"] or "–", "·", region["short"])

# %%
code = (Path(folder.name) / "session.py").read_text()
print("\n".join(line[:100] for line in code.splitlines()))

# %% [markdown]
# **Parity.** The code needs neither studio nor browser. Does it get the same answers?

# %%
printed = io.StringIO()
with contextlib.redirect_stdout(printed):
    exec(code, {})
for number, said in studio.answers.items():
    assert f"region {number}: {said['short']}" in printed.getvalue()
assert studio.conversation[1]["content"] in printed.getvalue()
folder.cleanup()
print("the same answers, word for word")

# %% [markdown]
# A session that is code can be handed in, compared, and run again with another model. And the masks alone are training
# data: `studio.save("mine.json")` writes COCO, which `osprey-nb finetune` reads ([06](06_instruction_data.ipynb)).

# %% [markdown]
# ## 7 · Yours
#
# In a terminal, without a notebook, on this machine only:
#
# ```sh
# osprey-nb studio my_picture.jpg
# osprey-nb studio my_picture.jpg --model runs/osprey-7b --segmenter vit_b     # with real weights
# ```
#
# ## 8 · What you built

# %%
studio.static()

# %% [markdown]
# - A **label map** in the browser, run lengths once a stroke: the hand never waits.
# - **One worker**, versions, and stale answers dropped: never a sentence about another mask.
# - A **distance** that tells when the model is out of its world, since its words don't.
# - **Sessions** that leave as data and as code.
#
# **Where it goes next.** Draw masks of your own, and teach the model something: [07 · Training](07_training.ipynb).
