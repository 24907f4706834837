"""Every fast kernel against its plain reference: values and all gradients, in three precisions, on awkward shapes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fathom.kernels.attention import attention, attention_reference
from fathom.kernels.cross_entropy import linear_cross_entropy, linear_cross_entropy_reference
from fathom.kernels.experts import experts, experts_reference
from fathom.kernels.feed_forward import feed_forward, feed_forward_reference
from fathom.kernels.heads import make_heads, make_heads_reference
from fathom.kernels.newton_schulz import orthogonalise
from fathom.kernels.norm import rms_norm, rms_norm_reference

# (activation dtype, weight dtype, relative tolerance): bf16 rounds at 2^-9, and errors of a few roundings are allowed.
PRECISIONS = [
    (torch.float64, torch.float64, 1e-12),
    (torch.float32, torch.float32, 1e-5),
    (torch.bfloat16, torch.float32, 1e-2),
]


def results(kernel: Callable[..., Any], inputs: list[Any], upstream: Tensor | None) -> tuple[list[Tensor], Tensor]:
    """The output of `kernel` and the gradient of every floating input under one upstream gradient."""
    leaves = [
        item.clone().requires_grad_(item.is_floating_point()) if isinstance(item, Tensor) else item for item in inputs
    ]
    out = kernel(*leaves)
    out = out[0] if isinstance(out, tuple) else out
    upstream = torch.randn_like(out) if upstream is None else upstream
    out.backward(upstream)
    gradients = [leaf.grad for leaf in leaves if isinstance(leaf, Tensor) and leaf.grad is not None]
    return [out.detach(), *gradients], upstream


def relative_error(found: Tensor, truth: Tensor) -> float:
    return float((found.double() - truth.double()).norm() / (truth.double().norm() + 1e-30))


def assert_same(fast: Callable[..., Any], plain: Callable[..., Any], inputs: list[Any], tolerance: float) -> None:
    """The fast form may be no further from the float64 truth than the plain form is, within the tolerance."""
    expected, upstream = results(plain, inputs, None)
    found, _ = results(fast, inputs, upstream)
    double = [item.double() if isinstance(item, Tensor) and item.is_floating_point() else item for item in inputs]
    truth, _ = results(plain, double, upstream.double())
    assert len(found) == len(expected) == len(truth)
    for a, b, exact in zip(found, expected, truth, strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        error, allowed = relative_error(a, exact), 2 * relative_error(b, exact) + tolerance
        assert error <= allowed, f"relative error {error:.2e}, allowed {allowed:.2e}"


@pytest.mark.parametrize(("dtype", "master", "tolerance"), PRECISIONS)
@settings(max_examples=20, deadline=None)
@given(tokens=st.integers(1, 70), n_experts=st.integers(1, 9), data=st.data(), seed=st.integers(0, 99))
def test_experts_equal_one_expert_at_a_time(
    dtype: torch.dtype, master: torch.dtype, tolerance: float, tokens: int, n_experts: int, data: Any, seed: int
) -> None:
    chosen = data.draw(st.integers(1, n_experts))
    if dtype == torch.bfloat16:
        # The gate weight's gradient is a dot product. Alone, one that cancels to nearly zero has no correct bits in
        # bf16, in either form; the norm over many tokens has.
        tokens += 32
    torch.manual_seed(seed)
    D, inner = 16, 8
    ids = torch.rand(tokens, n_experts).topk(chosen).indices
    inputs = [
        torch.randn(tokens, D, dtype=dtype),
        ids,
        torch.rand(tokens, chosen, dtype=master),
        torch.randn(n_experts, 2 * inner, D, dtype=master) / 4,
        torch.randn(n_experts, D, inner, dtype=master) / 3,
    ]
    assert_same(experts, experts_reference, inputs, tolerance)


def test_an_expert_that_nobody_chose_gets_a_zero_gradient() -> None:
    gate_up, down = torch.randn(3, 8, 4, requires_grad=True), torch.randn(3, 4, 4, requires_grad=True)
    ids = torch.tensor([[0, 2], [2, 0]])
    experts(torch.randn(2, 4), ids, torch.ones(2, 2), gate_up, down).sum().backward()
    assert gate_up.grad is not None
    assert gate_up.grad[1].count_nonzero() == 0
    assert gate_up.grad[0].count_nonzero() > 0


@pytest.mark.parametrize(("dtype", "master", "tolerance"), PRECISIONS)
@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (1, 40), (7, 7), (3, 20), (256, 256), (300, 300), (260, 530)])
def test_causal_attention_equals_the_masked_softmax(
    dtype: torch.dtype, master: torch.dtype, tolerance: float, queries: int, keys: int
) -> None:
    torch.manual_seed(0)
    inputs = [
        torch.randn(2, 3, queries, 24, dtype=dtype),
        torch.randn(2, 3, keys, 24, dtype=dtype),
        torch.randn(2, 3, keys, 16, dtype=dtype),
        0.2,
    ]
    assert_same(attention, attention_reference, inputs, tolerance)


@pytest.mark.parametrize(("dtype", "master", "tolerance"), PRECISIONS)
@pytest.mark.parametrize(("tokens", "vocabulary"), [(1, 2), (65, 99), (130, 200_000)])
def test_chunked_loss_equals_the_whole_softmax(
    dtype: torch.dtype, master: torch.dtype, tolerance: float, tokens: int, vocabulary: int
) -> None:
    torch.manual_seed(0)
    inputs = [
        torch.randn(tokens, 16, dtype=dtype),
        torch.randn(vocabulary, 16, dtype=master) / 4,
        torch.randint(0, vocabulary, (tokens,)),
    ]
    weights = torch.rand(tokens, dtype=master)
    assert_same(
        lambda *a: linear_cross_entropy(*a, weights),
        lambda *a: linear_cross_entropy_reference(*a, weights),
        inputs,
        tolerance,
    )
    nll = linear_cross_entropy(*inputs, weights)[1]
    torch.testing.assert_close(nll, linear_cross_entropy_reference(*inputs, weights)[1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("dtype", "master", "tolerance"), PRECISIONS)
def test_rms_norm_equals_its_formula(dtype: torch.dtype, master: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(2, 5, 24, dtype=dtype) * 3, torch.rand(24, dtype=master), 1e-6]
    assert_same(rms_norm, rms_norm_reference, inputs, tolerance)


@pytest.mark.parametrize(("dtype", "master", "tolerance"), PRECISIONS)
def test_feed_forward_equals_its_formula(dtype: torch.dtype, master: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(0)
    inputs = [
        torch.randn(2, 5, 24, dtype=dtype),
        torch.randn(16, 24, dtype=master) / 5,
        torch.randn(16, 24, dtype=master) / 5,
        torch.randn(24, 16, dtype=master) / 4,
    ]
    assert_same(feed_forward, feed_forward_reference, inputs, tolerance)


@pytest.mark.parametrize("shape", [(3, 32, 16), (2, 16, 48), (1, 24, 24)])
def test_orthogonalised_matrices_have_singular_values_near_one(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    singular = torch.linalg.svdvals(orthogonalise(torch.randn(shape), steps=5).double())
    # The quintic's five steps end between 0.7 and 1.2 by design: it trades exactness for speed.
    assert singular.min() > 0.3
    assert singular.max() < 1.4


@pytest.mark.parametrize(("dtype", "master", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("own_positions", [False, True])
def test_heads_equal_split_rotate_and_join(
    dtype: torch.dtype, master: torch.dtype, tolerance: float, own_positions: bool
) -> None:
    torch.manual_seed(0)
    B, S, H, N, R, U = 2, 5, 3, 6, 4, 8
    angles = torch.randn(B if own_positions else 1, S, R // 2)
    inputs = [torch.randn(B, S, H, N + R, dtype=dtype), torch.randn(B, S, H, N + U, dtype=dtype)]
    shared = torch.randn(B, S, R, dtype=dtype)
    assert_same(
        lambda *x: torch.cat([heads.flatten() for heads in make_heads(*x, angles.cos(), angles.sin())]),
        lambda *x: torch.cat([heads.flatten() for heads in make_heads_reference(*x, angles.cos(), angles.sin())]),
        [*inputs, shared],
        tolerance,
    )
