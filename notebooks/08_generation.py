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
# # 08 · Generation
#
# **Thirty regions, one picture. Why read the picture thirty times?**
# A language model writes one word after the other, and each word looks back at all that stands before it. What
# stands before can be remembered. And in Osprey most of it is the same for every region.
#
# **You will learn**
#
# - how an answer is written, token by token, and why that is wasteful at first;
# - what a **KV cache** keeps, built by hand and then with a real LLM;
# - how all regions of a picture share **one reading** of it, and what that saves in time and memory;
# - what **temperature** and **top-p** do to the next word.
#
# | | |
# |---|---|
# | **You need first** | Attention: queries, keys, values, softmax. PyTorch indexing. |
# | **Time** | 50 minutes with the exercises; all cells run in about 15 seconds |
# | **Memory** | 1.2 GB at most, no GPU |
# | **Measured** | 2026-11-27, 2 CPU cores, by `python notebooks/make.py 08` |
# | **Module** | `osprey_nb/generate.py` and `osprey_nb/prefix.py`: at the end, yours says the same |

# %%
# %matplotlib inline
import contextlib
import copy
import time

import torch
from transformers import DynamicCache

import osprey_nb
from osprey_nb import diagrams
from osprey_nb.config import OspreyConfig
from osprey_nb.data.scenes import make_scene
from osprey_nb.exercises import check
from osprey_nb.projector import image_tokens
from osprey_nb.prompt import DETAILED, SHORT
from osprey_nb.viz import overlay
from osprey_nb.widgets.probes import AttentionProbe, SamplingProbe, SamplingState, StepperProbe

model = osprey_nb.Osprey.from_pretrained("tiny").eval()
scene = make_scene(3, size=128, split="eval")
masks = torch.stack([torch.from_numpy(thing.mask) for thing in scene.objects])
overlay(scene.image, masks.numpy())

# %% [markdown]
# ## 1 · One word after the other
#
# What the LLM reads is a row of vectors. Most come from words; 64 come from the picture, and two from the region.
# [00](00_first_look.ipynb) and [03](03_mask_extractor.ipynb) made them; here they come ready-made.

# %%
with torch.inference_mode():
    features = model.encoder(model.processor.image(scene.image)[None])
    picture = model.projector(image_tokens(features[2]))
    mask_tokens, spatial_tokens = (tokens[0] for tokens in model.mask_extractor(features, [masks]))

ids = model.processor.text([(SHORT, None)], 1, inline=True)["input_ids"]


def prompt_of(region):
    """1×T×D: all that the LLM reads before it answers about one region."""
    pair = [mask_tokens[region][None]], [spatial_tokens[region][None]]
    with torch.inference_mode():
        return model.splice(ids[None], picture, pair).embeds


prompt = prompt_of(0)
print("picture", tuple(picture.shape), " prompt", tuple(prompt.shape))

# %% [markdown]
# The LLM gives, for each position, a number for every word it knows: the **logits** of what comes next. We want
# the last position's. Take the largest (that is **greedy**), put the word at the end, and read everything again.

# %%
tokenizer, embed = model.processor.tokenizer, model.llm.get_input_embeddings()
END = tokenizer.eos_token_id


@torch.inference_mode()
def write_plainly(embeds):
    """The greedy answer, its tokens and the logits of each. 1×T×D to text, list, list."""
    tokens, seen, computed = [], [], 0
    while END not in tokens and len(tokens) < 48:
        logits = model.llm(inputs_embeds=embeds).logits[0, -1]
        computed += embeds.shape[1]
        seen.append(logits)
        tokens.append(int(logits.argmax()))
        embeds = torch.cat([embeds, embed.weight[tokens[-1]][None, None]], dim=1)
    print(f"{len(tokens)} tokens, {computed} positions computed")
    return tokenizer.decode(tokens, skip_special_tokens=True).strip(), tokens, seen


answer, tokens, logits = write_plainly(prompt)
answer

# %%
assert [answer] == model.describe(scene.image, masks[:1].numpy())
print("the same as model.describe")

