"""What the sampler is told of a sequence, and what it says."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from fathom.engine.sampling import SamplingParams
from fathom.engine.seen import Seen
from fathom.errors import GenerationError

if TYPE_CHECKING:
    from numpy import int32, uint8
    from numpy.typing import NDArray


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


def records(row: Row) -> bool:
    """Whether the tokens that were left to draw from are to be told."""
    return row.params.record_kept and row.params.temperature > 0
