"""Records to batches: what carries loss, what is cut, what is dropped."""

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from osprey_nb.data.collate import TOKENS, Report, batches, fitted
from osprey_nb.data.readers import FORMATS
from osprey_nb.data.record import Record
from osprey_nb.train.stages import osprey_loss

SAMPLES = Path(__file__).resolve().parents[1] / "data_samples"
IMAGE = np.full((32, 32, 3), 90, np.uint8)
SQUARES = np.zeros((3, 32, 32), bool)
for region in range(3):
    SQUARES[region, 8 * region : 8 * region + 8, :8] = True
TURNS = [("Name <region1> and <region3>.", "a cat, a dog"), ("Is <region3> a cat?", "No."), ("Where is <region2>?", "Left.")]


@pytest.fixture(scope="module")
def processor(tiny):
    return tiny.processor


def record(turns, inline=False, regions=SQUARES, name="x", image=IMAGE):
    return Record(name, "test", image, regions, turns, inline, (32, 32))


def answers(processor, sample) -> str:
    return processor.tokenizer.decode(sample["labels"][sample["labels"] != -100])


@pytest.mark.parametrize("inline", [False, True])
def test_only_answers_carry_loss(processor, inline):
    sample = processor.record(record(TURNS, inline))
    assert answers(processor, sample) == " a cat, a dog</s> No.</s> Left.</s>"
    special = [processor.config.mask_token_id, processor.config.pos_token_id, processor.config.image_token_id]
    ids, labels = sample["input_ids"], sample["labels"]
    assert (labels[torch.isin(ids, torch.tensor(special))] == -100).all()
    assert (labels[labels != -100] == ids[labels != -100]).all()
    # the spliced sequence: image, mask and spatial positions, too
    order = [0, 2, 2, 1] if inline else [0, 1, 2]
    assert sample["order"] == order and (sample["masks"].numpy() == SQUARES[order]).all()


def test_padding_is_on_the_right_and_carries_no_loss(processor):
    (batch,) = batches([record(TURNS[:n]) for n in (1, 3)], processor, 2)
    lengths = batch["attention_mask"].sum(1)
    for row, length in enumerate(lengths.tolist()):
        assert batch["attention_mask"][row, :length].all() and not batch["attention_mask"][row, length:].any()
        assert (batch["labels"][row, length:] == -100).all()
    assert len(set(lengths.tolist())) == 2


