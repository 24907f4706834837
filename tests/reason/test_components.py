"""The loss is a sum: components that share texts share passes, and their gradients are those of each alone."""

import random
from copy import deepcopy

import pytest
import torch

from fathom.corpus.tokenizer import Tokenizer
from fathom.engine.engine import Engine
from fathom.reason.objective import Component, accumulate, cross_entropy, gap, policy, to_reference
from fathom.reason.rollouts import Sampling, roll_out
from fathom.reason.scoring import texts_of
from fathom.weights.folder import load


@pytest.fixture(scope="module")
def written(base, task):
    model, tokenizer, rng = load(base), Tokenizer(base), random.Random(0)
    problems = [task.sample(rng) for _ in range(2)]
    texts = texts_of(roll_out(Engine(model, tokenizer), tokenizer, task, problems, Sampling(4, 12), seed=3))
    reference = deepcopy(model)
    with torch.no_grad():
        reference.head_weight.mul_(1.5)
    return model, reference, texts


def gradients(model, components, size=3):
    model.zero_grad()
    found = accumulate(model, components, size)
    return found, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", ["grpo", "dapo"])
def test_the_gradients_of_a_sum_are_the_sum_of_gradients(written, name):
    model, reference, texts = written
    loss, over = policy(name, torch.linspace(-1, 1, len(texts)), (0.2, 0.2), 12)
    parts = [
        Component("policy", 1.0, texts, loss, over),
        Component("kl", 0.5, texts, to_reference(reference, False, 1.0)),
        Component("cross_entropy", 0.1, texts, cross_entropy),
    ]
    values, together = gradients(model, parts)
    alone = [gradients(model, [part]) for part in parts]
    for part, (value, _) in zip(parts, alone, strict=True):
        assert values[part.name] == pytest.approx(value[part.name], rel=1e-5, abs=1e-7)
    for name, gradient in together.items():
        added = sum(found[name] for _, found in alone)
        assert torch.allclose(gradient, added, atol=1e-5, rtol=1e-3), name


def test_each_component_has_its_own_mean_whatever_the_size_of_the_parts(written):
    model, reference, texts = written
    loss, over = policy("grpo", torch.linspace(-1, 1, len(texts)), (0.2, 0.2), 12)
    parts = [
        Component("policy", 1.0, texts, loss, over),
        Component("kl", 1.0, texts, to_reference(reference, False, 1)),
    ]
    small, few = gradients(model, parts, size=1)
    large, many = gradients(model, parts, size=64)
    assert small == pytest.approx(large, rel=1e-4, abs=1e-6)
    assert all(torch.allclose(few[name], many[name], atol=1e-5, rtol=1e-3) for name in many)


def test_what_is_only_watched_moves_nothing(written):
    model, _, texts = written
    value, found = gradients(model, [Component("rollout_gap", 0.0, texts, gap)])
    assert value["rollout_gap"] < 1e-5
    assert all(not gradient.any() for gradient in found.values())
