"""Triton's products equal the references in every weight format, for one matrix and for routed experts."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fathom.kernels import fp8, quantise
from fathom.kernels.experts import experts_reference

FEW = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
NEAR = {torch.float32: 2e-5, torch.bfloat16: 2e-2}


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def close(made: torch.Tensor, expected: torch.Tensor) -> None:
    assert made.dtype == expected.dtype
    tolerance = NEAR[made.dtype] * max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(made, expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("bits", [8, 4])
@FEW
@given(st.integers(1, 40), st.integers(1, 90), st.integers(1, 5), st.sampled_from([torch.float32, torch.bfloat16]))
def test_eight_and_four_bits(device, bits, tokens, rows, groups, dtype) -> None:
    from fathom.kernels.gpu.products import held_quantised, linear

    matrix = quantise.quantise(draw(rows, groups * 32), bits)
    matrix = quantise.Quantised(matrix.data.to(device), matrix.scales.to(device))
    x = draw(tokens, groups * 32, seed=1).to(device, dtype)
    close(linear(x, held_quantised(matrix), rows), quantise.quantised_linear_reference(x, matrix))


@FEW
@given(st.integers(1, 20), st.integers(1, 90), st.integers(1, 150), st.sampled_from([(128, 128), (16, 32), (5, 7)]))
def test_fp8_in_blocks_of_any_size(device, tokens, rows, columns, block) -> None:
    from fathom.kernels.gpu.products import held_fp8, linear

    values, scale = (tensor.to(device) for tensor in fp8.quantise(draw(rows, columns), block))
    x = draw(tokens, columns, seed=1).to(device)
    made = linear(x, held_fp8(values, scale, block), rows)
    close(made, fp8.linear_reference(x, values, scale, block))


def test_every_e4m3_number_is_read_exactly(device) -> None:
    from fathom.kernels.gpu.products import held_fp8, linear

    numbers = torch.arange(256, dtype=torch.uint8)
    numbers = numbers[(numbers & 0x7F) != 0x7F].view(fp8.E4M3)
    values = numbers.unsqueeze(1).expand(-1, 16).contiguous().to(device)
    one = torch.zeros(1, 16, device=device)
    one[0, 3] = 1
    made = linear(one, held_fp8(values, torch.ones(2, 1, device=device), (128, 128)), len(numbers))
    assert torch.equal(made[0], values[:, 3].float())


@FEW
@given(st.integers(1, 30), st.integers(1, 4), st.integers(4, 9), st.integers(0, 99))
def test_plain_experts(device, tokens, choices, count, seed) -> None:
    from fathom.kernels.gpu.experts import experts
    from fathom.kernels.gpu.products import held_plain

    gate_up, down = draw(count, 2 * 20, 24, seed=seed).to(device), draw(count, 24, 20, seed=seed + 1).to(device)
    x, weights = draw(tokens, 24, seed=seed + 2).to(device), draw(tokens, choices, seed=seed + 3).to(device)
    ids = torch.stack([torch.randperm(count)[:choices] for _ in range(tokens)]).to(device)
    made = experts(x, ids, weights, held_plain(gate_up), held_plain(down), count)
    close(made, experts_reference(x, ids, weights, gate_up, down))


@TYPES
@pytest.mark.parametrize("bits", [8, 4])
def test_experts_in_few_bits(device, bits, dtype) -> None:
    from fathom.kernels.gpu.experts import experts
    from fathom.kernels.gpu.products import held_quantised

    count, D, inner = 3, 64, 32
    held = [quantise.quantise(draw(count * rows, columns), bits) for rows, columns in ((2 * inner, D), (D, inner))]
    held = [quantise.Quantised(matrix.data.to(device), matrix.scales.to(device)) for matrix in held]
    gate_up, down = (quantise.dequantise(matrix, dtype).unflatten(0, (count, -1)) for matrix in held)
    x, weights = (draw(7, D, seed=2) / 4).to(device, dtype), draw(7, 2, seed=3).to(device)
    ids = torch.tensor([[0, 2], [2, 0], [0, 2], [2, 0], [0, 2], [2, 0], [0, 2]], device=device)
    made = experts(x, ids, weights, *map(held_quantised, held), count)
    close(made, experts_reference(x, ids, weights, gate_up, down))


def test_fp8_experts_whose_gate_ends_within_a_block(device) -> None:
    from fathom.kernels.gpu.experts import experts
    from fathom.kernels.gpu.products import held_fp8

    count, D, inner, block = 2, 40, 24, (16, 32)
    halves = [fp8.quantise(draw(inner, D, seed=n), block) for n in range(2 * count)]
    gate_up = torch.stack([values for values, _ in halves]).view(count, 2 * inner, D).to(device)
    gate_up_scale = torch.stack([scale for _, scale in halves]).unflatten(0, (count, 2)).to(device)
    downs = [fp8.quantise(draw(D, inner, seed=9 + n), block) for n in range(count)]
    down, down_scale = (torch.stack(parts).to(device) for parts in zip(*downs, strict=True))
    x, weights = draw(5, D, seed=20).to(device) / 4, draw(5, 1, seed=21).to(device)
    ids = torch.tensor([[0], [1], [1], [0], [1]], device=device)
    held = (held_fp8(gate_up, gate_up_scale, block), held_fp8(down, down_scale, block))
    expected = fp8.experts_reference(x, ids, weights, gate_up, gate_up_scale, down, down_scale, block)
    close(experts(x, ids, weights, *held, count), expected)


@given(st.lists(st.lists(st.integers(0, 5), min_size=3, max_size=3), min_size=1, max_size=30), st.sampled_from([4, 16]))
def test_tiles_hold_every_pair_once_and_one_expert_each(device, ids, rows) -> None:
    from fathom.kernels.gpu.sorting import tiles_of

    chosen = torch.tensor(ids, device=device)
    tiles = tiles_of(chosen, 6, rows)
    assert sorted(tiles.pair[tiles.pair >= 0].tolist()) == list(range(chosen.numel()))
    for row, pair in enumerate(tiles.pair.tolist()):
        if pair >= 0:
            assert tiles.expert[row // rows] == chosen.flatten()[pair]
            assert tiles.position.flatten()[pair] == row


def test_the_trials_pass(device) -> None:
    from fathom.kernels.gpu.experts import experts_stand
    from fathom.kernels.gpu.products import EIGHT_BITS, FOUR_BITS, FP8, linear_stands

    where = torch.device(device, 0) if device == "cuda" else torch.device(device)
    for dtype in (torch.float32, torch.bfloat16):
        assert experts_stand(where, dtype)
        for kind, block in ((EIGHT_BITS, (1, 32)), (FOUR_BITS, (1, 32)), (FP8, (128, 128))):
            assert linear_stands(where, dtype, kind, block)


def test_modules_in_every_format_run_by_these_kernels(device, monkeypatch) -> None:
    from fathom.kernels.experts import experts
    from fathom.kernels.gpu import experts as gpu_experts
    from fathom.kernels.gpu import products

    calls = []
    for module, name in ((products, "linear"), (gpu_experts, "experts")):
        original = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *given, original=original: calls.append(1) or original(*given))
    x, weights = draw(3, 64).to(device), draw(3, 1, seed=1).to(device)
    ids = torch.tensor([[0], [1], [1]], device=device)
    gate_up, down = draw(2, 64, 64, seed=2).to(device) / 8, draw(2, 64, 32, seed=3).to(device) / 8
    close(experts(x, ids, weights, gate_up, down), experts_reference(x, ids, weights, gate_up, down))
    matrix = quantise.quantise(gate_up.cpu().flatten(0, 1), 8)
    low = quantise.quantise(down.cpu().flatten(0, 1), 8)
    matrix, low = (quantise.Quantised(m.data.to(device), m.scales.to(device)) for m in (matrix, low))
    close(quantise.quantised_linear(x, matrix), quantise.quantised_linear_reference(x, matrix))
    made = quantise.quantised_experts(x, ids, weights, matrix, low)
    close(made, quantise.quantised_experts_reference(x, ids, weights, matrix, low))
    values, scale = (tensor.to(device) for tensor in fp8.quantise(gate_up[0].cpu(), (128, 128)))
    bias = draw(64, seed=5).to(device)
    close(fp8.linear(x, values, scale, (128, 128), bias), fp8.linear_reference(x, values, scale, (128, 128), bias))
    assert len(calls) >= 4


def test_what_is_to_be_trained_keeps_a_form_with_gradients(device) -> None:
    from fathom.kernels.experts import experts

    x, weights = draw(3, 64).to(device).requires_grad_(), draw(3, 1, seed=1).to(device)
    ids = torch.tensor([[0], [1], [1]], device=device)
    gate_up, down = draw(2, 64, 64, seed=2).to(device), draw(2, 64, 32, seed=3).to(device)
    experts(x, ids, weights, gate_up, down).sum().backward()
    assert x.grad is not None