def test_batches_have_few_lengths_within_the_context_and_the_loss_of_the_samples(processor, tiny, monkeypatch):
    records = [record(TURNS[:n]) for n in (1, 2)]
    longest = max(len(processor.record(each)["input_ids"]) for each in records)
    (batch,) = batches(records, processor, 2)
    exact = processor.collate([processor.record(each) for each in records])
    assert batch["input_ids"].shape == batch["labels"].shape == batch["attention_mask"].shape
    assert batch["input_ids"].shape[1] == -(-longest // TOKENS) * TOKENS != exact["input_ids"].shape[1] == longest
    with torch.no_grad():
        assert osprey_loss(tiny, batch) == pytest.approx(float(osprey_loss(tiny, exact)), rel=1e-5)
    room = longest + 1 + processor.config.num_image_tokens - 1
    monkeypatch.setattr(processor.config.text_config, "max_position_embeddings", room)
    assert processor.collate([processor.record(records[1])], TOKENS)["input_ids"].shape[1] == longest + 1


@pytest.mark.parametrize("inline", [False, True])
def test_a_sample_is_cut_between_turns_and_its_regions_stay_whole(processor, inline):
    full = processor.record(record(TURNS, inline))
    image = processor.config.num_image_tokens - 1
    seen = set()
    for limit in range(len(full["input_ids"]) + image + 2, 60, -1):
        try:
            sample = fitted(record(TURNS, inline), processor, limit)
        except ValueError as error:
            assert "first turn alone is too long" in str(error) and seen
            break
        ids = sample["input_ids"]
        assert len(ids) + image <= limit
        count = answers(processor, sample).count("</s>")
        assert answers(processor, sample) == "".join(f" {answer}</s>" for _, answer in TURNS[:count])
        masks = (ids == processor.config.mask_token_id).nonzero()[:, 0]
        assert (ids[masks + 1] == processor.config.pos_token_id).all() and len(masks) == len(sample["masks"])
        assert sample["shortened"] == (count < 3)
        seen.add((count, len(masks)))
    assert seen == ({(3, 4), (2, 3), (1, 2)} if inline else {(3, 3), (2, 3), (1, 3)})


def test_regions_that_a_shorter_conversation_does_not_name_are_left_out():
    shorter = record(TURNS, inline=True).with_turns([("Is <region3> a cat?", "<region3>")])
    assert shorter.turns == [("Is <region1> a cat?", "<region1>")] and (shorter.masks == SQUARES[2:]).all()
    for wrong in (0, 4):
        with pytest.raises(ValueError, match=f"names <region{wrong}>; there are 3"):
            record([], inline=True).with_turns([(f"<region{wrong}>?", "")])


def test_batches_hold_every_record_once_in_like_lengths(processor):
    reader = FORMATS["osprey"](SAMPLES / "osprey_conversation.json", SAMPLES / "images", progress=False)
    report = Report()
    found = list(batches(reader, processor, 8, seed=1, report=report))
    assert report.samples == 64 == sum(len(batch["images"]) for batch in found) and not report.dropped
    used, held = (sum(f(batch["attention_mask"]) for batch in found) for f in (torch.sum, torch.numel))
    assert used / held > 0.95
    again, other = (list(batches(reader, processor, 8, seed=seed)) for seed in (1, 2))
    assert all(torch.equal(a["input_ids"], b["input_ids"]) for a, b in zip(found, again, strict=True))
    assert any(a["input_ids"].shape != b["input_ids"].shape for a, b in zip(found, other, strict=True))


def test_a_step_is_the_same_wherever_one_starts_and_each_epoch_is_another(processor):
    many = [record(TURNS[: 1 + i % 3], name=f"r{i}", image=np.full((32, 32, 3), i, np.uint8)) for i in range(43)]
    many[17] = many[5] = record([], name="silent")

    def key(batch):
        return batch["images"].numpy().tobytes(), batch["input_ids"].numpy().tobytes()

    options = {"size": 4, "seed": 3, "epochs": None}
    whole = [key(batch) for batch in itertools.islice(batches(many, processor, **options), 24)]
    for start in (0, 3, 8, 10, 11, 13, 21):
        assert key(next(batches(many, processor, start=start, **options))) == whole[start], start
    assert len(list(batches(many, processor, 4, seed=3))) == 11  # ⌈43 / 4⌉
    assert whole[:11] != whole[11:22]
    assert [key(batch) for batch in batches(many, processor, 4, seed=3, epochs=2)] == whole[:22]


def test_one_damaged_picture_among_many_is_passed_over_and_named(processor, tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes((tmp_path / "good.png").read_bytes()[:60])
    images = [tmp_path / ("bad.png" if i == 7 else "good.png") for i in range(40)]
    many = [record(TURNS, name=f"r{i}", image=image) for i, image in enumerate(images)]
    many.append(record([], name="silent"))
    many.append(record([("word " * 3000, "x")], name="long"))
    many.append(record(TURNS, name="empty", regions=np.zeros((0, 32, 32), bool)))
    for workers in (0, 2):
        report = Report()
        list(batches(many, processor, 8, workers=workers, report=report))
        assert report.samples == 39 and sorted(report.dropped) == ["empty", "long", "r7", "silent"]
        assert "bad.png" in report.dropped["r7"] and "too long" in report.dropped["long"]
        assert "39 samples, 0 of them shortened, 4 dropped\n" in str(report) and "r7: " in str(report)
    with pytest.raises(ValueError, match="r7|silent|long|empty"):
        list(batches(many, processor, 8, strict=True))


def test_nothing_usable_is_an_error(processor):
    with pytest.raises(ValueError, match=r"None of 2 records can be used\.\n0 samples.*2 dropped\n  x: nothing is said"):
        list(batches([record([])] * 1 + [record([], name="y")], processor, 2))


class Deadly(list):
    def __getitem__(self, index):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_dies(processor):
    with pytest.raises(RuntimeError, match="A process that loads data has died .* fewer workers"):
        list(batches(Deadly([1, 2, 3]), processor, 2, workers=1))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere batches are made in the training process itself")
def test_no_worker_is_left_behind_by_a_killed_training():
    code = (
        "import multiprocessing, time; from osprey_nb.data.collate import ahead\n"
        "made = ahead(lambda n: [bytes(1_000_000)] * 4)\n"
        "next(made)\n"
        "print(*(child.pid for child in multiprocessing.active_children()), flush=True)\n"
        "time.sleep(600)"
    )
    training = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    workers = [int(pid) for pid in training.stdout.readline().split()]
    assert workers
    training.kill()
    training.wait()
    until = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < until, "a worker waits for a reader of its pipe"
        time.sleep(0.2)
