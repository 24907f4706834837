"""The bias rule moves experts towards the mean load."""

import torch

from fathom.train.balance import max_violation, update_biases


def test_busy_experts_lose_and_idle_ones_gain_the_same_step() -> None:
    bias = torch.zeros(4)
    update_biases([bias], torch.tensor([[10, 2, 6, 6]]), 0.001)
    assert torch.equal(bias, torch.tensor([-0.001, 0.001, 0.0, 0.0]))


def test_no_speed_leaves_biases_alone() -> None:
    bias = torch.ones(2)
    update_biases([bias], torch.tensor([[9, 1]]), 0.0)
    assert torch.equal(bias, torch.ones(2))


def test_the_rule_balances_a_skewed_router() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(4096, 8, generator=generator) + torch.linspace(0, 0.5, 8)
    bias = torch.zeros(8)

    def loads() -> torch.Tensor:
        return torch.bincount((scores + bias).topk(2).indices.flatten(), minlength=8)[None]

    before = max_violation(loads()).item()
    for _ in range(600):
        update_biases([bias], loads(), 0.001)
    assert before > 1.0
    assert max_violation(loads()).item() < 0.1


def test_max_violation_is_the_worst_excess_over_the_mean() -> None:
    assert torch.allclose(max_violation(torch.tensor([[4, 4], [6, 2]])), torch.tensor([0.0, 0.5]))
