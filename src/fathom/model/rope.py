"""Rotary frequencies, plain (Su et al. 2021) and YaRN (Peng et al. 2023), and what YaRN does to the softmax scale."""

import math

import torch
from torch import Tensor

from fathom.config.model import ModelConfig, RopeScaling
from fathom.model.outputs import Rotation


class RotaryTables:
    """Makes the cosine and sine tables of a forward pass, once for all layers.

    Not a module: it has nothing to train, save, or cast to bf16. Angles are FP32 whatever the weights are, as in every
    released implementation.
    """

    def __init__(self, config: ModelConfig) -> None:
        self._frequencies = frequencies(config)
        self._stretch = table_factor(config.rope_scaling)
        self._placed: dict[torch.device, Tensor] = {}

    def __call__(self, positions: Tensor) -> Rotation:
        """Tables for `positions` (B or 1, S)."""
        angles = positions[..., None].float() * self._on(positions.device)
        cos, sin = angles.cos(), angles.sin()
        return Rotation(cos, sin) if self._stretch == 1 else Rotation(cos * self._stretch, sin * self._stretch)

    def _on(self, device: torch.device) -> Tensor:
        if device not in self._placed:
            self._placed[device] = self._frequencies.to(device)
        return self._placed[device]


def frequencies(config: ModelConfig) -> Tensor:
    """Angle per position of each rotary pair, (qk_rope_head_dim / 2,) FP32."""
    R, base, scaling = config.qk_rope_head_dim, config.rope_theta, config.rope_scaling
    wavelengths = base ** (torch.arange(0, R, 2, dtype=torch.float32, device="cpu") / R)
    plain = 1.0 / wavelengths
    if scaling is None:
        return plain
    first, last = (_turning(scaling, turns, R, base) for turns in (scaling.beta_fast, scaling.beta_slow))
    first, last = max(math.floor(first), 0), min(math.ceil(last), R - 1)
    pair = torch.arange(R // 2, dtype=torch.float32, device="cpu")
    keep = 1 - ((pair - first) / (last - first or 0.001)).clamp(0, 1)
    slow = 1.0 / (scaling.factor * wavelengths)
    return slow * (1 - keep) + plain * keep


def _turning(scaling: RopeScaling, turns: float, R: int, base: float) -> float:
    """The (fractional) rotary pair that makes `turns` turns over the original context."""
    return R * math.log(scaling.original_max_position_embeddings / (turns * 2 * math.pi)) / (2 * math.log(base))


def _sharpening(factor: float, mscale: float) -> float:
    """YaRN's sqrt(1/t) = 0.1 mscale ln s + 1."""
    return 0.1 * mscale * math.log(factor) + 1.0


def table_factor(scaling: RopeScaling | None) -> float:
    """What cosine and sine are multiplied by: 1 in V2 and V3, whose `mscale` and `mscale_all_dim` agree."""
    if scaling is None:
        return 1.0
    return _sharpening(scaling.factor, scaling.mscale) / _sharpening(scaling.factor, scaling.mscale_all_dim)


def softmax_scale(config: ModelConfig) -> float:
    """1 / sqrt(query width) (V3 eq. 10), sharpened under YaRN by (0.1 mscale_all_dim ln s + 1) squared."""
    scale = 1 / math.sqrt(config.qk_head_dim)
    if config.rope_scaling is None:
        return scale
    sharpening = _sharpening(config.rope_scaling.factor, config.rope_scaling.mscale_all_dim)
    return scale * sharpening * sharpening
