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
# # 06 · Instruction data
#
# **A model learns from what you give it, and from nothing else.** So: what exactly do you give it?
# Here a mask and a label become a conversation, the conversation a row of numbers, and the row a batch.
# Then you make such data yourself, and find what is wrong with it *before* training does.
#
# **You will learn**
#
# - how one annotation becomes a question and an answer, and where the region stands in the text;
# - which positions of the row the model is trained to write: far fewer than you think;
# - to make Osprey's five kinds of data from annotations by rule, and to find their faults with `check`.
#
# | | |
# |---|---|
# | **You need first** | Python. [01](01_images_and_masks.ipynb) says what a mask is. |
# | **Time** | 45 minutes with the exercises; all cells run in about 15 seconds |
# | **Memory** | 1.2 GB at most, no GPU |
# | **Measured** | 2026-11-25, 2 CPU cores, by `python notebooks/make.py 06` |
# | **Modules** | `osprey_nb/prompt.py`, `osprey_nb/processor.py`, and `osprey_nb/data/`: readers, collate, curate, check |

# %%
# %matplotlib inline
import copy
import json
import os
import tempfile
from pathlib import Path

import numpy as np

import osprey_nb
from osprey_nb import diagrams, viz
from osprey_nb.data import curate
from osprey_nb.data.check import check as check_data
from osprey_nb.data.check import fix
from osprey_nb.data.collate import Report, batches
from osprey_nb.data.readers import Instances, OspreyFile
from osprey_nb.data.samples import write_samples
from osprey_nb.data.teachers import Rules
from osprey_nb.exercises import check
from osprey_nb.prompt import SYSTEM, place_regions
from osprey_nb.widgets.probes import TokenProbe, positions

os.chdir(tempfile.mkdtemp())                    # a folder of our own, which the system clears away
os.environ["OSPREY_NB_CACHE"] = "cache"
write_samples(Path("data"), scenes=12)          # twelve drawn scenes in the formats of the field
print(*sorted(path.name for path in Path("data").iterdir()), sep="\n")

# %% [markdown]
# ## 1 · An annotation
#
# Somebody went around a thing and gave it a name. That is all there is. In COCO's format it looks like this:

# %%
coco = json.loads(Path("data/instances.json").read_text())
names = {category["id"]: category["name"] for category in coco["categories"]}
annotation = coco["annotations"][0]
print(json.dumps({**annotation, "segmentation": "…"}, indent=1))
print("category", annotation["category_id"], "is", names[annotation["category_id"]])

# %% [markdown]
# Nobody asked anything, and nobody answered. To teach a model to *answer*, we must make up a question:

# %%
question = "What is the category of <region1>? Using only one word or phrase."
answer = names[annotation["category_id"]]
print(question, "→", answer)

# %% [markdown]
# `<region1>` is a name for the mask. It is not yet a token. That is a **record**: a picture, its regions, and
# turns of question and answer that call the regions by number. Every file of the field is read into it.

# %%
record = Instances("data/instances.json", "data/images", progress=False)[0]
print(record.turns)
viz.overlay(record.image, record.masks, labels=[answer for _, answer in record.turns])

# %% [markdown]
# Osprey's own data come in five files. Each trains another habit.
#
# > **Predict before you run.** Which of the five has the longest answers? Which ones let the model say *no*?

# %%
FILES = ["osprey_short_form", "osprey_conversation", "osprey_detail_description", "osprey_part_level",
         "osprey_lvis_positive_negative"]
readers = {name: OspreyFile(f"data/{name}.json", "data/images", progress=False) for name in FILES}
for name, reader in readers.items():
    print(f"{name}\n    {reader[2].turns[0][0]}\n    → {reader[2].turns[0][1]}")

# %% [markdown]
# ## 2 · One text
#
# A language model continues *one* text. So the turns are written one after the other, with a few words in
# between that are always the same.
#
# > **Predict.** In which of these pieces should the model be punished for a wrong word?

# %%
def pieces(turns, system=SYSTEM):
    """Turns to (text, is it the model's own?) pairs, as in the paper."""
    found = []
    for n, (question, answer) in enumerate(turns):
        start = f"{system} USER: <image>\nThis provides an overview of the picture.\n" if n == 0 else "USER: "
        found.append((f"{start}{question} ASSISTANT:", False))
        found.append((f" {answer}</s>", True))
    return found


