"""The latent cache: what attention remembers of earlier tokens, R + qk_rope_head_dim numbers a layer and token."""

import torch
from torch import Tensor

from fathom.config.model import ModelConfig
from fathom.errors import GenerationError


class LayerCache:
    """One layer's part of a `LatentCache`, as an attention module sees it."""

    def __init__(self, latent: Tensor, key: Tensor, length: int) -> None:
        self._latent, self._key, self._length = latent, key, length

    def append(self, latent: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """Store normed latents (B, S, R) and rotated shared keys (B, S, rope); return all T so far, detached."""
        end = self._length + latent.shape[1]
        self._latent[:, self._length : end] = latent.detach()
        self._key[:, self._length : end] = key.detach()
        return self._latent[:, :end], self._key[:, :end]


class LatentCache:
    """Room for `capacity` tokens of `batch` sequences. A forward pass given the cache appends its tokens to it."""

    def __init__(
        self,
        config: ModelConfig,
        batch: int,
        capacity: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        shape = (config.num_hidden_layers, batch, capacity)
        self.latent = torch.zeros(*shape, config.kv_lora_rank, dtype=dtype, device=device)
        """Normed latents (L, B, capacity, R)."""
        self.key = torch.zeros(*shape, config.qk_rope_head_dim, dtype=dtype, device=device)
        """Rotated keys that all heads share (L, B, capacity, qk_rope_head_dim)."""
        self.length = 0
        """Tokens held so far."""

    @property
    def capacity(self) -> int:
        """Most tokens a sequence can have."""
        return self.latent.shape[2]

    def layers(self, new: int) -> list[LayerCache]:
        """Each layer's part, to append `new` tokens to; `GenerationError` if they do not fit."""
        if self.length + new > self.capacity:
            raise GenerationError(
                f"The cache has room for {self.capacity} tokens and holds {self.length}; {new} more do not fit. "
                "Shorten the prompt or make the cache larger."
            )
        return [LayerCache(self.latent[i], self.key[i], self.length) for i in range(self.latent.shape[0])]

    def advance(self, new: int) -> None:
        """Count the `new` tokens every layer has appended."""
        self.length += new

    def crop(self, length: int) -> None:
        """Forget all but the first `length` tokens."""
        self.length = min(self.length, length)