# %% [markdown]
# That is all there is to writing.
#
# ### Watch it write
#
# Press *play*, or click a word. The bars are the likeliest next words. The table on the right asks a second question:
# what would the model say **if it stopped after an earlier layer**? (This is called a *logit lens*.)
#
# > **Predict.** After which layer is the kind of thing known? Before or after the colour?

# %%
stepper = StepperProbe(model, scene.image, masks.numpy())
stepper

# %%
stepper.move(step=len(tokens) - 2)
stepper.static()

# %% [markdown]
# Now look at the count above: a handful of tokens, and hundreds of positions.
#
# > **Predict before you run.** A longer answer of 50 tokens to the same prompt: about how many positions?

# %%
length = prompt.shape[1]
print(sum(length + k for k in range(50)))

# %% [markdown]
# ## 2 · What changes when a word is added?
#
# Here is the heart of the LLM, small: four positions, vectors of two numbers. Each position asks with a *query*,
# compares with the *keys* of all up to itself, and takes the mean of their *values*, weighted.

# %%
torch.manual_seed(1)
queries, keys, values = torch.randn(3, 5, 2)


def weights_of(count):
    """T×T: how much each position looks at each. Later ones are hidden: this is causal attention."""
    scores = queries[:count] @ keys[:count].T / 2**0.5
    later = torch.ones(count, count).triu(1).bool()
    return scores.masked_fill(later, -torch.inf).softmax(-1)


diagrams.number_grids(("four positions", weights_of(4)), ("a fifth is added", weights_of(5)), signs="→")

# %% [markdown]
# > **A note that changes a belief.** *Nothing above has changed.* A position never looks at later ones. So what it
# > computed stays right for ever. Only the **last row** is new, and it needs from the others just their keys and
# > their values.
#
# Keeping those two is a **KV cache**. The query of an old position is never needed again.
#
# ### Where does it look back?
#
# These weights can be seen in the real model. Click a word of the answer: the picture, the bars and the words show
# what the position that *writes* it looks at.

# %%
looking = AttentionProbe(model, scene.image, masks.numpy())
looking

# %%
looking.move(word=len(tokens) - 2)
looking.static()

# %% [markdown]
# Now the last row of our small example, twice: from the whole table, and from what was remembered.

# %%
by_table = weights_of(5) @ values

scores = keys @ queries[4] / 2**0.5
by_cache = scores.softmax(-1) @ values

torch.testing.assert_close(by_cache, by_table[4])
print("one row, from remembered keys and values: equal")

# %% [markdown]
# ### Exercise 08.1 · Count
# ★☆☆ · 3 minutes
#
# A prompt of 120 positions; 8 tokens are written. How many positions does the LLM compute in all: without a
# cache, and with one? (The last token is written, and then nobody reads it.)
#
# <details><summary>Hint</summary>
#
# Without: 120, then 121, then 122 … eight numbers. With: the prompt once, then how many single positions?
#
# </details>
# <details><summary>Solution</summary>
#
# ```python
# positions = (sum(120 + k for k in range(8)), 120 + 7)
# ```
#
# </details>

# %% tags=["exercise"]
positions = ...

# %%
check("08.1", positions)

# %%
diagrams.computed(prompt=20, new=8)

# %% [markdown]
# ### Exercise 08.2 · Attend, and remember
# ★★☆ · 8 minutes
#
# Write one step of attention with a cache. Given are the new position's query, key and value (d numbers each) and
# what is remembered, `keys` and `values` (T×d). Return the output (d), and the keys and values to remember, now
# (T+1)×d. Don't change what was given: another region may go on from there.
#
# <details><summary>Hint</summary>
#
# `torch.cat([keys, key[None]])` makes the new keys. A position sees itself as well.
#
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def my_attend(query, key, value, keys, values):
#     keys, values = torch.cat([keys, key[None]]), torch.cat([values, value[None]])
#     weights = (keys @ query / len(query) ** 0.5).softmax(-1)
#     return weights @ values, keys, values
# ```
#
# </details>

# %% tags=["exercise"]
def my_attend(query, key, value, keys, values):
    """d, d, d, T×d, T×d to d, (T+1)×d, (T+1)×d."""
    ...


