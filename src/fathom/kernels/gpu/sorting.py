"""Which expert's rows stand where, without a word between device and host."""

from typing import NamedTuple

import torch
from torch import Tensor


class Tiles(NamedTuple):
    """Where each pair stands once pairs are sorted by expert, every expert beginning a tile."""

    expert: Tensor
    """(tiles,) int64: whose rows a tile holds; E for tiles nobody needs."""
    pair: Tensor
    """(tiles * rows a tile,) int64: which pair stands in a row, -1 where none does."""
    position: Tensor
    """(T, K) int64: the row of a token's k-th choice."""


def tiles_of(ids: Tensor, experts: int, rows: int) -> Tiles:
    """Sort the choices `ids` (T, K) of `experts` into tiles of so many rows; shapes do not depend on who was chosen."""
    flat = ids.flatten()
    pairs = flat.numel()
    tiles = pairs // rows + min(pairs, experts)
    order = flat.argsort(stable=True)
    counts = flat.new_zeros(experts).scatter_add_(0, flat, torch.ones_like(flat))
    needed = (counts + rows - 1) // rows
    ends = needed.cumsum(0)
    first_row, first_pair = (ends - needed) * rows, counts.cumsum(0) - counts
    chosen = flat[order]
    row = first_row[chosen] + torch.arange(pairs, device=ids.device) - first_pair[chosen]
    expert = torch.searchsorted(ends, torch.arange(tiles, device=ids.device), right=True)
    pair = flat.new_full((tiles * rows,), -1).scatter_(0, row, order)
    return Tiles(expert, pair, torch.empty_like(flat).scatter_(0, order, row).view_as(ids))
