"""The SwiGLU feed-forward layer: down(silu(gate(x)) * up(x)) (Shazeer 2020)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from fathom.kernels import native
from fathom.kernels.linear import linear


def feed_forward_reference(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """SwiGLU of `x` (..., D) with `gate`, `up` (I, D) and `down` (D, I); weights are cast to the dtype of `x`."""
    hidden = F.silu(F.linear(x, gate.to(x.dtype))) * F.linear(x, up.to(x.dtype))
    return F.linear(hidden, down.to(x.dtype))


def swiglu_forward(both: Tensor) -> Tensor:
    """silu(gate) * up of contiguous `both` (T, 2I), gate first; a fresh (T, I)."""
    if native.usable(both):
        out = both.new_empty(both.shape[0], both.shape[1] // 2)
        native.call("swiglu_forward", both.dtype, both, out, *out.shape)
        return out
    gate, up = both.chunk(2, -1)
    return F.silu(gate).mul_(up)


def swiglu_backward(grad: Tensor, both: Tensor) -> Tensor:
    """Gradient of `swiglu_forward` with respect to `both`, given that of its result, `grad` (T, I)."""
    out = torch.empty_like(both)
    if native.usable(both, grad):
        native.call("swiglu_backward", both.dtype, grad, both, None, out, None, None, *grad.shape)
        return out
    gate, up = both.chunk(2, -1)
    grad_gate, grad_up = out.chunk(2, -1)
    torch.mul(F.silu(gate), grad, out=grad_up)
    torch.ops.aten.silu_backward.grad_input(grad * up, gate, grad_input=grad_gate)
    return out


def weighted_swiglu_backward(grad: Tensor, both: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What an expert's backward needs, when row r of its hidden state h = `swiglu_forward(both)` counts weight[r].

    `grad` (T, I) is the gradient of weight * h. Returns the gradient of `both` (T, 2I), weight * h (T, I), and the
    gradient of the weight, <grad, h> (T,).
    """
    grad_both = torch.empty_like(both)
    if native.usable(both, grad, weight):
        weighted, row_grad = torch.empty_like(grad), torch.empty(grad.shape[0])
        native.call("swiglu_backward", both.dtype, grad, both, weight, grad_both, weighted, row_grad, *grad.shape)
        return grad_both, weighted, row_grad
    hidden = swiglu_forward(both)
    row_grad = torch.linalg.vecdot(grad, hidden)
    column = weight.unsqueeze(1)
    return swiglu_backward(grad * column, both), hidden.mul_(column), row_grad


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, both: Tensor) -> Tensor:
        ctx.save_for_backward(both)
        return swiglu_forward(both)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return swiglu_backward(grad.contiguous(), *ctx.saved_tensors)


def feed_forward(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """SwiGLU with one product for gate and up together, keeping only its input for backward."""
    both = linear(x, torch.cat((gate, up)))
    hidden: Tensor = _SwiGLU.apply(both.flatten(0, -2))
    return linear(hidden.unflatten(0, both.shape[:-1]), down)