# %%
check("08.2", my_attend)

# %% [markdown]
# ## 3 · The same, with the real LLM
#
# Tiny's LLM has 4 layers with several heads each. Each head of each layer keeps keys and values of its own;
# `DynamicCache` of transformers holds them all. The first pass reads the prompt (**prefill**). From then on each pass
# reads **one** position (**decode**).

# %%
@torch.inference_mode()
def write_cached(embeds, cache):
    """The greedy answer; `cache` remembers what stands before `embeds`, and goes on growing."""
    tokens, computed = [], 0
    while END not in tokens and len(tokens) < 48:
        logits = model.llm(inputs_embeds=embeds, past_key_values=cache, use_cache=True).logits[0, -1]
        computed += embeds.shape[1]
        tokens.append(int(logits.argmax()))
        embeds = embed.weight[tokens[-1]][None, None]
    print(f"{len(tokens)} tokens, {computed} positions computed")
    return tokenizer.decode(tokens, skip_special_tokens=True).strip()


cache = DynamicCache(config=model.llm.config)
cached_answer = write_cached(prompt, cache)
assert cached_answer == answer
print("the same answer:", cached_answer)
print("remembered:", len(cache.layers), "layers, each keys and values", tuple(cache.layers[0].keys.shape))

# %% [markdown]
# The prompt once, and one position for each further token. For an answer of fifty tokens that is some 170 instead of more
# than 7,000.

# %% [markdown]
# ## 4 · The beginning that all regions share
#
# Now a second region. Here is how the prompt goes. Which parts depend on the region?

# %%
start = model.processor.text([("What?", None)], 0, inline=False)["input_ids"]
other = model.processor.text([("In", None)], 0, inline=False)["input_ids"]
alike = int((start[: len(other)] == other[: len(start)]).long().cumprod(0).sum())  # tokens that are the same, in front
shared = model.config.num_image_tokens + alike - 1  # the one <image> becomes 64 positions
own = length - shared
print(f"{length} positions: the first {shared} are the same for every question about this picture, {own} are not")

# %%
count = {"system": alike - 1, "image": model.config.num_image_tokens, "mask": 1, "spatial": 1}
rows = [["Please give me …", "mask", "spatial", "Using a short phrase."]] * len(masks)
diagrams.shared_prefix(["system", "image"], rows, count)

# %% [markdown]
# The mask comes *late* in Osprey's prompt: after the picture. So the picture is read once, for all regions, and for
# all questions that will ever be asked about it. ("System" counts all words in front here, those that introduce the
# picture among them.) In a model that draws the region *into* the picture, every region needs a reading of its own.
#
# > **Predict.** Four regions, five tokens each. One after the other, each with a prompt of its own, that is four times the
# > prompt, and a little more. How many positions with a shared beginning?

# %%
with torch.inference_mode():
    beginning = DynamicCache(config=model.llm.config)
    model.llm(inputs_embeds=prompt[:, :shared], past_key_values=beginning, use_cache=True)
print(f"the beginning: {shared} positions computed")

shared_answers = [write_cached(prompt_of(r)[:, shared:], copy.deepcopy(beginning)) for r in range(len(masks))]
shared_answers

# %% [markdown]
# ## 5 · All regions side by side
#
# One region after the other still leaves the machine idle: to compute one position, it must fetch *all weights of
# the LLM* from memory. With four rows it fetches them once and uses them four times. So: a batch, a row for each
# region, and every pass writes one token of **each** answer.

# %%
@torch.inference_mode()
def write_together(embeds, beginning):
    """Answers for N regions. N×S×D, and a cache of one row that all begin with."""
    cache = copy.deepcopy(beginning)
    cache.batch_repeat_interleave(len(embeds))
    said = [[] for _ in embeds]
    passes = 0
    while not all(END in tokens for tokens in said) and passes < 48:
        logits = model.llm(inputs_embeds=embeds, past_key_values=cache, use_cache=True).logits[:, -1]
        passes += 1
        for tokens, token in zip(said, logits.argmax(-1).tolist(), strict=True):
            if END not in tokens:
                tokens.append(token)
        embeds = embed(logits.argmax(-1))[:, None]
    print(f"{passes} passes for {len(said)} answers")
    return [text.strip() for text in tokenizer.batch_decode(said, skip_special_tokens=True)]


