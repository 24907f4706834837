"""Reinforcement: what is trained is what was written, a kill changes nothing, and faults are named."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from fathom.config.reason import ReasonRecipe
from fathom.corpus.tokenizer import Tokenizer
from fathom.engine.engine import Engine
from fathom.errors import CheckpointError, CorpusError, GenerationError, RecipeError, TrainingError
from fathom.reason.judging import judge, pass_at
from fathom.reason.rollouts import Sampling, roll_out
from fathom.reason.scoring import backward, logprobs_of, texts_of
from fathom.reason.task import Score
from fathom.reason.tasks.inverse import Inverse
from fathom.reason.zero import reinforce
from fathom.reports.reasoning import write_reasoning_report
from fathom.weights.folder import load


def run(recipe, task, base, folder, **options):
    return reinforce(recipe, task, base, folder, precision=torch.float32, **options)


def metrics(folder):
    kept = ("step", "reward", "loss", "grad_norm", "length", "accuracy", "entropy")
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{name: json.loads(line)[name] for name in kept} for line in lines]


@pytest.fixture(scope="module")
def whole(recipe, task, base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder, run(recipe, task, base, folder)


@pytest.fixture(scope="module")
def groups(base, task):
    model, tokenizer = load(base), Tokenizer(base)
    import random

    rng = random.Random(0)
    problems = [task.sample(rng) for _ in range(3)]
    return model, roll_out(Engine(model, tokenizer), tokenizer, task, problems, Sampling(4, 30, 0.9), seed=3)


def test_training_sees_the_log_probabilities_that_the_engine_wrote(groups):
    model, written = groups
    texts = texts_of(written)
    found = logprobs_of(model, texts, temperature=0.9)
    assert float(((found - texts.old) * texts.mask).abs().max()) < 1e-5


def test_the_gap_is_recorded_each_step_and_small(whole):
    folder, _ = whole
    gaps = [json.loads(line)["rollout_gap"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert len(gaps) == 4
    assert max(gaps) < 1e-5


def test_gradients_are_those_of_the_plain_computation(groups):
    model, written = groups
    texts = texts_of(written)
    advantages = torch.linspace(-1, 1, len(texts))

    def loss(logprobs):
        return -(advantages[:, None] * (logprobs - texts.old).exp() * texts.mask).sum()

    model.zero_grad()
    backward(model, texts, loss, temperature=0.9)
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    logits = model(texts.tokens[:, :-1]).logits / 0.9
    every = logits.log_softmax(-1).gather(2, texts.tokens[:, 1:, None])[..., 0]
    rows = []
    for i, length in enumerate(texts.prompt_lengths.tolist()):
        row = every[i, length - 1 : length - 1 + texts.mask.shape[1]]
        rows.append(torch.nn.functional.pad(row, (0, texts.mask.shape[1] - len(row))))
    loss(torch.stack(rows)).backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert torch.allclose(found[name], parameter.grad, atol=1e-4, rtol=1e-3), name


def test_a_run_that_was_stopped_goes_on_to_the_same_end(whole, recipe, task, base, tmp_path):
    folder, result = whole
    asked = iter([False, False, True])
    first = run(recipe, task, base, tmp_path, stop=lambda: next(asked))
    assert not first.finished
    second = run(recipe, task, base, tmp_path)
    assert second.finished
    assert metrics(tmp_path) == metrics(folder)
    mine, theirs = load_file(tmp_path / "model/model.safetensors"), load_file(result.model / "model.safetensors")
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_a_killed_run_forgets_what_came_after_its_checkpoint(whole, recipe, task, base, tmp_path, killer):
    folder, _ = whole
    with pytest.raises(killer.KilledError):
        run(recipe, task, base, tmp_path, watcher=killer)
    assert len(metrics(tmp_path)) == 3
    run(recipe, task, base, tmp_path)
    assert metrics(tmp_path) == metrics(folder)


def test_another_recipe_does_not_go_on_in_this_folder(whole, recipe, task, base):
    folder, _ = whole
    other = ReasonRecipe.validated(recipe.model_dump() | {"rl": recipe.rl.model_dump() | {"seed": 9}}, "test")
    with pytest.raises(CheckpointError, match="another recipe"):
        run(other, task, base, folder)


def test_guessing_ahead_changes_nothing_and_may_be_turned_on_in_the_middle(whole, recipe, task, base, tmp_path):
    folder, _ = whole
    asked = iter([False, True])
    assert not run(recipe, task, base, tmp_path, stop=lambda: next(asked)).finished
    rl = recipe.rl.model_dump() | {"speculation": "lookup"}
    run(ReasonRecipe.validated(recipe.model_dump() | {"rl": rl}, "test"), task, base, tmp_path)
    assert metrics(tmp_path) == metrics(folder)


def test_guessing_ahead_does_not_go_with_replaying_routes(recipe):
    rl = recipe.rl.model_dump() | {"speculation": "mtp", "routing_replay": True}
    with pytest.raises(RecipeError, match="do not go together"):
        ReasonRecipe.validated(recipe.model_dump() | {"rl": rl}, "test")


class Counting:
    """A watcher that keeps which steps were judged."""

    def __init__(self):
        self.judged = []

    def on_step(self, record):
        pass

    def on_judgement(self, step, judgement):
        self.judged.append(step)


def test_the_base_is_judged_once_with_the_run_and_not_again_when_it_goes_on(recipe, task, base, tmp_path):
    watcher = Counting()
    assert not run(recipe, task, base, tmp_path, watcher=watcher, stop=lambda: True).finished
    result = run(recipe, task, base, tmp_path, watcher=watcher)
    assert watcher.judged == [0, 2, 4]
    assert 0 <= result.judgements[0]["forced"]["accuracy"] <= 1
    assert "forced" not in result.judgements[4]
    page = write_reasoning_report(tmp_path, recipe).read_text()
    assert "made to begin with a failed, checked attempt" in page


def test_a_base_that_is_not_ready_is_refused_with_advice_unless_told_otherwise(recipe, task, base, tmp_path):
    watcher = Counting()
    with pytest.raises(TrainingError, match="train the base longer"):
        run(recipe, task, base, tmp_path, watcher=watcher, gated=True)
    assert watcher.judged == [0]
    assert run(recipe, task, base, tmp_path, watcher=watcher).finished
    assert watcher.judged == [0, 2, 4]


def test_what_another_run_found_of_its_base_is_not_taken_for_this_one(recipe, task, base, tmp_path):
    run(recipe, task, base, tmp_path, stop=lambda: True)
    other = ReasonRecipe.validated(recipe.model_dump() | {"rl": recipe.rl.model_dump() | {"seed": 9}}, "test")
    watcher = Counting()
    run(other, task, base, tmp_path, watcher=watcher, stop=lambda: True)
    assert watcher.judged == [0]


def test_groups_whose_rewards_are_all_equal_move_nothing(recipe, task, base, tmp_path):
    rl = recipe.rl.model_dump() | {"reward": {"accuracy": 0.0}, "steps": 2}  # no text is worth anything
    still = ReasonRecipe.validated(recipe.model_dump() | {"rl": rl}, "test")
    result = run(still, task, base, tmp_path)
    before, after = load_file(base / "model.safetensors"), load_file(result.model / "model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(json.loads(line)["zero_variance"] == 1 for line in (tmp_path / "metrics.jsonl").read_text().splitlines())


@pytest.mark.parametrize(
    "extra",
    [
        {"kl_coefficient": 0.1, "reference_every": 2},
        {"kl_coefficient": 0.1, "kl_unbiased": True, "off_policy_bound": 0.5},
        {"updates_a_rollout": 2, "loss": "grpo"},
        {"loss": "gspo"},
        {"loss": "cispo", "normalise_advantages": False},
        {"loss": "dr_grpo", "micro_batch_texts": 2},
    ],
)
def test_every_form_of_the_objective_trains(recipe, task, base, tmp_path, extra):
    rl = recipe.rl.model_dump() | {"steps": 2} | extra
    result = run(ReasonRecipe.validated(recipe.model_dump() | {"rl": rl}, "test"), task, base, tmp_path)
    assert result.finished
    before, after = load_file(base / "model.safetensors"), load_file(result.model / "model.safetensors")
    assert any(not torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("loss", ["dapo", "grpo", "cispo", "dr_grpo"])
def test_parts_of_a_batch_add_up_to_the_whole(recipe, task, base, tmp_path, loss):
    found = []
    for size in (2, 64):
        rl = recipe.rl.model_dump() | {"steps": 2, "micro_batch_texts": size, "loss": loss, "evaluate_every": 0}
        one = ReasonRecipe.validated(recipe.model_dump() | {"rl": rl}, "test")
        run(one, task, base, tmp_path / str(size))
        found.append(metrics(tmp_path / str(size))[0])
    assert found[0]["grad_norm"] == pytest.approx(found[1]["grad_norm"], rel=1e-3)
    assert found[0]["loss"] == pytest.approx(found[1]["loss"], rel=1e-3, abs=1e-5)


class Raising(Inverse):
    def score(self, problem, text, finished=True):
        raise ZeroDivisionError("no")


class NotANumber(Inverse):
    def score(self, problem, text, finished=True):
        return Score(float("nan"), 0.0)


@pytest.mark.parametrize("bad", [Raising(steps=1), NotANumber(steps=1)])
def test_a_scorer_that_fails_is_named_with_the_text(bad, recipe, base, tmp_path):
    with pytest.raises(TrainingError, match="inverse"):
        run(recipe, bad, base, tmp_path)


class TooLong(Inverse):
    def sample(self, rng):
        problem = super().sample(rng)
        return replace(problem, prompt=problem.prompt * 20)


def test_a_prompt_over_the_context_is_named_with_both_lengths(recipe, base, tmp_path):
    with pytest.raises(GenerationError, match=r"tokens long and the model's context .* is 256"):
        run(recipe, TooLong(steps=1), base, tmp_path)


def test_a_model_with_no_end_token_is_named_before_anything_is_written(recipe, task, base, tmp_path):
    folder = tmp_path / "endless"
    shutil.copytree(base, folder)
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        values = json.loads((folder / name).read_text())
        kept = {key: value for key, value in values.items() if not key.startswith("eos_token")}
        (folder / name).write_text(json.dumps(kept))
    description = folder / "tokenizer.json"
    description.write_text(description.read_text().replace("<｜end▁of▁sentence｜>", "<｜something｜>"))
    with pytest.raises(CorpusError, match="no eos token"):
        run(recipe, task, folder, tmp_path / "run")


def test_pass_at_k_is_the_unbiased_estimate():
    assert pass_at(1, 4, 1) == 0.25
    assert pass_at(2, 4, 1) == 0.5
    assert pass_at(4, 4, 1) == 1
    assert pass_at(2, 4, 0) == 0


def test_every_model_is_judged_on_the_same_problems(base, task):
    tokenizer = Tokenizer(base)
    first, second = (judge(Engine(load(base), tokenizer), tokenizer, task, Sampling(2, 8), 5, seed) for seed in (1, 2))
    assert [g.problem for g in first.groups] == [g.problem for g in second.groups]
    assert replace(first.groups[0].problem, key="") != first.groups[0].problem
