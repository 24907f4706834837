"""A teacher's texts are sifted, a student learns from them and from its judgement, and forced replies are judged."""

import json
import random
from collections import Counter
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from fathom.config.tuning import DistillRecipe, SampledConfig
from fathom.corpus.tokenizer import Tokenizer
from fathom.engine.engine import Engine
from fathom.errors import CheckpointError, RecipeError, TrainingError, UsageError
from fathom.reason.distill import distill
from fathom.reason.judging import judge, judge_forced
from fathom.reason.objective import Component, accumulate, full_reverse_kl, sampled_reverse_kl
from fathom.reason.pairs import read_pairs
from fathom.reason.rejection import kept_texts, sample_texts
from fathom.reason.rollouts import Group, Rollout, Sampling
from fathom.reason.scoring import logprobs_of, side_by_side
from fathom.reason.task import Score, is_held_out
from fathom.reason.trainer import Surroundings
from fathom.weights.folder import load, save

SAMPLED = SampledConfig(policy="teacher", problems=70, texts=2, max_tokens=24, only_right=False)


@pytest.fixture(scope="module")
def teacher(base, tmp_path_factory):
    """The base, moved a little."""
    model = load(base)
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * parameter.std(correction=0) * torch.randn_like(parameter))
    folder = tmp_path_factory.mktemp("teacher")
    save(model, folder, tokenizer_from=base)
    return folder


@pytest.fixture(scope="module")
def file(teacher, task, tmp_path_factory):
    tokenizer = Tokenizer(teacher)
    path = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    return sample_texts(Engine(load(teacher), tokenizer), tokenizer, task, SAMPLED, path).path


def text(words, accuracy=1.0, finished=True):
    return Rollout((1,), (0.0,), words, finished, Score(accuracy, 1.0))


def test_only_right_finished_unrepeated_texts_are_kept_and_the_others_counted(task):
    problem = task.sample(random.Random(0))
    written = (text("a"), text("a"), text("b", finished=False), text("c", accuracy=0.0), text("d\nd\nd"), text("e"))
    counts = Counter()
    config = SampledConfig(policy="p", keep=1)
    assert [kept.text for kept in kept_texts(Group(problem, (0,), written), config, counts)] == ["a"]
    reasons = ("duplicate", "unfinished", "wrong", "repeating", "surplus", "kept")
    assert counts == Counter(texts=6, **dict.fromkeys(reasons, 1))


def test_sampled_texts_are_what_sft_reads_with_counts_that_add_up_and_no_held_out_problem(file, base, task):
    counts = json.loads(file.with_suffix(".counts.json").read_text())["counts"]
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(read_pairs([file], Tokenizer(base), 256)) == len(lines) == counts["kept"]
    assert counts["problems"] == 70
    assert counts["texts"] == 140 == sum(counts[n] for n in counts if n not in ("problems", "solved", "texts"))
    problem = task.sample(random.Random(0))
    assert not any(is_held_out(replace(problem, key=line["problem"])) for line in lines)


def test_sampling_that_was_interrupted_goes_on_to_the_same_file(file, teacher, task, tmp_path):
    tokenizer, path = Tokenizer(teacher), tmp_path / "texts.jsonl"
    engine = Engine(load(teacher), tokenizer)
    asked = iter([False, True])
    assert not sample_texts(engine, tokenizer, task, SAMPLED, path, stop=lambda: next(asked)).finished
    with (tmp_path / "texts.jsonl.partial").open("a") as half:
        half.write('{"prompt": "half a li')
    assert sample_texts(engine, tokenizer, task, SAMPLED, path).finished
    assert path.read_text() == file.read_text()
    with pytest.raises(CheckpointError, match="other settings"):
        sample_texts(engine, tokenizer, task, SAMPLED.model_copy(update={"seed": 2}), path)


def test_a_policy_of_which_nothing_can_be_kept_is_named(teacher, task, tmp_path):
    class Wrong(type(task)):
        def score(self, problem, text, finished=True):
            return Score(0.0, 0.0)

    tokenizer, config = Tokenizer(teacher), SampledConfig(policy="teacher", problems=2, texts=2, max_tokens=4)
    with pytest.raises(TrainingError, match="none of 4 texts of 'teacher'"):
        sample_texts(Engine(load(teacher), tokenizer), tokenizer, Wrong(steps=1), config, tmp_path / "t.jsonl")


def grads(model, component):
    model.zero_grad()
    value = accumulate(model, [component], 2)[component.name]
    return value, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.fixture(scope="module")
def apart(base, teacher, file):
    student, other = load(base), load(teacher)
    pairs = read_pairs([file], Tokenizer(base), 256)[:5]
    texts = side_by_side([(pair.prompt, pair.reply) for pair in pairs])
    return student, other, replace(texts, old=logprobs_of(student, texts))


def test_full_kl_is_that_of_the_plain_computation(apart):
    student, teacher, texts = apart
    value, found = grads(student, Component("kl", 0.5, texts, full_reverse_kl(teacher)))
    student.zero_grad()
    total = torch.zeros(())
    for row, start, length in zip(texts.tokens, texts.prompt_lengths, texts.mask.sum(1).int(), strict=True):
        read = row[None, : start + length - 1]
        mine = student(read).logits[0, start - 1 :].float().log_softmax(-1)
        wanted = teacher(read).logits[0, start - 1 :].float().log_softmax(-1).detach()
        total = total + (mine.exp() * (mine - wanted)).sum()
    mean = total / texts.mask.sum()
    (0.5 * mean).backward()
    assert value == pytest.approx(float(mean.detach()), rel=1e-4)
    assert value > 0
    for name, parameter in student.named_parameters():
        if parameter.grad is not None:
            assert torch.allclose(found[name], parameter.grad, atol=1e-6, rtol=1e-3), name


