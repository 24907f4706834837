import pytest
import torch
from torch import Tensor

from fathom.model.router import Router
from fathom.model.transformer import moe_layers
from small import V2, V3, random_tokens, small_config, small_model


def router(scores: list[float], bias: list[float] | None = None, **changes: object) -> tuple[Router, Tensor]:
    """A router and one token whose sigmoid (or softmax logit) scores are `scores`."""
    base = changes.pop("base", V3)
    config = small_config(base, hidden_size=len(scores), n_routed_experts=len(scores), **changes)
    made = Router(config)
    with torch.no_grad():
        made.weight.copy_(torch.eye(len(scores)))
        if bias is not None:
            made.e_score_correction_bias.copy_(torch.tensor(bias))
    x = torch.tensor([scores]).logit() if config.scoring_func == "sigmoid" else torch.tensor([scores])
    return made, x


def chosen(made: Router, x: Tensor) -> dict[int, float]:
    choice = made(x)
    return {int(i): float(w) for i, w in zip(choice.ids[0], choice.weights[0].detach(), strict=True)}


def test_weights_are_the_chosen_scores_made_to_sum_to_the_scaling_factor() -> None:
    found = chosen(*router([0.1, 0.6, 0.2, 0.3], num_experts_per_tok=2, n_group=1, topk_group=1))
    assert found == pytest.approx({1: 2.5 * 0.6 / 0.9, 3: 2.5 * 0.3 / 0.9})


def test_the_bias_changes_who_is_chosen_and_never_the_weight() -> None:
    made, x = router([0.1, 0.6, 0.2, 0.3], [0.9, 0.0, 0.0, 0.0], num_experts_per_tok=2, n_group=1, topk_group=1)
    assert chosen(made, x) == pytest.approx({0: 2.5 * 0.1 / 0.7, 1: 2.5 * 0.6 / 0.7})


def test_a_group_counts_as_its_two_best_experts() -> None:
    scores = [0.9, 0.1, 0.1, 0.6, 0.6, 0.1]
    made, x = router(scores, num_experts_per_tok=2, n_group=2, topk_group=1)
    assert set(chosen(made, x)) == {3, 4}


def test_experts_of_closed_groups_stay_closed_where_open_ones_score_below_zero() -> None:
    scores, bias = [0.5, 0.4, 0.3, 0.2, 0.1, 0.1], [-1.0, -1.0, -1.0, -5.0, -5.0, -5.0]
    made, x = router(scores, bias, num_experts_per_tok=3, n_group=2, topk_group=1)
    assert set(chosen(made, x)) == {0, 1, 2}


def test_v2_groups_count_as_their_best_expert() -> None:
    logits = [2.0, -3.0, -3.0, 1.0, 1.0, 1.0]
    made, x = router(logits, base=V2, num_experts_per_tok=2, n_group=2, topk_group=1)
    assert 0 in chosen(made, x)


def test_v2_greedy_looks_at_all_experts_and_keeps_their_softmax() -> None:
    logits = [2.0, -3.0, -3.0, 1.0, 1.0, 1.5]
    made, x = router(logits, base=V2, num_experts_per_tok=2, topk_method="greedy", n_group=2, topk_group=1)
    softmax = torch.tensor(logits).softmax(0)
    assert chosen(made, x) == pytest.approx({0: 2.5 * float(softmax[0]), 5: 2.5 * float(softmax[5])})


def test_bf16_tokens_are_scored_in_fp32_and_their_routing_bias_stays_fp32() -> None:
    model = small_model()
    bias = [moe.gate.e_score_correction_bias.clone() for _, moe in moe_layers(model)]
    model.to(torch.bfloat16)
    for before, (_, moe) in zip(bias, moe_layers(model), strict=True):
        assert torch.equal(moe.gate.e_score_correction_bias, before)
        assert moe.gate.e_score_correction_bias.dtype == torch.float32
        choice = moe.gate(torch.randn(5, 24, dtype=torch.bfloat16))
        assert choice.scores.dtype == choice.weights.dtype == torch.float32


def test_loads_count_every_choice_and_leave_no_trace_in_the_model() -> None:
    model = small_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tokens = random_tokens(model)
    first, second = model.trunk(tokens, depths=1), model.trunk(tokens, depths=1)
    assert first.loads.sum(1).tolist() == [2 * 11 * 3, 2 * 11 * 3, 2 * 10 * 3]
    assert torch.equal(first.loads, second.loads)
    assert first.balance_loss is None
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_loads_are_those_of_the_named_layers_in_order() -> None:
    model = small_model()
    names = [name for name, _ in moe_layers(model)]
    assert names == ["model.layers.1.mlp", "model.layers.2.mlp", "model.layers.3.mlp"]
    with torch.no_grad():
        moe_layers(model)[1][1].gate.e_score_correction_bias.copy_(torch.tensor([9.0, 9, 9, 0, 0, 0, 0, 0]))
    loads = model.trunk(random_tokens(model), depths=1).loads
    assert loads[1].tolist()[:2] == [22, 22]


def balance_loss_written_out(made: Router, x: Tensor, sequences: int) -> float:
    """V3 equations 17 to 20, one sequence, expert and token at a time."""
    E, K = made.config.n_routed_experts, made.config.num_experts_per_tok
    total = 0.0
    for sequence in x.chunk(sequences):
        scores = [torch.sigmoid(made.weight.detach() @ token) for token in sequence]
        T = len(scores)
        for i in range(E):
            f = E / (K * T) * sum(i in s.topk(K).indices.tolist() for s in scores)
            P = sum(float(s[i] / s.sum()) for s in scores) / T
            total += f * P
    return total / sequences


def test_the_balance_loss_is_the_papers_over_each_sequence() -> None:
    made = Router(small_config(V3))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        made.weight.normal_(generator=generator)
        made.e_score_correction_bias.normal_(generator=generator)
    x = torch.randn(12, 24, generator=generator)
    found = made.routing(made(x), sequences=3, balance_loss=True).balance_loss
    assert found is not None
    assert found.item() == pytest.approx(balance_loss_written_out(made, x, sequences=3))


def test_the_balance_loss_is_one_in_perfect_balance_and_pulls_the_router_towards_it() -> None:
    made, _ = router([0.5] * 4, num_experts_per_tok=1, n_group=1, topk_group=1)
    even = torch.eye(4) * 1e-4
    balanced = made.routing(made(even), 1, balance_loss=True).balance_loss
    assert balanced is not None
    assert balanced.item() == pytest.approx(1.0, abs=1e-3)
    lopsided = torch.tensor([[3.0, 0.0, 0.0, 0.0]]).expand(4, 4)
    loss = made.routing(made(lopsided), 1, balance_loss=True).balance_loss
    assert loss is not None
    loss.backward()
    assert loss > 1.5
    assert made.weight.grad is not None
    assert made.weight.grad[0, 0] > 0


def test_the_balance_loss_of_the_model_sums_layers_and_reaches_the_routers() -> None:
    model = small_model()
    trunk = model.trunk(random_tokens(model), depths=1, balance_loss=True)
    assert trunk.balance_loss is not None
    trunk.balance_loss.backward()
    assert trunk.balance_loss > 3 * 0.9
    assert all(moe.gate.weight.grad is not None and moe.gate.weight.grad.any() for _, moe in moe_layers(model)[:2])
