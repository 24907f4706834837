"""The PyTorch forms that run on a GPU in training and prefill equal the references; they run on a CPU too."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fathom.kernels.attention import attention_reference, attention_sdpa
from fathom.kernels.experts import experts_reference
from fathom.kernels.experts_sorted import experts_sorted


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
