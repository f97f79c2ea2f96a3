"""Training: frozen means frozen, a seed is a promise, budgets hold, a bad run stops with a reason."""

import itertools
import json
import math
import re
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from osprey_nb import Osprey, OspreyConfig
from osprey_nb.data.collate import TOKENS
from osprey_nb.data.mixture import shipped
from osprey_nb.data.phrases import parse_phrase
from osprey_nb.data.scenes import COLOURS, HELD_OUT, PATTERNS, make_scene
from osprey_nb.projector import image_tokens
from osprey_nb.train import stages, tiny
from osprey_nb.train.augment import roughen
from osprey_nb.train.bridge import bridge
from osprey_nb.train.checkpoints import Checkpoints
from osprey_nb.train.contrast import NAMES, PATTERN, WHAT, RegionCLIP, groups_without_repeats, region_batches
from osprey_nb.train.language import draw_record, drawn_batches
from osprey_nb.train.lessons import HALF_GROWN, lesson_batches
from osprey_nb.train.machines import compile_layers
from osprey_nb.train.stages import PAPER, TINY, Stage, begin, fixed_tokens, memory, osprey_loss, summary
from osprey_nb.train.stand_ins import StandIns, Sums, joined, region_words
from osprey_nb.train.tiny import record_batches, train_tiny
from osprey_nb.train.trainer import Budget, Objective, fit, freeze


@pytest.fixture(scope="module")
def scenes():
    return [make_scene(i) for i in range(48)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    return train_tiny(out=out, steps=2, seed=3, device="cpu", progress=False), out


@pytest.mark.parametrize("stage", TINY, ids=lambda stage: stage.name[:7])
def test_a_stage_changes_what_it_trains_and_nothing_else(run, scenes, stage):
    model = Osprey.from_pretrained(run[1])
    before = {name: x.clone() for name, x in model.state_dict().items()}
    batches = partial(record_batches, scenes, stage, model.processor, 0)
    fit(Objective(model, osprey_loss), batches, begin(model, stage), Budget(steps=2), stage.name)
    changed = {name.split(".")[0] for name, x in model.state_dict().items() if not torch.equal(x, before[name])}
    assert changed == set(stage.trains)
    assert not model.encoder.training and "encoder" not in stage.trains


def test_a_run_goes_on_from_a_trained_model(run, tmp_path):
    model = train_tiny(out=tmp_path / "on", steps=2, seed=4, start=run[1], device="cpu", progress=False)
    same = {name for name, x in model.state_dict().items() if torch.equal(x, run[0].state_dict()[name])}
    assert not same  # its encoder and its LLM learn on, the bridge sets projector and mask extractor anew
    record = json.loads((tmp_path / "on" / "run.json").read_text())
    assert len(record["stages"]) == 5 and set(record["lessons"].values()) == {HALF_GROWN}
    assert record["command"].endswith(f"--start {run[1]}")
    assert record["start"]["command"] == json.loads((run[1] / "run.json").read_text())["command"]
    config = OspreyConfig.preset("tiny")
    config.text_config.num_hidden_layers = 3
    other = Osprey(config)
    other.processor = model.processor
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="other holds no tiny model"):
        train_tiny(out=tmp_path / "x", start=tmp_path / "other", progress=False)
    with pytest.raises(FileNotFoundError, match="nowhere holds no config.json"):
        train_tiny(out=tmp_path / "x", start=tmp_path / "nowhere", progress=False)
    assert not (tmp_path / "x").exists()


def test_the_same_seed_gives_the_same_weights(run, tmp_path):
    again = train_tiny(out=tmp_path, steps=2, seed=3, device="cpu", progress=False)
    theirs = run[0].state_dict()
    assert all(torch.equal(x, theirs[name]) for name, x in again.state_dict().items())