def test_sampled_kl_weighs_each_token_by_the_teachers_log_ratio(apart):
    student, teacher, texts = apart
    theirs = logprobs_of(teacher, texts)
    value, found = grads(student, Component("kl", 1.0, texts, sampled_reverse_kl(theirs)))
    assert value == pytest.approx(float(((texts.old - theirs) * texts.mask).sum() / texts.mask.sum()), abs=1e-5)
    student.zero_grad()
    total = torch.zeros(())
    for i, (row, start, length) in enumerate(
        zip(texts.tokens, texts.prompt_lengths, texts.mask.sum(1).int(), strict=True)
    ):
        logits = student(row[None, : start + length - 1]).logits[0, start - 1 :].float().log_softmax(-1)
        logprobs = logits.gather(1, row[start : start + length, None])[:, 0]
        total = total + ((texts.old[i] - theirs[i])[:length] * logprobs).sum()
    (total / texts.mask.sum()).backward()
    for name, parameter in student.named_parameters():
        if parameter.grad is not None:
            assert torch.allclose(found[name], parameter.grad, atol=1e-5, rtol=1e-3), name


def test_a_teacher_that_is_the_student_has_nothing_to_teach(apart):
    student, _, texts = apart
    value, found = grads(student, Component("kl", 1.0, texts, full_reverse_kl(student)))
    assert abs(value) < 1e-6
    assert all(float(gradient.abs().max()) < 1e-5 for gradient in found.values())


def recipe(**changes):
    how = {"steps": 3, "batch_texts": 4, "problems": 2, "group_size": 2, "max_tokens": 16, "checkpoint_every": 2}
    how |= {"evaluate_problems": 2, "evaluate_texts": 2, "optimizer": {"learning_rate": 1e-2}}
    values = {"task": {"name": "inverse", "options": {"steps": 1}}, "base": {"folder": "x"}, "texts": {"policy": "t"}}
    return DistillRecipe.validated(values | {"distill": how | changes}, "test")


def run(one, task, teacher, file, base, folder, **options):
    return distill(one, task, teacher, [file], base, folder, around=Surroundings(precision=torch.float32, **options))


def losses(folder):
    names = ("step", "loss", "cross_entropy", "reverse_kl", "grad_norm")
    return [
        [json.loads(line).get(name) for name in names] for line in (folder / "metrics.jsonl").read_text().splitlines()
    ]


def test_both_components_add_up_and_a_stop_changes_nothing(teacher, file, base, task, tmp_path):
    one = recipe(cross_entropy=0.5, reverse_kl=2.0)
    whole = run(one, task, teacher, file, base, tmp_path / "a")
    for _, loss, entropy, kl, _ in losses(tmp_path / "a"):
        assert loss == pytest.approx(0.5 * entropy + 2.0 * kl)
    for line in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines():
        spent = json.loads(line)
        assert spent["written_tokens"] == spent["length"] * 4
        assert spent["trained_tokens"] > spent["tokens"] > spent["written_tokens"]
    asked = iter([False, False, True])
    assert not run(one, task, teacher, file, base, tmp_path / "b", stop=lambda: next(asked)).finished
    again = run(one, task, teacher, file, base, tmp_path / "b")
    assert losses(tmp_path / "b") == losses(tmp_path / "a")
    mine, theirs = load_file(again.model / "model.safetensors"), load_file(whole.model / "model.safetensors")
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(
    ("changes", "present"),
    [({}, [True, False]), ({"cross_entropy": 0, "reverse_kl": 1, "vocabulary": "full"}, [False, True])],
)
def test_a_component_without_weight_is_left_out(teacher, file, base, task, tmp_path, changes, present):
    run(recipe(**changes), task, teacher, file, base, tmp_path)
    assert [value is not None for value in losses(tmp_path)[0][2:4]] == present


def test_models_with_different_tokenizers_are_refused(teacher, file, base, task, tmp_path):
    other = tmp_path / "other"
    save(load(base), other, tokenizer_from=base)
    description = json.loads((other / "tokenizer.json").read_text())
    description["model"]["merges"] = description["model"]["merges"][:-1]
    (other / "tokenizer.json").write_text(json.dumps(description))
    with pytest.raises(UsageError, match="different tokenizers"):
        run(recipe(), task, teacher, file, other, tmp_path / "run")


def test_a_recipe_that_teaches_nothing_is_refused():
    with pytest.raises(RecipeError, match="both 0"):
        recipe(cross_entropy=0)


def test_a_reply_is_begun_with_an_attempt_that_failed_and_judged_whole(base, task):
    tokenizer = Tokenizer(base)
    engine = Engine(load(base), tokenizer)
    free = judge(engine, tokenizer, task, Sampling(2, 8), 4)
    forced = judge_forced(engine, tokenizer, task, Sampling(2, 8), 4)
    for one, other in zip(free.groups, forced.groups, strict=True):
        assert other.problem.key == one.problem.key
        begun = other.problem.prompt.removeprefix(one.problem.prompt)
        score = task.score(one.problem, begun)
        assert (score.counts["attempts"], score.counts["checks"]) == (1, 1)
        assert not begun.endswith("=0\n")
        assert all(text.score.counts["attempts"] >= 1 for text in other.rollouts)
