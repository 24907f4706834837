"""Triton's paged attention equals the reference: any lengths, heads and widths, over blocks in any order."""

import dataclasses

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fathom.kernels.paged_attention import (
    Ragged,
    grouped_attention_reference,
    latent_attention_reference,
)
from ragged import make_ragged

FEW = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SEQUENCES = st.lists(st.tuples(st.integers(0, 70), st.integers(1, 3)), min_size=1, max_size=4)


def store_of(ragged: Ragged, blocks: int, width: int, block_size: int, seed: int, device: str) -> torch.Tensor:
    """A store of NaN but for the rows that sequences own."""
    generator = torch.Generator().manual_seed(seed)
    store = torch.full((blocks, block_size, width), float("nan"))
    for n, length in enumerate(ragged.keys):
        for t in range(length):
            row = torch.randn(width, generator=generator)
            store[ragged.tables[n, t // block_size], t % block_size] = row
    return store.to(device)


def on(device: str, ragged: Ragged) -> Ragged:
    tensors = {name: getattr(ragged, name).to(device) for name in ("slots", "tables", "lengths", "starts")}
    return dataclasses.replace(ragged, **tensors)


def draw(*shape: int, seed: int, device: str) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(device)


def check_latent(device, lengths, block_size, heads, rank, rope, seed, dtype=torch.float32, tolerance=1e-5) -> None:
    from fathom.kernels.gpu.paged_attention import latent_attention

    ragged, blocks = make_ragged(lengths, block_size, seed)
    store = store_of(ragged, blocks, rank + rope, block_size, seed, device)
    q = draw(sum(ragged.queries), heads, rank + rope, seed=seed + 1, device=device)
    q, store, ragged = q.to(dtype).float(), store.to(dtype).float(), on(device, ragged)
    expected = latent_attention_reference(q, store, ragged, 0.2, rank)
    made = latent_attention(q.to(dtype), store.to(dtype), ragged, 0.2, rank)
    assert made.dtype == dtype
    torch.testing.assert_close(made.float(), expected, atol=tolerance, rtol=tolerance)


@FEW
@given(SEQUENCES, st.sampled_from([3, 16]), st.sampled_from([1, 4, 20]), st.integers(1, 40), st.integers(2, 20))
def test_latent_attention_is_the_references(device, lengths, block_size, heads, rank, rope) -> None:
    check_latent(device, lengths, block_size, heads, rank, rope, seed=rank)


@pytest.mark.parametrize("length", [1, 15, 16, 17, 32, 33, 128, 129, 300])
def test_lengths_at_the_borders_of_blocks_tiles_and_parts(device, length) -> None:
    check_latent(device, [(length - 1, 1), (0, 1)], 16, 2, 32, 16, seed=length)


@pytest.mark.parametrize("heads", [1, 16, 17, 128])
def test_the_published_widths_with_any_number_of_heads(device, heads) -> None:
    check_latent(device, [(40, 1), (0, 2)], 16, heads, 512, 64, seed=heads, tolerance=2e-5)


def test_bfloat16_is_as_near_as_its_rounding(device) -> None:
    check_latent(device, [(90, 1), (5, 3)], 16, 8, 64, 32, seed=3, dtype=torch.bfloat16, tolerance=1.5e-2)


def test_many_parts_are_weighed_by_what_their_keys_weigh(device, monkeypatch) -> None:
    monkeypatch.setattr("fathom.kernels.gpu.paged_attention.processors", lambda device: 200)
    monkeypatch.setattr("fathom.kernels.gpu.paged_attention.KEYS_A_PART", 8)
    check_latent(device, [(250, 1), (3, 1), (0, 1)], 16, 3, 24, 8, seed=5)


def test_a_block_that_is_shared_or_was_copied_reads_the_same(device) -> None:
    from fathom.kernels.gpu.paged_attention import latent_attention

    ragged, blocks = make_ragged([(20, 1), (20, 1), (20, 1)], 16)
    store = draw(blocks + 1, 16, 24, seed=1, device=device)
    ragged.tables[1] = ragged.tables[0]
    store[blocks] = store[ragged.tables[0, 1]]
    ragged.tables[2] = torch.tensor([ragged.tables[0, 0], blocks])
    q = draw(1, 5, 24, seed=2, device=device).expand(3, -1, -1)
    made = latent_attention(q, store, on(device, ragged), 0.2, 16)
    assert torch.equal(made[0], made[1])
    assert torch.equal(made[0], made[2])


@FEW
@given(SEQUENCES, st.sampled_from([3, 16]), st.sampled_from([(1, 1), (6, 2), (20, 1), (9, 9)]), st.integers(1, 40))
def test_grouped_attention_is_the_references(device, lengths, block_size, heads, width) -> None:
    from fathom.kernels.gpu.paged_attention import grouped_attention

    H, groups = heads
    ragged, blocks = make_ragged(lengths, block_size, width)
    keys, values = (store_of(ragged, blocks, groups * width, block_size, width + seed, device) for seed in (1, 2))
    q, placed = draw(sum(ragged.queries), H, width, seed=width, device=device), on(device, ragged)
    expected = grouped_attention_reference(q, keys, values, placed, 0.2)
    torch.testing.assert_close(grouped_attention(q, keys, values, placed, 0.2), expected, atol=1e-5, rtol=1e-5)


def test_the_network_decodes_by_these_kernels(device, monkeypatch) -> None:
    from fathom.kernels import paged_attention
    from fathom.kernels.gpu import paged_attention as gpu

    ragged, blocks = make_ragged([(20, 1), (3, 2), (0, 40)], 16)
    ragged = on(device, ragged)
    store = draw(blocks, 16, 24, seed=1, device=device)
    q = draw(sum(ragged.queries), 4, 24, seed=2, device=device)
    expected = latent_attention_reference(q, store, ragged, 0.2, 16)
    grouped = grouped_attention_reference(q[..., :12], store, store, ragged, 0.2)
    calls = []
    for name in ("latent_attention", "grouped_attention"):
        original = getattr(gpu, name)
        monkeypatch.setattr(gpu, name, lambda q, *rest, original=original: calls.append(len(q)) or original(q, *rest))
    torch.testing.assert_close(paged_attention.latent_attention(q, store, ragged, 0.2, 16), expected)
    made = paged_attention.grouped_attention(q[..., :12].contiguous(), store, store, ragged, 0.2)
    torch.testing.assert_close(made, grouped)
    assert calls[-1] == 3, "a prompt's many tokens are one product of matrices"
    assert sum(ragged.queries) in calls


def test_without_the_setting_the_cpu_keeps_its_own_form(device, monkeypatch) -> None:
    from fathom.kernels import paged_attention
    from fathom.kernels.gpu import paged_attention as gpu

    monkeypatch.setenv("FATHOM_TRITON", "0")
    monkeypatch.setattr(gpu, "latent_attention", lambda *_: pytest.fail("turned off"))
    ragged, blocks = make_ragged([(3, 1)], 16)
    store = draw(blocks, 16, 24, seed=1, device=device)
    paged_attention.latent_attention(draw(1, 4, 24, seed=2, device=device), store, on(device, ragged), 0.2, 16)
