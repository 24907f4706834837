"""Rotary position embedding on interleaved pairs (x0, x1), (x2, x3), ... as DeepSeek's weights expect."""

import torch
from torch import Tensor


def apply_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate pair i of `x` (B, S, H, R) by the angle of its position; `cos`, `sin` (B or 1, S, R/2). Dtype of `x`."""
    pairs = x.unflatten(-1, (-1, 2))
    cos, sin = cos.unsqueeze(2).to(x.dtype), sin.unsqueeze(2).to(x.dtype)
    first, second = pairs[..., 0], pairs[..., 1]
    return torch.stack((first * cos - second * sin, first * sin + second * cos), -1).flatten(-2)
