"""Lessons that grow, and the words that stand in for what a model will see."""

import numpy as np
import pytest
import torch

from osprey_nb import Osprey, OspreyConfig
from osprey_nb.data import language
from osprey_nb.data.phrases import place
from osprey_nb.data.scenes import make_scene
from osprey_nb.processor import OspreyProcessor
from osprey_nb.train.cells import LEAST, cell_owners
from osprey_nb.train.language import train_tokenizer
from osprey_nb.train.lessons import (
    FEW_CELLS,
    LEAST_STEPS,
    LONGEST,
    PLAIN,
    REACH,
    SKILLS,
    Batch,
    Lessons,
    few_cells,
    lesson_batches,
    right_answers,
)
from osprey_nb.train.stand_ins import StandIns, Sums, box_centre, joined, region_words


@pytest.fixture(scope="module")
def scenes():
    return [make_scene(i) for i in range(48)]


@pytest.fixture(scope="module")
def model(scenes):
    torch.manual_seed(0)
    config = OspreyConfig.preset("tiny")
    model = Osprey(config)
    model.processor = OspreyProcessor(config, train_tokenizer(scenes, config.text_config.vocab_size, 0))
    return model


@pytest.fixture(scope="module")
def batch(scenes, model):
    """One lesson of every skill."""
    found = {}
    for made in lesson_batches(scenes, model.processor, 0):
        assert len(made) == sum(SKILLS[lesson.skill].rows for lesson in made.lessons)
        found |= {lesson.skill: lesson for lesson in made.lessons}
        if found.keys() == SKILLS.keys():
            return list(found.values())


def test_a_lesson_begins_as_words_that_matter_and_ends_as_the_whole_prompt(model, batch):
    lessons, decode = Lessons(model), model.processor.tokenizer.decode
    for lesson in batch:
        sample, image = lesson.samples[0], SKILLS[lesson.skill].image
        lengths, texts = [], []
        for reach in REACH:
            ids, labels = lessons._thinned(sample, reach, image or reach is None)
            lengths.append(len(ids))
            texts.append(decode(ids))
            assert labels[-1] == model.processor.tokenizer.eos_token_id  # whole answers
            assert ("<image>" in texts[-1]) == (image or reach is None)
        assert "curious" not in texts[0] and "ASSISTANT" not in texts[0]
        assert "A chat between a curious human" in texts[-1] and "<image>\nThis provides an overview" in texts[-1]
        assert len(set(texts)) > 4 and lengths[0] <= LONGEST
    existence = next(lesson for lesson in batch if lesson.skill == "existence").samples[0]
    words = decode(lessons._thinned(existence, 0, True)[0]).replace("<image>", "").replace("</s>", " ").split()
    answers = [word for word in words if word in ("Yes", "No")]
    assert len(words) <= 3 * len(answers) + 3  # of the overview two; a kind, perhaps "image", and its answer


def test_a_skill_grows_when_its_answers_are_right_and_only_then(model, batch):
    lessons = Lessons(model)
    for _ in range(40):
        lessons._grow(0, torch.tensor([0.0, 1.0]))
    assert lessons.level.tolist() == [0] * len(SKILLS)
    steps = 0
    while lessons.level[0] == 0:
        lessons._grow(0, torch.tensor([1.0]))
        steps += 1
    assert LEAST_STEPS <= steps < 40 and lessons.level.sum() == 1 and lessons.right[0] == 0
    for _ in range(1000):
        lessons._grow(0, torch.tensor([1.0]))
    assert lessons.level[0] == len(REACH) - 1
    again = Lessons(model)
    again.load_state_dict(lessons.state_dict())
    assert again.level.tolist() == lessons.level.tolist()  # a resumed run goes on at its level


def test_what_a_comparison_ends_with_counts_and_is_not_kept_in_questions(model):
    lessons, encode = Lessons(model), model.processor.tokenizer.encode
    for word in ("yes", "no"):
        (token,) = encode(f" {word}", add_special_tokens=False)
        assert lessons.facts[token] and not lessons.matters[token]