for text, own in pieces([("What is <mask><pos>?", "a red bicycle"), ("Is it new?", "No")]):
    print("loss" if own else "    ", "│", text)

# %% [markdown]
# Only in its answers. What the *user* says is given; a model that learns to write questions learns the wrong
# job. `</s>` belongs to the answer: it must learn to **stop**, too.
#
# And the region? There are two ways to put its two tokens in. In some files the pair stands where the name
# stands. In others all regions are announced at the beginning, and then called by plain words:

# %%
for inline in (True, False):
    questions, order = place_regions(["Is <region1> left of <region2>?"], n_regions=2, inline=inline)
    print(f"inline={inline}:  {questions[0]}   regions {order}")

# %% [markdown]
# ## 3 · One row of numbers
#
# The tokenizer cuts the text into tokens. Three of them are no words: `<image>`, `<mask>`, `<pos>`. They
# keep a place free, and the model puts vectors there: of the picture, of the region, of its outline.

# %%
model = osprey_nb.Osprey.from_pretrained("tiny").eval()
processor = model.processor
sample = processor.text([("What is <region1>?", "a red bicycle"), ("Is it a cat?", "No")], n_regions=1, inline=True)

tokens, loss = positions(processor, sample["input_ids"], sample["labels"])
diagrams.token_strip(tokens, loss)

# %% [markdown]
# ### Exercise 06.1 · Count the loss
# ★☆☆ · 3 minutes
#
# Somebody asks ten questions about one picture. Each answer is `Yes` or `No`: one token. How many positions
# of the row carry loss? (Look at the strip: what comes after an answer?)
#
# <details><summary>Hint</summary>
#
# The word, and the end of the answer. And nothing else: no picture, no question, no region.
#
# </details>
# <details><summary>Solution</summary>
#
# ```python
# with_loss = 10 * 2
# ```
#
# </details>

# %% tags=["exercise"]
with_loss = ...

# %%
check("06.1", with_loss)

# %% [markdown]
# A position that carries no loss gets the label **−100**: PyTorch's cross entropy passes over it. All others
# get the token itself. (The model predicts the *next* token: the loss applies the shift by one.)

# %% [markdown]
# ### Exercise 06.2 · Labels
# ★★☆ · 8 minutes
#
# Write `my_labels(pieces, encode)`. It gives two lists of the same length: the ids of the whole text, and
# the labels. `encode(text)` gives the ids of one piece. The row begins with `encode("<s>")`, which carries no
# loss.
#
# <details><summary>Hint</summary>
#
# Go through the pieces. `ids += new`, and `labels += new if own else [-100] * len(new)`.
#
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def my_labels(pieces, encode):
#     ids = encode("<s>")
#     labels = [-100] * len(ids)
#     for text, own in pieces:
#         new = encode(text)
#         ids = ids + new
#         labels += new if own else [-100] * len(new)
#     return ids, labels
# ```
#
# </details>

# %% tags=["exercise"]
def my_labels(pieces, encode):
    """(text, own) pairs to ids and labels."""
    ...


# %%
check("06.2", my_labels)

# %% [markdown]
# ## 4 · The parity cell
#
# Record → text → ids and labels, in ten lines of our own. Does the package say the same, for every record of
# all five files?

# %%
def encode(text):
    return processor.tokenizer(text, add_special_tokens=False)["input_ids"]


def my_sample(record):
    """A record to ids and labels."""
    questions, _ = place_regions([question for question, _ in record.turns], len(record.regions), record.inline)
    answers = [answer.replace("<", "").replace(">", "") for _, answer in record.turns]      # region2, in plain words
    ids = encode("<s>")
    labels = [-100] * len(ids)
    for text, own in pieces(list(zip(questions, answers, strict=True))):
        new = encode(text)
        ids, labels = ids + new, labels + (new if own else [-100] * len(new))
    return ids, labels


tested = 0
for reader in readers.values():
    for record in reader:
        theirs = processor.text(record.turns, len(record.regions), record.inline)
        assert my_sample(record) == (theirs["input_ids"].tolist(), theirs["labels"].tolist())
        tested += 1
print(f"{tested} records: the same ids, the same labels")

