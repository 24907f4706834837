"""Attention of ragged sequences over keys and values that lie in blocks of a shared store.

A store is one layer's rows of one cached tensor, (N blocks, block size, W): for MLA a single store of width R + rope
holds the normed latent and the rotated shared key of a token side by side; grouped-query attention has one store of
rotated keys and one of values, both of width Hkv C. A sequence's token t stands in block `table[t // block size]` at
row `t % block size`, so blocks may be scattered, and several sequences may share one.

The tokens of a step are those of all its sequences, one after the other: one token of a sequence that decodes, several
of one that verifies a draft, many of one whose prompt is being read. Rows of a table beyond a sequence's length may
hold anything, NaN too, and so may blocks beyond the end of its table: a kernel must not multiply them, not even by
zero. The functions here loop over sequences and are what faster forms are tested against; a sequence's result does not
depend on its neighbours.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fathom.kernels.attention import attention
from fathom.kernels.gpu import door

FEW_QUERIES = 16
"""A sequence with more tokens in a step reads its keys once for all of them, by a product of matrices."""


@dataclass(frozen=True)
class Ragged:
    """Where the tokens of one step stand: T tokens of N sequences, each sequence's last tokens."""

    slots: Tensor
    """(T,) int64: the row of the flattened store, block * block size + offset, that each token is written to."""
    tables: Tensor
    """(N, M) int32: the blocks of each sequence in order; a row's entries beyond its sequence's blocks are 0."""
    lengths: Tensor
    """(N,) int32: tokens of each sequence up to and with its last in this step, all of which that last one sees."""
    starts: Tensor
    """(N + 1,) int32: the tokens of sequence n are starts[n] to starts[n + 1]."""
    queries: tuple[int, ...]
    """Tokens of each sequence in this step; as `starts`, for loops in Python."""
    keys: tuple[int, ...]
    """As `lengths`, for loops in Python."""

    def first(self, sequences: int) -> "Ragged":
        """The first so many sequences alone."""
        if sequences == len(self.queries):
            return self
        tokens = sum(self.queries[:sequences])
        return Ragged(
            self.slots[:tokens],
            self.tables[:sequences],
            self.lengths[:sequences],
            self.starts[: sequences + 1],
            self.queries[:sequences],
            self.keys[:sequences],
        )

    def spans(self, first_sequence: int = 0) -> Iterator[tuple[int, int, int]]:
        """(sequence, its first token, end of its tokens) for each sequence from `first_sequence` on."""
        start = sum(self.queries[:first_sequence])
        for n in range(first_sequence, len(self.queries)):
            end = start + self.queries[n]
            yield n, start, end
            start = end


def write_rows(store: Tensor, slots: Tensor, rows: Tensor) -> None:
    """Put rows (T, W) where `slots` (T,) says in a store (N blocks, block size, W)."""
    store.view(-1, store.shape[-1]).index_copy_(0, slots, rows.detach().to(store.dtype))


def gather_rows(store: Tensor, table: Tensor, length: int) -> Tensor:
    """The first `length` rows (length, W) of the sequence whose blocks are `table` (M,)."""
    blocks = -(-length // store.shape[1])
    return store.index_select(0, table[:blocks]).flatten(0, 1)[:length]


def latent_attention_reference(q: Tensor, store: Tensor, ragged: Ragged, scale: float, rank: int) -> Tensor:
    """Absorbed MLA decode: all heads' queries read the latents themselves; causal within a sequence.

    `q` (T, H, R + rope) holds absorbed queries, rotated part last; `store` (N blocks, block size, R + rope). Keys are
    whole rows, values their first `rank` numbers. Returns (T, H, R): what each head's value projection is applied to.
    """
    out = q.new_empty(*q.shape[:2], rank)
    for n, start, end in ragged.spans():
        rows = gather_rows(store, ragged.tables[n], ragged.keys[n]).expand(1, q.shape[1], -1, -1)
        heads = attention(q[start:end].transpose(0, 1)[None], rows, rows[..., :rank], scale)
        out[start:end] = heads[0].transpose(0, 1)
    return out


def grouped_attention_reference(q: Tensor, keys: Tensor, values: Tensor, ragged: Ragged, scale: float) -> Tensor:
    """Grouped-query attention, causal within a sequence: the heads of a group read the same key and value.

    `q` (T, H, C); `keys` and `values` (N blocks, block size, Hkv C), H a multiple of Hkv. Returns (T, H, C).
    """
    out = torch.empty_like(q)
    _attend_each(out, q, keys, values, ragged, scale)
    return out


def _attend_each(
    out: Tensor, q: Tensor, keys: Tensor, values: Tensor, ragged: Ragged, scale: float, first_sequence: int = 0
) -> None:
    """Fill `out` with the reference's results for the sequences from `first_sequence` on."""
    H, C = q.shape[1:]
    groups = keys.shape[-1] // C
    for n, start, end in ragged.spans(first_sequence):
        length = ragged.keys[n]
        k, v = (
            gather_rows(store, ragged.tables[n], length)
            .view(length, groups, C)
            .transpose(0, 1)
            .repeat_interleave(H // groups, 0)[None]
            for store in (keys, values)
        )
        out[start:end] = attention(q[start:end].transpose(0, 1)[None], k, v, scale)[0].transpose(0, 1)


def latent_attention(q: Tensor, store: Tensor, ragged: Ragged, scale: float, rank: int) -> Tensor:
    """Absorbed MLA decode by the fastest form for the device; see `latent_attention_reference`."""
    if door.usable(q, store, ragged.tables) and q.dtype == store.dtype:
        from fathom.kernels.gpu import paged_attention as gpu

        if gpu.latent_stands(q.device, q.dtype, q.shape[1], q.shape[2], rank, store.shape[1]):
            return gpu.latent_attention(q, store, ragged, scale, rank)
    return latent_attention_reference(q, store, ragged, scale, rank)


def grouped_attention(q: Tensor, keys: Tensor, values: Tensor, ragged: Ragged, scale: float) -> Tensor:
    """Paged grouped-query attention by the fastest form for the device; see `grouped_attention_reference`."""
    few = next((n for n, count in enumerate(ragged.queries) if count > FEW_QUERIES), len(ragged.queries))
    if few and door.usable(q, keys, values, ragged.tables) and q.dtype == keys.dtype:
        from fathom.kernels.gpu import paged_attention as gpu

        if gpu.grouped_stands(q.device, q.dtype, *q.shape[1:], keys.shape[2] // q.shape[2], keys.shape[1]):
            leading = ragged.first(few)
            tokens = sum(leading.queries)
            made = gpu.grouped_attention(q[:tokens], keys, values, leading, scale)
            if few == len(ragged.queries):
                return made
            out = torch.empty_like(q)
            out[:tokens] = made
            _attend_each(out, q, keys, values, ragged, scale, few)
            return out
    return grouped_attention_reference(q, keys, values, ragged, scale)
