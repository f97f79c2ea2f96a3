"""osprey_nb.widgets.probes.sampling: what temperature and top-p leave of the next word."""

import pytest
import torch
from transformers import TemperatureLogitsWarper, TopPLogitsWarper

from osprey_nb.widgets.probes import SamplingProbe, SamplingState, next_token_probabilities, sampling_figure


@pytest.fixture
def logits():
    return torch.randn(3, 40, generator=torch.Generator().manual_seed(0)) * 2


@pytest.mark.parametrize("temperature", [0.2, 1.0, 3.0])
@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9, 1.0])
def test_it_leaves_what_transformers_leaves(logits, temperature, top_p):
    scores = TemperatureLogitsWarper(temperature)(None, logits[:1])
    expected = TopPLogitsWarper(top_p)(None, scores).softmax(-1)[0]
    found = next_token_probabilities(logits[0], temperature, top_p)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    assert found.sum() == pytest.approx(1, abs=1e-5)


def test_no_temperature_is_greedy(logits):
    found = next_token_probabilities(logits[0], 0.0, 0.3)
    assert found.argmax() == logits[0].argmax() and found.sum() == found.max() == 1


@pytest.mark.parametrize(("options", "message"), [
    ({"temperature": -1.0}, "0 .greedy. or above"), ({"top_p": 0.0}, "above 0"), ({"top_p": 1.1}, "at most 1"),
])  # fmt: skip
def test_other_settings_are_refused(logits, options, message):
    with pytest.raises(ValueError, match=message):
        next_token_probabilities(logits[0], **options)


def bars(figure):
    axes = figure.axes[1]
    given, now = axes.containers
    return [[bar.get_width() for bar in bars] for bars in (given, now)]


def test_the_figure_shows_both_and_says_what_is_left_out(logits):
    def vocabulary(token):
        return f" $word{token}"

    figure = sampling_figure(logits, ["a", "b", "c"], vocabulary, SamplingState(1, 1.0, 0.4))
    figure.canvas.draw()  # a word is never read as a formula
    given, now = bars(figure)
    expected = logits[1].softmax(-1).topk(12)
    assert given == pytest.approx(expected.values.tolist())
    assert now == pytest.approx(next_token_probabilities(logits[1], 1.0, 0.4)[expected.indices].tolist())
    texts = [text.get_text() for text in figure.axes[1].texts]
    assert texts.count("left out") == sum(width == 0 for width in now) > 0
    assert figure.axes[1].get_yticklabels()[0].get_text() == f"$word{expected.indices[0]}"
    with pytest.raises(ValueError, match="count from 0 to 2"):
        sampling_figure(logits, ["a", "b", "c"], vocabulary, SamplingState(word=3))


class Tokenizer:
    def decode(self, tokens):
        return f" w{tokens[0]}"


def test_the_probe_moves(logits):
    probe = SamplingProbe(logits, [4, 5, 6], Tokenizer())
    first = probe.picture.value
    assert [name for name, _ in probe.controls["word"].options] == ["1 · w4", "2 · w5", "3 · w6"]
    probe.controls["word"].value = 2
    second = probe.picture.value
    probe.move(temperature=0.0)
    assert len({first, second, probe.picture.value}) == 3
    assert probe.state == SamplingState(2, 0.0, 1.0)
    assert bars(probe.static())[1] == [1.0] + [0.0] * 11