# %% [markdown]
# > **A note that changes a belief.** We say that a model *trains on* a text of two hundred tokens. See how
# > many of them teach it anything:

# %%
for name, reader in readers.items():
    shares = []
    for record in reader:
        sample = processor.text(record.turns, len(record.regions), record.inline)
        _, loss = positions(processor, sample["input_ids"], sample["labels"])
        shares.append(np.mean(loss))
    print(f"{name:32} {np.mean(shares):4.0%} of the positions carry loss")

# %% [markdown]
# **A short answer costs as much to compute as a long one, and teaches a tenth.** This is why Osprey asks for
# long descriptions too, and why many turns about one picture are put into one row.
#
# ## 5 · See for yourself
#
# **Choose a record. Then pull the limit down.** The limit is how many positions the model may read.
#
# - Which turns go first? Does a region ever lose one half of its pair?
# - When is nothing left?

# %%
choice = [readers[name][3] for name in FILES]
TokenProbe(processor, choice)

# %% [markdown]
# Reading without a kernel? Here is the yes-or-no record with room for 150 positions.

# %%
still = TokenProbe(processor, choice)
still.controls["record"].value, still.controls["limit"].value = 4, 150
print(still.said.value)
still.static()

# %% [markdown]
# A turn is kept whole or left out. And where regions stand *inline*, those that nobody speaks of any more go
# too.
#
# ## 6 · A batch
#
# Rows of one batch must be equally long. Shorter ones are filled with **padding**, on the right. It is
# computed like everything else, and thrown away.
#
# > **Predict.** Which part of a batch of eight is padding, if we take records as they come?

# %%
def drawn(samples):
    return [([kind for kind, _ in tokens], loss)
            for tokens, loss in (positions(processor, s["input_ids"], s["labels"]) for s in samples)]


everything = [record for reader in readers.values() for record in reader]
rng = np.random.default_rng(0)
taken = [processor.record(everything[i]) for i in rng.choice(len(everything), 8, replace=False)]
diagrams.batch(drawn(taken), "as they come")

# %% [markdown]
# The package collects the samples of eight batches, sorts them by length, and cuts. The batches then come in
# random order, so that long ones are not all last.

# %%
report = Report()
grouped = list(batches(everything, processor, size=8, seed=0, report=report))
print(report)
one = max(grouped, key=lambda batch: len(batch["input_ids"]))
rows = [{"input_ids": ids[keep], "labels": labels[keep]}
        for ids, labels, keep in zip(one["input_ids"], one["labels"], one["attention_mask"], strict=True)]
diagrams.batch(drawn(rows), "of similar length")

# %% [markdown]
# ## 7 · Make your own
#
# Who wrote Osprey's 724 000 records? Mostly a language model that never saw a picture: GPT-4, with COCO's
# annotations in words. The package does this with any model. It also has a teacher that needs none: **rules**.
# They say only what follows from names, places and sizes.

# %%
result = curate.curate("data/instances.json", "curated", Rules(), limit=10, progress=False)
print(result)

# %%
mine = {name: OspreyFile(f"curated/{name}.json", "data/images", progress=False) for name in FILES}
record = mine["osprey_conversation"][0]
for question, answer in record.turns:
    print(question, "→", answer)
viz.overlay(record.image, record.masks)

# %% [markdown]
# No part-level records: these annotations name whole things only. A rule cannot know more than its input.
#
# The last file is special. A model that only ever hears *yes* learns to say *yes*. So for each true claim
# there is a false one.

# %%
for question, answer in mine["osprey_lvis_positive_negative"][0].turns:
    print(question, "→", answer)

# %% [markdown]
# > **Predict.** The picture shows a cup, and an annotator called it `cup`. Is *"No, it is not a bowl"* a
# > safe answer?

# %% [markdown]
# ### Exercise 06.3 · A safe no
# ★★★ · 10 minutes
#
# Write `safe(name, present, groups)`: the sorted list of names that a thing called `name` certainly is not.
#
# - `present` is the set of all names that occur in the picture: never take one of these;
# - `groups` maps each name to its group, `{"cup": "kitchen", "bowl": "kitchen", "horse": "animal"}`: what is
#   of the same group may look alike, so never take one of these either.
#
# <details><summary>Hint</summary>
#
# A list comprehension over `groups`, with two conditions. The thing's own name is of its own group.
#
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def safe(name, present, groups):
#     return sorted(other for other in groups if other not in present and groups[other] != groups[name])
# ```
#
# </details>

