"""Draws the next tokens of many sequences at once, each exactly as if it were alone.

The PyTorch form here runs on any device and tells everything about a draw; where a C++ compiler is at hand, a kernel
draws what lies in FP32 on the CPU, from the same random numbers.
"""

import math
from array import array
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from fathom.engine.noise import exponentials
from fathom.engine.sampling import SamplingParams
from fathom.engine.seen import Seen
from fathom.errors import GenerationError

if TYPE_CHECKING:
    from numpy import int32, uint8
    from numpy.typing import NDArray
    from torch import Tensor

CANDIDATES = (64, 1024)
"""So many of the likeliest tokens are looked at before all of them are sorted."""
NOISE_AT_ONCE = 1 << 17
"""Random numbers made in one go: their intermediate values should stay in a core's cache."""


@dataclass(frozen=True, slots=True)
class Row:
    """What the sampler must know to draw one token; made by `SamplingState.row`."""

    params: SamplingParams
    key: int = 0
    """Of the random numbers of this place in this sequence; see `noise.key`."""
    seen: Seen | None = None
    """The tokens that penalties look at, where there are penalties."""
    allowed: "NDArray[uint8] | None" = None
    """One bit a token (ceil(V / 8),), lowest first: what structure allows; None allows all."""
    banned: tuple[int, ...] = ()
    """Tokens that may not be drawn now."""
    forced: int | None = None
    """The token that must come next."""
    error: GenerationError | None = None
    """Why nothing can be drawn."""


class Sampled(NamedTuple):
    """A drawn token."""

    token: int
    logprob: float
    """In the distribution it was drawn from; for a greedy choice, which is certain in that sense, at temperature 1."""
    top_logprobs: tuple[tuple[int, float], ...] | None = None
    """The likeliest tokens of the same distribution, most likely first, where they were asked for."""
    kept: "NDArray[int32] | None" = None
    """Ids, ascending, of the tokens that were left to draw from; None when that is all, or was not asked for."""


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

    members = [i for i in live if not _records(rows[i])]
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


def adjusted(logits: "Tensor", rows: Sequence[Row]) -> "Tensor":
    """Logits (N, V) in FP32 (FP64 stays) after penalties and bias; -inf for tokens that may not be drawn."""
    import torch

    scores = logits.detach()
    scores = scores if scores.dtype == torch.float64 else scores.float()
    changes = [row.seen is not None or row.params.logit_bias or row.banned or row.allowed is not None for row in rows]
    if not any(changes):
        return scores
    scores = scores.clone() if scores.data_ptr() == logits.data_ptr() else scores
    _penalise(scores, rows)
    biased = [(i, token, bias) for i, row in enumerate(rows) for token, bias in row.params.logit_bias.items()]
    if biased:
        places, values = _places([entry[:2] for entry in biased], scores), [entry[2] for entry in biased]
        scores[places] += torch.tensor(values, dtype=scores.dtype, device=scores.device)
    banned = [(i, token) for i, row in enumerate(rows) for token in row.banned]
    if banned:
        scores[_places(banned, scores)] = -math.inf
    _mask(scores, rows)
    return scores


def _places(pairs: Sequence[tuple[int, int]], scores: "Tensor") -> "tuple[Tensor, Tensor]":
    import torch

    rows, tokens = torch.tensor(pairs, device=scores.device).unbind(1)
    return rows, tokens


