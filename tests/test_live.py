"""osprey_nb.widgets.live: what it shows, and that looking changes nothing."""

import re

import numpy as np
import pytest
import torch
from torch import nn

from osprey_nb import diagrams
from osprey_nb.data.scenes import make_scene
from osprey_nb.train.watch import Watcher, looking_on
from osprey_nb.widgets import live as module
from osprey_nb.widgets.live import LiveTraining, Prediction, duration, numbers_html, thinned, words_html

ATTACK = '<script>alert("x")</script><img src=x onerror=alert(1)>'


class Parrot(nn.Module):
    """Answers with a count, draws random numbers while it does, and fails when it is told to."""

    def __init__(self):
        super().__init__()
        self.drop, self.frozen = nn.Dropout(0.5), nn.Sequential(nn.Linear(2, 2)).eval()
        self.calls, self.failure = [], None

    def describe(self, image, masks, detail):
        self.calls.append((detail, self.training or self.drop.training, len(masks)))
        self.drop(torch.rand(8))
        torch.rand(3)
        if self.failure:
            raise self.failure
        return [f"answer {len(self.calls)} of {i}" for i in range(len(masks))]


@pytest.fixture
def picture():
    masks = np.zeros((2, 32, 32), bool)
    masks[0, :8, :8] = masks[1, 20:, 20:] = True
    return np.full((32, 32, 3), 120, np.uint8), masks


def entry(step: int, stage: str = "learning", **more) -> dict:
    base = {"stage": stage, "step": step, "loss": 2.0 / step, "lr": 1e-3, "seconds": 1.0 * step, "samples": 8 * step}
    return base | {"waited": 0.1 * step, "spent": step / 100, "norms": {"llm": 1.0}} | more


def watch(live: LiveTraining, steps, stage: str = "learning", done: int = 0) -> None:
    with looking_on([live], stage, done) as show:
        for step in steps:
            show(**entry(step, stage))


def modes(model: nn.Module) -> list[bool]:
    return [part.training for part in model.modules()]


def test_it_is_a_watcher_with_numbers_and_curves_without_a_model():
    live = LiveTraining(every=0)
    assert isinstance(live, Watcher) and "waiting for the first step" in live.parts["numbers"].value
    watch(live, range(1, 4))
    numbers = live.parts["numbers"].value
    for text in ("learning", "step <b>3</b>", "rate <b>0.001</b>", "a second <b>8</b>", "<b>10%</b>", "<b>1 min 37 s</b>"):
        assert text in numbers
    assert f"<b>{diagrams.training.calm([2, 1, 2 / 3])[-1]:.3f}</b>" in numbers
    assert set(live.parts) == {"numbers", "curves"} and live.predictions == []
    assert "What to notice" in live.parts["curves"].value


def test_curves_are_drawn_at_most_every_so_often_and_at_the_end(monkeypatch):
    drawn = []
    figure = module.training_figure
    monkeypatch.setattr(module, "training_figure", lambda entries: drawn.append(len(entries)) or figure(entries))
    live = LiveTraining(every=3600)
    watch(live, range(1, 30))
    assert drawn == [0, 29]
    drawn.clear()
    monkeypatch.setattr(module, "PATIENCE", 0)
    watch(LiveTraining(every=0), range(1, 4))
    assert drawn == [0, 1, 2, 3, 3]


def test_looking_is_rationed(picture, monkeypatch):
    """After a look that took a second the next one waits for twenty, whatever `every` says."""
    clock = [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock[0])
    parrot = Parrot()
    said = parrot.describe
    monkeypatch.setattr(parrot, "describe", lambda *a, **k: clock.__setitem__(0, clock[0] + 1.0) or said(*a, **k))
    live = LiveTraining(parrot, *picture, every=3600, predict_every=2)
    live.begin("learning", 0)
    for step in range(1, 42):
        clock[0] += 1.0
        live.step(entry(step))
    assert [p.step for p in live.predictions] == [0, 20, 40]


def test_it_asks_from_the_first_step_to_the_last(picture):
    parrot = Parrot()
    live = LiveTraining(parrot, *picture, predict_every=3600)
    watch(live, range(1, 4))
    assert [(p.step, p.answers) for p in live.predictions] == [
        (0, ("answer 1 of 0", "answer 1 of 1")),
        (3, ("answer 2 of 0", "answer 2 of 1")),
    ]
    assert parrot.calls == [("short", False, 2)] * 2  # in eval mode
    assert "step 0</th>" in live.parts["words"].value and "now, step 3</th>" in live.parts["words"].value
    watch(live, range(1, 3), "another stage")
    assert [p.step for p in live.predictions] == [0, 3, 5]  # steps count on, as in the curves


def test_looking_changes_neither_modes_nor_random_numbers(picture):
    parrot = Parrot().train()
    parrot.frozen.eval()
    before, state = modes(parrot), torch.get_rng_state()
    live = LiveTraining(parrot, *picture, every=0, predict_every=0)
    watch(live, range(1, 3))
    parrot.failure = RuntimeError("no")
    watch(live, range(1, 3), "second")
    assert len(parrot.calls) > 2 and modes(parrot) == before and True in before and False in before
    assert torch.equal(torch.get_rng_state(), state)