questions = torch.cat([prompt_of(region)[:, shared:] for region in range(len(masks))])
mine = write_together(questions, beginning)
mine

# %% [markdown]
# **Parity.** The package's way: `model.read` reads the picture and keeps the beginning; the session that it returns
# answers as often as you like.

# %%
session = model.read(scene.image)
package = session.describe(masks.numpy())
one_by_one = [model.describe(scene.image, mask[None].numpy())[0] for mask in masks]

assert mine == package == one_by_one == shared_answers
print("yours, the session's, and one region after the other: word for word the same")

# %% [markdown]
# > **A note that changes a belief.** This isn't an approximation that is *nearly* as good. In float32 it is the
# > same answer, token for token; tests hold that for 1 to 64 regions and for sixteen families of LLM. In **bf16**
# > (8 bits of precision) two words that are *almost equally likely* may change places, because sums of another
# > shape are rounded elsewhere. Neither answer is then the wrong one.

# %% [markdown]
# ### What it saves: time
#
# Here, now, on the machine that ran this notebook: 16 regions, three ways.

# %%
many = masks.repeat(4, 1, 1).numpy()


def seconds(work):
    work()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


times = {
    "everything anew, each region": seconds(lambda: [model.describe(scene.image, mask[None]) for mask in many]),
    "the picture once, one by one": seconds(lambda: [session.describe(mask[None]) for mask in many]),
    "the picture once, together": seconds(lambda: session.describe(many)),
}
diagrams.bars(times, "16 regions, seconds", "{:.3f} s")

# %% [markdown]
# Measure it on yours with `make bench`: it has 1 to 64 regions, and models of other sizes.

# %% [markdown]
# ### What it saves: memory
#
# A position costs a key and a value, in every head of every layer. For the paper's LLM, Vicuna-7B in bf16 (2 bytes a
# number):

# %%
paper = OspreyConfig.preset("paper")
layers, heads, size = (getattr(paper.text_config, name) for name in ("num_hidden_layers", "num_key_value_heads", "head_dim"))
position = layers * heads * size * 2 * 2  # a key and a value, 2 bytes a number
print(f"{layers} layers × {heads} heads × {size} numbers: {position / 2**20:.1f} MiB for one position")
print(f"its picture has {paper.num_image_tokens} tokens: {position * paper.num_image_tokens / 2**30:.1f} GiB for one reading")

# %% [markdown]
# Half a gigabyte, for one region. And our `write_together` copied it for each row: `batch_repeat_interleave`.
# The package doesn't. All rows attend to **one** beginning and to their own few positions; the softmax runs over
# both.

# %%
regions, beginning_long, own_long = 64, paper.num_image_tokens + 40, 60
gigabytes = {
    "a copy for each of 64 regions": regions * (beginning_long + own_long) * position / 2**30,
    "the beginning shared": (beginning_long + regions * own_long) * position / 2**30,
}
diagrams.bars(gigabytes, "cache of the paper's LLM, GiB; the line: a GPU of 24 GiB", "{:.1f}", most=24)

# %% [markdown]
# ### How: rows in a line
#
# A batch has a row for each region. How can a beginning be there only once? Put all rows into **one** row, one after
# the other, behind the beginning! Then each place must be told two things: where it stands (every row goes on right
# after the beginning) and whom it may see.
#
# > **Predict.** Row 2 stands behind row 1. What would go wrong if it saw row 1, as places usually see all before
# > them?

# %%
each = questions.shape[1]  # places of a row
line = torch.cat([prompt[:, :shared], questions.flatten(0, 1)[None]], 1)
whose = torch.tensor([-1] * shared + [region for region in range(len(masks)) for _ in range(each)])  # -1: of all
places = torch.cat([torch.arange(shared), shared + torch.arange(each).repeat(len(masks))])
sees = (whose == whose[:, None]) | (whose == -1)
sees &= torch.ones_like(sees).tril()  # and nobody sees what comes later
diagrams.who_sees_whom(sees, whose)

