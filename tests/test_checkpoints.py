"""A run can be killed at any moment: what was saved is whole, and a resumed run ends with the very same weights."""

import errno
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from osprey_nb.train.checkpoints import Checkpoints, damage
from osprey_nb.train.tiny import train_tiny
from osprey_nb.train.trainer import Budget, Objective, fit
from osprey_nb.train.watch import Log


def write(content):
    return lambda folder: (folder / "weights.bin").write_bytes(content)


def test_the_newest_are_kept_whole_and_in_order(tmp_path):
    checkpoints = Checkpoints(tmp_path / "c", keep=2)
    assert checkpoints.newest() is None
    for n in range(12):
        checkpoints.save(write(bytes([n])), {"n": n})
    assert [path.name for path in checkpoints.all()] == ["step-00000011", "step-00000012"]
    path, state = checkpoints.newest()
    assert state == {"n": 11} and (path / "weights.bin").read_bytes() == b"\x0b"
    assert not (tmp_path / "c" / "unfinished").exists()


@pytest.mark.parametrize(("spoil", "what"), [
    (lambda path: (path / "weights.bin").write_bytes(b"other"), "weights.bin is not what was written"),
    (lambda path: (path / "weights.bin").unlink(), "weights.bin"),
    (lambda path: (path / "sums.json").write_text("{"), "Expecting"),
    (lambda path: (path / "sums.json").unlink(), "sums.json"),
    (lambda path: (path / "state.json").write_text("{}"), "state.json is"),
])  # fmt: skip
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path, spoil, what):
    checkpoints = Checkpoints(tmp_path)
    for n in range(2):
        checkpoints.save(write(bytes([n])), {"n": n})
    spoil(checkpoints.all()[-1])
    assert what in damage(checkpoints.all()[-1])
    with pytest.warns(UserWarning, match="step-00000002 is damaged .*the one before it is used"):
        assert checkpoints.newest()[1] == {"n": 0}


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path):
    # A limit on the size of files, which the system enforces, stands in for the disk's end.
    script = (
        "import resource, signal, sys; from osprey_nb.train.checkpoints import Checkpoints\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "checkpoints = Checkpoints(sys.argv[1], keep=1)\n"
        "write = lambda size: lambda folder: (folder / 'weights.bin').write_bytes(bytes(size))\n"
        "checkpoints.save(write(1000), {'n': 1})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\n"
        "checkpoints.save(write(50000), {'n': 2})\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode and "no checkpoint could be written" in done.stderr and "step-00000001 is intact" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert Checkpoints(tmp_path).newest()[1] == {"n": 1}


def test_the_first_checkpoint_may_fail_too(tmp_path):
    def full(folder):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left on device.*There was none before it"):
        Checkpoints(tmp_path).save(full, {})
    assert list(tmp_path.iterdir()) == []


def noisy(tmp_path, steps, name="noisy", seconds=0.0, resume=None, batches=None):
    """A small run that draws random numbers in every step; returns its weights."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 3)
    objective = Objective(layer, lambda layer, batch: (layer(batch + torch.randn(3)) ** 2).mean())
    draw = batches or (lambda start: (torch.full((3,), float(n)) / 9 for n in itertools.count(start)))
    fit(
        objective, draw, 0.1, Budget(steps=steps), name, [Log(tmp_path / "log.jsonl")],
        checkpoints=Checkpoints(tmp_path / "c", seconds=seconds), resume=resume,
    )  # fmt: skip
    return layer.state_dict()


@pytest.mark.parametrize("stop", [1, 4, 9])
def test_a_resumed_fit_is_the_same_to_the_last_bit(tmp_path, stop):
    (tmp_path / "whole").mkdir()
    whole = noisy(tmp_path / "whole", 10)

    def breaks(start):
        for n in itertools.count(start):
            if n == stop:
                raise ConnectionError("the power went")
            yield torch.full((3,), float(n)) / 9

    with pytest.raises(ConnectionError):
        noisy(tmp_path, 10, batches=breaks)
    with open(tmp_path / "log.jsonl", "a") as log:
        log.write('{"stage": "noisy", "step": 99, "loss"')  # a line that the kill has cut
    path, state = Checkpoints(tmp_path / "c").newest()
    assert len(state["losses"]) == stop
    torch.manual_seed(123)  # whatever the new process has drawn
    resumed = noisy(tmp_path, 10, resume=path)
    assert all(torch.equal(resumed[key], whole[key]) for key in whole)
    log, reference = (
        [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        for folder in (tmp_path, tmp_path / "whole")
    )
    assert [(x["step"], x["loss"], x["lr"]) for x in log] == [(x["step"], x["loss"], x["lr"]) for x in reference]


def test_a_resumed_fit_keeps_adams_numbers_beside_their_weights(tmp_path):
    def convolve(steps, resume=None, stop=None):
        torch.manual_seed(0)
        conv = torch.nn.Conv2d(3, 5, 3).to(memory_format=torch.channels_last)
        objective = Objective(conv, lambda conv, batch: conv(batch).square().mean())

        def draw(start):
            for n in itertools.count(start):
                if n == stop:
                    raise ConnectionError
                yield torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(n))

        fit(objective, draw, 0.1, Budget(steps=steps), "conv", checkpoints=Checkpoints(tmp_path, seconds=0), resume=resume)
        return conv.weight.detach()

    whole = convolve(6)
    with pytest.raises(ConnectionError):
        convolve(6, stop=3)
    assert torch.equal(convolve(6, resume=Checkpoints(tmp_path).newest()[0]), whole)


def test_ctrl_c_ends_the_step_and_saves(tmp_path):
    def interrupted(start):
        for n in itertools.count(start):
            if n == 3:
                os.kill(os.getpid(), signal.SIGINT)
            yield torch.full((3,), float(n)) / 9

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="stopped at step 4 of noisy; a checkpoint is kept"):
        noisy(tmp_path, 10, seconds=1e9, batches=interrupted)
    assert len(Checkpoints(tmp_path / "c").newest()[1]["losses"]) == 4
    assert signal.getsignal(signal.SIGINT) is before


STEPS = 3


def training(out, *, resume=False):
    code = (
        "import sys; from osprey_nb.train.tiny import train_tiny\n"
        f"train_tiny(out=sys.argv[1], steps={STEPS}, seed=5, device='cpu', resume={resume}, checkpoint_seconds=0,"
        " progress=False)"
    )
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, "-c", code, str(out)], **options)


def wait_for(process, ready, seconds=240):
    end = time.monotonic() + seconds
    while not ready():
        if process.poll() is not None:
            return
        assert time.monotonic() < end, "it did not come so far"
        time.sleep(0.002)


def test_tiny_killed_again_and_again_ends_with_the_same_weights(tmp_path):
    train_tiny(out=tmp_path / "whole", steps=STEPS, seed=5, device="cpu", progress=False)
    assert not (tmp_path / "whole" / "checkpoints").exists()
    out, shuffle = tmp_path / "killed", random.Random(time.time_ns())
    folder = out / "checkpoints"
    moments = sorted(shuffle.sample(range(2, 5 * STEPS), 2))
    for kill, moment in enumerate(moments):
        process = training(out, resume=kill > 0)
        wait_for(process, lambda moment=moment: any(int(p.name[5:]) >= moment for p in folder.glob("step-*")))
        wait_for(process, (folder / "unfinished" / "model.safetensors").exists)  # in the middle of a save
        process.kill()
        process.wait()
        assert process.returncode == -signal.SIGKILL, process.stdout.read()
    last = training(out, resume=True)
    printed, _ = last.communicate(timeout=300)
    assert last.returncode == 0, printed
    weights = load_file(out / "model.safetensors")
    reference = load_file(tmp_path / "whole" / "model.safetensors")
    assert weights.keys() == reference.keys()
    lines, straight = (
        [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()] for folder in (out, tmp_path / "whole")
    )
    losses = [[line["loss"] for line in log] for log in (lines, straight)]
    assert losses[0] == losses[1], f"killed at checkpoints {moments}"
    assert all(torch.equal(weights[key], reference[key]) for key in reference), f"killed at checkpoints {moments}"
    assert len(lines) == 5 * STEPS and [line["step"] for line in lines] == [*range(1, STEPS + 1)] * 5
    assert len(json.loads((out / "run.json").read_text())["stages"]) == 5


def test_a_resume_is_refused_with_other_settings_or_with_nothing_to_resume(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint in .* to resume from"):
        train_tiny(out=tmp_path, steps=2, resume=True, progress=False)
    process = training(tmp_path)
    wait_for(process, lambda: list((tmp_path / "checkpoints").glob("step-*")))
    process.kill()
    process.wait()
    with pytest.raises(ValueError, match="of another run: seed was 5, is 6; steps was 3, is 4"):
        train_tiny(out=tmp_path, steps=4, seed=6, resume=True, progress=False)
    assert list(Path(tmp_path, "checkpoints").glob("step-*")), "nothing is lost"
