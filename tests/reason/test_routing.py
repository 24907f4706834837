"""What the engine did when it wrote, training does again: the same experts, the same tokens to draw from."""

import json
import random
from dataclasses import replace

import pytest
import torch

from fathom.config.reason import ReasonRecipe
from fathom.corpus.tokenizer import Tokenizer
from fathom.engine.config import EngineConfig
from fathom.engine.engine import Engine
from fathom.model.transformer import moe_layers
from fathom.reason.rollouts import Sampling, roll_out
from fathom.reason.routing import record_routing
from fathom.reason.scoring import backward, logprobs_of, texts_of
from fathom.reason.zero import reinforce
from fathom.weights.folder import load


def written(base, task, how, recording):
    model, tokenizer, rng = load(base, dtype=torch.float32), Tokenizer(base), random.Random(0)
    engine = Engine(model, tokenizer, EngineConfig(prefix_caching=False))
    if recording:
        record_routing(engine)
    groups = roll_out(engine, tokenizer, task, [task.sample(rng) for _ in range(3)], how, seed=3)
    return model, groups, texts_of(groups)


def apart(model, texts, temperature=0.9):
    return float(((logprobs_of(model, texts, temperature) - texts.old) * texts.mask).abs().max())


def test_replayed_choices_give_the_log_probabilities_that_were_written_whatever_the_router_would_choose(base, task):
    model, _, texts = written(base, task, Sampling(4, 30, 0.9), recording=True)
    assert texts.experts.shape == (12, texts.tokens.shape[1] - 1, 1, 2)
    assert apart(model, texts) < 1e-5
    for _, moe in moe_layers(model):
        moe.gate.e_score_correction_bias += torch.tensor([3.0, 0.0, 0.0, -3.0])
    assert apart(model, texts.plain()) > 1e-3
    assert apart(model, texts) < 1e-5
    assert apart(model, texts.part(torch.tensor([7, 2]))) < 1e-5
    assert all(moe.gate.forced is None for _, moe in moe_layers(model))


def test_recording_changes_no_text(base, task):
    _, plain, _ = written(base, task, Sampling(4, 30, 0.9), recording=False)
    _, recorded, _ = written(base, task, Sampling(4, 30, 0.9), recording=True)
    assert [[text.tokens for text in group.rollouts] for group in recorded] == [
        [text.tokens for text in group.rollouts] for group in plain
    ]


def test_log_probabilities_are_taken_among_the_tokens_that_sampling_had_left(base, task):
    model, _, texts = written(base, task, Sampling(4, 30, 0.9, top_p=0.7, record_kept=True), recording=False)
    assert apart(model, texts) < 1e-5
    assert apart(model, replace(texts, kept=None)) > 1e-2
    assert apart(model, texts.part(torch.tensor([5, 0, 9]))) < 1e-5


def test_gradients_under_the_sampling_mask_are_those_of_the_plain_computation(base, task):
    model, _, texts = written(base, task, Sampling(2, 8, 0.9, top_p=0.7, record_kept=True), recording=False)
    advantages = torch.linspace(-1, 1, len(texts))
    model.zero_grad()
    backward(model, texts, lambda logprobs: (advantages[:, None] * logprobs * texts.mask).sum(), 0.9)
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    logits = model(texts.tokens[:, :-1]).logits.float() / 0.9
    total = torch.zeros(())
    for i, (prompt, kept) in enumerate(zip(texts.prompt_lengths.tolist(), texts.kept, strict=True)):
        for place, ids in enumerate(kept):
            row, token = logits[i, prompt - 1 + place], texts.tokens[i, prompt + place]
            among = row if ids is None else row[torch.as_tensor(ids, dtype=torch.int64)]
            total = total + advantages[i] * (row[token] - among.logsumexp(0))
    total.backward()
    assert found
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert torch.allclose(found[name], parameter.grad, atol=1e-5, rtol=1e-3), name


def test_a_run_with_both_sees_no_gap_between_writing_and_training(recipe, task, base, tmp_path):
    values = recipe.model_dump(mode="json")
    changes = {"routing_replay": True, "keep_sampling_mask": True, "top_p": 0.9, "kl_coefficient": 0.1, "steps": 2}
    both = ReasonRecipe.validated(values | {"rl": values["rl"] | changes}, "test")
    assert reinforce(both, task, base, tmp_path, precision=torch.float32).finished
    steps = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert max(step["rollout_gap"] for step in steps) == pytest.approx(0, abs=1e-5)


def test_a_recorder_replays_no_recorded_steps_which_would_not_tell_their_choices(base, monkeypatch):
    engine = Engine(load(base), config=EngineConfig(prefix_caching=False))
    assert engine.core.runner is not None
    monkeypatch.setattr("fathom.engine.graphs.make_graphs", lambda *_: pytest.fail("steps would be recorded"))
    record_routing(engine)
