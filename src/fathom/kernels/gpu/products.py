"""Products with weights that are held in few bits: numbers become the operands' type as they reach the tensor core.

A weight is a number times a factor that a block of rows and columns shares: groups of 32 columns for 8 and 4 bits
(`fathom.kernels.quantise`), 128 x 128 for DeepSeek's FP8 (`fathom.kernels.fp8`). Each product of number and factor is
rounded once, as in the plain forms; sums are FP32.
"""

import functools
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from fathom.kernels.fp8 import Block
from fathom.kernels.gpu.door import agrees
from fathom.kernels.gpu.paged_attention import operand
from fathom.kernels.quantise import GROUP, LEVELS, Quantised

PLAIN, EIGHT_BITS, FOUR_BITS, FP8 = 0, 8, 4, 1


class Held(NamedTuple):
    """A matrix (rows, columns), or several under each other, as the kernels read it."""

    data: Tensor
    """Contiguous; FP8 numbers as their bytes, two numbers a byte where they have four bits."""
    factors: Tensor
    """A row of factors for each `block[0]` rows of a matrix; unread where the format has none."""
    block: Block
    columns: int
    format: int


def held_plain(weight: Tensor) -> Held:
    """A matrix of floating-point numbers (..., rows, columns)."""
    return Held(weight, weight, (1, weight.shape[-1]), weight.shape[-1], PLAIN)


def held_quantised(matrix: Quantised) -> Held:
    """A matrix in 8 or 4 bits."""
    return Held(matrix.data, matrix.scales, (1, GROUP), matrix.shape[1], matrix.bits)


def held_fp8(values: Tensor, scale: Tensor, block: Block) -> Held:
    """E4M3 `values` (..., rows, columns) and the factors of their blocks."""
    return Held(values.view(torch.uint8), scale, block, values.shape[-1], FP8)


