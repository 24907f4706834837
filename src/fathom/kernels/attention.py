"""Scaled dot-product attention, causal, with value heads that may be narrower than query heads (MLA: 192 and 128)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fathom.kernels import attention_fused
from fathom.kernels.attention_cpu import causal_attention_cpu


def attention_reference(q: Tensor, k: Tensor, v: Tensor, scale: float, mask: Tensor | None = None) -> Tensor:
    """Attention of `q` (B, H, S, C) over `k` (B, H, T, C) and `v` (B, H, T, C'); returns (B, H, S, C').

    `mask` (B or 1, 1, S, T) is True where a query may look. Without one, query i sees keys up to T - S + i.
    The softmax runs in at least FP32.
    """
    scores = torch.matmul(q, k.transpose(-1, -2)) * scale
    if mask is None:
        S, T = q.shape[-2], k.shape[-2]
        mask = torch.ones(S, T, dtype=torch.bool, device=q.device).tril(T - S)
    scores = scores.masked_fill(~mask, float("-inf"))
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32
    return torch.matmul(scores.softmax(-1, dtype=wide).to(v.dtype), v)


def attention_sdpa(q: Tensor, k: Tensor, v: Tensor, scale: float, mask: Tensor | None = None) -> Tensor:
    """By PyTorch's own attention, which has forms for GPUs that never hold the scores of all keys at once.

    Its `is_causal` puts the first query at the first key; ours stand at the end, so that only a square one may be said
    in this way.
    """
    S, T = q.shape[-2], k.shape[-2]
    square = mask is None and S == T
    if mask is None and not square and S > 1:
        mask = torch.ones(S, T, dtype=torch.bool, device=q.device).tril(T - S)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=square and S > 1, scale=scale)


def attention_on_paper(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Shapes alone, for meta tensors: keeps for the backward pass what a GPU's form keeps, not the scores."""
    flash = torch.ops.aten._scaled_dot_product_efficient_attention
    out: Tensor = flash(q, k, v, None, compute_log_sumexp=True, is_causal=True, scale=scale)[0]
    return out


def attention(q: Tensor, k: Tensor, v: Tensor, scale: float, mask: Tensor | None = None) -> Tensor:
    """Attention by the fastest form for device, dtype and shape; see `attention_reference`."""
    if mask is None and attention_fused.takes(q, k, v):
        return attention_fused.causal_attention_fused(q, k, v, scale)
    if q.device.type == "cpu" and mask is None:
        return causal_attention_cpu(q, k, v, scale)
    if q.device.type == "cuda" and q.dtype != torch.float64:
        return attention_sdpa(q, k, v, scale, mask)
    if q.device.type == "meta" and mask is None:
        return attention_on_paper(q, k, v, scale)
    return attention_reference(q, k, v, scale, mask)
