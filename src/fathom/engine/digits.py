"""Numbers that end. JSON allows a number any number of digits, and a model that is unsure may write them for ever."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy import uint8
    from numpy.typing import NDArray

MOST = 24
"""Digits in a row, outside of strings: more than any float or 64-bit integer has."""
QUOTE, BACKSLASH = b'"\\'
DIGITS = frozenset(b"0123456789")


class DigitTokens:
    """A vocabulary's tokens that begin with a digit."""

    def __init__(self, tokens: Sequence[bytes]) -> None:
        """`tokens` are the bytes of each id."""
        import numpy as np

        self.tokens = tokens
        starts = np.array([bool(token) and token[0] in DIGITS for token in tokens])
        self.others: NDArray[uint8] = ~np.packbits(starts, bitorder="little")
        """One bit a token, lowest first, of all other tokens."""


class DigitRun:
    """How many digits in a row a JSON text ends in."""

    def __init__(self, vocabulary: DigitTokens) -> None:
        self._vocabulary = vocabulary
        self._states = [(0, False, False)]
        """After each token: digits in a row, whether in a string, whether after a backslash in it."""

    def push(self, token: int) -> None:
        """Take the next token."""
        run, inside, escaped = self._states[-1]
        for byte in self._vocabulary.tokens[token]:
            if inside:
                inside = escaped or byte != QUOTE
                escaped = not escaped and byte == BACKSLASH
            else:
                inside = byte == QUOTE
                run = run + 1 if byte in DIGITS else 0
        self._states.append((run, inside, escaped))

    def pop(self, count: int) -> None:
        """Take the last `count` tokens back."""
        del self._states[len(self._states) - count :]

    def limited(self, allowed: "NDArray[uint8]") -> "NDArray[uint8]":
        """What may follow: no more digits after `MOST`, unless nothing else could."""
        run, inside, _ = self._states[-1]
        if inside or run < MOST:
            return allowed
        others = self._vocabulary.others
        kept = allowed.copy()
        kept[: len(others)] &= others
        return kept if kept.any() else allowed
