"""Sequences in the order of their ranks."""

from bisect import bisect_left
from collections.abc import Iterator

from fathom.engine.request import Sequence


class Queue:
    """Sequences, the lowest rank first."""

    def __init__(self) -> None:
        self._ranks: list[tuple[int, int]] = []
        self._sequences: list[Sequence] = []

    def add(self, sequence: Sequence) -> None:
        """Put in its place."""
        at = bisect_left(self._ranks, sequence.rank)
        self._ranks.insert(at, sequence.rank)
        self._sequences.insert(at, sequence)

    def remove(self, sequence: Sequence) -> bool:
        """Take out; False if it was not here."""
        at = bisect_left(self._ranks, sequence.rank)
        if at == len(self._ranks) or self._sequences[at] is not sequence:
            return False
        del self._ranks[at], self._sequences[at]
        return True

    def __getitem__(self, index: int) -> Sequence:
        return self._sequences[index]

    def __iter__(self) -> Iterator[Sequence]:
        return iter(self._sequences)

    def __reversed__(self) -> Iterator[Sequence]:
        return reversed(self._sequences)

    def __len__(self) -> int:
        return len(self._sequences)
