"""RMSNorm (Zhang and Sennrich 2019), as DeepSeek's checkpoints use it."""

import torch
from torch import Tensor


def rms_norm_reference(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Scale each row of `x` (..., D) to unit root mean square, in at least FP32, then by `weight` (D,); dtype of `x`."""
    wide = x if x.dtype == torch.float64 else x.float()
    normal = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return weight.to(x.dtype) * normal.to(x.dtype)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMSNorm by the fastest form for the device of `x`; see `rms_norm_reference`."""
    return rms_norm_reference(x, weight, eps)
