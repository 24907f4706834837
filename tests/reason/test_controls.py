"""Controls beside a reinforcement: one base, as many texts and tokens, a stop changes nothing, one table for all."""

import json
from dataclasses import dataclass

import pytest
import torch
from safetensors.torch import load_file

from fathom.config.reason import ReasonRecipe
from fathom.corpus.tokenizer import Tokenizer
from fathom.errors import UsageError
from fathom.reason.controls import CONTROLS, controls_named, epochs_for, run_control, spent_by
from fathom.reason.pairs import Pair, read_pairs
from fathom.reason.registry import make_task
from fathom.reason.task import Score
from fathom.reason.tasks.inverse import Inverse
from fathom.reason.trainer import Surroundings
from fathom.reason.zero import reinforce
from fathom.reports.reasoning import write_reasoning_report


@dataclass(frozen=True)
class Odd(Inverse):
    """Whatever has an odd number of letters is right: a tiny base finds some."""

    def score(self, problem, text, finished=True):
        return Score(float(len(text) % 2), 0.0, counts=super().score(problem, text, finished).counts)


@pytest.fixture(scope="module")
def odd():
    return Odd(steps=1)


@pytest.fixture(scope="module")
def answered(recipe):
    """The recipe with a reward that Odd gives, and room for texts to end by themselves."""
    rl = recipe.rl.model_dump() | {"reward": {"accuracy": 1.0}, "max_tokens": 48, "steps": 2, "evaluate_every": 0}
    return ReasonRecipe.validated(recipe.model_dump() | {"rl": rl}, "test")


@pytest.fixture(scope="module")
def finished(answered, odd, base, tmp_path_factory):
    run = tmp_path_factory.mktemp("run")
    reinforce(answered, odd, base, run, precision=torch.float32)
    return run


def control(name, answered, odd, base, run, **options):
    return run_control(name, answered, odd, base, run, Surroundings(precision=torch.float32, **options))


def steps_of(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_every_control_is_trained_from_the_base_and_stands_in_the_report(answered, odd, base, finished):
    before = load_file(base / "model.safetensors")
    for name in controls_named("all", odd):
        result = control(name, answered, odd, base, finished)
        assert result.finished, name
        after = load_file(result.model / "model.safetensors")
        assert name == "format" or any(not torch.equal(before[key], after[key]) for key in before), name
    page = write_reasoning_report(finished, answered).read_text()
    assert all(f"{done} ({name})" in page for name, done in CONTROLS.items())


def test_its_own_right_texts_are_learned_and_no_others(answered, odd, base, finished):
    control("sft-own", answered, odd, base, finished)
    folder = finished / "controls/sft-own"
    counts = json.loads((folder / "texts.counts.json").read_text())["counts"]
    spent = spent_by(finished, answered.rl)
    assert counts["texts"] == spent.texts == 24
    replies = [json.loads(line)["reply"] for line in (folder / "texts.jsonl").read_text().splitlines()]
    assert len(replies) == counts["kept"]
    assert all(len(reply) % 2 for reply in replies)


def test_written_replies_end_as_documents_do_and_take_no_more_tokens(answered, odd, base, finished):
    control("sft-written", answered, odd, base, finished)
    file = finished / "controls/sft-written/texts.jsonl"
    replies = [json.loads(line)["reply"] for line in file.read_text().splitlines()]
    assert all(reply.endswith("</answer>\n") for reply in replies)
    assert sum(step["trained_tokens"] for step in steps_of(file.parent)) <= spent_by(finished, answered.rl).tokens
    assert len(read_pairs([file], Tokenizer(base), 256)) <= 24


def test_a_control_that_was_stopped_goes_on_to_the_same_end(answered, odd, base, finished, tmp_path):
    (tmp_path / "metrics.jsonl").write_text((finished / "metrics.jsonl").read_text())
    whole = control("sft-own", answered, odd, base, finished)
    assert not control("sft-own", answered, odd, base, tmp_path, stop=lambda: True).finished
    asked = iter([False, False, True])
    assert not control("sft-own", answered, odd, base, tmp_path, stop=lambda: next(asked, True)).finished
    result = control("sft-own", answered, odd, base, tmp_path)
    mine, theirs = load_file(result.model / "model.safetensors"), load_file(whole.model / "model.safetensors")
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_epochs_come_nearest_to_the_tokens_and_there_is_one_at_least():
    pairs = [Pair((1, 2), (3,)), Pair((1,), (2, 3, 4))]
    assert [epochs_for(tokens, pairs) for tokens in (1, 7, 10, 11, 22)] == [1, 1, 1, 2, 3]


def test_controls_are_named_one_by_one_or_all():
    task = make_task("inverse")
    assert controls_named("all", task) == tuple(CONTROLS)
    assert controls_named("sft-own, random", task) == ("sft-own", "random")
    with pytest.raises(UsageError, match=r"no 'sft'; take 'all' or some of random, format, sft-own, sft-written"):
        controls_named("sft", task)


def test_a_task_that_writes_nothing_has_no_written_control():
    task = make_task("sorting")
    assert "sft-written" not in controls_named("all", task)
    with pytest.raises(UsageError, match="writes no replies"):
        controls_named("sft-written", task)
