"""Draws the next tokens of many sequences at once, each exactly as if it were alone.

The PyTorch form here runs on any device and tells everything about a draw; where a C++ compiler is at hand, a kernel
draws what lies in FP32 on the CPU, from the same random numbers.
"""

import math
from array import array
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from fathom.engine.adjusting import adjusted
from fathom.engine.filters import ends_within, kept, likeliest, tempered
from fathom.engine.noise import exponentials
from fathom.engine.rows import Row, Sampled, records
from fathom.engine.sampling import SamplingParams
from fathom.errors import GenerationError

if TYPE_CHECKING:
    from numpy import int32
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["Row", "Sampled", "adjusted", "enter", "sample"]

CANDIDATES = (64, 1024)
"""So many of the likeliest tokens are looked at before all of them are sorted."""
NOISE_AT_ONCE = 1 << 17
"""Random numbers made in one go: their intermediate values should stay in a core's cache."""


class Kind(NamedTuple):
    """Rows that are computed in the same way. It depends on a row alone, never on the others in its batch."""

    greedy: bool
    min_p: bool
    sorts: bool


class Drawn(NamedTuple):
    """What a group of n rows came to."""

    tokens: "Tensor"
    """(n,) int64."""
    logprobs: "Tensor"
    """(n,) of those tokens."""
    candidates: "Tensor"
    """Log-probabilities (n, C), -inf for what was left out."""
    ids: "Tensor | None"
    """Token ids (n, C) of the candidates; None when they are the whole vocabulary."""


def sample(logits: "Tensor", rows: Sequence[Row]) -> list[Sampled | GenerationError]:
    """Draw one token for each row of logits (N, V); a row that cannot be drawn from yields its error instead."""
    import torch

    with torch.inference_mode():
        scores = adjusted(logits, rows)
        live = [i for i, row in enumerate(rows) if row.forced is None and row.error is None]
        results = _drawn_at_once(scores, rows, live)
        slow = [i for i in live if i not in results or rows[i].params.logprobs is not None]
        for kind, members in _groups(rows, slow).items():
            part = scores if len(members) == len(rows) else scores[members]
            for index, result in zip(members, _sample_group(part, [rows[i] for i in members], kind), strict=True):
                known = results.get(index)
                results[index] = known._replace(top_logprobs=result.top_logprobs) if known and result else result
    return [
        row.error or (_forced(row) if row.forced is not None else results[i] or _complaint(logits[i]))
        for i, row in enumerate(rows)
    ]


def _drawn_at_once(scores: "Tensor", rows: Sequence[Row], live: Sequence[int]) -> dict[int, Sampled | None]:
    """What the native kernel draws, by row; it tells no more than the token, and cannot tell what was kept."""
    from fathom.kernels.draw import draw, usable

    members = [i for i in live if not records(rows[i])]
    if not members or not usable(scores):
        return {}
    wholes, reals = array("q"), array("d")
    for i in members:
        enter(rows[i].key, rows[i].params, wholes, reals)
    tokens, logprobs = draw(scores if len(members) == len(rows) else scores[members], wholes, reals)
    pairs = map(Sampled, tokens, logprobs)
    return {i: sampled if sampled.token >= 0 else None for i, sampled in zip(members, pairs, strict=True)}


def enter(key: int, params: SamplingParams, wholes: "array[int]", reals: "array[float]") -> None:
    """Add what the native kernel must know to draw one token."""
    wholes.append(key)
    wholes.append(params.top_k)
    reals.extend((params.temperature, params.min_p, params.top_p))


def _groups(rows: Sequence[Row], members: Sequence[int]) -> dict[Kind, list[int]]:
    groups: dict[Kind, list[int]] = defaultdict(list)
    for i in members:
        params = rows[i].params
        if params.temperature == 0:
            groups[Kind(True, False, False)].append(i)
        else:
            groups[Kind(False, params.min_p > 0, params.top_k > 0 or params.top_p < 1)].append(i)
    return groups


def _sample_group(scores: "Tensor", rows: Sequence[Row], kind: Kind) -> list[Sampled | None]:
    """Draw from adjusted scores (n, V) of rows of one kind; None for a row without a distribution."""
    if kind.greedy:
        drawn = _greedy(scores)
    else:
        logprobs = tempered(scores, rows, kind.min_p)
        if kind.sorts:
            return _limited(logprobs, rows)
        drawn = _race(logprobs, None, _keys(rows, logprobs))
    return _results(drawn, rows)


def _greedy(scores: "Tensor") -> Drawn:
    logprobs = scores.log_softmax(-1)
    tokens = scores.argmax(-1)
    return Drawn(tokens, logprobs.gather(1, tokens[:, None])[:, 0], logprobs, None)


