"""The evaluation counts what it says it counts."""

import numpy as np
import pytest

from osprey_nb.data.language import object_phrase, part_phrase
from osprey_nb.data.scenes import make_scene
from osprey_nb.evaluate.metrics import format_table
from osprey_nb.evaluate.synthetic import blind, evaluate


class Oracle:
    """Answers from the scene graph, by looking the mask up; `wrong` makes it name another colour."""

    def __init__(self, wrong_colour=False):
        self.phrases, self.wrong_colour = {}, wrong_colour
        self.mask_extractor = self
        for number in range(3):
            for pairs in ("train", "held_out"):
                for obj in make_scene(number, split="eval", compositions=pairs).objects:
                    self.phrases[obj.mask.tobytes()] = object_phrase(obj)
                    for part in obj.parts:
                        self.phrases[part.mask.tobytes()] = part_phrase(obj, part)

    def register_forward_hook(self, hook):
        self.blind = True
        return self

    def remove(self):
        self.blind = False

    blind = False

    def describe(self, image, masks):
        if self.blind:
            return ["a red mug"] * len(masks)
        phrases = [self.phrases[np.asarray(mask).tobytes()] for mask in masks]
        return [f"a grey {text.split()[-1]}" if self.wrong_colour else text for text in phrases]

    def chat(self, image, masks, messages, max_new_tokens):
        return self.describe(image, masks[:1])[0]


def test_an_oracle_is_right_everywhere():
    table = evaluate(Oracle(), scenes=3, progress=False)
    for metric in ("kind", "colour", "part", "part and its object", "held-out kind and colour", "swap, one region"):
        assert table[metric]["value"] == table[metric]["low"] == 1, metric
    assert table["swap, two regions in one question"]["value"] == 1
    assert table["blind: kind"]["value"] < 0.5
    assert 0.1 < table["prior: any object of the picture"]["value"] < 1
    text = format_table(table)
    assert "95%" in text and "held-out" in text


def test_wrong_words_count_as_wrong():
    table = evaluate(Oracle(wrong_colour=True), scenes=3, progress=False)
    assert table["colour"]["value"] == 0 and table["held-out kind and colour"]["value"] == 0


def test_intervals_need_scenes():
    with pytest.raises(ValueError, match="at least 2"):
        evaluate(Oracle(), scenes=1)


def test_blind_zeroes_the_region_tokens_and_only_inside(tiny):
    scene = make_scene(3, split="eval")
    a, b = (scene.objects[i].mask for i in (0, 1))
    with blind(tiny):
        blinded = tiny.describe(scene.image, [a, b])
    assert blinded[0] == blinded[1]
    assert not tiny.mask_extractor._forward_hooks
