"""Training batches: a pure function of a number, so that a resumed run needs nothing but that number."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fathom.corpus.permutation import permuted
from fathom.errors import CorpusError, RecipeError


class Tokens(Protocol):
    """A long row of tokens, `TokenShards` for one."""

    def __len__(self) -> int: ...
    def __getitem__(self, place: slice, /) -> NDArray[np.int64]: ...


class TrainingBatches:
    """Sequences cut from a row of tokens and served in a seeded order, a new order each epoch.

    Sequence i starts at token i * sequence_length and carries 1 + `extra` tokens beyond its length, the targets of its
    last positions (extra = number of multi-token-prediction depths). In an epoch each token is thus an input once; only
    the tail too short for a sequence is left out, and each epoch begins at another place so that this tail moves.
    """

    def __init__(self, shards: Tokens, sequence_length: int, extra: int, seed: int) -> None:
        self._shards, self._length, self._width, self._seed = shards, sequence_length, sequence_length + 1 + extra, seed
        self.sequences = max(0, (len(shards) - 1 - extra) // sequence_length)
        """Sequences in an epoch."""
        if self.sequences == 0:
            raise CorpusError(
                f"the corpus has {len(shards):,} tokens, too few for one sequence of {self._width:,}: "
                "add text, or shorten the recipe's sequence length."
            )
        self._spare = len(shards) - 1 - extra - self.sequences * sequence_length

    def batch(self, index: int, size: int, rank: int = 0, world: int = 1) -> NDArray[np.int64]:
        """Rank `rank`'s rows of the `size` sequences that follow the first `index`: (size / world, length + 1 + extra).

        The rows of ranks 0, 1, ... put one after the other are the batch of a single process.
        """
        if size % world:
            raise RecipeError(f"a batch of {size} sequences does not divide among {world} processes.")
        share = size // world
        return self.rows(np.arange(index + rank * share, index + (rank + 1) * share, dtype=np.int64))

    def rows(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """The sequences served at `indices`, counted from the start of training."""
        rows = np.empty((len(indices), self._width), dtype=np.int64)
        epochs, places = np.divmod(indices, self.sequences)
        for epoch in np.unique(epochs):
            where = np.flatnonzero(epochs == epoch)
            shift = self.epoch_shift(int(epoch))
            starts = permuted(places[where], self.sequences, self._seed, int(epoch)) * self._length + shift
            for row, start in zip(where, starts, strict=True):
                rows[row] = self._shards[int(start) : int(start) + self._width]
        return rows

    def epoch_shift(self, epoch: int) -> int:
        """The first token that this epoch reads."""
        return int(permuted(np.array([epoch % (self._spare + 1)]), self._spare + 1, self._seed)[0])

    def epoch(self, index: int) -> float:
        """How many times the text has been read when `index` sequences have been served."""
        return index / self.sequences
