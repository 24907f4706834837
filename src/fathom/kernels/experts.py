"""The routed experts: each token through its K chosen SwiGLU experts, summed with the gate's weights (V3 eq. 12)."""

import torch
from torch import Tensor

from fathom.kernels import experts_fused
from fathom.kernels.experts_cpu import experts_cpu
from fathom.kernels.experts_sorted import experts_sorted, takes
from fathom.kernels.feed_forward import feed_forward_reference
from fathom.kernels.gpu import door


def experts_reference(x: Tensor, ids: Tensor, weights: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    """Sum over k of weights[t, k] * expert_{ids[t, k]}(x[t]), one expert at a time.

    `x` (T, D); `ids` (T, K) int64; `weights` (T, K), cast to the dtype of `x`; `gate_up` (E, 2I, D), gate rows first;
    `down` (E, D, I). Returns (T, D) in the dtype of `x`.
    """
    out = torch.zeros_like(x)
    for expert in range(gate_up.shape[0]):
        token, slot = torch.where(ids == expert)
        if token.numel():
            gate, up = gate_up[expert].chunk(2)
            y = feed_forward_reference(x[token], gate, up, down[expert])
            out = out.index_add(0, token, y * weights[token, slot, None].to(x.dtype))
    return out


def experts(x: Tensor, ids: Tensor, weights: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    """The routed experts by the fastest form for the device of `x`; see `experts_reference`."""
    if door.usable(x, ids, weights, gate_up, down):
        from fathom.kernels.gpu import experts as gpu
        from fathom.kernels.gpu.products import held_plain

        if gpu.experts_stand(x.device, x.dtype):
            return gpu.experts(x, ids, weights, held_plain(gate_up), held_plain(down), gate_up.shape[0])
    if experts_fused.pays(x, ids, gate_up, down):
        return experts_fused.experts_fused(x, ids, weights, gate_up, down)
    if x.device.type == "cpu":
        return experts_cpu(x, ids, weights, gate_up, down)
    if takes(x, gate_up, down):
        return experts_sorted(x, ids, weights, gate_up, down)
    return experts_reference(x, ids, weights, gate_up, down)