def test_a_run_leaves_its_record_and_its_log(run):
    model, out = run
    record = json.loads((out / "run.json").read_text())
    assert record["seed"] == 3 and record["machine"]["cores"] > 0 and len(record["stages"]) == 5
    assert record["parameters"]["llm"] == sum(p.numel() for p in model.llm.parameters())
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert len(lines) == 10 and all(math.isfinite(line["loss"]) for line in lines)
    assert isinstance(model.describe(make_scene(1).image, [make_scene(1).objects[0].mask])[0], str)


def test_a_finished_model_is_not_overwritten(run):
    with pytest.raises(FileExistsError, match="already holds a model"):
        train_tiny(out=run[1], steps=1, progress=False)


def test_a_budget_that_is_too_short(tmp_path):
    with pytest.raises(ValueError, match="at least 1"):
        train_tiny(minutes=0.1, out=tmp_path)


def test_bad_input_is_refused_before_anything_is_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(tiny, "render_scenes", lambda *args, **kwargs: pytest.fail("scenes were drawn"))
    with pytest.raises(ValueError, match="seed is -1"):
        train_tiny(out=tmp_path, seed=-1)
    with pytest.raises(RuntimeError):
        train_tiny(out=tmp_path, device="nowhere")


def test_a_budget_that_the_drawing_has_eaten(tmp_path, monkeypatch):
    monkeypatch.setattr(tiny, "REST_MINUTES", {"cpu": 1, "cuda": 1})
    monkeypatch.setattr(tiny, "SCENES_PER_MINUTE", 8)
    with pytest.raises(ValueError, match="Drawing the scenes took 0.* minutes"):
        train_tiny(minutes=1, out=tmp_path, progress=False)


def endless(batch):
    return lambda start: itertools.repeat(batch)


def test_fit_lowers_the_loss_and_keeps_to_its_seconds():
    torch.manual_seed(0)
    x = torch.randn(64, 4)
    objective = Objective(torch.nn.Linear(4, 1), lambda layer, batch: ((layer(batch) - batch.sum(1, keepdim=True)) ** 2).mean())
    losses, *_ = fit(objective, endless(x), 0.05, Budget(steps=200), "fit")
    assert len(losses) == 200 and losses[-1] < losses[0] / 20
    losses, seconds, _ = fit(objective, endless(x), 0.0, Budget(seconds=0.2), "fit")
    assert losses and 0.2 <= seconds < 2


def test_a_loss_that_is_not_finite_stops_the_run():
    objective = Objective(torch.nn.Linear(1, 1), lambda layer, batch: layer(batch).sum() * math.nan)
    with pytest.raises(FloatingPointError, match="broken: the loss is nan at step 0"):
        fit(objective, endless(torch.ones(1)), 1e-3, Budget(steps=1), "broken")


def test_a_learning_rate_of_ten_is_stopped(run, scenes):
    model = Osprey.from_pretrained(run[1])
    stage = Stage("stage 2", {"mask_extractor": 10.0, "llm": 10.0}, {"describe_short": 1}, batch_size=2)
    batches = partial(record_batches, scenes, stage, model.processor, 0)
    with pytest.raises(FloatingPointError, match=r"stage 2: the loss is .* at step \d+.*Lower the learning rate \(10\)"):
        fit(Objective(model, osprey_loss), batches, begin(model, stage), Budget(steps=60), stage.name)


def test_a_batch_that_does_not_fit_says_what_to_do():
    objective = Objective(torch.nn.Linear(1, 1), lambda layer, batch: layer(torch.zeros(1 << 50, 1)).sum())
    with pytest.raises(MemoryError, match="does not fit in memory .*smaller batches"):
        fit(objective, endless([0]), 1e-3, Budget(steps=1), "large")


def test_a_stage_that_trains_nothing():
    with pytest.raises(ValueError, match="trains nothing"):
        freeze(torch.nn.Linear(2, 2), [torch.nn.ReLU()])