def _penalise(scores: "Tensor", rows: Sequence[Row]) -> None:
    """Apply the three penalties in place; `tests/engine/distribution.py` has the plain form."""
    import numpy as np
    import torch

    holders = [(i, row.params, row.seen) for i, row in enumerate(rows) if row.seen is not None]
    if not holders:
        return
    lengths = [len(seen.ids) for _, _, seen in holders]

    def spread(values: list[float]) -> "Tensor":
        return torch.from_numpy(np.repeat(np.array(values), lengths)).to(scores)

    ids = torch.from_numpy(np.concatenate([seen.ids for _, _, seen in holders])).to(scores.device)
    counts = torch.from_numpy(np.concatenate([seen.counts for _, _, seen in holders])).to(scores)
    in_prompt = torch.from_numpy(np.concatenate([seen.in_prompt for _, _, seen in holders])).to(scores.device)
    index = torch.from_numpy(np.repeat(np.array([i for i, _, _ in holders]), lengths)).to(scores.device)
    repetition = spread([params.repetition_penalty for _, params, _ in holders])
    frequency = spread([params.frequency_penalty for _, params, _ in holders])
    presence = spread([params.presence_penalty for _, params, _ in holders])
    values, generated = scores[index, ids], counts > 0
    repeated = torch.where(values > 0, values / repetition, values * repetition)
    values = torch.where(generated | in_prompt, repeated, values)
    scores[index, ids] = values - frequency * counts - presence * generated


def _mask(scores: "Tensor", rows: Sequence[Row]) -> None:
    """Set to -inf, in place, what structure does not allow; tokens beyond the bits are not allowed."""
    import numpy as np
    import torch

    for i, row in enumerate(rows):
        if row.allowed is not None:
            bits = np.unpackbits(row.allowed, count=scores.shape[1], bitorder="little")
            scores[i].masked_fill_(~torch.from_numpy(bits).to(scores.device, torch.bool), -math.inf)


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
        logprobs = _tempered(scores, rows, kind.min_p)
        if kind.sorts:
            return _limited(logprobs, rows)
        drawn = _race(logprobs, None, _keys(rows, logprobs))
    return _results(drawn, rows)


def _greedy(scores: "Tensor") -> Drawn:
    logprobs = scores.log_softmax(-1)
    tokens = scores.argmax(-1)
    return Drawn(tokens, logprobs.gather(1, tokens[:, None])[:, 0], logprobs, None)


def _tempered(scores: "Tensor", rows: Sequence[Row], min_p: bool) -> "Tensor":
    """Log-probabilities (n, V) at the rows' temperatures, without what is too unlikely for their min_p."""
    import torch

    def column(values: list[float]) -> "Tensor":
        return torch.tensor(values, dtype=scores.dtype, device=scores.device)[:, None]

    # Nothing overflows, however low the temperature, when the largest is 0.
    scores = scores - scores.amax(-1, keepdim=True)
    logprobs = (scores / column([row.params.temperature for row in rows])).log_softmax(-1)
    if min_p:
        floor = logprobs.amax(-1, keepdim=True) + column([math.log(row.params.min_p) for row in rows])
        logprobs = logprobs.masked_fill(logprobs < floor, -math.inf).log_softmax(-1)
    return logprobs


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
        values, ids = _likeliest(logprobs[waiting], width)
        kept = _kept(values, [rows[i] for i in waiting], masses[waiting])
        ends = (_ends_within(values, kept, [rows[i] for i in waiting]) | (width == logprobs.shape[1])).tolist()
        places = [place for place, enough in enumerate(ends) if enough]
        if places:
            members = [rows[waiting[place]] for place in places]
            final = values[places].masked_fill(~kept[places], -math.inf).log_softmax(-1)
            drawn = _results(_race(final, ids[places], _keys(members, final)), members)
            for place, result in zip(places, drawn, strict=True):
                results[waiting[place]] = result
        waiting = [index for index, enough in zip(waiting, ends, strict=True) if not enough]
        if not waiting:
            break
    return results


def _likeliest(logprobs: "Tensor", width: int) -> "tuple[Tensor, Tensor]":
    """The `width` likeliest tokens' log-probabilities and ids (n, width), in order; equals by id."""
    if width == logprobs.shape[1]:
        values, ids = logprobs.sort(descending=True, stable=True)
        return values, ids
    ids = logprobs.topk(width, sorted=False).indices.sort(-1).values
    values, order = logprobs.gather(1, ids).sort(descending=True, stable=True)
    return values, ids.gather(1, order)


