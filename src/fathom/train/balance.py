"""Balance of the experts' load: the bias rule of arXiv 2408.15664 as V3 uses it, and the measure both report."""

from collections.abc import Sequence

import torch
from torch import Tensor


@torch.no_grad()
def update_biases(biases: Sequence[Tensor], loads: Tensor, speed: float) -> None:
    """Move each routing bias by `speed` towards the mean load: b += speed * sign(mean - load).

    `biases`: one (E,) FP32 buffer a layer, changed in place. `loads` (L, E): tokens each expert took in the step's
    whole batch, over all processes; evaluation and recomputed passes are never in it.
    """
    if speed == 0.0 or not biases:
        return
    wide = loads.to(torch.float32)
    steps = torch.sign(wide.mean(-1, keepdim=True) - wide) * speed
    for bias, step in zip(biases, steps, strict=True):
        bias.add_(step.to(bias))


def max_violation(loads: Tensor) -> Tensor:
    """MaxVio of each layer, (max load - mean load) / mean load, for `loads` (L, E); returns (L,)."""
    wide = loads.to(torch.float32)
    mean = wide.mean(-1).clamp_min(1e-9)
    return (wide.amax(-1) - mean) / mean
