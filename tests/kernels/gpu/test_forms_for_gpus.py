"""The PyTorch forms that run on a GPU in training and prefill equal the references; they run on a CPU too."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fathom.kernels.attention import attention_reference, attention_sdpa
from fathom.kernels.experts import experts_reference
from fathom.kernels.experts_sorted import experts_sorted
from fathom.kernels.norm import rms_norm_frugal, rms_norm_reference
from fathom.plan.ledger import Ledger


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.integers(0, 6), st.booleans())
def test_attention_stands_at_the_end_of_its_keys(queries: int, before: int, masked: bool) -> None:
    q, k, v = draw(2, 3, queries, 8), draw(2, 3, before + queries, 8, seed=1), draw(2, 3, before + queries, 5, seed=2)
    mask = None
    if masked:
        mask = (draw(2, 1, queries, before + queries, seed=3) > 0) | torch.ones(queries, 1, dtype=torch.bool)
        mask[..., 0] = True
    torch.testing.assert_close(attention_sdpa(q, k, v, 0.3, mask), attention_reference(q, k, v, 0.3, mask))


@pytest.mark.parametrize("tokens", [1, 37])
def test_sorted_experts_and_all_their_gradients(tokens: int) -> None:
    E, D, inner, K = 5, 16, 24, 2
    ids = torch.stack([torch.randperm(E - 1, generator=torch.Generator().manual_seed(t))[:K] for t in range(tokens)])
    results = []
    for form in (experts_reference, experts_sorted):
        leaves = [draw(tokens, D), draw(tokens, K, seed=1), draw(E, 2 * inner, D, seed=2), draw(E, D, inner, seed=3)]
        x, weights, gate_up, down = (leaf.bfloat16().requires_grad_() for leaf in leaves)
        out = form(x, ids, weights, gate_up, down)
        out.backward(draw(tokens, D, seed=4).bfloat16())
        results.append([out.detach(), *(leaf.grad for leaf in (x, weights, gate_up, down))])
    for made, expected in zip(*reversed(results), strict=True):
        largest = float(expected.abs().max())
        torch.testing.assert_close(made.float(), expected.float(), atol=0.03 * largest, rtol=0)


def test_sorted_experts_keep_their_input_and_gate_and_up() -> None:
    T, E, D, inner, K = 256, 4, 64, 32, 2
    with torch.device("meta"):
        x = torch.zeros(T, D, dtype=torch.bfloat16, requires_grad=True)
        weights = torch.zeros(T, K, dtype=torch.bfloat16, requires_grad=True)
        gate_up, down = torch.zeros(E, 2 * inner, D, requires_grad=True), torch.zeros(E, D, inner, requires_grad=True)
        ids = torch.zeros(T, K, dtype=torch.int64)
    with Ledger(torch.device("meta")) as ledger:
        ledger.enter([x, ids, weights, gate_up, down])
        before = ledger.alive
        out = experts_sorted(x, ids, weights, gate_up, down)
        rows = T * K + 16 * E
        indices = 8 * (rows + T * K) + 4 * E
        assert ledger.alive - before == 2 * rows * 2 * inner + 2 * out.numel() + indices


@pytest.mark.parametrize("shape", [(3, 16), (2, 5, 24)])
def test_the_frugal_norm_is_the_reference_and_its_gradient_too(shape: tuple[int, ...]) -> None:
    x, weight = (part.double().requires_grad_() for part in (draw(*shape), draw(shape[-1], seed=1)))
    assert torch.equal(rms_norm_frugal(x, weight, 1e-5), rms_norm_reference(x, weight, 1e-5))
    assert torch.autograd.gradcheck(lambda *inputs: rms_norm_frugal(*inputs, 1e-5), (x, weight))
    narrow, master = x.detach().bfloat16(), weight.detach().float()
    assert torch.equal(rms_norm_frugal(narrow, master, 1e-5), rms_norm_reference(narrow, master, 1e-5))
    for dtype in (torch.float32, torch.bfloat16):
        gradients = []
        for form in (rms_norm_frugal, rms_norm_reference):
            leaf, gain = (part.clone().requires_grad_() for part in (narrow, master.to(dtype)))
            form(leaf, gain, 1e-5).backward(draw(*shape, seed=2).bfloat16())
            assert leaf.grad is not None
            assert gain.grad is not None
            gradients.append((leaf.grad.float(), gain.grad.float()))
        for made, expected in zip(*gradients, strict=True):
            torch.testing.assert_close(made, expected, atol=0.03 * float(expected.abs().max()), rtol=0)
