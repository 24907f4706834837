"""Which tokens of a distribution may be drawn: temperature, min_p, top_k, top_p."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fathom.engine.rows import Row

if TYPE_CHECKING:
    from torch import Tensor


def tempered(scores: "Tensor", rows: Sequence[Row], min_p: bool) -> "Tensor":
    """Log-probabilities (n, V) at the rows' temperatures, without what is too unlikely for their min_p."""
    import torch

    def column(values: list[float]) -> "Tensor":
        return torch.tensor(values, dtype=scores.dtype, device=scores.device)[:, None]

    # Nothing overflows, however low the temperature, when the largest is 0.
    scores = scores - scores.amax(-1, keepdim=True)
    logprobs = (scores / column([row.params.temperature for row in rows])).log_softmax(-1)
    if min_p:
        floor = logprobs.amax(-1, keepdim=True) + column([math.log(row.params.min_p) for row in rows])
        logprobs = logprobs.masked_fill(logprobs < floor, -math.inf).log_softmax(-1)
    return logprobs


def likeliest(logprobs: "Tensor", width: int) -> "tuple[Tensor, Tensor]":
    """The `width` likeliest tokens' log-probabilities and ids (n, width), in order; equals by id."""
    if width == logprobs.shape[1]:
        values, ids = logprobs.sort(descending=True, stable=True)
        return values, ids
    ids = logprobs.topk(width, sorted=False).indices.sort(-1).values
    values, order = logprobs.gather(1, ids).sort(descending=True, stable=True)
    return values, ids.gather(1, order)


def ends_within(values: "Tensor", kept: "Tensor", rows: Sequence[Row]) -> "Tensor":
    """Whether (n,) what is kept, and everything as likely as the last of it, is among these candidates."""
    import torch

    last = values.gather(1, kept.sum(-1, keepdim=True) - 1)[:, 0]
    counted = torch.tensor([row.params.top_k < values.shape[1] for row in rows], device=values.device)
    return (last > values[:, -1]) & counted


def kept(ordered: "Tensor", rows: Sequence[Row], masses: "Tensor") -> "Tensor":
    """Which of the descending log-probabilities (n, C) top_k, then top_p keep; the first one always.

    `masses` (n, 1) FP64 are of all tokens, where the likeliest one's is 1: equal tokens then have equal masses to the
    last bit, and half of two is one.
    """
    import torch

    every = ordered.shape[1]
    top_k = torch.tensor([row.params.top_k or every for row in rows], device=ordered.device)[:, None]
    top_p = torch.tensor([row.params.top_p for row in rows], dtype=torch.float64, device=ordered.device)[:, None]
    keep = (torch.arange(every, device=ordered.device) < top_k) & (ordered > -math.inf)
    sums = ((ordered - ordered[:, :1]).double().exp() * keep).cumsum(-1)
    before = torch.nn.functional.pad(sums[:, :-1], (1, 0))
    # Under top_k the mass is what it keeps; without it all, though only the likeliest are looked at here.
    mass = torch.where(top_k < every, sums[:, -1:], masses)
    keep &= (before < top_p * mass) | (top_p == 1)
    keep[:, 0] = True
    return keep