def test_groups_hold_no_phrase_twice():
    phrases = ["a red car", "a red car", "a red cat", "a blue car"] * 8 + [f"a red thing {i}" for i in range(9)]
    colours = ["blue" if "blue" in phrase else "red" for phrase in phrases]
    groups = groups_without_repeats(phrases, colours)
    assert all(len({phrases[i] for i in group}) == len(group) for group in groups)
    assert any({colours[i] for i in group} == {"red"} for group in groups)


def test_contrast_learns_a_batch(run, scenes):
    torch.manual_seed(0)
    model = Osprey.from_pretrained(run[1])
    vision = model.config.vision_config
    clip = RegionCLIP(model)
    batch = next(region_batches(scenes, 12, 0, vision.mean, vision.std))
    freeze(clip, [clip])
    losses, *_ = fit(clip, endless(batch), 2e-3, Budget(steps=12), "contrast")
    assert losses[-1] < 0.7 * losses[0]


def test_regions_are_labelled_with_what_their_phrases_say(run, scenes):
    vision = Osprey.from_pretrained(run[1]).config.vision_config
    for batch in itertools.islice(region_batches(scenes, 12, 0, vision.mean, vision.std), 4):
        assert len(batch.phrases) == len(batch.names) == len(batch.patterns) == sum(map(len, batch.masks))
        for phrase, name, pattern in zip(batch.phrases, batch.names.tolist(), batch.patterns.tolist(), strict=True):
            words = parse_phrase(phrase)
            assert NAMES[name] == (words["part"] or words["kind"])
            assert pattern == (-100 if words["part"] else PATTERNS.index(words["pattern"] or "plain"))


def test_names_and_patterns_have_heads_of_their_own(run, scenes):
    model = Osprey.from_pretrained(run[1])
    vision, clip = model.config.vision_config, RegionCLIP(model)
    batch = next(region_batches(scenes, 4, 0, vision.mean, vision.std))
    features = [level.detach() for level in clip.encoder(batch.images)]
    pooled = [level.detach() for level in clip.mask_extractor.pool(features, batch.masks)]
    before = float(clip.naming(features[2], pooled, batch).detach())
    for head, wanted, weight in ((clip.naming.name, batch.names, 1), (clip.naming.pattern, batch.patterns, PATTERN)):
        lost = weight * float(F.cross_entropy(head(torch.cat(pooled, 1)), wanted).detach())
        right = F.one_hot(wanted.clamp(min=0), head.out_features).float() * 100
        handle = head.register_forward_hook(lambda *_, right=right: right)
        assert float(clip.naming(features[2], pooled, batch).detach()) == pytest.approx(before - lost, abs=1e-3)
        handle.remove()


def test_the_bridge_lays_all_three_tokens_on_the_sums_of_their_words(run, scenes, monkeypatch):
    monkeypatch.setattr("osprey_nb.train.bridge.roughen", lambda masks, rng: masks)
    model = Osprey.from_pretrained(run[1])
    bridge(model, scenes, seed=0, steps=200)
    assert all(weight.grad is None for weight in model.parameters())
    config, embed, stand_ins = model.config, model.get_input_embeddings().weight, StandIns(model.processor)
    sums, found, wanted = Sums(config.text_config.hidden_size), ([], [], []), ([], [], [])
    with torch.no_grad():
        for scene in scenes:
            masks = np.stack([mask for mask, _ in region_words(scene)])
            features = model.encoder(model.processor.image(scene.image)[None])
            (mask_tokens,), (spatial_tokens,) = model.mask_extractor(features, [torch.from_numpy(masks).float()])
            image = model.projector(image_tokens(features[2]))[0]
            named = (*stand_ins.regions(scene, masks), stand_ins.cells(scene))
            for kept, tokens in zip(found, (mask_tokens, spatial_tokens, image), strict=True):
                kept.append(tokens)
            for kept, names in zip(wanted, named, strict=True):
                kept.append(names)
        placeholders = (config.mask_token_id, config.pos_token_id, config.image_token_id)
        # an encoder of two steps tells colours and backgrounds apart; an outline tells all of what a spatial token says
        for tokens, names, placeholder, least in zip(found, wanted, placeholders, (0.2, 0.8, 0.2), strict=True):
            tokens, targets = torch.cat(tokens), sums(joined(names), placeholder, embed)
            unexplained = (tokens - targets).square().sum() / (targets - targets.mean(0)).square().sum()
            assert unexplained < 1 - least, placeholder
            if placeholder != config.mask_token_id:  # sharpened: what these eyes can't see is not left at the mean
                assert torch.allclose(tokens.mean(0), targets.mean(0), atol=0.02)


