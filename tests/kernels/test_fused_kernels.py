"""The native experts and attention of a CPU with bfloat16 products, against the equations in double precision."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fathom.kernels import attention_fused, experts_fused, native
from fathom.kernels.attention import attention_reference
from fathom.kernels.experts import experts_reference
from fathom.kernels.linear import linear
from fathom.kernels.newton_schulz import orthogonalise, orthogonalise_reference


@pytest.fixture(autouse=True)
def _only_where_there_are_any(form: str) -> None:
    if form == "pytorch" or not native.offers("experts_forward", torch.float32):
        pytest.skip("needs the compiled kernels and a processor with AVX512-BF16")


CLOSE = 1.2e-2
"""Relative distance of whole tensors: a few roundings to bfloat16, each 2^-9 at most."""


def close(found: Tensor, exact: Tensor) -> bool:
    return bool((found.double() - exact).norm() <= CLOSE * exact.norm() + 1e-12)


ROUNDED = 3 * 2.0**-9
"""Distance from a sum of rounded numbers, as a share of the sum of their sizes: three roundings of 2^-9 at most."""


def sizes_before_cancelling(q: Tensor, k: Tensor, v: Tensor, grad: Tensor, scale: float) -> list[Tensor]:
    """The terms of the gradients of q, k and v, added up without their signs; (B, H, S, C or U), float64.

    The gradient of a score is p (d - delta). Where a query sees a few keys, d and delta are nearly equal, and both come
    from numbers rounded to bfloat16: the result can be exact to a rounding of d and delta, not of their difference.
    """
    with torch.no_grad():
        scores = (q @ k.mT * scale).masked_fill(torch.ones(q.shape[2], q.shape[2]).triu(1).bool(), float("-inf"))
        p = scores.softmax(-1)
        sizes = grad.abs() @ v.abs().mT + (grad.abs() * (p @ v).abs()).sum(-1, keepdim=True)
        slope = p * sizes * scale
        return [slope @ k.abs(), slope.mT @ q.abs(), p.mT @ grad.abs()]


def experts_case(T: int, D: int, inner: int, E: int, K: int, dtype: torch.dtype, seed: int) -> list[Tensor]:
    torch.manual_seed(seed)
    ids = torch.stack([torch.randperm(E)[:K] for _ in range(T)])
    inputs = [torch.randn(T, D).bfloat16(), torch.rand(T, K).bfloat16()]
    matrices = [(torch.randn(E, 2 * inner, D) / D**0.5).to(dtype), (torch.randn(E, D, inner) / inner**0.5).to(dtype)]
    return [inputs[0], ids, inputs[1], *matrices]


@settings(max_examples=30, deadline=None)
@given(
    tokens=st.integers(72, 300),
    width=st.sampled_from([32, 64, 96]),
    inner=st.sampled_from([32, 64]),
    experts=st.integers(1, 9),
    chosen=st.integers(1, 4),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    seed=st.integers(0, 1000),
)
def test_experts_equal_the_equations(
    tokens: int, width: int, inner: int, experts: int, chosen: int, dtype: torch.dtype, seed: int
) -> None:
    x, ids, weights, gate_up, down = experts_case(tokens, width, inner, experts, min(chosen, experts), dtype, seed)
    assert experts_fused.pays(x, ids, gate_up, down)
    grad = torch.randn_like(x)
    inputs = [tensor.clone().requires_grad_() for tensor in (x, weights, gate_up, down)]
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    out = experts_fused.experts_fused(inputs[0], ids, *inputs[1:])
    reference = experts_reference(exact[0], ids, *exact[1:])
    assert close(out, reference)
    for found, wanted in zip(
        torch.autograd.grad(out, inputs, grad), torch.autograd.grad(reference, exact, grad.double()), strict=True
    ):
        assert close(found, wanted)


def test_an_expert_nobody_chose_has_no_gradient() -> None:
    x, ids, weights, gate_up, down = experts_case(64, 32, 32, 4, 1, torch.float32, 0)
    ids.fill_(2)
    matrices = [gate_up.requires_grad_(), down.requires_grad_()]
    out = experts_fused.experts_fused(x, ids, weights, *matrices)
    for gradient in torch.autograd.grad(out.float().sum(), matrices):
        assert gradient[2].abs().sum() > 0
        assert gradient[[0, 1, 3]].abs().sum() == 0


@settings(max_examples=30, deadline=None)
@given(
    batch=st.integers(1, 3),
    heads=st.integers(1, 3),
    length=st.integers(2, 200),
    width=st.sampled_from([32, 64, 96, 192]),
    value=st.sampled_from([32, 64, 128]),
    seed=st.integers(0, 1000),
)
def test_attention_equals_the_equations(batch: int, heads: int, length: int, width: int, value: int, seed: int) -> None:
    torch.manual_seed(seed)
    inputs = [torch.randn(batch, heads, length, c).bfloat16().requires_grad_() for c in (width, width, value)]
    assert attention_fused.takes(*inputs)
    scale = width**-0.5
    grad = torch.randn(batch, heads, length, value).bfloat16()
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    out, reference = attention_fused.causal_attention_fused(*inputs, scale), attention_reference(*exact, scale)
    assert close(out, reference)
    found = torch.autograd.grad(out, inputs, grad)
    wanted = torch.autograd.grad(reference, exact, grad.double())
    for ours, theirs, size in zip(found, wanted, sizes_before_cancelling(*exact, grad.double(), scale), strict=True):
        assert (ours.double() - theirs).norm() <= ROUNDED * size.norm()
        if length >= 16:
            assert close(ours, theirs)


@pytest.mark.parametrize("shape", [(7, 128, 128), (1, 32, 96), (3, 64, 256), (0, 32, 32)])
@pytest.mark.parametrize("scale", [1.0, 1e-20])
def test_orthogonalising_is_as_exact_as_in_pytorch(shape: tuple[int, int, int], scale: float) -> None:
    torch.manual_seed(0)
    matrices = (torch.randn(shape) * scale).bfloat16()
    before = matrices.clone()
    exact = orthogonalise_reference(matrices.double(), dtype=torch.float64)
    distance = (orthogonalise(matrices).double() - exact).norm()
    assert distance <= 1.2 * (orthogonalise_reference(matrices).double() - exact).norm()
    assert torch.equal(matrices, before)


def test_large_scores_neither_overflow_nor_vanish() -> None:
    q = (torch.randn(1, 1, 40, 32) * 100).bfloat16().requires_grad_()
    out = attention_fused.causal_attention_fused(q, q, q, 1.0)
    assert torch.isfinite(out).all()
    assert torch.isfinite(torch.autograd.grad(out.float().sum(), q)[0]).all()


@settings(max_examples=30, deadline=None)
@given(
    tokens=st.integers(64, 1100),
    inputs=st.sampled_from([32, 96, 128]),
    outputs=st.sampled_from([8, 48, 64, 224]),
    seed=st.integers(0, 1000),
)
def test_a_weights_gradient_is_summed_in_single_precision(tokens: int, inputs: int, outputs: int, seed: int) -> None:
    torch.manual_seed(seed)
    x = torch.randn(1, tokens, inputs).bfloat16().requires_grad_()
    weight = torch.randn(outputs, inputs, requires_grad=True)
    grad = torch.randn(1, tokens, outputs).bfloat16()
    out = linear(x, weight)
    assert torch.equal(out, x @ weight.bfloat16().T)
    grad_x, grad_weight = torch.autograd.grad(out, (x, weight), grad)
    assert close(grad_x, grad.double() @ weight.double())
    exact = grad[0].double().T @ x[0].double()
    assert (grad_weight.double() - exact).norm() <= 1e-5 * exact.norm()


def test_every_number_of_threads_gives_the_same_bits() -> None:
    case = experts_case(500, 64, 64, 5, 2, torch.float32, 1)
    torch.manual_seed(2)
    heads = [torch.randn(3, 2, 130, 64).bfloat16() for _ in range(3)]
    # Of this product a library was seen to cut the sum by threads.
    narrow = [torch.randn(4096, 32).bfloat16(), torch.randn(224, 32)]
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            inputs = [tensor.clone().requires_grad_(tensor.is_floating_point()) for tensor in (*case, *heads, *narrow)]
            made = experts_fused.experts_fused(*inputs[:5]), attention_fused.causal_attention_fused(*inputs[5:8], 0.1)
            made = (*made, linear(*inputs[8:]))
            wanted = [tensor for tensor in inputs if tensor.requires_grad]
            grads = torch.autograd.grad(sum(part.float().square().sum() for part in made), wanted)
            found.append([*made, *grads])
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))
