"""Each parameter gets the rule its role asks for, and Muon treats stacks and single matrices alike."""

import pytest
import torch
from torch import nn

from fathom.config.train import OptimizerConfig
from fathom.kernels.newton_schulz import orthogonalise
from fathom.train.muon import Muon, MuonMatrix, rms_scale, spectral_scale
from fathom.train.optimizer import Optimizer, clip_gradients, role_of, square_norm


def parameter(*shape: int, seed: int = 0) -> nn.Parameter:
    weight = nn.Parameter(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)))
    weight.grad = torch.randn(*shape, generator=torch.Generator().manual_seed(seed + 1))
    return weight


@pytest.mark.parametrize(
    ("name", "shape", "role"),
    [
        ("model.embed_tokens.weight", (8, 4), "embedding"),
        ("lm_head.weight", (8, 4), "head"),
        ("model.layers.3.mlp.gate.weight", (8, 4), "router"),
        ("model.layers.3.mlp.gate_proj.weight", (8, 4), "matrix"),
        ("model.layers.3.mlp.shared_experts.gate_proj.weight", (8, 4), "matrix"),
        ("model.layers.3.mlp.experts.gate_up_proj", (2, 8, 4), "matrix"),
        ("model.layers.3.self_attn.kv_a_layernorm.weight", (8,), "vector"),
        ("model.layers.6.eh_proj.weight", (4, 8), "matrix"),
    ],
)
def test_roles_follow_published_names(name: str, shape: tuple[int, ...], role: str) -> None:
    assert role_of(name, nn.Parameter(torch.zeros(shape))) == role


def muon(*matrices: MuonMatrix, **options: float) -> Muon:
    return Muon(matrices, 0.1, scale=rms_scale, dtype=torch.float32, **options)


def test_a_first_update_is_the_orthogonal_gradient_at_the_scale() -> None:
    weight = parameter(6, 4)
    before, gradient = weight.detach().clone(), weight.grad.clone()
    muon(MuonMatrix("w", weight), weight_decay=0.5).step()
    expected = before * (1 - 0.1 * 0.5) - 0.1 * rms_scale(6, 4) * orthogonalise(gradient[None], dtype=torch.float32)[0]
    assert torch.allclose(weight.detach(), expected, atol=1e-6)


def test_a_stack_is_updated_as_its_matrices_would_be() -> None:
    stack = parameter(3, 8, 4)
    singles = [nn.Parameter(stack.detach()[i].clone()) for i in range(3)]
    for i, single in enumerate(singles):
        single.grad = stack.grad[i].clone()
    muon(MuonMatrix("stack", stack)).step()
    muon(*(MuonMatrix(f"w{i}", single) for i, single in enumerate(singles))).step()
    assert torch.allclose(stack.detach(), torch.stack([s.detach() for s in singles]), atol=1e-6)


def test_experts_take_turns_and_go_as_many_times_as_far() -> None:
    stack, alone = parameter(4, 8, 4), parameter(4, 8, 4)
    before = stack.detach().clone()
    turns = muon(MuonMatrix("stack", stack), weight_decay=0.0, expert_turns=2)
    turns.now = 3
    turns.step()
    muon(MuonMatrix("alone", alone), weight_decay=0.0).step()
    moved = stack.detach() - before
    assert moved[[0, 2]].count_nonzero() == 0
    assert torch.allclose(moved[[1, 3]], 2 * (alone.detach() - before)[[1, 3]], atol=1e-6)


def test_gate_and_up_are_two_matrices() -> None:
    fused = parameter(2, 8, 4)
    halves = nn.Parameter(fused.detach().view(4, 4, 4).clone())
    halves.grad = fused.grad.view(4, 4, 4).clone()
    muon(MuonMatrix("gate_up_proj", fused, stacked=2)).step()
    muon(MuonMatrix("halves", halves)).step()
    assert torch.allclose(fused.detach().view(4, 4, 4), halves.detach(), atol=1e-6)


def test_large_batches_are_cut_without_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> list[torch.Tensor]:
        weights = [parameter(4, 6, seed=i) for i in range(5)] + [parameter(6, 4, seed=9)]
        muon(*(MuonMatrix(f"w{i}", weight) for i, weight in enumerate(weights))).step()
        return [weight.detach() for weight in weights]

    whole = run()
    monkeypatch.setattr("fathom.train.muon.LARGEST_BATCH", 50)
    for one, other in zip(whole, run(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_both_scales_are_as_published() -> None:
    assert rms_scale(100, 25) == pytest.approx(2.0)
    assert (spectral_scale(100, 25), spectral_scale(25, 100)) == (2.0, 1.0)


def network() -> dict[str, nn.Parameter]:
    return {
        "model.embed_tokens.weight": parameter(10, 4),
        "model.layers.0.mlp.gate.weight": parameter(3, 4, seed=1),
        "model.layers.0.mlp.experts.gate_up_proj": parameter(3, 8, 4, seed=2),
        "model.layers.0.self_attn.o_proj.weight": parameter(4, 6, seed=5),
        "model.norm.weight": parameter(4, seed=3),
        "lm_head.weight": parameter(10, 4, seed=4),
    }


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_state_moves_to_another_optimizer_exactly(kind: str) -> None:
    config = OptimizerConfig(kind=kind, learning_rate=0.01)
    first, second = network(), network()
    one, two = Optimizer(config, first.items(), fp32=True), Optimizer(config, second.items(), fp32=True)
    one.step(1.0)
    for name in first:
        second[name].data.copy_(first[name].data)
    for name, tensor in one.state_tensors().items():
        two.state_tensors()[name].copy_(tensor)
    one.step(0.5)
    two.step(0.5)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_vectors_are_not_decayed_and_matrices_are() -> None:
    parameters = network()
    for weight in parameters.values():
        weight.grad = torch.zeros_like(weight)
    before = {name: weight.detach().clone() for name, weight in parameters.items()}
    Optimizer(OptimizerConfig(learning_rate=0.1, weight_decay=0.5), parameters.items(), fp32=True).step(1.0)
    assert torch.equal(parameters["model.norm.weight"], before["model.norm.weight"])
    assert torch.allclose(parameters["lm_head.weight"], before["lm_head.weight"] * 0.95)


def test_each_role_has_its_own_rate() -> None:
    still = {"learning_rate": 1e-30, "matrix_learning_rate": 0.1}
    parameters = network()
    before = {name: weight.detach().clone() for name, weight in parameters.items()}
    Optimizer(OptimizerConfig(kind="muon", **still), parameters.items(), fp32=True).step(1.0)
    moved = [name for name in parameters if not torch.equal(parameters[name], before[name])]
    assert moved == ["model.layers.0.mlp.experts.gate_up_proj", "model.layers.0.self_attn.o_proj.weight"]


def test_experts_can_be_left_to_adamw() -> None:
    config = OptimizerConfig(kind="muon", muon_experts=False)
    states = Optimizer(config, network().items(), fp32=True).state_tensors()
    momenta = [name for name in states if name.endswith(".momentum")]
    assert momenta == ["model.layers.0.self_attn.o_proj.weight.momentum"]


def test_a_large_gradient_is_scaled_to_the_limit_and_a_small_one_left() -> None:
    gradients = [torch.full((2, 2), 3.0), torch.full((4,), 4.0)]
    norm = square_norm(gradients).sqrt()
    assert norm.item() == pytest.approx(10.0)
    clip_gradients(gradients, norm, 20.0)
    assert gradients[0][0, 0] == 3.0
    clip_gradients(gradients, norm, 1.0)
    assert square_norm(gradients).sqrt().item() == pytest.approx(1.0, rel=1e-5)
