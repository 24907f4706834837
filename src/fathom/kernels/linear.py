"""A linear map without bias whose weight gradient has the same bits on any number of threads, and FP32 sums."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from fathom.kernels import native

COLUMNS, ROWS = 32, 8
"""The native form takes inputs and outputs of widths that are multiples of these."""

TOKENS = 64
"""With fewer, laying out the matrices costs more than multiplying them."""


def linear_reference(x: Tensor, weight: Tensor) -> Tensor:
    """x W^T for `x` (..., K) and `weight` (N, K), which is cast to the dtype of `x`: (..., N)."""
    return F.linear(x, weight.to(x.dtype))


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        matrix = weight.to(x.dtype)
        ctx.save_for_backward(x, matrix)
        ctx.weight_dtype = weight.dtype
        return F.linear(x, matrix)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, matrix = ctx.saved_tensors
        grad_x = grad @ matrix if ctx.needs_input_grad[0] else None
        grad_weight = _weight_gradient(grad, x).to(ctx.weight_dtype) if ctx.needs_input_grad[1] else None
        return grad_x, grad_weight


def _weight_gradient(grad: Tensor, x: Tensor) -> Tensor:
    (N, K), T = (grad.shape[-1], x.shape[-1]), x.numel() // x.shape[-1]
    out = torch.empty(N, K)
    packed = x.new_empty((T + 1) * (-(-N // COLUMNS) * COLUMNS + K))
    native.call("weight_gradient", x.dtype, grad.contiguous(), x.contiguous(), out, packed, T, N, K)
    return out


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """See `linear_reference`. Differentiable once where the native form takes it."""
    if not (torch.is_grad_enabled() and weight.requires_grad and _takes(x, weight)):
        return linear_reference(x, weight)
    out: Tensor = _Linear.apply(x, weight)
    return out


def _takes(x: Tensor, weight: Tensor) -> bool:
    N, K = weight.shape
    return (
        x.dtype == torch.bfloat16
        and K % COLUMNS == 0
        and N % ROWS == 0
        and x.numel() >= TOKENS * K
        and native.usable(x)
        and native.offers("weight_gradient", x.dtype)
    )
