"""The SwiGLU feed-forward layer: down(silu(gate(x)) * up(x)) (Shazeer 2020)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def feed_forward_reference(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """SwiGLU of `x` (..., D) with `gate`, `up` (I, D) and `down` (D, I); weights are cast to the dtype of `x`."""
    hidden = F.silu(F.linear(x, gate.to(x.dtype))) * F.linear(x, up.to(x.dtype))
    return F.linear(hidden, down.to(x.dtype))


def swiglu_forward(both: Tensor) -> Tensor:
    """silu(gate) * up of `both` (..., 2I), gate first; a fresh (..., I)."""
    gate, up = both.chunk(2, -1)
    return F.silu(gate).mul_(up)


def swiglu_backward(grad: Tensor, both: Tensor) -> Tensor:
    """Gradient of `swiglu_forward` with respect to `both`, given that of its result, `grad` (..., I)."""
    gate, up = both.chunk(2, -1)
    out = torch.empty_like(both)
    grad_gate, grad_up = out.chunk(2, -1)
    torch.mul(F.silu(gate), grad, out=grad_up)
    torch.ops.aten.silu_backward.grad_input(grad * up, gate, grad_input=grad_gate)
    return out


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, both: Tensor) -> Tensor:
        ctx.save_for_backward(both)
        return swiglu_forward(both)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return swiglu_backward(grad, *ctx.saved_tensors)


def feed_forward(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """SwiGLU with one product for gate and up together, keeping only its input for backward."""
    both = F.linear(x, torch.cat((gate, up)).to(x.dtype))
    hidden: Tensor = _SwiGLU.apply(both)
    return F.linear(hidden, down.to(x.dtype))