def _keys(rows: Sequence[Row], like: "Tensor") -> "Tensor":
    import torch

    return torch.tensor([row.key for row in rows], device=like.device)[:, None]


def _race(logprobs: "Tensor", ids: "Tensor | None", keys: "Tensor") -> Drawn:
    """Draw from log-probabilities (n, C) of the tokens `ids` (n, C), or of all; see `noise`."""
    import torch

    every = torch.arange(logprobs.shape[1], device=logprobs.device)
    at_once = max(1, NOISE_AT_ONCE // logprobs.shape[1])
    winners = []
    for part in range(0, len(logprobs), at_once):
        rows = slice(part, part + at_once)
        noise = exponentials(keys[rows], every if ids is None else ids[rows])
        winners.append((logprobs[rows].exp() / noise).argmax(-1))
    places = torch.cat(winners)[:, None]
    tokens = places if ids is None else ids.gather(1, places)
    return Drawn(tokens[:, 0], logprobs.gather(1, places)[:, 0], logprobs, ids)


def _limited(logprobs: "Tensor", rows: Sequence[Row]) -> list[Sampled | None]:
    """Draw with top_k and top_p, looking at as few of the likeliest tokens as each row's limits need."""
    results: list[Sampled | None] = [None] * len(rows)
    waiting = list(range(len(rows)))
    masses = (logprobs - logprobs.amax(-1, keepdim=True)).exp().sum(-1, keepdim=True).double()
    for width in (*(count for count in CANDIDATES if count < logprobs.shape[1]), logprobs.shape[1]):
        values, ids = likeliest(logprobs[waiting], width)
        keep = kept(values, [rows[i] for i in waiting], masses[waiting])
        ends = (ends_within(values, keep, [rows[i] for i in waiting]) | (width == logprobs.shape[1])).tolist()
        places = [place for place, enough in enumerate(ends) if enough]
        if places:
            members = [rows[waiting[place]] for place in places]
            final = values[places].masked_fill(~keep[places], -math.inf).log_softmax(-1)
            drawn = _results(_race(final, ids[places], _keys(members, final)), members)
            for place, result in zip(places, drawn, strict=True):
                results[waiting[place]] = result
        waiting = [index for index, enough in zip(waiting, ends, strict=True) if not enough]
        if not waiting:
            break
    return results


def _results(drawn: Drawn, rows: Sequence[Row]) -> list[Sampled | None]:
    tokens, logprobs = drawn.tokens.tolist(), drawn.logprobs.tolist()
    results: list[Sampled | None] = []
    for i, (row, token, logprob) in enumerate(zip(rows, tokens, logprobs, strict=True)):
        ids = None if drawn.ids is None else drawn.ids[i]
        top = None if row.params.logprobs is None else _top(drawn.candidates[i], ids, row.params.logprobs)
        left = _kept_ids(drawn.candidates[i], ids) if records(row) else None
        results.append(Sampled(token, logprob, top, left) if math.isfinite(logprob) else None)
    return results


def _top(logprobs: "Tensor", ids: "Tensor | None", count: int) -> tuple[tuple[int, float], ...]:
    values, places = logprobs.topk(min(count, len(logprobs)))
    tokens = places if ids is None else ids[places]
    pairs = zip(tokens.tolist(), values.tolist(), strict=True)
    return tuple(pair for pair in pairs if pair[1] > -math.inf)


def _kept_ids(logprobs: "Tensor", ids: "Tensor | None") -> "NDArray[int32] | None":
    import torch

    places = (logprobs > -math.inf).nonzero()[:, 0]
    if ids is None and len(places) == len(logprobs):
        return None
    tokens = places if ids is None else ids[places].sort().values
    left: NDArray[int32] = tokens.to("cpu", torch.int32).numpy()
    return left


def _forced(row: Row) -> Sampled:
    """The one token that may come, which is therefore certain."""
    import numpy as np

    assert row.forced is not None
    top = None if row.params.logprobs is None else ((row.forced, 0.0),)[: row.params.logprobs]
    return Sampled(row.forced, 0.0, top, np.array([row.forced], np.int32) if records(row) else None)


def _complaint(logits: "Tensor") -> GenerationError:
    if logits.isnan().any() or logits.isposinf().any() or not logits.isfinite().any():
        return GenerationError("The model's logits are not numbers (NaN or all infinite): its weights are damaged.")
    return GenerationError(
        "No token is left to draw: structured, logit_bias and min_tokens together forbid the whole vocabulary."
    )