def test_batches_of_like_length_lose_nothing():
    lengths = itertools.cycle(np.random.default_rng(0).integers(5, 300, 64))
    batches = drawn_batches(lambda rng: {"input_ids": [0] * int(next(lengths))}, lambda samples: {"all": samples}, 8, seed=0)
    found = [[len(sample["input_ids"]) for sample in next(batches)["all"]] for _ in range(8)]
    drawn = np.random.default_rng(0).integers(5, 300, 64)
    assert sorted(n for batch in found for n in batch) == sorted(drawn)
    assert sum(8 * max(batch) for batch in found) < 1.15 * drawn.sum()
    assert [min(batch) for batch in found] != sorted(min(batch) for batch in found)


def test_a_step_has_the_same_batch_wherever_one_starts(run, scenes):
    processor = run[0].processor
    sources = (
        partial(record_batches, scenes, TINY[-1], processor, 4),
        partial(region_batches, scenes, 7, 4, (0, 0, 0), (1, 1, 1)),  # an epoch of 48 ends within a batch
    )
    for source in sources:
        whole = list(itertools.islice(source(), 11))
        for start in (0, 3, 8, 10):
            again = next(source(start=start))
            there = vars(whole[start]) if not isinstance(again, dict) else whole[start]
            for key, value in (vars(again) if not isinstance(again, dict) else again).items():
                theirs = there[key]
                same = torch.equal(value, theirs) if torch.is_tensor(value) else all(
                    torch.equal(a, b) if torch.is_tensor(a) else a == b for a, b in zip(value, theirs, strict=True)
                )
                assert same, (source.func.__name__, start, key)


def test_a_step_has_the_same_lessons_wherever_one_starts(run, scenes):
    def steps(start):
        batches = itertools.islice(lesson_batches(scenes, run[0].processor, 4, start=start), 3)
        return [[(x.skill, x.lower, [one.ids.tolist() for one in x.samples]) for x in batch.lessons] for batch in batches]

    whole = steps(0)
    assert steps(2)[0] == whole[2] != whole[1]


def test_padding_on_the_right_needs_no_attention_mask(run, scenes):
    model = run[0]
    batch = next(record_batches(scenes, TINY[-1], model.processor, 2))
    assert not batch["attention_mask"].all()
    with torch.no_grad():
        masked = model(**{key: value for key, value in batch.items() if key != "ids"}).loss
        torch.testing.assert_close(osprey_loss(model, batch), masked, atol=1e-5, rtol=1e-5)
        assert batch["input_ids"].shape == batch["labels"].shape and batch["labels"].shape[1] % TOKENS == 0


def test_mirrored_scenes_keep_image_and_masks_together(scenes):
    batch = next(region_batches(scenes, 16, 1, (0, 0, 0), (1, 1, 1)))
    pictures = {(scene.image / 255).round(3).tobytes(): scene for scene in scenes}
    plain = mirrored = 0
    for image, masks in zip(batch.images, batch.masks, strict=True):
        for side in (1, -1):
            key = image.permute(1, 2, 0).numpy()[:, ::side].astype(float).round(3).tobytes()
            if key in pictures:
                known = {obj.mask.tobytes() for obj in pictures[key].objects}
                known |= {part.mask.tobytes() for obj in pictures[key].objects for part in obj.parts}
                assert all(mask.numpy()[:, ::side].astype(bool).tobytes() in known for mask in masks)
                plain, mirrored = plain + (side == 1), mirrored + (side == -1)
    assert plain + mirrored == 16 and plain and mirrored


