"""Changes to logits before anything is drawn: penalties, bias, tokens that may not come."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fathom.engine.rows import Row

if TYPE_CHECKING:
    from torch import Tensor


def adjusted(logits: "Tensor", rows: Sequence[Row]) -> "Tensor":
    """Logits (N, V) in FP32 (FP64 stays) after penalties and bias; -inf for tokens that may not be drawn."""
    import torch

    scores = logits.detach()
    scores = scores if scores.dtype == torch.float64 else scores.float()
    changes = [row.seen is not None or row.params.logit_bias or row.banned or row.allowed is not None for row in rows]
    if not any(changes):
        return scores
    scores = scores.clone() if scores.data_ptr() == logits.data_ptr() else scores
    _penalise(scores, rows)
    biased = [(i, token, bias) for i, row in enumerate(rows) for token, bias in row.params.logit_bias.items()]
    if biased:
        places, values = _places([entry[:2] for entry in biased], scores), [entry[2] for entry in biased]
        scores[places] += torch.tensor(values, dtype=scores.dtype, device=scores.device)
    banned = [(i, token) for i, row in enumerate(rows) for token in row.banned]
    if banned:
        scores[_places(banned, scores)] = -math.inf
    _mask(scores, rows)
    return scores


def _places(pairs: Sequence[tuple[int, int]], scores: "Tensor") -> "tuple[Tensor, Tensor]":
    import torch

    rows, tokens = torch.tensor(pairs, device=scores.device).unbind(1)
    return rows, tokens


def _penalise(scores: "Tensor", rows: Sequence[Row]) -> None:
    """Apply the three penalties in place; `tests/engine/distribution.py` has the plain form."""
    import numpy as np
    import torch

    holders = [(i, row.params, row.seen) for i, row in enumerate(rows) if row.seen is not None]
    if not holders:
        return
    lengths = [len(seen.ids) for _, _, seen in holders]

    def spread(values: list[float]) -> "Tensor":
        return torch.from_numpy(np.repeat(np.array(values), lengths)).to(scores)

    ids = torch.from_numpy(np.concatenate([seen.ids for _, _, seen in holders])).to(scores.device)
    counts = torch.from_numpy(np.concatenate([seen.counts for _, _, seen in holders])).to(scores)
    in_prompt = torch.from_numpy(np.concatenate([seen.in_prompt for _, _, seen in holders])).to(scores.device)
    index = torch.from_numpy(np.repeat(np.array([i for i, _, _ in holders]), lengths)).to(scores.device)
    repetition = spread([params.repetition_penalty for _, params, _ in holders])
    frequency = spread([params.frequency_penalty for _, params, _ in holders])
    presence = spread([params.presence_penalty for _, params, _ in holders])
    values, generated = scores[index, ids], counts > 0
    repeated = torch.where(values > 0, values / repetition, values * repetition)
    values = torch.where(generated | in_prompt, repeated, values)
    scores[index, ids] = values - frequency * counts - presence * generated


def _mask(scores: "Tensor", rows: Sequence[Row]) -> None:
    """Set to -inf, in place, what structure does not allow; tokens beyond the bits are not allowed."""
    import numpy as np
    import torch

    for i, row in enumerate(rows):
        if row.allowed is not None:
            bits = np.unpackbits(row.allowed, count=scores.shape[1], bitorder="little")
            scores[i].masked_fill_(~torch.from_numpy(bits).to(scores.device, torch.bool), -math.inf)
