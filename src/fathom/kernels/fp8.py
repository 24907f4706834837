"""DeepSeek's FP8 weights (V3 section 3.3.2): E4M3 values in blocks of 128 x 128, one factor for each block.

The factor multiplies, though the checkpoints call it `weight_scale_inv`. Blocks at the right and lower edge are ragged.
V3.1's factors are powers of two (UE8M0), stored as FP32 all the same; other software stores them in eight bits.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from fathom.kernels.feed_forward import feed_forward_reference
from fathom.kernels.gpu import door

Block = tuple[int, int]
"""Rows and columns of a block."""
E4M3 = torch.float8_e4m3fn
LARGEST = 448.0
"""The largest E4M3 number."""


def dequantise(values: Tensor, scale: Tensor, block: Block, dtype: torch.dtype = torch.float32) -> Tensor:
    """Weights (R, C) in `dtype` of E4M3 `values` (R, C), each block times its `scale` (R / rows, C / columns, up).

    The product is made in at least FP32 and rounded once.
    """
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    if values.device.type == "cuda":
        # A GPU waits for every operation of the loop below; here the factors are spread out for all rows at once.
        spread = scale.to(wide).repeat_interleave(block[0], 0)[: values.shape[0]]
        return (values.to(wide) * spread.repeat_interleave(block[1], 1)[:, : values.shape[1]]).to(dtype)
    out = torch.empty(values.shape, dtype=dtype, device=values.device)
    for rows, factors in _row_blocks(values.shape, scale, block):
        out[rows] = widened(values[rows]).to(wide).mul_(factors.to(wide))
    return out


def widened(values: Tensor) -> Tensor:
    """E4M3 `values` in FP32, exactly.

    PyTorch converts one number at a time on a CPU. Shifted into place, the bits of an E4M3 number are those of a bf16
    number 2^120 times smaller, subnormal ones included; that takes a twelfth of the time. Only NaN reads as 480.
    """
    bits = values.view(torch.uint8)
    if values.device.type != "cpu" or bool(((bits & 0x7F) == 0x7F).any()):
        return values.float()
    shifted = values.view(torch.int8).to(torch.int16).bitwise_left_shift_(4).bitwise_and_(_SIGN_AND_SEVEN_BITS)
    return shifted.view(torch.bfloat16).float().mul_(2.0**120)


_SIGN_AND_SEVEN_BITS = 0x87F0 - 0x10000


def scales_of(weights: Tensor, block: Block, powers_of_two: bool = False) -> Tensor:
    """The FP32 factor of each block of `weights` (R, C), (R / rows, C / columns, up): V3 section 3.3.2.

    A block's largest number becomes 448; with `powers_of_two`, 448 or the next less that a power of two gives (UE8M0).
    """
    (rows, columns), (R, C) = block, weights.shape
    scale = torch.empty(-(-R // rows), -(-C // columns), device=weights.device)
    for i in range(scale.shape[0]):
        padded = F.pad(weights[i * rows : (i + 1) * rows].float().abs(), (0, scale.shape[1] * columns - C))
        largest = padded.unflatten(1, (-1, columns)).amax((0, 2))
        # A block of zeros keeps its zeros under any factor.
        scale[i] = torch.where(largest > 0, largest / LARGEST, 1.0)
    if powers_of_two:
        mantissa, exponent = torch.frexp(scale)
        scale = torch.ldexp(torch.ones_like(scale), exponent - (mantissa == 0.5).int())
    return scale


def quantise(weights: Tensor, block: Block, powers_of_two: bool = False) -> tuple[Tensor, Tensor]:
    """E4M3 values (R, C) of `weights` (R, C), and the factors of their blocks; see `scales_of`."""
    scale = scales_of(weights, block, powers_of_two)
    values = torch.empty(weights.shape, dtype=E4M3, device=weights.device)
    for rows, factors in _row_blocks(weights.shape, scale, block):
        values[rows] = (weights[rows].float() / factors).clamp(-LARGEST, LARGEST).to(E4M3)
    return values, scale


def _row_blocks(shape: torch.Size, scale: Tensor, block: Block) -> Iterator[tuple[slice, Tensor]]:
    """The rows of each row of blocks, and the factor of each column there."""
    wide = scale.float()
    for i in range(scale.shape[0]):
        yield slice(i * block[0], (i + 1) * block[0]), wide[i].repeat_interleave(block[1])[: shape[1]]


def linear_reference(x: Tensor, values: Tensor, scale: Tensor, block: Block, bias: Tensor | None = None) -> Tensor:
    """x W^T + b for x (..., in) and W (out, in) dequantised for this use, in the dtype of x."""
    return F.linear(x, dequantise(values, scale, block, x.dtype), None if bias is None else bias.to(x.dtype))


def experts_reference(
    x: Tensor, ids: Tensor, weights: Tensor, gate_up: Tensor, gate_up_scale: Tensor, down: Tensor, down_scale: Tensor,
    block: Block,
) -> Tensor:  # fmt: skip
    """The routed experts of `fathom.kernels.experts`, each dequantised as its tokens come.

    `gate_up` (E, 2I, D) and `down` (E, D, I) are E4M3; `gate_up_scale` (E, 2, I / rows, D / columns) keeps the blocks
    of gate and up apart, for I need not be a multiple of a block's rows; `down_scale` (E, D / rows, I / columns).
    """
    out = torch.zeros_like(x)
    for expert in ids.unique().tolist():
        token, slot = torch.where(ids == expert)
        both = zip(gate_up[expert].chunk(2), gate_up_scale[expert], strict=True)
        gate, up = (dequantise(values, scale, block, x.dtype) for values, scale in both)
        y = feed_forward_reference(x[token], gate, up, dequantise(down[expert], down_scale[expert], block, x.dtype))
        out = out.index_add(0, token, y * weights[token, slot, None].to(x.dtype))
    return out


def linear(x: Tensor, values: Tensor, scale: Tensor, block: Block, bias: Tensor | None = None) -> Tensor:
    """By the fastest form for the device; see `linear_reference`."""
    if door.usable(x, values, scale):
        from fathom.kernels.gpu import products

        if products.linear_stands(x.device, x.dtype, products.FP8, block):
            made = products.linear(x, products.held_fp8(values, scale, block), values.shape[0])
            return made if bias is None else made + bias.to(x.dtype)
    return linear_reference(x, values, scale, block, bias)


def experts(
    x: Tensor, ids: Tensor, weights: Tensor, gate_up: Tensor, gate_up_scale: Tensor, down: Tensor, down_scale: Tensor,
    block: Block,
) -> Tensor:  # fmt: skip
    """By the fastest form for the device; see `experts_reference`."""
    if door.usable(x, ids, weights, gate_up, down):
        from fathom.kernels.gpu import experts as gpu
        from fathom.kernels.gpu import products

        known = products.linear_stands(x.device, x.dtype, products.FP8, block)
        if known and gpu.experts_stand(x.device, x.dtype):
            held = (products.held_fp8(gate_up, gate_up_scale, block), products.held_fp8(down, down_scale, block))
            return gpu.experts(x, ids, weights, *held, down.shape[0])
    return experts_reference(x, ids, weights, gate_up, gate_up_scale, down, down_scale, block)