@triton.jit  # type: ignore[untyped-decorator]
def multiplied(
    total: tl.tensor, x: tl.tensor, x_at: tl.tensor, is_row: tl.tensor, data: tl.tensor, factors: tl.tensor,
    levels: tl.tensor, first_row: tl.tensor, first_factor: tl.tensor, n: tl.tensor, is_n: tl.tensor,
    COLUMNS: tl.constexpr, FORMAT: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_COLUMNS: tl.constexpr,
    FACTORS: tl.constexpr, OPERAND: tl.constexpr, K: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """`total` (M, N) and x W^T: rows of x at `x_at` (M,), rows `first_row` + `n` (N,) of W."""
    row = first_row + n
    factor_row = (first_factor + n // BLOCK_ROWS) * FACTORS
    if FORMAT == 4:
        for start in range(0, COLUMNS // 2, K // 2):
            byte = start + tl.arange(0, K // 2)
            wanted = byte < COLUMNS // 2
            # Byte i of a group's 16 holds its columns i and i + 16.
            column = byte // 16 * 32 + byte % 16
            both = is_n[:, None] & wanted[None, :]
            bits = tl.load(data + row[:, None] * (COLUMNS // 2) + byte[None, :], mask=both, other=0).to(tl.int32)
            factor = tl.load(factors + factor_row[:, None] + (byte // 16)[None, :], mask=both, other=0.0)
            factor = factor.to(tl.float32)
            low, high = tl.load(levels + (bits & 15)) * factor, tl.load(levels + (bits >> 4)) * factor
            seen = is_row[:, None] & wanted[None, :]
            x_low = tl.load(x + x_at[:, None] + column[None, :], mask=seen, other=0.0).to(OPERAND)
            x_high = tl.load(x + x_at[:, None] + 16 + column[None, :], mask=seen, other=0.0).to(OPERAND)
            total += tl.dot(x_low, tl.trans(low.to(OPERAND)), input_precision="ieee")
            total += tl.dot(x_high, tl.trans(high.to(OPERAND)), input_precision="ieee")
    else:
        for start in range(0, COLUMNS, K):
            column = start + tl.arange(0, K)
            wanted = column < COLUMNS
            both = is_n[:, None] & wanted[None, :]
            weight = tl.load(data + row[:, None] * COLUMNS + column[None, :], mask=both, other=0)
            if FORMAT == 1:
                # E4M3 by its bits, which every architecture can do: 4 of exponent, 3 of fraction, 2^-9 the smallest.
                bits = weight.to(tl.int32)
                exponent, fraction = (bits >> 3) & 15, bits & 7
                normal = ((exponent + 120) << 23 | fraction << 20).to(tl.float32, bitcast=True)
                size = tl.where(exponent == 0, fraction.to(tl.float32) * 0.001953125, normal)
                weight = tl.where(bits >= 128, -size, size)
            if FORMAT != 0:
                at = factor_row[:, None] + (column // BLOCK_COLUMNS)[None, :]
                factor = tl.load(factors + at, mask=both, other=0.0)
                weight = weight.to(tl.float32) * factor.to(tl.float32)
            seen = is_row[:, None] & wanted[None, :]
            part = tl.load(x + x_at[:, None] + column[None, :], mask=seen, other=0.0).to(OPERAND)
            total += tl.dot(part, tl.trans(weight.to(OPERAND)), input_precision="ieee")
    return total


@triton.jit(do_not_specialize=["rows"])  # type: ignore[untyped-decorator]
def linear_tiles(
    x: tl.tensor, data: tl.tensor, factors: tl.tensor, levels: tl.tensor, out: tl.tensor, rows: tl.tensor,
    OUT: tl.constexpr, COLUMNS: tl.constexpr, FORMAT: tl.constexpr, BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr, FACTORS: tl.constexpr, OPERAND: tl.constexpr, M: tl.constexpr, N: tl.constexpr,
    K: tl.constexpr,
) -> None:  # fmt: skip
    """Program (N outputs, M rows of x)."""
    m = tl.program_id(1) * M + tl.arange(0, M)
    n = (tl.program_id(0) * N + tl.arange(0, N)).to(tl.int64)
    total = tl.full([M, N], 0.0, tl.float32)
    total = multiplied(
        total, x, m.to(tl.int64) * COLUMNS, m < rows, data, factors, levels, 0, 0, n, n < OUT,
        COLUMNS, FORMAT, BLOCK_ROWS, BLOCK_COLUMNS, FACTORS, OPERAND, K,
    )  # fmt: skip
    at = m.to(tl.int64)[:, None] * OUT + n[None, :]
    tl.store(out + at, total.to(out.dtype.element_ty), mask=(m < rows)[:, None] & (n < OUT)[None, :])


def linear(x: Tensor, held: Held, rows: int) -> Tensor:
    """x W^T for x (..., columns) and a held W (rows, columns): (..., rows) in the type of x."""
    flat = x.reshape(-1, held.columns).contiguous()
    out: Tensor = flat.new_empty(flat.shape[0], rows)
    M = tile_rows(flat.shape[0])
    grid = (-(-rows // TILE), -(-flat.shape[0] // M))
    if flat.shape[0]:
        linear_tiles[grid](
            flat, held.data, held.factors, levels(x.device), out, flat.shape[0],
            OUT=rows, **meta(held, x), M=M, N=TILE, num_warps=4, num_stages=2,
        )  # fmt: skip
    made: Tensor = out.unflatten(0, x.shape[:-1])
    return made


TILE = 64
"""Outputs a program makes of each of its rows."""


def tile_rows(rows: int) -> int:
    """Rows a program takes: the fewest a tensor core does while decoding, more while reading prompts."""
    return 16 if rows <= 16 else 32 if rows <= 32 else 64


def meta(held: Held, x: Tensor) -> dict[str, object]:
    """What a kernel is compiled for, of a matrix and the type of its other operand."""
    return {
        "COLUMNS": held.columns, "FORMAT": held.format, "BLOCK_ROWS": held.block[0], "BLOCK_COLUMNS": held.block[1],
        "FACTORS": -(-held.columns // held.block[1]), "OPERAND": operand(x),
        "K": 32 if x.dtype == torch.float32 else 64,
    }  # fmt: skip


@functools.cache
def levels(device: torch.device) -> Tensor:
    """What four bits stand for, (16,) FP32."""
    return torch.tensor(LEVELS, dtype=torch.float32, device=device)


@functools.cache
def linear_stands(device: torch.device, dtype: torch.dtype, format: int, block: Block) -> bool:
    """Whether `linear` does here, for this format, what its reference does; tried once on a matrix of uneven size."""
    from fathom.kernels import fp8, quantise

    generator = torch.Generator().manual_seed(0)
    weight, x = (torch.randn(n, 160, generator=generator) for n in (70, 5))
    x = x.to(device, dtype)
    if format == FP8:
        values, scale = (tensor.to(device) for tensor in fp8.quantise(weight, block))
        held, full = held_fp8(values, scale, block), fp8.dequantise(values, scale, block, dtype)
    else:
        matrix = quantise.quantise(weight, 8 if format == EIGHT_BITS else 4)
        matrix = Quantised(matrix.data.to(device), matrix.scales.to(device))
        held, full = held_quantised(matrix), quantise.dequantise(matrix, dtype)
    return agrees(f"linear in format {format}", lambda: linear(x, held, 70), lambda: x @ full.T)
