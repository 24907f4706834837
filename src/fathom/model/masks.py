"""Attention masks beyond the causal one: padding, and documents that must not see each other."""

import torch
from torch import Tensor


def causal_mask(queries: int, keys: int, device: torch.device | str = "cpu") -> Tensor:
    """True (1, 1, S, T) where a query may look, the last query standing at the last key."""
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)[None, None]


def padding_mask(is_token: Tensor, queries: int | None = None) -> Tensor:
    """Causal mask (B, 1, S, T) that hides padding; `is_token` (B, T) is False there, cached tokens included.

    Padding sees itself, so that no row is empty: an empty softmax is NaN, and NaN spreads.
    """
    keys = is_token.shape[1]
    queries = keys if queries is None else queries
    itself = torch.eye(keys, dtype=torch.bool, device=is_token.device)[keys - queries :]
    return causal_mask(queries, keys, is_token.device) & is_token[:, None, None, :] | itself


def padding_positions(is_token: Tensor) -> Tensor:
    """Positions (B, T) that count tokens only, for rows padded on the left."""
    return (is_token.cumsum(-1) - 1).clamp(min=0)


def document_mask(document: Tensor) -> Tensor:
    """Causal mask (B, 1, S, S) within each packed document; `document` (B, S) numbers them."""
    S = document.shape[1]
    return causal_mask(S, S, document.device) & (document[:, None, :, None] == document[:, None, None, :])
