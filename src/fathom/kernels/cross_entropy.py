"""Output head and cross-entropy together, so that the (T, V) logits never stand in memory at once."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from fathom.kernels import native

CHUNK_BYTES = 8 * 2**20
"""Bytes the logits of a chunk would take in FP32. Measured on two cores with 32 MiB of shared cache, in a step of the
quickstart: 28 ms with 8 MiB, 29 with 4, 32 with 2 and with 32."""


def linear_cross_entropy_reference(
    hidden: Tensor, weight: Tensor, targets: Tensor, token_weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Weighted cross-entropy of softmax(hidden @ weight.T) against `targets`.

    `hidden` (T, D); `weight` (V, D), cast to the dtype of `hidden`; `targets` (T,) int64; `token_weights` (T,).
    Returns the scalar sum over t of token_weights[t] * nll[t], which carries gradients, and nll (T,) in nats, detached.
    Losses are FP32 (FP64 for FP64 input).
    """
    logits = F.linear(hidden, weight.to(hidden.dtype))
    nll = F.cross_entropy(logits if logits.dtype == torch.float64 else logits.float(), targets, reduction="none")
    return (nll * token_weights).sum(), nll.detach()


def _loss_and_gradient(logits: Tensor, targets: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """Cross-entropy (T,) and, with `weights` (T,), the gradient of its weighted sum (T, V) in the place of `logits`."""
    if native.usable(logits):
        nll = torch.empty(logits.shape[0])
        native.call("cross_entropy", logits.dtype, logits, targets.contiguous(), weights, nll, *logits.shape)
        return nll, logits
    wide = torch.float64 if logits.dtype == torch.float64 else torch.float32
    log_p = torch.log_softmax(logits, -1, dtype=wide)
    nll = -log_p.gather(1, targets[:, None]).squeeze(1)
    if weights is not None:
        log_p.exp_().scatter_add_(1, targets[:, None], -torch.ones_like(nll)[:, None])
        log_p.mul_(weights[:, None])
    return nll, log_p.to(logits.dtype)


class _LinearCrossEntropy(torch.autograd.Function):
    """Gradients are formed in forward, chunk by chunk, while the probabilities are at hand."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, token_weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        wide = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        matrix = weight.to(hidden.dtype)
        token_weights = token_weights.to(wide)
        # Weights relative to the largest: equal ones are then exactly 1 in bf16, whatever they are.
        largest = token_weights.abs().max().clamp_min(torch.finfo(wide).tiny)
        relative = token_weights / largest if any(ctx.needs_input_grad[:2]) else None
        rows = max(64, CHUNK_BYTES // (4 * weight.shape[0]) // 64 * 64)
        nll = torch.empty(hidden.shape[0], dtype=wide, device=hidden.device)
        grad_hidden = torch.empty_like(hidden) if relative is not None else None
        grad_weight = torch.zeros_like(weight, dtype=wide) if ctx.needs_input_grad[1] else None
        for a in range(0, hidden.shape[0], rows):
            h, target = hidden[a : a + rows], targets[a : a + rows]
            of_rows = None if relative is None else relative[a : a + rows]
            nll[a : a + rows], gradient = _loss_and_gradient(F.linear(h, matrix), target, of_rows)
            if grad_hidden is not None:
                torch.mm(gradient, matrix, out=grad_hidden[a : a + rows])
            if grad_weight is not None:
                grad_weight += torch.mm(gradient.t(), h)
        ctx.weight_dtype, ctx.largest = weight.dtype, largest
        ctx.save_for_backward(grad_hidden, grad_weight)
        ctx.mark_non_differentiable(nll)
        return (nll * token_weights).sum(), nll

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight = ctx.saved_tensors
        scale = ctx.largest * grad_loss
        of_weight = None if grad_weight is None else (grad_weight * scale).to(ctx.weight_dtype)
        return grad_hidden * scale, of_weight, None, None


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, token_weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Head and loss in chunks of tokens; see `linear_cross_entropy_reference`. Differentiable in hidden and weight."""
    result: tuple[Tensor, Tensor] = _LinearCrossEntropy.apply(hidden, weight, targets, token_weights)
    return result
