"""Routed experts on a GPU, differentiable: tokens sorted by expert, each expert's rows one part of a grouped product.

`torch.nn.functional.grouped_mm` is told where each expert's rows end by a tensor on the device, so that nothing waits
for the host. It has a fast form for bfloat16; rows begin at multiples of `ROWS`, which its gradients' strides need.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from fathom.kernels.gpu.sorting import tiles_of

ROWS = 16
WIDTH = 8
"""Bytes of a row must be a multiple of 16: 8 bfloat16 numbers."""


def takes(x: Tensor, gate_up: Tensor, down: Tensor) -> bool:
    """Whether this form takes these arguments of `experts`: bfloat16 activations on a GPU, even widths.

    On the meta device it stands for the GPU's, so that what a step will hold can be foreseen.
    """
    even = not (gate_up.shape[2] % WIDTH + down.shape[2] % WIDTH)
    return x.device.type in ("cuda", "meta") and x.dtype == torch.bfloat16 and even


def experts_sorted(x: Tensor, ids: Tensor, weights: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    """See `fathom.kernels.experts.experts_reference`. Differentiable in all but `ids`.

    The last expert's part goes on to the end of the rows, so that those which no pair needs are multiplied too; they
    hold zeros.
    """
    E, K = gate_up.shape[0], ids.shape[1]
    tiles = tiles_of(ids, E, ROWS)
    is_pair = tiles.pair >= 0
    rows = x.index_select(0, tiles.pair.clamp(min=0) // K) * is_pair[:, None].to(x.dtype)
    ends = (torch.searchsorted(tiles.expert, torch.arange(E, device=x.device), right=True) * ROWS).to(torch.int32)
    ends[-1] = rows.shape[0]
    both = F.grouped_mm(rows, gate_up.to(x.dtype).transpose(1, 2), offs=ends)
    gate, up = both.chunk(2, -1)
    made = F.grouped_mm(F.silu(gate) * up, down.to(x.dtype).transpose(1, 2), offs=ends)
    return (made[tiles.position] * weights.to(x.dtype).unsqueeze(-1)).sum(1)
