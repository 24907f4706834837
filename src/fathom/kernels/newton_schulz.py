"""Muon's orthogonalisation: the Newton-Schulz quintic iteration (Jordan et al. 2024), batched over matrices."""

import torch
from torch import Tensor

from fathom.kernels import native

COEFFICIENTS = (3.4445, -4.7750, 2.0315)

PANEL = 32
"""Columns the native products take at once: both sides must be multiples of it."""

LARGEST = 2**16
"""Elements of a matrix that one thread of the native form still keeps in its cache."""


def orthogonalise_reference(matrices: Tensor, steps: int = 5, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """Push the singular values of each of `matrices` (N, R, C) towards 1, working in `dtype`; dtype of the input."""
    a, b, c = COEFFICIENTS
    x = matrices.to(dtype)
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.transpose(-1, -2)
    x = x / (x.float().norm(dim=(-2, -1), keepdim=True) + 1e-7).to(dtype)
    for _ in range(steps):
        gram = x @ x.transpose(-1, -2)
        x = a * x + torch.baddbmm(gram, gram, gram, beta=b, alpha=c) @ x
    result: Tensor = x.transpose(-1, -2) if tall else x
    return result.to(matrices.dtype)


def orthogonalise(matrices: Tensor, steps: int = 5, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """See `orthogonalise_reference`; small wide matrices in bfloat16 take the native form of a CPU that has it."""
    if not _takes(matrices, dtype):
        return orthogonalise_reference(matrices, steps, dtype)
    x = matrices.to(dtype, memory_format=torch.contiguous_format, copy=True)
    native.call("newton_schulz", dtype, x, *x.shape, steps, *COEFFICIENTS)
    return x.to(matrices.dtype)


def _takes(matrices: Tensor, dtype: torch.dtype) -> bool:
    if matrices.dim() != 3 or dtype != torch.bfloat16 or matrices.device.type != "cpu":
        return False
    _, R, C = matrices.shape
    fits = R <= C and R % PANEL == 0 and C % PANEL == 0 and R * C <= LARGEST
    return fits and native.offers("newton_schulz", dtype)
