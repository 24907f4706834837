"""A step as data: which tokens of which sequences the model reads."""

from typing import NamedTuple

from fathom.engine.request import Sequence


class Chunk(NamedTuple):
    """What a sequence reads in a step: `length` tokens, its unread ones from `start` on and then its drafts."""

    sequence: Sequence
    start: int
    length: int
    drafts: int

    @property
    def completes(self) -> bool:
        """Whether nothing stays unread, so that the next token can be drawn."""
        return self.start + self.length - self.drafts == len(self.sequence.tokens)

    @property
    def decodes(self) -> bool:
        """Whether it is one token and its drafts."""
        return self.length == 1 + self.drafts


class Plan(NamedTuple):
    """A step."""

    chunks: list[Chunk]
    copies: list[tuple[int, int]]
    """Blocks to copy, (from, to), before anything is written."""
