"""Several rankings as one."""

from collections import defaultdict
from collections.abc import Sequence

DAMPING = 60
"""How little the first places of a ranking stand out; the value of the paper."""


def fused(*rankings: Sequence[int]) -> list[int]:
    """Everything that is ranked anywhere, the best first, by reciprocal rank fusion.

    What a ranking has in place r, from 1, gains 1 / (60 + r); scores of different kinds need no common scale
    (Cormack, Clarke and Büttcher 2009, "Reciprocal rank fusion outperforms Condorcet and individual rank learning
    methods"). Of equals the one that is met first, in the order of the rankings, comes first.
    """
    scores: defaultdict[int, float] = defaultdict(float)
    for ranking in rankings:
        for place, one in enumerate(ranking, start=1):
            scores[one] += 1 / (DAMPING + place)
    return sorted(scores, key=scores.__getitem__, reverse=True)
