"""Routed experts without a word between device and host: (token, choice) pairs by expert, in tiles of one expert.

There are at most as many tiles as the number of pairs allows, whoever is chosen, so that a decode step with experts can
be captured as a graph. Tiles beyond the last one do nothing.
"""

import functools

import torch
import triton
import triton.language as tl
from torch import Tensor

from fathom.kernels.gpu.door import agrees
from fathom.kernels.gpu.products import TILE, Held, held_plain, levels, meta, multiplied
from fathom.kernels.gpu.sorting import tiles_of


@triton.jit  # type: ignore[untyped-decorator]
def gated_tiles(
    x: tl.tensor, data: tl.tensor, factors: tl.tensor, levels: tl.tensor, experts: tl.tensor, pairs: tl.tensor,
    out: tl.tensor,
    CHOICES: tl.constexpr, EXPERTS: tl.constexpr, INNER: tl.constexpr, COLUMNS: tl.constexpr, FORMAT: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_COLUMNS: tl.constexpr, FACTORS: tl.constexpr, OPERAND: tl.constexpr,
    M: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
) -> None:  # fmt: skip
    """silu(gate) * up of a tile's tokens, (rows, INNER): program (N outputs, tile)."""
    tile = tl.program_id(1)
    expert = tl.load(experts + tile)
    if expert < EXPERTS:
        place = tile.to(tl.int64) * M + tl.arange(0, M)
        pair = tl.load(pairs + place)
        x_at, is_row = pair // CHOICES * COLUMNS, pair >= 0
        n = (tl.program_id(0) * N + tl.arange(0, N)).to(tl.int64)
        is_n = n < INNER
        # Gate and up are two matrices under each other, each with its own rows of factors.
        blocks: tl.constexpr = (INNER + BLOCK_ROWS - 1) // BLOCK_ROWS
        empty = tl.full([M, N], 0.0, tl.float32)
        gate = multiplied(
            empty, x, x_at, is_row, data, factors, levels, expert * 2 * INNER, expert * 2 * blocks, n, is_n,
            COLUMNS, FORMAT, BLOCK_ROWS, BLOCK_COLUMNS, FACTORS, OPERAND, K,
        )  # fmt: skip
        up = multiplied(
            empty, x, x_at, is_row, data, factors, levels, (expert * 2 + 1) * INNER, (expert * 2 + 1) * blocks, n, is_n,
            COLUMNS, FORMAT, BLOCK_ROWS, BLOCK_COLUMNS, FACTORS, OPERAND, K,
        )  # fmt: skip
        made = gate / (1.0 + tl.exp(-gate)) * up
        at = place[:, None] * INNER + n[None, :]
        tl.store(out + at, made.to(out.dtype.element_ty), mask=is_row[:, None] & is_n[None, :])


@triton.jit  # type: ignore[untyped-decorator]
def down_tiles(
    hidden: tl.tensor, data: tl.tensor, factors: tl.tensor, levels: tl.tensor, experts: tl.tensor, pairs: tl.tensor,
    weights: tl.tensor, out: tl.tensor,
    EXPERTS: tl.constexpr, OUT: tl.constexpr, COLUMNS: tl.constexpr, FORMAT: tl.constexpr, BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr, FACTORS: tl.constexpr, OPERAND: tl.constexpr, M: tl.constexpr, N: tl.constexpr,
    K: tl.constexpr,
) -> None:  # fmt: skip
    """The way back, (rows, OUT), each row times its pair's weight: program (N outputs, tile)."""
    tile = tl.program_id(1)
    expert = tl.load(experts + tile)
    if expert < EXPERTS:
        place = tile.to(tl.int64) * M + tl.arange(0, M)
        pair = tl.load(pairs + place)
        is_row = pair >= 0
        n = (tl.program_id(0) * N + tl.arange(0, N)).to(tl.int64)
        is_n = n < OUT
        total = tl.full([M, N], 0.0, tl.float32)
        total = multiplied(
            total, hidden, place * COLUMNS, is_row, data, factors, levels, expert * OUT,
            expert * ((OUT + BLOCK_ROWS - 1) // BLOCK_ROWS), n, is_n,
            COLUMNS, FORMAT, BLOCK_ROWS, BLOCK_COLUMNS, FACTORS, OPERAND, K,
        )  # fmt: skip
        total *= tl.load(weights + pair, mask=is_row, other=0.0).to(tl.float32)[:, None]
        at = place[:, None] * OUT + n[None, :]
        tl.store(out + at, total.to(out.dtype.element_ty), mask=is_row[:, None] & is_n[None, :])


def experts(x: Tensor, ids: Tensor, weights: Tensor, gate_up: Held, down: Held, count: int) -> Tensor:
    """See `fathom.kernels.experts.experts_reference`, for `count` experts in any format. Not differentiable."""
    (T, K), D, inner = ids.shape, gate_up.columns, down.columns
    if not T:
        return torch.zeros_like(x)
    pairs_an_expert = T * K / count
    M = 64 if pairs_an_expert > 16 else 16
    tiles = tiles_of(ids, count, M)
    number = tiles.expert.shape[0]
    x, weights = x.contiguous(), weights.contiguous()
    hidden, rows = x.new_empty(number * M, inner), x.new_empty(number * M, D)
    common = {"EXPERTS": count, "M": M, "N": TILE, "num_warps": 4, "num_stages": 2}
    table = levels(x.device)
    gated_tiles[(-(-inner // TILE), number)](
        x, gate_up.data, gate_up.factors, table, tiles.expert, tiles.pair, hidden,
        CHOICES=K, INNER=inner, **meta(gate_up, x), **common,
    )  # fmt: skip
    down_tiles[(-(-D // TILE), number)](
        hidden, down.data, down.factors, table, tiles.expert, tiles.pair, weights, rows,
        OUT=D, **meta(down, x), **common,
    )  # fmt: skip
    return rows[tiles.position].sum(1, dtype=torch.float32).to(x.dtype)


@functools.cache
def experts_stand(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether `experts` does here what its reference does; tried once. Formats are tried as those of `linear`."""
    from fathom.kernels.experts import experts_reference

    generator = torch.Generator().manual_seed(0)
    shapes = ((5, 48), (5, 2), (3, 80, 48), (3, 48, 40))
    x, weights, gate_up, down = (torch.randn(*shape, generator=generator).to(device, dtype) for shape in shapes)
    ids = torch.tensor([[0, 2], [2, 0], [0, 2], [2, 1], [0, 2]], device=device)
    return agrees(
        "experts",
        lambda: experts(x, ids, weights, held_plain(gate_up), held_plain(down), 3),
        lambda: experts_reference(x, ids, weights, gate_up, down),
    )