def test_cells_are_named_and_mirrored_with_their_scene(scenes):
    batch = next(region_batches(scenes, 16, 1, (0, 0, 0), (1, 1, 1)))
    for image, what, colour, centre in zip(batch.images, *batch.cells, strict=True):
        scene, side = next(
            (scene, side) for scene in scenes for side in (1, -1)
            if np.allclose(image.permute(1, 2, 0).numpy()[:, ::side], scene.image / 255, atol=1e-3)
        )  # fmt: skip
        objects = np.stack([obj.mask for obj in scene.objects])[:, :, ::side]
        assert {WHAT[i] for i in what.tolist()} <= {obj.kind for obj in scene.objects} | {scene.background}
        for cell in (colour >= 0).nonzero()[:, 0].tolist():
            window = slice(16 * (cell // 8), 16 * (cell // 8) + 16), slice(16 * (cell % 8), 16 * (cell % 8) + 16)
            obj = scene.objects[int(objects[(slice(None), *window)].sum((1, 2)).argmax())]
            assert (WHAT[what[cell]], COLOURS[colour[cell]]) == (obj.kind, obj.colour)
            x = obj.spec.x / 1024
            assert centre[cell].tolist() == pytest.approx([x if side > 0 else 1 - x, obj.spec.y / 1024])


def test_training_records_never_show_what_is_held_out(scenes):
    assert not {(obj.kind, obj.colour) for scene in scenes for obj in scene.objects} & HELD_OUT


def test_rough_masks_stay_near_and_never_vanish():
    rng = np.random.default_rng(0)
    mask = torch.zeros(400, 64, 64, dtype=torch.bool)
    mask[:, 20:34, 18:40] = True
    rough = roughen(mask, rng)
    changed = (rough != mask).flatten(1).any(1)
    assert 0.15 < changed.float().mean() < 0.4
    assert rough.flatten(1).any(1).all()
    assert not rough[:, :14].any() and not rough[:, :, 48:].any()


def test_the_recipe_is_the_paper_in_small():
    trained = [{"projector"}, {"mask_extractor"}, {"projector", "mask_extractor", "llm"}]
    assert [set(stage.trains) for stage in TINY] == [set(stage.trains) for stage in PAPER] == trained
    assert [(set(stage.trains.values()), stage.epochs) for stage in PAPER] == [({1e-3}, 1), ({2e-5}, 2), ({1e-5}, 2)]
    assert {stage.mixture for stage in PAPER} == set(shipped())
    assert tiny.RECIPE_MINUTES <= 25


def test_a_fourth_stage_with_a_rate_for_each_part(run, scenes):
    model = Osprey.from_pretrained(run[1])
    before = {name: x.clone() for name, x in model.state_dict().items()}
    stage = Stage("stage 4: parts", {"mask_extractor": 1e-3, "projector": 1e-9}, {"part_level": 1}, batch_size=4, minutes=1)
    batches = partial(record_batches, scenes, stage, model.processor, 0)
    fit(Objective(model, osprey_loss), batches, begin(model, stage), Budget(steps=2), stage.name)
    moved = {}
    for name, x in model.state_dict().items():
        part = name.split(".")[0]
        moved[part] = max(moved.get(part, 0.0), float((x - before[name]).abs().max()))
    assert moved["encoder"] == moved["llm"] == 0 and moved["mask_extractor"] > 1e-5
    assert moved["projector"] < 1e-7
    with pytest.raises(ValueError, match="stage 5 trains eyes; the parts are encoder, mask_extractor, projector, llm"):
        begin(model, Stage("stage 5", {"eyes": 1e-3}, {}, 4))
    with pytest.raises(ValueError, match="trains nothing"):
        begin(model, Stage("stage 6", {}, {}, 4))


def test_the_memory_of_a_stage():
    model = Osprey(OspreyConfig.preset("tiny")).half()
    begin(model, TINY[1])
    count = {name: sum(x.numel() for x in part.parameters()) for name, part in model.parts.items()}
    learns = count["mask_extractor"]
    weights = 2 * (sum(count.values()) - learns) + 4 * learns  # what learns is held in float32
    assert memory(model) == {"weights": weights, "gradients": 4 * learns, "AdamW": 8 * learns}


def test_the_summary_counts_what_learns(run):
    model = Osprey.from_pretrained(run[1])
    begin(model, TINY[1])
    text = summary(model)
    counts = {name: sum(x.numel() for x in part.parameters()) for name, part in model.parts.items()}
    total, learnt = sum(counts.values()), counts["mask_extractor"]
    assert re.search(rf"mask_extractor\s+{counts['mask_extractor']:,}  learns", text)
    assert re.search(rf"llm\s+{counts['llm']:,}  frozen", text)
    assert f"{learnt / total:.1%} learn; {(4 * total + 12 * learnt) / 2**20:,.0f} MiB" in text


@pytest.mark.parametrize("family", ["tiny", "qwen2", "gemma3", "gpt_neox", "gemma2"])
def test_answer_loss_is_the_loss_of_the_whole(run, scenes, family):
    from transformers import AutoConfig

    model = Osprey.from_pretrained(run[1])
    if family != "tiny":
        sizes = {"hidden_size": 192, "intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": 1024}
        sizes["num_attention_heads"] = 2
        more = {"num_key_value_heads": 2, "head_dim": 96} if family != "gpt_neox" else {}
        name = {"gemma3": "gemma3_text"}.get(family, family)
        config = model.config
        config.text_config = AutoConfig.for_model(name, **sizes, **more)
        model = Osprey(config).eval()
    batch = next(record_batches(scenes, TINY[-1], run[0].processor, 4))
    batch.pop("ids")
    with torch.no_grad():
        torch.testing.assert_close(osprey_loss(model, batch), model(**batch).loss, atol=2e-5, rtol=2e-5)


def test_what_depends_on_nothing_that_learns_is_read_without_gradients(run, scenes, monkeypatch):
    model = Osprey.from_pretrained(run[1])
    begin(model, TINY[1])
    rng = np.random.default_rng(0)
    samples = [model.processor.record(draw_record(scenes, {"describe_short": 1}, rng, limit=1)[1]) for _ in range(4)]
    batch = model.processor.collate(samples)
    before_regions = fixed_tokens(model, batch["input_ids"])
    first = min(row.index(model.config.mask_token_id) for row in batch["input_ids"].tolist())
    assert before_regions == first + model.config.num_image_tokens - 1
    results = []
    for fixed in (before_regions, 0):
        monkeypatch.setattr(stages, "fixed_tokens", lambda *_, fixed=fixed: fixed)
        loss = osprey_loss(model, batch)
        loss.backward()
        results.append((loss.detach(), [p.grad.clone() for p in model.mask_extractor.parameters()]))
        model.zero_grad()
    torch.testing.assert_close(*results, atol=1e-5, rtol=1e-4)
    monkeypatch.undo()
    whole = model.processor.collate([model.processor.record(draw_record(scenes, {"caption": 1}, rng)[1])])
    assert fixed_tokens(model, whole["input_ids"]) == whole["input_ids"].shape[1] + model.config.num_image_tokens - 2
    begin(model, TINY[0])
    assert fixed_tokens(model, batch["input_ids"]) == 0  # the projector learns: image tokens change
    begin(model, TINY[1])
    compile_layers(model.llm)
    assert fixed_tokens(model, batch["input_ids"]) == 0  # each layer would be compiled twice


def test_a_step_of_pieces_is_the_step_of_the_whole(run, scenes):
    stage = TINY[-1]

    def pieces(start, lane=0, lanes=1):
        whole = list(itertools.islice(record_batches(scenes, stage, run[0].processor, 5), 2))
        if lanes == 1:
            while True:
                yield whole[start]
        yield whole[lane]

    model = Osprey.from_pretrained(run[1])
    losses = fit(Objective(model, osprey_loss), pieces, begin(model, stage), Budget(steps=1), "two", accumulate=2).losses
    model = Osprey.from_pretrained(run[1])
    begin(model, stage)
    counts, values = [], []
    for batch in itertools.islice(record_batches(scenes, stage, model.processor, 5), 2):
        values.append(float(osprey_loss(model, batch)))
        counts.append(int((batch["labels"][:, 1:] != -100).sum()))
    assert counts[0] != counts[1]
    assert losses[0] == pytest.approx(np.average(values, weights=counts), rel=2e-2)  # bf16 where the machine has it


def test_lanes_share_out_what_there_is(run, scenes):
    def ids(lane, lanes, count):
        source = record_batches(scenes, TINY[-1], run[0].processor, 6, lane=lane, lanes=lanes)
        return [tuple(batch["input_ids"].flatten().tolist()) for batch in itertools.islice(source, count)]

    alone, first, second = ids(0, 1, 16), ids(0, 2, 8), ids(1, 2, 8)
    assert sorted(first + second) == sorted(alone) and not set(first) & set(second)


def test_the_guard_names_the_samples(run, scenes):
    model = Osprey.from_pretrained(run[1])
    stage = TINY[1]
    objective = Objective(model, lambda model, batch: osprey_loss(model, batch) * math.nan)
    batches = partial(record_batches, scenes, stage, model.processor, 0)
    wanted = next(batches())["ids"]
    with pytest.raises(FloatingPointError, match="its samples are " + ", ".join(map(re.escape, wanted))):
        fit(objective, batches, begin(model, stage), Budget(steps=1), stage.name)


def test_ema_ends_with_the_mean_of_the_weights(tmp_path):
    def run(ema, steps=4, resume=None, stop=None):
        torch.manual_seed(0)
        layer = torch.nn.Linear(2, 1, bias=False)
        objective = Objective(layer, lambda layer, batch: layer(batch).square().mean())
        seen = []

        def batches(start):
            for n in itertools.count(start):
                seen.append(layer.weight.detach().clone())
                if n == stop:
                    raise ConnectionError
                yield torch.full((3, 2), 1.0 + n)

        fit(objective, batches, 0.1, Budget(steps=steps), "ema", ema=ema, resume=resume,
            checkpoints=Checkpoints(tmp_path / str(ema), seconds=0))  # fmt: skip
        return layer.weight.detach(), seen

    plain, weights = run(None)
    mean = weights[0]
    for weight in [*weights[1:], plain]:
        mean = 0.5 * mean + 0.5 * weight
    averaged, _ = run(0.5)
    assert torch.allclose(averaged, mean) and not torch.allclose(averaged, plain)
    with pytest.raises(ConnectionError):
        run(0.5, stop=2)
    assert torch.equal(run(0.5, resume=Checkpoints(tmp_path / "0.5").newest()[0])[0], averaged)


def test_compiled_layers_say_the_same(run, scenes):
    model = Osprey.from_pretrained(run[1])
    batch = next(record_batches(scenes, TINY[-1], model.processor, 2))
    with torch.no_grad():
        plain = osprey_loss(model, batch)
        compile_layers(model.llm)
        torch.testing.assert_close(osprey_loss(model, batch), plain, atol=1e-4, rtol=1e-4)


def test_without_a_compiler_it_says_so_before_work_begins(tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ValueError, match="needs a C\\+\\+ compiler"):
        train_tiny(out=tmp_path / "x", compile=True, steps=1, device="cpu", progress=False)
    assert not (tmp_path / "x").exists()
