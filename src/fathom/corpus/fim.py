"""Fill in the middle (Bavarian et al. 2022), as in DeepSeek-V3 section 4.1: prefix, suffix, then the middle."""

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Rearrangement:
    """The three parts of a document."""

    prefix: str
    suffix: str
    middle: str

    @property
    def parts(self) -> tuple[str, str, str]:
        """In the order in which the model reads them."""
        return self.prefix, self.suffix, self.middle


def rearranged(text: str, rate: float, seed: bytes) -> Rearrangement | None:
    """Cut `text` at two random characters with probability `rate`; `seed` decides alone."""
    chance = random.Random(seed)
    if chance.random() >= rate:
        return None
    first, second = sorted((chance.randrange(len(text) + 1), chance.randrange(len(text) + 1)))
    return Rearrangement(prefix=text[:first], suffix=text[second:], middle=text[first:second])


def joined(prefix: list[int], suffix: list[int], middle: list[int], begin: int, hole: int, end: int) -> list[int]:
    """begin prefix hole suffix end middle; the separator of documents follows."""
    return [begin, *prefix, hole, *suffix, end, *middle]