def _ends_within(values: "Tensor", kept: "Tensor", rows: Sequence[Row]) -> "Tensor":
    """Whether (n,) what is kept, and everything as likely as the last of it, is among these candidates."""
    import torch

    last = values.gather(1, kept.sum(-1, keepdim=True) - 1)[:, 0]
    counted = torch.tensor([row.params.top_k < values.shape[1] for row in rows], device=values.device)
    return (last > values[:, -1]) & counted


def _kept(ordered: "Tensor", rows: Sequence[Row], masses: "Tensor") -> "Tensor":
    """Which of the descending log-probabilities (n, C) top_k, then top_p keep; the first one always.

    `masses` (n, 1) FP64 are of all tokens, where the likeliest one's is 1: equal tokens then have equal masses to the
    last bit, and half of two is one.
    """
    import torch

    every = ordered.shape[1]
    top_k = torch.tensor([row.params.top_k or every for row in rows], device=ordered.device)[:, None]
    top_p = torch.tensor([row.params.top_p for row in rows], dtype=torch.float64, device=ordered.device)[:, None]
    keep = (torch.arange(every, device=ordered.device) < top_k) & (ordered > -math.inf)
    sums = ((ordered - ordered[:, :1]).double().exp() * keep).cumsum(-1)
    before = torch.nn.functional.pad(sums[:, :-1], (1, 0))
    # Under top_k the mass is what it keeps; without it all, though only the likeliest are looked at here.
    mass = torch.where(top_k < every, sums[:, -1:], masses)
    keep &= (before < top_p * mass) | (top_p == 1)
    keep[:, 0] = True
    return keep


def _results(drawn: Drawn, rows: Sequence[Row]) -> list[Sampled | None]:
    tokens, logprobs = drawn.tokens.tolist(), drawn.logprobs.tolist()
    results: list[Sampled | None] = []
    for i, (row, token, logprob) in enumerate(zip(rows, tokens, logprobs, strict=True)):
        ids = None if drawn.ids is None else drawn.ids[i]
        top = None if row.params.logprobs is None else _top(drawn.candidates[i], ids, row.params.logprobs)
        kept = _kept_ids(drawn.candidates[i], ids) if _records(row) else None
        results.append(Sampled(token, logprob, top, kept) if math.isfinite(logprob) else None)
    return results


def _top(logprobs: "Tensor", ids: "Tensor | None", count: int) -> tuple[tuple[int, float], ...]:
    values, places = logprobs.topk(min(count, len(logprobs)))
    tokens = places if ids is None else ids[places]
    pairs = zip(tokens.tolist(), values.tolist(), strict=True)
    return tuple(pair for pair in pairs if pair[1] > -math.inf)


def _records(row: Row) -> bool:
    return row.params.record_kept and row.params.temperature > 0


def _kept_ids(logprobs: "Tensor", ids: "Tensor | None") -> "NDArray[int32] | None":
    import torch

    places = (logprobs > -math.inf).nonzero()[:, 0]
    if ids is None and len(places) == len(logprobs):
        return None
    tokens = places if ids is None else ids[places].sort().values
    kept: NDArray[int32] = tokens.to("cpu", torch.int32).numpy()
    return kept


def _forced(row: Row) -> Sampled:
    """The one token that may come, which is therefore certain."""
    import numpy as np

    assert row.forced is not None
    top = None if row.params.logprobs is None else ((row.forced, 0.0),)[: row.params.logprobs]
    return Sampled(row.forced, 0.0, top, np.array([row.forced], np.int32) if _records(row) else None)


def _complaint(logits: "Tensor") -> GenerationError:
    if logits.isnan().any() or logits.isposinf().any() or not logits.isfinite().any():
        return GenerationError("The model's logits are not numbers (NaN or all infinite): its weights are damaged.")
    return GenerationError(
        "No token is left to draw: structured, logit_bias and min_tokens together forbid the whole vocabulary."
    )
