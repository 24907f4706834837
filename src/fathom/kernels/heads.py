"""From MLA's projections, laid out by token, to rotated queries, keys and values laid out by head (V3 eq. 2 to 9)."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fathom.kernels import native
from fathom.kernels.rope import apply_rope

Heads = tuple[Tensor, Tensor, Tensor]


def make_heads_reference(q: Tensor, kv: Tensor, k_rope: Tensor, cos: Tensor, sin: Tensor) -> Heads:
    """Queries and keys (B, H, S, N + R) and values (B, H, S, U).

    `q` (B, S, H, N + R) has its rotary part last; `kv` (B, S, H, N + U) holds each head's key without position, then
    its value; `k_rope` (B, S, R) is the rotary key that all heads share; `cos`, `sin` (B or 1, S, R / 2).
    """
    R = k_rope.shape[-1]
    N = q.shape[-1] - R
    q_nope, q_rope = q.split((N, R), -1)
    k_nope, v = kv.split((N, kv.shape[-1] - N), -1)
    shared = apply_rope(k_rope.unsqueeze(2), cos, sin).expand(-1, -1, q.shape[2], -1)
    queries, keys = torch.cat((q_nope, apply_rope(q_rope, cos, sin)), -1), torch.cat((k_nope, shared), -1)
    return queries.transpose(1, 2), keys.transpose(1, 2), v.transpose(1, 2)


class _MakeHeads(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, kv: Tensor, k_rope: Tensor, cos: Tensor, sin: Tensor) -> Heads:
        B, S, H, C = q.shape
        R = k_rope.shape[-1]
        N, U = C - R, kv.shape[-1] - (C - R)
        queries, keys, values = q.new_empty(B, H, S, C), q.new_empty(B, H, S, C), q.new_empty(B, H, S, U)
        cos, sin, k_rope = cos.contiguous(), sin.contiguous(), k_rope.contiguous()
        ctx.sizes = (B, S, H, N, R, U)
        ctx.save_for_backward(cos, sin)
        inputs = (q.contiguous(), kv.contiguous(), k_rope, cos, sin)
        native.call("heads_forward", q.dtype, *inputs, queries, keys, values, *ctx.sizes, R, int(cos.shape[0] > 1))
        return queries, keys, values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_q: Tensor, grad_k: Tensor, grad_v: Tensor) -> tuple[Tensor | None, ...]:
        B, S, H, N, R, U = ctx.sizes
        cos, sin = ctx.saved_tensors
        q, kv, k_rope = (grad_q.new_empty(size) for size in ((B, S, H, N + R), (B, S, H, N + U), (B, S, R)))
        grads = (grad_q.contiguous(), grad_k.contiguous(), grad_v.contiguous())
        native.call("heads_backward", q.dtype, *grads, cos, sin, q, kv, k_rope, *ctx.sizes, int(cos.shape[0] > 1))
        return q, kv, k_rope, None, None


def make_heads(q: Tensor, kv: Tensor, k_rope: Tensor, cos: Tensor, sin: Tensor) -> Heads:
    """Heads by the fastest form for dtype and device; see `make_heads_reference`."""
    if native.usable(q, kv, k_rope) and cos.dtype == torch.float32:
        heads: Heads = _MakeHeads.apply(q, kv, k_rope, cos, sin)
        return heads
    return make_heads_reference(q, kv, k_rope, cos, sin)
