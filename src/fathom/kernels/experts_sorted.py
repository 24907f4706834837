"""Routed experts on a GPU, differentiable: tokens sorted by expert, each expert's rows one part of a grouped product.

`torch.nn.functional.grouped_mm` is told where each expert's rows end by a tensor on the device, so that nothing waits
for the host. It has a fast form for bfloat16; rows begin at multiples of `ROWS`, which its gradients' strides need.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from fathom.kernels.feed_forward import swiglu_forward, weighted_swiglu_backward
from fathom.kernels.gpu.sorting import tiles_of

ROWS = 16
WIDTH = 8
"""Bytes of a row must be a multiple of 16: 8 bfloat16 numbers."""


def takes(x: Tensor, gate_up: Tensor, down: Tensor) -> bool:
    """Whether this form takes these arguments of `experts`: bfloat16 activations on a GPU, even widths.

    On the meta device it stands for the GPU's, so that what a step will hold can be foreseen.
    """
    even = not (gate_up.shape[2] % WIDTH + down.shape[2] % WIDTH)
    return x.device.type in ("cuda", "meta") and x.dtype == torch.bfloat16 and even


class _SortedExperts(torch.autograd.Function):
    """Keeps its input, gate and up for the backward pass, and makes all else again: a third of what autograd keeps."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ids: Tensor, weights: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
        tiles = tiles_of(ids, gate_up.shape[0], ROWS)
        E = torch.arange(gate_up.shape[0], device=x.device)
        ends = (torch.searchsorted(tiles.expert, E, right=True) * ROWS).to(torch.int32)
        # The last expert's part goes on to the end of the rows, so that those which no pair needs are multiplied too;
        # they hold zeros.
        ends[-1] = tiles.pair.shape[0]
        both = F.grouped_mm(_by_row(x, tiles.pair, ids.shape[1]), gate_up.to(x.dtype).transpose(1, 2), offs=ends)
        made = F.grouped_mm(swiglu_forward(both), down.to(x.dtype).transpose(1, 2), offs=ends)
        ctx.save_for_backward(x, weights, gate_up, down, both, tiles.pair, tiles.position, ends)
        return (made[tiles.position] * weights.unsqueeze(-1)).sum(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weights, gate_up, down, both, pair, position, ends = ctx.saved_tensors
        K = weights.shape[1]
        grad_rows = _by_row(grad, pair, K)
        row_weight = _by_row(weights.reshape(-1, 1), pair, 1).squeeze(1)
        grad_hidden = F.grouped_mm(grad_rows, down.to(x.dtype), offs=ends)
        grad_both, weighted, row_grad = weighted_swiglu_backward(grad_hidden, both, row_weight)
        grad_down = F.grouped_mm(grad_rows.t(), weighted, offs=ends)
        grad_gate_up = F.grouped_mm(grad_both.t(), _by_row(x, pair, K), offs=ends)
        grad_x = F.grouped_mm(grad_both, gate_up.to(x.dtype), offs=ends)[position].sum(1)
        grad_weights = row_grad[position].to(weights.dtype)
        return grad_x, None, grad_weights, grad_gate_up.to(gate_up.dtype), grad_down.to(down.dtype)


def _by_row(values: Tensor, pair: Tensor, K: int) -> Tensor:
    """What each row's pair has in `values`, one row of which belongs to K pairs; zeros where a row has no pair."""
    return values.index_select(0, pair.clamp(min=0) // K) * (pair >= 0)[:, None].to(values.dtype)


def experts_sorted(x: Tensor, ids: Tensor, weights: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    """See `fathom.kernels.experts.experts_reference`. Differentiable once in all but `ids`."""
    out: Tensor = _SortedExperts.apply(x, ids, weights.to(x.dtype), gate_up, down)
    return out