# %%
with torch.inference_mode():
    in_a_line = model.llm(inputs_embeds=line, position_ids=places[None], attention_mask=sees[None, None]).logits[0]
    cache = copy.deepcopy(beginning)
    cache.batch_repeat_interleave(len(masks))
    side_by_side = model.llm(inputs_embeds=questions, past_key_values=cache).logits[:, -1]
last = shared + each * torch.arange(1, len(masks) + 1) - 1  # of each row
gap = (in_a_line[last] - side_by_side).abs().max()
assert gap < 1e-4
print(f"{in_a_line.shape[0]} places in one pass; logits less than 1e-4 from those of {len(masks)} rows side by side")

# %% [markdown]
# One pass has read the picture *and* all questions. `osprey_nb/prefix.py` does this, for each further word, too: it
# keeps the keys of the beginning apart, so that the white part of the drawing is not even computed. Engines that
# serve many people at once put their requests into a line in the same way.

# %% [markdown]
# ### Exercise 08.3 · The bill
# ★★☆ · 5 minutes
#
# In Vicuna each head has a query, a key and a value of its own. Newer models save here: several query heads share **one**
# key head and one value head (**grouped-query attention**). The LLM of `small` has 9 query heads and 3 key heads, so its
# cache takes a third of the room.
#
# How many bytes does a shared cache take? Each of `layers` layers has `query_heads` query heads, `key_heads` key heads and
# as many value heads; a head has `size` numbers, of 2 bytes in bf16. There are `shared` positions in front, and `rows`
# regions with `own` positions each.
#
# <details><summary>Hint</summary>
#
# Count positions first: the beginning is there once. Then: keys *and* values, in every layer. Is a query ever needed again?
#
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def my_cache_bytes(layers, query_heads, key_heads, size, shared, own, rows):
#     numbers = 2 * layers * key_heads * size  # of one position; the queries are not kept
#     return 2 * numbers * (shared + rows * own)
# ```
#
# </details>

# %% tags=["exercise"]
def my_cache_bytes(layers, query_heads, key_heads, size, shared, own, rows):
    """Seven numbers to a number of bytes."""
    ...


# %%
check("08.3", my_cache_bytes)

# %% [markdown]
# ## 6 · Break it on purpose: one cache, asked twice
#
# A cache *grows* while an answer is written. In part 4 we copied it for each region. What if we forget?
#
# > **Predict.** No error will be raised. Will the second region's answer be right? The fourth's?
#
# Four regions here, in few words. Then the regions of ten other pictures, in detail, one after the other with one cache a
# picture:

# %%
with torch.inference_mode():
    forgotten = DynamicCache(config=model.llm.config)
    model.llm(inputs_embeds=prompt[:, :shared], past_key_values=forgotten, use_cache=True)
for region in range(len(masks)):
    said = write_cached(prompt_of(region)[:, shared:], forgotten)
    right = "as before" if said == package[region] else f"before: {package[region]!r}"
    print(f"   {said!r} ({right}); the cache holds {forgotten.get_seq_length()} positions")

# %%
changed = []
detailed = model.processor.text([(DETAILED, None)], 1, inline=True)["input_ids"]
for seed in range(100, 110):
    each = make_scene(seed, size=128, split="eval")
    things = torch.stack([torch.from_numpy(thing.mask) for thing in each.objects])
    with torch.inference_mode(), contextlib.redirect_stdout(None):
        features = model.encoder(model.processor.image(each.image)[None])
        (mask_row,), (spatial_row,) = model.mask_extractor(features, [things])
        pairs = list(mask_row[:, None]), list(spatial_row[:, None])
        seen = model.projector(image_tokens(features[2])).expand(len(things), -1, -1)
        prompts = model.splice(detailed.expand(len(things), -1), seen, pairs).embeds
        forgotten = DynamicCache(config=model.llm.config)
        model.llm(inputs_embeds=prompts[:1, :shared], past_key_values=forgotten, use_cache=True)
        said = [write_cached(row[None, shared:], forgotten) for row in prompts]
    changed += [a != b for a, b in zip(said, model.describe(each.image, things.numpy(), detail="detailed"), strict=True)]
