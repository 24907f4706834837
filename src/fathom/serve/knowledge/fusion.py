"""Two rankings of passages as one: by their words, and by their vectors."""

from collections import defaultdict
from collections.abc import Sequence

DAMPING = 2
"""How little the first places of a ranking stand out. The paper's 60 suits rankings of equal worth: a passage that both
have in the fortieth place would come before one that the words have in the first."""
SHARE = 0.5
"""What a place by vectors counts, where one by words counts 1. Both numbers are measured: `benchmarks/retrieval.py`."""


def fused(by_words: Sequence[int], by_vectors: Sequence[int]) -> list[int]:
    """Everything that is ranked anywhere, the best first, by weighted reciprocal rank fusion.

    In place r, from 1, a passage gains 1 / (2 + r), or half of that by its vector; scores of different kinds need no
    common scale (Cormack, Clarke and Büttcher 2009, "Reciprocal rank fusion outperforms Condorcet and individual rank
    learning methods"). Of equals the one with the better words comes first.
    """
    scores: defaultdict[int, float] = defaultdict(float)
    for ranking, worth in ((by_words, 1.0), (by_vectors, SHARE)):
        for place, one in enumerate(ranking, start=1):
            scores[one] += worth / (DAMPING + place)
    return sorted(scores, key=scores.__getitem__, reverse=True)
