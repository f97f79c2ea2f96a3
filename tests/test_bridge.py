"""What the bridge is built of; that it lays tokens on the sums of their words is tested in test_train.py."""

from bisect import bisect_right

import numpy as np
import torch
import torch.nn.functional as F

from osprey_nb.data.kinds import KINDS, SIZES
from osprey_nb.data.scenes import make_scene
from osprey_nb.train.bridge import GROUPS, _least_squares, embeddings, moved, sharpened
from osprey_nb.train.stand_ins import SIDES, box_centre, longest_side, region_facts, region_words, spatial_words


def outlines_of(seeds) -> tuple[torch.Tensor, torch.Tensor]:
    masks = [mask for seed in seeds for mask, _ in region_words(make_scene(seed))]
    soft = F.adaptive_avg_pool2d(torch.from_numpy(np.stack(masks)).float()[:, None], 32).flatten(1)
    return soft, torch.tensor([box_centre(mask) for mask in masks])


def test_moved_outlines_stay_whole_and_within_the_picture():
    outlines, centres = outlines_of(range(12))
    before = centres.clone()
    new, where = moved(outlines, centres, torch.Generator().manual_seed(0))
    assert torch.equal(centres, before)
    torch.testing.assert_close(new.sum(1), outlines.sum(1))
    box = new.view(-1, 32, 32) > 0
    for axis, other in ((0, 1), (1, 2)):  # the middle of the box, to half a cell
        covered = box.any(other)
        first, last = covered.int().argmax(1), 31 - covered.flip(1).int().argmax(1)
        assert ((first + last + 1) / 64 - where[:, axis]).abs().max() < 0.5 / 32
        assert torch.equal(last - first, _extent(outlines, other))
    assert ((where - before).abs().amax(1) > 0.05).float().mean() > 0.5
    assert ((where - before).abs().amax(1) < 1e-6).float().mean() > 0.05


def _extent(outlines, other):
    covered = (outlines.view(-1, 32, 32) > 0).any(other)
    return 31 - covered.flip(1).int().argmax(1) - covered.int().argmax(1)


def test_sharpening_brings_the_true_word_nearest():
    generator = torch.Generator().manual_seed(0)
    words = [torch.randn(5, 24, generator=generator), torch.randn(12, 24, generator=generator)]
    true = torch.stack([torch.randint(len(group), (4000,), generator=generator) for group in words], 1)
    y = sum(group[said] for group, said in zip(words, true.T, strict=True))
    # features in which few rows tell the second group at all
    code = F.one_hot(true[:, 1], 12).float() * torch.linspace(0.05, 1, 12)
    x = torch.cat([F.one_hot(true[:, 0], 5).float(), code], 1) + 0.05 * torch.randn(4000, 17, generator=generator)

    def right(matrix, offset):
        without = x @ matrix.T + offset - y + words[1][true[:, 1]]
        return ((without @ words[1].T - 0.5 * words[1].square().sum(1)).argmax(1) == true[:, 1]).float().mean()

    ridge = [found.to(x) for found in _least_squares(x, y)]
    assert right(*sharpened(*ridge, x, y, true, words, 300, seed=0)) > right(*ridge) + 0.01


def test_facts_and_words_of_a_region_are_the_same(tiny):
    for seed in range(8):
        scene = make_scene(seed)
        for (mask, words), facts, where in zip(region_words(scene), region_facts(scene), spatial_words(scene), strict=True):
            assert words.split() == [word for word in facts if word]
            assert all(word in group for word, group in zip(facts, GROUPS, strict=True))
            assert where.split()[-1] in SIZES
            if facts[-1]:
                assert (longest_side(mask) < SIDES[0]) == where.endswith("small")
    embed, tokenizer = tiny.get_input_embeddings().weight.detach(), tiny.processor.tokenizer
    rows = embeddings(("cat", "", next(iter(KINDS))), tokenizer, embed)
    (cat,) = tokenizer(" cat", add_special_tokens=False)["input_ids"]
    assert torch.equal(rows[0], embed[cat]) and not rows[1].any()


def test_the_longest_side_tells_the_size_of_an_object():
    found = [(obj.size, longest_side(obj.mask)) for seed in range(200) for obj in make_scene(seed).objects]
    told = [SIZES[bisect_right(SIDES, side)] == size for size, side in found]
    assert np.mean(told) > 0.96
