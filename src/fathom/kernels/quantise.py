"""Weights in 8 or 4 bits, in groups of 32 columns that share a scale: 8.5 and 4.5 bits a number, scale included.

Eight bits are whole numbers times the scale, which the group's largest number gives. Four bits choose one of 16 levels,
denser around zero where weights are, times the scale; several scales are tried for each group, each refitted by least
squares, and the one with the smallest squared error is kept.
"""

import functools
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from fathom.kernels.experts import experts
from fathom.kernels.gpu import door

GROUP = 32
"""Columns that share a scale."""
Bits = Literal[8, 4]
LEVELS = (-127, -103, -80, -62, -47, -34, -21, -10, 1, 12, 24, 36, 49, 64, 80, 101)
"""What four bits stand for. Lloyd's algorithm on normal numbers in groups of 32 leads here: a mean squared error of
0.0053 of their variance, where 16 evenly spaced levels have 0.0065."""
FACTORS = (0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15, -0.8, -0.9, -1.0, -1.1)
"""How many times the outermost level a group's largest number becomes, before it is cut to it; below 0 at the other
end."""
AT_ONCE = 1 << 22
"""Numbers quantised at a time, which bounds the memory it takes."""


@dataclass(frozen=True)
class Quantised:
    """A matrix (rows, columns)."""

    data: Tensor
    """int8 (rows, columns); or uint8 (rows, columns / 2), where byte i of a group's 16 says the levels of the group's
    numbers i, in the lower half, and i + 16."""
    scales: Tensor
    """bfloat16 (rows, columns / 32)."""

    @property
    def bits(self) -> Bits:
        """Bits of a number, without its share of the scale."""
        return 8 if self.data.dtype == torch.int8 else 4

    def __getitem__(self, rows: slice) -> "Quantised":
        """Some of the rows."""
        return Quantised(self.data[rows], self.scales[rows])

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.scales.shape[0], self.scales.shape[1] * GROUP


def quantise(weight: Tensor, bits: Bits) -> Quantised:
    """The nearest matrix in so many bits to `weight` (rows, columns); columns must be a multiple of 32."""
    rows, columns = weight.shape
    step = max(1, AT_ONCE // columns)
    parts = [_quantise(weight[a : a + step].detach().float(), bits) for a in range(0, rows, step)]
    return Quantised(torch.cat([data for data, _ in parts]), torch.cat([scales for _, scales in parts]))


def _quantise(weight: Tensor, bits: Bits) -> tuple[Tensor, Tensor]:
    groups = weight.unflatten(1, (-1, GROUP))
    if bits == 8:
        scales = (groups.abs().amax(-1, keepdim=True) / 127).bfloat16()
        numbers = (groups * _inverse(scales.float())).round_().clamp_(-127, 127)
        return numbers.to(torch.int8).flatten(1), scales.squeeze(-1)
    scales = _best_scales(groups)
    low, high = _nearest(groups, scales.float()).to(torch.uint8).chunk(2, -1)
    return (low | high << 4).flatten(1), scales.squeeze(-1)


def _best_scales(groups: Tensor) -> Tensor:
    """For each of `groups` (rows, G, 32) the bf16 scale (rows, G, 1) whose levels are nearest in the square."""
    levels = _levels(groups.device)
    largest = groups.gather(-1, groups.abs().argmax(-1, keepdim=True))
    best = torch.zeros_like(largest)
    least = torch.full_like(largest, torch.inf)
    for factor in FACTORS:
        end = LEVELS[0] if factor > 0 else -LEVELS[-1]
        chosen = levels[_nearest(groups, largest / (end * factor))]
        # The scale that fits these choices best; no level is 0, so neither is the sum of squares.
        scales = ((groups * chosen).sum(-1, keepdim=True) / chosen.square().sum(-1, keepdim=True)).bfloat16().float()
        error = (groups - levels[_nearest(groups, scales)] * scales).square().sum(-1, keepdim=True)
        better = error < least
        best, least = torch.where(better, scales, best), torch.where(better, error, least)
    return best.bfloat16()


def _nearest(groups: Tensor, scales: Tensor) -> Tensor:
    """Indices of the levels nearest to `groups` (rows, G, 32) over `scales` (rows, G, 1)."""
    levels = _levels(groups.device)
    return torch.bucketize(groups * _inverse(scales), (levels[1:] + levels[:-1]) / 2)


@functools.cache
def _levels(device: torch.device) -> Tensor:
    """On the device, and there to stay: a graph cannot fetch them from the host."""
    return torch.tensor(LEVELS, dtype=torch.float32, device=device)


def _inverse(scales: Tensor) -> Tensor:
    return torch.where(scales == 0, 0.0, 1 / scales)


def dequantise(matrix: Quantised, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """The matrix (rows, columns), each product of number and scale rounded once."""
    if matrix.bits == 8:
        numbers = matrix.data.unflatten(1, (-1, GROUP)).float()
    else:
        bytes_ = matrix.data.unflatten(1, (-1, GROUP // 2))
        levels = _levels(bytes_.device)
        numbers = levels[torch.cat((bytes_ & 15, bytes_ >> 4), -1).int()]
    made: Tensor = (numbers * matrix.scales.float().unsqueeze(-1)).flatten(1).to(dtype)
    return made


def quantised_linear_reference(x: Tensor, matrix: Quantised, bias: Tensor | None = None) -> Tensor:
    """x W^T + b for x (..., columns), with W dequantised for this use."""
    return F.linear(x, dequantise(matrix, x.dtype), None if bias is None else bias.to(x.dtype))


def quantised_linear(x: Tensor, matrix: Quantised, bias: Tensor | None = None) -> Tensor:
    """By the fastest form for the device; see `quantised_linear_reference`."""
    if door.usable(x, matrix.data):
        from fathom.kernels.gpu import products

        if products.linear_stands(x.device, x.dtype, matrix.bits, (1, GROUP)):
            made = products.linear(x, products.held_quantised(matrix), matrix.shape[0])
            return made if bias is None else made + bias.to(x.dtype)
    return quantised_linear_reference(x, matrix, bias)


def quantised_experts_reference(x: Tensor, ids: Tensor, weights: Tensor, gate_up: Quantised, down: Quantised) -> Tensor:
    """The routed experts of `fathom.kernels.experts`, all dequantised for this use.

    Stacked matrices lie under each other: `gate_up` (E 2I, D), `down` (E D, I).
    """
    matrices = (dequantise(gate_up, x.dtype), dequantise(down, x.dtype))
    count = down.shape[0] // x.shape[-1]
    return experts(x, ids, weights, *(matrix.unflatten(0, (count, -1)) for matrix in matrices))


def quantised_experts(x: Tensor, ids: Tensor, weights: Tensor, gate_up: Quantised, down: Quantised) -> Tensor:
    """By the fastest form for the device; see `quantised_experts_reference`."""
    if door.usable(x, ids, weights, gate_up.data, down.data):
        from fathom.kernels.gpu import experts as gpu
        from fathom.kernels.gpu import products

        known = products.linear_stands(x.device, x.dtype, gate_up.bits, (1, GROUP))
        if known and gpu.experts_stand(x.device, x.dtype):
            held = (products.held_quantised(gate_up), products.held_quantised(down))
            return gpu.experts(x, ids, weights, *held, down.shape[0] // x.shape[-1])
    return quantised_experts_reference(x, ids, weights, gate_up, down)
