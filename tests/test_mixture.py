"""Mixture files: what they hold, weigh and leave out."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from osprey_nb.data.mixture import Mixture, shipped
from osprey_nb.data.readers import FORMATS

SAMPLES = Path(__file__).resolve().parents[1] / "data_samples"
SHORT = "{format: osprey, file: osprey_short_form.json, images: images"
COCO = "{format: coco, file: instances.json, images: images"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("OSPREY_NB_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def load(tmp_path):
    def load(*sources, root=SAMPLES, **options):
        path = tmp_path / "mixture.yaml"
        path.write_text("sources:\n" + "".join(f"  - {source}\n" for source in sources), encoding="utf-8")
        return Mixture.load(path, root, progress=False, **options)

    return load


def ids(mixture):
    return [record.id for record in mixture]


def test_every_record_once(load):
    mixture = load(SHORT + "}", COCO + "}")
    assert ids(mixture) == [f"osprey_short_form:{i}" for i in range(64)] + [f"instances:{i}" for i in range(64)]


def test_weights_and_limits(load):
    mixture = load(SHORT + ", weight: 2.5}", COCO + ", weight: 0.25}", COCO + ", weight: 0}", COCO + ", limit: 10}")
    counts = Counter(mixture.entries[:, 0].tolist())
    assert counts == {0: 160, 1: 16, 2: 10}
    times = Counter(ids(mixture)[:160])
    assert len(times) == 64 and Counter(times.values()) == {2: 32, 3: 32}


def test_questions_of_ones_own(load):
    mixture = load(COCO + ', questions: ["Which {} is it?"], limit: 3}')
    assert all(q == f"Which <region{i}> is it?" for r in mixture for i, (q, _) in enumerate(r.turns, 1))
    for wrong in ('["What is it?"]', '"What is {}?"', '["What is {} {}?"]'):
        with pytest.raises(ValueError, match="each with one {}"):
            load(COCO + f", questions: {wrong}}}")
    with pytest.raises(ValueError, match="brings its own questions"):
        load('{format: llava, file: llava_captions.json, images: images, questions: ["Which {}?"]}')


def test_a_subset_is_stratified_and_the_same_everywhere(load):
    mixture = load(SHORT + "}", COCO + ", limit: 16}")
    small = mixture.subset(limit=10)
    assert Counter(small.entries[:, 0].tolist()) == {0: 8, 1: 2}
    assert ids(small) == ids(mixture.subset(limit=10)) == ids(mixture.subset(fraction=10 / 80))
    assert ids(small) != ids(mixture.subset(limit=10, seed=1))
    assert len(mixture.subset(limit=10**9)) == 80 and len(mixture.subset(fraction=1e-9)) == 1
    # the numbers themselves, so that another machine or numpy is found out
    assert mixture.subset(limit=10, seed=0).entries[:, 1].tolist() == [4, 8, 16, 23, 27, 36, 44, 53, 0, 38]
    for wrong in ({}, {"limit": 0}, {"fraction": 0}, {"fraction": 1.5}, {"limit": 3, "fraction": 0.5}):
        with pytest.raises(ValueError):
            mixture.subset(**wrong)


def test_another_epoch_draws_anew_from_the_same_rows(load):
    mixture = load(COCO + "}")
    other = mixture.with_seed(5)
    turns = [[record.turns for record in m] for m in (mixture, other, mixture.with_seed(0))]
    assert ids(other) == ids(mixture) and turns[0] != turns[1] and turns[0] == turns[2]
    assert [sorted(a for _, a in t) for t in turns[0]] == [sorted(a for _, a in t) for t in turns[1]]


def test_the_papers_mixtures_are_shipped_and_ask_for_their_files(tmp_path):
    assert shipped() == ["stage1", "stage2", "stage3"]
    for name in shipped():
        with pytest.raises(FileNotFoundError, match=r"names what is not there: .*\.json"):
            Mixture.load(name, tmp_path)


@pytest.mark.parametrize(("source", "message"), [
    ("{format: coca, file: a, images: b}", "format is 'coca'; known are osprey, coco"),
    ("{format: coco, file: instances.json}", "give `file` and `images`"),
    (COCO + ", wieght: 2}", "unknown wieght"),
    (COCO + ", weight: -1}", "weight is -1"),
    (COCO + ", weight: .nan}", "weight is nan"),
    (COCO + ", limit: 0}", "limit is 0"),
    (COCO + ", weight: 0}", "all weights are 0"),
    ("{format: coco", "no YAML"),
    ("7", "no list of `sources`"),
])  # fmt: skip
def test_bad_mixtures_are_refused_before_anything_is_read(load, monkeypatch, source, message):
    monkeypatch.setattr(FORMATS["coco"], "open", lambda *_: pytest.fail("a file was indexed"))
    with pytest.raises(ValueError, match=message):
        load(source)


def test_missing_files_are_all_named(load, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"instances\.json.*images.*Paths begin at"):
        load(COCO + "}", root=tmp_path)
    with pytest.raises(FileNotFoundError, match="shipped are stage1, stage2, stage3"):
        Mixture.load(tmp_path / "none.yaml")


def test_entries_are_small():
    assert Mixture([], np.zeros((724_000, 2), np.int64)).entries.nbytes < 12e6
