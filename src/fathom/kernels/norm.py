"""RMSNorm (Zhang and Sennrich 2019), as DeepSeek's checkpoints use it."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fathom.kernels import native


def rms_norm_reference(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Scale rows of `x` (..., D) to unit root mean square, in at least FP32, then by `weight` (D,); dtype of `x`."""
    wide = x if x.dtype == torch.float64 else x.float()
    normal = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return weight.to(x.dtype) * normal.to(x.dtype)


class _NativeRMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        x = x.contiguous()
        out, inverse = torch.empty_like(x), torch.empty(x.shape[:-1])
        native.call("rms_norm_forward", x.dtype, x, weight, out, inverse, inverse.numel(), x.shape[-1], float(eps))
        ctx.save_for_backward(x, weight, inverse)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, inverse = ctx.saved_tensors
        grad, grad_x, grad_weight = grad.contiguous(), torch.empty_like(x), torch.empty_like(weight)
        sizes = (inverse.numel(), x.shape[-1])
        native.call("rms_norm_backward", x.dtype, x, weight, inverse, grad, grad_x, grad_weight, *sizes)
        return grad_x, grad_weight, None


class _RMSNorm(torch.autograd.Function):
    """Few passes over memory, in place where the buffer is ours; the reference's autograd keeps four copies."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        wide = x.to(weight.dtype, copy=True)
        inverse = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        return wide.mul_(inverse).mul_(weight).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, inverse = ctx.saved_tensors
        normal = x.to(weight.dtype, copy=True).mul_(inverse)
        wide = grad.to(weight.dtype, copy=True)
        grad_weight = (wide * normal).flatten(0, -2).sum(0)
        wide.mul_(weight)
        projection = torch.linalg.vecdot(wide, normal).unsqueeze(-1).div_(x.shape[-1])
        return wide.sub_(normal.mul_(projection)).mul_(inverse).to(x.dtype), grad_weight, None


class _FrugalRMSNorm(torch.autograd.Function):
    """The reference, keeping its input and a number a row where autograd keeps copies of all in FP32 too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        wide = x if x.dtype == torch.float64 else x.float()
        inverse = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
        ctx.save_for_backward(x, weight, inverse)
        return weight.to(x.dtype) * (wide * inverse).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, inverse = ctx.saved_tensors
        normal, wide = x.to(inverse.dtype) * inverse, grad.to(inverse.dtype)
        grad_weight = (wide * normal).flatten(0, -2).sum(0).to(weight.dtype)
        wide = wide * weight.to(inverse.dtype)
        projection = (wide * normal).mean(-1, keepdim=True)
        return ((wide - normal * projection) * inverse).to(x.dtype), grad_weight, None


def rms_norm_frugal(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """`rms_norm_reference` on any device, with little kept for the backward pass. Differentiable once."""
    out: Tensor = _FrugalRMSNorm.apply(x, weight, eps)
    return out


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMSNorm by the fastest form for dtype and device; see `rms_norm_reference`."""
    out: Tensor
    if x.device.type != "cpu":
        # Where nothing is to be kept, a Function of our own costs only time.
        learns = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
        out = rms_norm_frugal(x, weight, eps) if learns else rms_norm_reference(x, weight, eps)
    elif weight.dtype == torch.float32 and native.usable(x):
        out = _NativeRMSNorm.apply(x, weight, eps)
    elif weight.dtype == torch.float64 or (weight.dtype == torch.float32 and x.dtype != torch.float64):
        out = _RMSNorm.apply(x, weight, eps)
    else:
        out = rms_norm_reference(x, weight, eps)
    return out
