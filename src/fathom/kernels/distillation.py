"""Output heads of a student and its teacher and the distance between them, so that no (T, V) matrix stands whole."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from fathom.kernels.cross_entropy import CHUNK_BYTES


def linear_distillation_reference(
    hidden: Tensor,
    weight: Tensor,
    teacher_hidden: Tensor,
    teacher_weight: Tensor,
    targets: Tensor,
    token_weights: Tensor,
    share: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted sum over tokens of share * KL(teacher, student) + (1 - share) * nll (Hinton et al. 2015, temperature 1).

    `hidden` (T, D) and `weight` (V, D) are the student's, `teacher_hidden` (T, D') and `teacher_weight` (V, D') the
    teacher's; each weight is cast to the dtype of its hidden states. `targets` (T,) int64; `token_weights` (T,).
    Returns the scalar, which carries gradients to the student, and nll and KL (T,) in nats, detached, FP32 (FP64 for
    FP64 input).
    """
    wide = torch.float64 if hidden.dtype == torch.float64 else torch.float32
    mine = F.linear(hidden, weight.to(hidden.dtype)).log_softmax(-1, dtype=wide)
    with torch.no_grad():
        theirs = F.linear(teacher_hidden, teacher_weight.to(teacher_hidden.dtype)).log_softmax(-1, dtype=wide)
    kl = (theirs.exp() * (theirs - mine)).sum(-1)
    nll = F.nll_loss(mine, targets, reduction="none")
    return ((share * kl + (1 - share) * nll) * token_weights).sum(), nll.detach(), kl.detach()


class _LinearDistillation(torch.autograd.Function):
    """Gradients are formed in forward, chunk by chunk, while both distributions are at hand."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        teacher_hidden: Tensor,
        teacher_weight: Tensor,
        targets: Tensor,
        token_weights: Tensor,
        share: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        wide = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        matrix, other = weight.to(hidden.dtype), teacher_weight.to(teacher_hidden.dtype)
        # Weights relative to the largest, as in cross_entropy.py: the gradient of the logits then keeps bf16's digits.
        largest = token_weights.abs().max().clamp_min(torch.finfo(wide).tiny)
        relative = (token_weights / largest).to(wide)
        rows = max(64, CHUNK_BYTES // (4 * weight.shape[0]) // 64 * 64)
        nll, kl = (torch.empty(hidden.shape[0], dtype=wide, device=hidden.device) for _ in range(2))
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros_like(weight, dtype=wide) if ctx.needs_input_grad[1] else None
        for a in range(0, hidden.shape[0], rows):
            part = slice(a, a + rows)
            mine = F.linear(hidden[part], matrix).log_softmax(-1, dtype=wide)
            theirs = F.linear(teacher_hidden[part], other).log_softmax(-1, dtype=wide)
            target = targets[part, None]
            nll[part] = -mine.gather(1, target)[:, 0]
            wanted = theirs.exp()
            kl[part] = (wanted * theirs.sub_(mine)).sum(-1)
            gradient = mine.exp_().sub_(wanted, alpha=share)
            gradient.scatter_add_(1, target, torch.full_like(target, -(1 - share), dtype=wide))
            gradient = gradient.mul_(relative[part, None]).to(hidden.dtype)
            torch.mm(gradient, matrix, out=grad_hidden[part])
            if grad_weight is not None:
                grad_weight += torch.mm(gradient.t(), hidden[part])
        ctx.weight_dtype, ctx.largest = weight.dtype, largest
        ctx.save_for_backward(grad_hidden, grad_weight)
        ctx.mark_non_differentiable(nll, kl)
        return ((share * kl + (1 - share) * nll) * token_weights).sum(), nll, kl

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight = ctx.saved_tensors
        scale = ctx.largest * grad_loss
        of_weight = None if grad_weight is None else (grad_weight * scale).to(ctx.weight_dtype)
        return grad_hidden * scale, of_weight, None, None, None, None, None


def linear_distillation(
    hidden: Tensor,
    weight: Tensor,
    teacher_hidden: Tensor,
    teacher_weight: Tensor,
    targets: Tensor,
    token_weights: Tensor,
    share: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Heads and distance in chunks of tokens; see `linear_distillation_reference`."""
    result: tuple[Tensor, Tensor, Tensor] = _LinearDistillation.apply(
        hidden, weight, teacher_hidden, teacher_weight, targets, token_weights, share
    )
    return result
