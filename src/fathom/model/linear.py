"""Linear maps and norms whose FP32 masters are cast to the dtype of their input at use."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fathom.kernels.linear import linear
from fathom.kernels.norm import rms_norm
from fathom.model.recompute import Runner, run_plainly


class Linear(nn.Module):
    """x W^T + b for x (..., in), W (out, in)."""

    def __init__(self, in_features: int, out_features: int, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        if self.bias is None:
            return linear(x, self.weight)
        return F.linear(x, self.weight.to(x.dtype), self.bias.to(x.dtype))


class RMSNorm(nn.Module):
    """RMSNorm over the last dimension."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps
        self.run: Runner = run_plainly

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (..., width)."""
        return self.run(self.normal, x)

    def normal(self, x: Tensor) -> Tensor:
        """x normalised."""
        return rms_norm(x, self.weight, self.eps)