def test_what_an_answer_tells_weighs_more_than_what_it_always_says(model):
    lessons, encode = Lessons(model), model.processor.tokenizer.encode
    weigh = {word: lessons.weights[encode(word, add_special_tokens=False)].tolist() for word in
             (" cat", " yes", ":", " to", "</s>", " its", " picture", " so")}  # fmt: skip
    assert [min(weigh[word]) for word in (" cat", " yes", ":", " to", "</s>")] == [1] * 5
    assert max(weigh[" its"] + weigh[" picture"] + weigh[" so"]) == pytest.approx(PLAIN)


def test_an_answer_is_right_when_all_of_its_words_are():
    answered = torch.tensor([[False, True, True, False, True], [True, False, True, True, False]])
    right = torch.tensor([True, False, True, True, True, True])
    assert right_answers(answered, right).tolist() == [0, 1, 1, 1]
    assert right_answers(answered, ~right).tolist() == [0, 0, 0, 0]


def test_a_mastered_skill_is_refreshed_only(model):
    lessons = Lessons(model)
    assert lessons._due("names", lot=0.99)
    lessons.level += len(REACH) - 1
    assert lessons._due("names", lot=0.99)
    lessons.right += 0.96
    assert not lessons._due("names", lot=0.99) and lessons._due("names", lot=0.1)


def test_a_skill_waits_for_what_it_builds_on(model, batch):
    lessons, names = Lessons(model), list(SKILLS)
    begun = {name for name in SKILLS if lessons._due(name, lot=0)}
    assert begun == {name for name, skill in SKILLS.items() if not skill.after} and "finding" in begun
    waiting = next(lesson for lesson in batch if lesson.skill == "comparisons")
    other = next(lesson for lesson in batch if lesson.skill == "names")
    loss = lessons(Batch([waiting, other]))
    assert len(loss.shape) == 0 and lessons.steps[names.index("comparisons")] == 0
    lessons.level[names.index("numbers")] = 1
    waiting.lower = None
    lessons(Batch([waiting, other]))
    assert lessons.steps[names.index("comparisons")] == 1
    for _ in SKILLS:  # no two wait for each other
        begun |= {name for name, skill in SKILLS.items() if begun.issuperset(skill.after)}
    assert begun == SKILLS.keys()


def test_at_the_last_level_the_loss_is_that_of_the_whole_prompt(model, batch):
    lessons = Lessons(model)
    lessons.level += len(REACH) - 1
    lesson = next(lesson for lesson in batch if lesson.skill == "names")
    lesson.lower, sample = None, lesson.samples[0]
    lesson.samples = [sample]
    torch.manual_seed(0)
    loss = lessons(Batch([lesson]))
    sums, embed, config = lessons.sums, model.get_input_embeddings().weight, model.config
    ids, labels = lessons._thinned(sample, None, True)
    count = int((ids == config.mask_token_id).sum())
    torch.manual_seed(0)
    torch.rand(1)  # the lot that decides whether a mastered skill takes part
    image = sums(sample.cells, config.image_token_id, embed)
    mask = sums(sample.regions[:count], config.mask_token_id, embed)
    pos = sums(sample.places[:count], config.pos_token_id, embed)
    image, mask, pos = (x + blur * torch.randn_like(x) for x, blur in ((image, 0.1), (mask, 0.1), (pos, 0.05)))
    spliced = model.splice(ids[None], image[None], ([mask], [pos]), labels=labels[None])
    logits = model.llm(inputs_embeds=spliced.embeds).logits[0, :-1]
    whole = torch.nn.functional.cross_entropy(logits, spliced.labels[0, 1:], lessons.weights)
    torch.testing.assert_close(loss, whole, atol=1e-4, rtol=1e-4)


