"""A name for what decides the rows of a cache: the model's configuration and weights, and the cache's own form."""

import json
from hashlib import blake2b
from typing import TYPE_CHECKING

from fathom.engine.keys import KEY_BYTES

if TYPE_CHECKING:
    from torch import Tensor

    from fathom.model.paged import PagedStores
    from fathom.model.transformer import Transformer

FORMAT = 1
SAMPLES = 256
"""Numbers looked at in each tensor, evenly spread. Training changes nearly all of them, so that some are enough."""


def fingerprint(model: "Transformer", memory: "PagedStores") -> bytes:
    """The same for the same weights, computed in the same type, in blocks of the same size; in no other case."""
    import torch

    store = memory.stores[0]
    form = [FORMAT, memory.block_size, str(store.dtype), store.shape[0]]
    seen = blake2b(
        json.dumps([form, model.config.model_dump(mode="json")], sort_keys=True).encode(), digest_size=KEY_BYTES
    )
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            flat = tensor.detach().reshape(-1)
            seen.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            at = places(flat.numel()).to(flat.device)
            seen.update(flat[at].cpu().view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
    return seen.digest()


def places(count: int) -> "Tensor":
    """Where to look in `count` numbers, (SAMPLES or `count`,) int64, from the first to the last.

    In whole numbers: beyond 2^24 a float of 32 bits rounds the last place to one that is not there.
    """
    import torch

    samples = min(SAMPLES, count)
    return torch.arange(samples) * (count - 1) // max(samples - 1, 1)