def test_the_real_model_learns_on_after_a_look(tiny):
    scene = make_scene(7, split="eval")
    masks = [drawn.mask for drawn in scene.objects]
    tiny.train()
    tiny.encoder.eval()
    try:
        before, state = modes(tiny), torch.get_rng_state()
        live = LiveTraining(tiny, scene.image, masks)
        live.begin("learning", 0)
        assert modes(tiny) == before and torch.equal(torch.get_rng_state(), state)
        assert all(parameter.grad is None for parameter in tiny.parameters())
        ids = torch.arange(8)[None]
        tiny.llm(input_ids=ids, labels=ids).loss.backward()  # nothing of inference mode is left behind
        tiny.eval()
        assert list(live.predictions[0].answers) == tiny.describe(scene.image, masks)
        assert scene.objects[0].kind in live.predictions[0].answers[0]
        assert live.predictions[0].answers[0] in live.static().data
    finally:
        tiny.zero_grad(set_to_none=True)
        tiny.eval()


def test_an_error_of_the_model_is_shown_and_ends_nothing(picture):
    parrot = Parrot()
    live = LiveTraining(parrot, *picture, predict_every=0)
    parrot.failure = RuntimeError(ATTACK)
    watch(live, [1])
    assert [p.step for p in live.predictions] == [0, 1] and live.entries[-1]["step"] == 1
    text = live.parts["words"].value
    assert text.count("no answer: RuntimeError: &lt;script&gt;") == 2 and 'rowspan="2"' in text


def test_nothing_from_outside_becomes_markup(picture):
    parrot = Parrot()
    parrot.describe = lambda image, masks, detail: [ATTACK] * len(masks)
    live = LiveTraining(parrot, *picture)
    watch(live, [1], stage=f'"{ATTACK}')
    for text in (live.static().data, *(part.value for part in live.parts.values())):
        assert "<script" not in text and "<img src=x" not in text
        assert not re.search(r'alt="[^"]*"[^>]*onerror', text)
    assert "&lt;script&gt;" in live.parts["words"].value and "&lt;script&gt;" in live.parts["numbers"].value


def test_static_is_what_the_widget_shows(picture):
    live = LiveTraining(Parrot(), *picture)
    watch(live, range(1, 4))
    page = live.static()
    html = page._repr_html_()
    for name in ("numbers", "curves", "picture", "words"):
        inner = re.fullmatch(r'<div class="osprey-live">(.*)</div>', live.parts[name].value, re.S)[1]
        assert inner in html
    alts = re.findall(r'<img alt="([^"]+)"', html)
    assert "In learning the smoothed loss went from 2 to" in alts[0] and alts[1] == "The picture with 2 numbered regions"
    assert html.count("<img ") == 2 and '<th scope="row">' in html and '<th scope="col">' in html


def test_a_stage_that_begins_again_forgets_what_comes_again(picture):
    live = LiveTraining(Parrot(), *picture, predict_every=3600)
    watch(live, range(1, 11), "first")
    watch(live, range(1, 6), "second")
    watch(live, range(4, 6), "second", done=3)
    assert [(e["stage"], e["step"]) for e in live.entries[-5:]] == [("second", step) for step in range(1, 6)]
    assert len(live.entries) == 15 and [p.step for p in live.predictions] == [0, 10, 15]
    resumed = LiveTraining(Parrot(), *picture)
    watch(resumed, [51], done=50)
    assert [p.step for p in resumed.predictions] == [50, 51]


def test_six_columns_are_kept_evenly():
    kept = []
    for step in range(0, 1001, 10):
        kept = thinned([*kept, Prediction(step)])
    steps = [prediction.step for prediction in kept]
    assert len(steps) == 6 and steps[0] == 0 and steps[-1] == 1000
    assert max(np.diff(steps)) <= 400


def test_what_has_not_changed_is_paler():
    table = words_html([Prediction(0, ("cat",)), Prediction(5, ("cat",)), Prediction(9, ("dog",))], 1)
    assert table.count('<td class="same">cat</td>') == 1 and "<td>cat</td>" in table and "<td>dog</td>" in table
    assert "<i>nothing</i>" in words_html([Prediction(0, ("",))], 1)
    assert words_html([], 3) == ""


def test_numbers_that_are_not_known_are_dashes():
    assert numbers_html([{"stage": "a", "step": 1, "loss": 1.0, "lr": 0.1}]).count("<b>–</b>") == 3
    assert [duration(seconds) for seconds in (0.4, 59.9, 200, 7500)] == ["0 s", "1 min 00 s", "3 min 20 s", "2 h 05 min"]


def test_a_model_needs_a_picture_and_masks(picture):
    with pytest.raises(ValueError, match="only model and image"):
        LiveTraining(Parrot(), picture[0])