def test_every_maker_of_records_is_a_lesson_or_a_form_of_one(scenes):
    made = {
        turn for skill in SKILLS.values() for i, scene in enumerate(scenes)
        for turn in skill.make(scene, np.random.default_rng(i)).turns
    }  # fmt: skip
    said = {question.split("<region")[0] for question, _ in made}
    for make in (language.existence, language.caption, language.finding, language.describe_short, language.conversation):
        for i, scene in enumerate(scenes[:8]):
            assert {q.split("<region")[0] for q, _ in make(scene, np.random.default_rng(i)).turns} <= said, make.__name__


def test_a_few_cells_show_everything(scenes, model):
    for i, scene in enumerate(scenes):
        cells = StandIns(model.processor).cells(scene)
        few = few_cells(cells, np.random.default_rng(i))
        assert len(few) == FEW_CELLS and (np.diff(few) > 0).all()
        assert {row.tobytes() for row in cells.ids} == {row.tobytes() for row in cells.ids[few]}


def test_a_cell_belongs_to_what_covers_most_of_it(scenes):
    for scene in scenes[:8]:
        owners = cell_owners(scene, 8).reshape(8, 8)
        for row in range(8):
            for column in range(8):
                window = slice(16 * row, 16 * row + 16), slice(16 * column, 16 * column + 16)
                shares = [obj.mask[window].mean() for obj in scene.objects]
                owner = owners[row, column]
                if owner < 0:
                    assert sum(shares) <= LEAST
                else:
                    assert shares[owner] == max(shares) and sum(shares) > LEAST


def test_a_stand_in_is_the_sum_of_its_words_and_its_centre(scenes, model):
    scene, embed = scenes[0], model.get_input_embeddings().weight
    sums, obj = Sums(embed.shape[1]), scenes[0].objects[0]
    regions, places = StandIns(model.processor).regions(scene, [obj.mask, obj.parts[0].mask])

    def words(text):
        return embed[model.processor.tokenizer(text, add_special_tokens=False)["input_ids"]].sum(0)

    known = {mask.tobytes(): text for mask, text in region_words(scene)}
    mask, part = sums(regions, 4, embed)
    torch.testing.assert_close(mask, embed[4] + words(f" {obj.pattern} {obj.colour} {obj.kind}"))
    torch.testing.assert_close(part, embed[4] + words(known[obj.parts[0].mask.tobytes()]))
    x, y = box_centre(obj.mask)
    columns = np.flatnonzero(obj.mask.any(0))
    assert x == pytest.approx((columns[0] + columns[-1] + 1) / 256)
    waves = torch.tensor([[f * np.pi * v for f in (0.5, 1, 2, 4, 8)] for v in (x, y)], dtype=torch.float)
    code = torch.cat([waves.sin(), waves.cos()], 1).flatten() @ sums.code
    spatial = sums(places, 5, embed)[0]
    field = words(" " + place(obj.mask).split(" the ")[1])
    torch.testing.assert_close(spatial, embed[5] + code + field + words(f" {obj.size}"), atol=1e-5, rtol=1e-4)


def test_the_loss_depends_on_each_kind_of_token(model, batch):
    lessons = Lessons(model)
    lessons.level += len(REACH) - 1
    lesson = next(lesson for lesson in batch if lesson.skill == "descriptions")
    lesson.lower, (one, *rest) = None, lesson.samples
    other = next(sample for sample in rest if not np.array_equal(sample.cells.ids, one.cells.ids))  # of another scene
    lesson.samples = [one]

    def loss():
        torch.manual_seed(0)
        return float(lessons(Batch([lesson])).detach())

    plain = loss()
    for key in ("cells", "regions", "places"):
        own, donor = getattr(one, key), getattr(other, key)
        setattr(one, key, joined([donor] * 3)[np.arange(len(own.ids))])
        assert abs(loss() - plain) > 1e-4, key
        setattr(one, key, own)
