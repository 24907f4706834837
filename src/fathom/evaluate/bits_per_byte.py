"""Bits per byte of held-out text: how many bits a model needs to code it, over its size in UTF-8 bytes.

Every token of the text is predicted exactly once, document ends included, so the figure can be compared across
tokenizers and with a general compressor of the same text.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fathom.corpus.batches import Tokens
from fathom.kernels.cross_entropy import linear_cross_entropy
from fathom.model.transformer import Transformer
from fathom.parallel.mesh import World

Advance = Callable[[float], None]


@dataclass(frozen=True)
class Windows:
    """Where a row of N tokens is read, so that tokens 1 to N - 1 are each predicted once.

    The first token has nothing before it and is given: a validation split begins with an end-of-sentence token.
    """

    length: int
    """Tokens a window reads."""
    starts: NDArray[np.int64]
    counted_from: NDArray[np.int64]
    """The first position of each window whose prediction counts."""


def windows(tokens: int, context: int, stride: int) -> Windows:
    """Windows of at most `context` tokens over a row of `tokens`, each after the first counting its last `stride`.

    A prediction in them sees at least context - stride tokens, so a smaller stride is more exact and slower. The last
    window is moved back to end with the text, and counts what the one before left.
    """
    length = min(context, tokens - 1)
    last = tokens - 1 - length
    starts = np.unique(np.append(np.arange(0, last, stride, dtype=np.int64), last))
    ends = starts + length
    return Windows(length, starts, np.append(0, ends[:-1] - starts[1:]))


@dataclass(frozen=True)
class BitsPerByte:
    """The cost of a text under a model."""

    nats: float
    """Sum of the negative log-likelihood over all tokens."""
    tokens: int
    """Tokens predicted."""
    text_bytes: int
    context: int
    stride: int
    loads: Tensor
    """(expert layers, E): tokens each expert took, tokens of overlapping windows counted each time."""

    @property
    def value(self) -> float:
        """Bits per byte."""
        return self.nats / math.log(2) / self.text_bytes

    @property
    def nats_per_token(self) -> float:
        """Mean negative log-likelihood of a token."""
        return self.nats / self.tokens


@torch.no_grad()
def bits_per_byte(
    model: Transformer,
    tokens: Tokens,
    text_bytes: int,
    world: World,
    *,
    context: int,
    stride: int,
    batch_sequences: int = 8,
    advance: Advance | None = None,
) -> BitsPerByte:
    """Judge `model` on `tokens`, whose text has `text_bytes` bytes; several processes share the windows.

    `advance` is told the share of the work done since the last call.
    """
    cut = windows(len(tokens), context, stride)
    rounds = math.ceil(len(cut.starts) / (batch_sequences * world.size))
    nats = torch.zeros((), dtype=torch.float64, device=world.device)
    loads: Tensor | None = None
    for index in range(rounds):
        first = (index * world.size + world.rank) * batch_sequences
        rows, counts = _rows(tokens, cut, first, batch_sequences)
        part, part_loads = _nats(model, rows.to(world.device), counts.to(world.device))
        nats += part
        loads = part_loads if loads is None else loads + part_loads
        if advance is not None:
            advance(1 / rounds)
    assert loads is not None
    world.sum_(nats)
    world.sum_(loads)
    return BitsPerByte(nats.item(), len(tokens) - 1, text_bytes, context, stride, loads.cpu())


def _rows(tokens: Tokens, cut: Windows, first: int, count: int) -> tuple[Tensor, Tensor]:
    """Windows `first` and on: rows (B, length + 1) and which predictions count (B, length), at most `count` of them.

    A process for which no window is left reads the last one again and counts nothing, for the others wait for it.
    """
    chosen = np.arange(first, min(first + count, len(cut.starts)))
    counting = len(chosen) > 0
    if not counting:
        chosen = np.array([len(cut.starts) - 1])
    rows = np.stack([tokens[int(start) : int(start) + cut.length + 1] for start in cut.starts[chosen]])
    counts = np.arange(cut.length)[None] >= cut.counted_from[chosen, None]
    return torch.from_numpy(rows), torch.from_numpy(counts & counting)


def _nats(model: Transformer, rows: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    trunk = model.trunk(rows[:, :-1])
    weights = torch.ones(counts.numel(), device=rows.device)
    _, nll = linear_cross_entropy(trunk.hidden.flatten(0, 1), model.head_weight, rows[:, 1:].flatten(), weights)
    counted = torch.where(counts.flatten(), nll.double(), 0.0)
    return counted.sum(), trunk.loads * int(counts.any())