print("at least one description is another one now" if any(changed) else "all descriptions are as before")

# %% [markdown]
# The worst kind of bug: it runs, and the answers look right, often all of those that you happen to look at. But the model now
# reads a conversation in which other regions were described before, and its words need not stay. It also gets
# slower with each question, and one day the context is full.
#
# This is why a session never hands out its cache: each question goes on from the same, unchanged beginning.

# %% [markdown]
# ## 7 · Not always the likeliest: temperature and top-p
#
# So far we took the largest logit. One can also **draw**: softmax makes probabilities of the logits, and dice
# decide. Two knobs:
#
# - **temperature** divides the logits first. Below 1 the likely gets likelier; above 1 all come closer together;
#   towards 0 it is greedy.
# - **top-p** keeps the likeliest words whose probabilities together reach p, and drops the long tail.

# %% [markdown]
# ### Exercise 08.4 · Top-p
# ★★★ · 10 minutes
#
# Given V probabilities and p, keep the smallest number of likeliest words whose sum reaches p, the one that crosses
# the line included. All others become 0; what is left is rescaled to add up to 1, each word in its own place.
#
# <details><summary>Hint</summary>
#
# Sort in descending order; `cumsum`. A word is kept if the sum *before* it is below p. `ordered, index = x.sort()`
# tells you where each came from.
#
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def my_top_p(probabilities, p):
#     ordered, index = probabilities.sort(descending=True)
#     before = ordered.cumsum(0) - ordered
#     kept = torch.zeros_like(probabilities)
#     kept[index[before < p]] = ordered[before < p]
#     return kept / kept.sum()
# ```
#
# </details>

# %% tags=["exercise"]
def my_top_p(probabilities, p):
    """V probabilities to V probabilities."""
    ...


# %%
check("08.4", my_top_p)

# %% [markdown]
# ### The probe
#
# The logits of our answer, word by word. Before you move anything, predict:
#
# 1. **Word 1 and word 2, untouched.** Where is the model sure, where does it waver?
# 2. **Temperature 5.** What will the ten draws look like?
# 3. **Temperature 5 with top-p 0.5.** Does that repair it?

# %%
probe = SamplingProbe(torch.stack(logits), tokens, tokenizer, SamplingState(word=0))
probe

# %% [markdown]
# Without a kernel you see a still picture: the first word, at temperature 5.

# %%
probe.move(temperature=5.0, top_p=1.0)
probe.static()

# %% [markdown]
# **What you may have noticed.** It is sure of nearly every word: in this small language a thing has one right short phrase.
# The first word leaves the most room, since the name of a part begins with *the*. A hot temperature doesn't make the model
# more clever, only less careful: it gives room to all the thousand words that fit nowhere. For *what is this?* greedy is the
# right choice. The published demo draws at 0.2.

# %% [markdown]
# ## 8 · The model as a judge
#
# There is another use of the same pass. Don't let it write: **give** it an answer, and ask how likely it finds each
# word. The sum of the logs is a score. All candidates for all regions go in one batch.

# %%
scores = session.score(masks.numpy(), package)
diagrams.verdicts([f"region {r}" for r in range(1, 5)], package, scores.softmax(-1))

# %% [markdown]
# Each region picks its own sentence. This is how multiple choice is marked, and how a classifier is made of a model
# that only ever learnt to write.

# %% [markdown]
# ## 9 · What you built
#
# - **Greedy decoding**: the last position's largest logit, appended, again.
# - A **KV cache** is exact, because no position ever looks at a later one.
# - **Prefill** reads many positions at once; **decode** reads one, and waits for memory. Rows side by side share
#   that wait.
# - In Osprey's prompt the picture comes first: **one reading serves every region and every question.**
# - **Temperature** and **top-p** reshape the next word's probabilities; **score** reads them.
#
# **Where it goes next.** All regions of a picture can be answered in one go. But who draws them all? [09 ·
# SAM](09_sam.ipynb) turns a click into a mask, and a whole picture into many.