# %% tags=["exercise"]
def safe(name, present, groups):
    """Names that may be denied."""
    ...


# %%
check("06.3", safe)

# %% [markdown]
# ## 8 · Break it on purpose
#
# Real data have faults, and training says nothing about them: the loss goes down all the same. We plant eight
# in a copy of the conversations, one in each record.

# %%
entries = json.loads(Path("data/osprey_conversation.json").read_text())
bad = copy.deepcopy(entries)
bad[0]["file_name"] = "scene_999.jpg"                                               # a picture that is not there
bad[1]["width"] = 640                                                               # a size that is not the picture's
bad[2]["annotation"][0]["segmentation"]["counts"] = bad[2]["annotation"][0]["segmentation"]["counts"][:-9]
bad[3]["conversations"][0]["value"] = "What are <region1> and <region7>?"           # a region without a mask
bad[4]["conversations"][1]["value"] = " "                                           # no answer
bad[5]["conversations"] = bad[5]["conversations"][::-1]                             # the answer comes first
bad[6] = copy.deepcopy(bad[7])                                                      # twice the same
bad[8]["conversations"][:2] = [{"from": "human", "value": "Is <region1> near the red bicycle, <region2>?"},
                               {"from": "gpt", "value": "The red bicycle."}]        # the question gives it away
Path("data/broken.json").write_text(json.dumps(bad))

# %% [markdown]
# > **Predict.** Which of the eight would stop a training run? Which would only spoil the model?

# %%
broken = OspreyFile("data/broken.json", "data/images", source="osprey_conversation", progress=False)
found = check_data(broken, progress=False)
print(found.table())

# %% [markdown]
# An *error* makes a record useless or false. A *warning* is for you to look at. In a terminal the same is
# `osprey-nb check data/broken.json --images data/images`, and `--sheet` draws random records to look at.
#
# And your prediction? This is what the loader of a training run makes of the same file:

# %%
report = Report()
list(batches(broken, processor, size=8, report=report))
print(report)

# %% [markdown]
# Five are passed over, counted and named. The empty answer, the duplicate and the question that gives itself
# away are **learnt**. A run that goes through is no proof of good data.
#
# The repaired copy has the usable rows only. The file that was given is never changed.

# %%
fix(found, "data/mended.json")
mended = OspreyFile("data/mended.json", "data/images", source="osprey_conversation", progress=False)
print(len(broken), "rows before,", len(mended), "after;", len(check_data(mended, progress=False).errors), "errors left")

# %% [markdown]
# ### Exercise 06.4 · Does the question give it away?
# ★★☆ · 8 minutes
#
# *"Is the red bicycle red?"* teaches a model to copy. Write `leaks(question, answer)`: True when the answer,
# without its last full stop and in small letters, stands in the question as whole words. But *"Is it a cat or
# a dog?"* must offer its answer: a question with the word *or* never leaks.
#
# <details><summary>Hint</summary>
#
# `re.search(rf"\b{re.escape(answer)}\b", question)` finds whole words. Make both small letters first.
#
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def leaks(question, answer):
#     import re
#     question, answer = question.lower(), answer.lower().strip(" .")
#     if re.search(r"\bor\b", question):
#         return False
#     return re.search(rf"\b{re.escape(answer)}\b", question) is not None
# ```
#
# </details>

# %% tags=["exercise"]
def leaks(question, answer):
    """Does the answer stand in the question?"""
    ...


# %%
check("06.4", leaks)

# %% [markdown]
# What `check` cannot find: a wrong label. *"a cat"* over a dog is perfect JSON. Look at the pictures.
#
# ## 9 · What you built
#
# From a name and a mask to what the model is trained on:

# %%
record = readers["osprey_conversation"][2]
diagrams.instruction(np.asarray(viz.load_image(record.image)), record.masks[0], *record.turns[0])

# %% [markdown]
# With files of your own the way is the same: `osprey-nb check FILE --images FOLDER`, then a mixture (a YAML
# file that says how much of each source). docs/data.md has the formats.
#
# Before this: [03 · The mask extractor](03_mask_extractor.ipynb), where the two tokens of a region come from.
