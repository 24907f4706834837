"""The nouns of the engine: what is asked, what is being made of it, and what comes out."""

from array import array
from collections.abc import Sequence as Tokens
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from fathom.engine.sampling import SamplingParams

if TYPE_CHECKING:
    from fathom.engine.rows import Sampled
    from fathom.engine.state import SamplingState
    from fathom.engine.text import TextState

TopLogprobs = tuple[tuple[int, float], ...]
"""Likely tokens and their log-probabilities, most likely first."""


class FinishReason(StrEnum):
    """Why a completion ended."""

    STOP = "stop"
    """A stop token or a stop string."""
    LENGTH = "length"
    """`max_tokens` or the end of the model's context."""
    CANCELLED = "cancelled"
    """The one who asked no longer wants it."""
    DEADLINE = "deadline"
    """The request's deadline has passed."""
    ERROR = "error"
    """It could not be gone on with; the completion's `error` says why."""


@dataclass(frozen=True)
class Completion:
    """What followed a prompt."""

    tokens: tuple[int, ...]
    """Every generated token, a stop token included."""
    logprobs: tuple[float, ...]
    """Of each token, in the distribution it was drawn from."""
    text: str
    """The tokens as text, without stop token and stop string; empty where the engine has no tokenizer."""
    finish_reason: FinishReason
    prompt_tokens: int = 0
    """Tokens of the prompt."""
    cached_tokens: int = 0
    """Of these, how many were found in the cache and not read again."""
    top_logprobs: tuple[TopLogprobs, ...] | None = None
    """For each token the likeliest ones in its place, where `SamplingParams.logprobs` asks for them."""
    kept: tuple[Any, ...] | None = None
    """For each token the ids it was drawn among, None for all, where `SamplingParams.record_kept` asks for them."""
    index: int = 0
    """Which of a request's `n` completions this is."""
    error: str = ""
    """What went wrong, where the reason is `error`."""


@dataclass(frozen=True)
class Delta:
    """What a step adds to a completion. Text may come later than its tokens, until it is certain."""

    tokens: tuple[int, ...]
    text: str
    logprobs: tuple[float, ...]
    top_logprobs: tuple[TopLogprobs, ...] | None
    finish_reason: FinishReason | None
    """None while there is more to come."""
    cached_tokens: int
    prompt_tokens: int
    index: int = 0
    """Which of a request's `n` completions this belongs to."""
    error: str = ""


class Output(NamedTuple):
    """A delta and the request it belongs to."""

    request: "Request"
    delta: Delta


class Sequence:
    """One completion in the making: its tokens, how many of them the cache holds, and where.

    The first `computed` tokens have their rows in the blocks of `table`; the rest are unread. A sequence with one
    unread token decodes; one with more is being read, as a prompt is, or again after it was interrupted.
    """

    __slots__ = (
        "cached",
        "computed",
        "drafts",
        "error",
        "finish",
        "index",
        "keys",
        "limit",
        "prompt_length",
        "published",
        "rank",
        "request",
        "results",
        "state",
        "stops",
        "table",
        "text",
        "tokens",
        "waits_for",
    )

    def __init__(
        self,
        request: "Request",
        tokens: Tokens[int],
        rank: tuple[int, int],
        *,
        index: int = 0,
        limit: int = 1,
    ) -> None:
        self.request = request
        self.index = index
        self.tokens = list(tokens)
        self.prompt_length = len(self.tokens)
        self.limit = limit
        """Most tokens it may generate."""
        self.rank = rank
        """Lower is served first; see `fathom.engine.scheduler`."""
        self.computed = 0
        self.table = array("i")
        self.keys: list[bytes] = []
        """Names of its full blocks, as far as they have been needed."""
        self.published = 0
        """Full blocks that others may share, or that were shared with it."""
        self.cached: int | None = None
        """Tokens that did not have to be read when it first came to run."""
        self.waits_for: bytes | None = None
        """A block that another sequence is about to fill."""
        self.drafts: list[int] = []
        """Guesses at the tokens after the last one, to be verified in the next step."""
        self.results: list[Sampled] = []
        """What was drawn, token by token."""
        self.finish: FinishReason | None = None
        self.error = ""
        self.stops: frozenset[int] = frozenset()
        """Tokens that end it."""
        self.state: SamplingState | None = None
        self.text: TextState | None = None

    @property
    def unread(self) -> int:
        """Tokens whose rows are not in the cache."""
        return len(self.tokens) - self.computed

    @property
    def generated(self) -> int:
        """Tokens drawn so far."""
        return len(self.tokens) - self.prompt_length

    def completion(self) -> Completion:
        """What there is so far; one that is still going counts as cut off by length."""
        params, results = self.request.params, self.results
        return Completion(
            tuple(result.token for result in results),
            tuple(result.logprob for result in results),
            self.text.shown if self.text else "",
            self.finish or FinishReason.LENGTH,
            self.prompt_length,
            self.request.cached_tokens,
            None if params.logprobs is None else tuple(result.top_logprobs or () for result in results),
            tuple(result.kept for result in results) if params.record_kept else None,
            self.index,
            self.error,
        )


@dataclass(eq=False)
class Request:
    """A prompt that was handed in. It fills as the engine steps; read `completions` when it is `finished`."""

    id: int
    prompt: tuple[int, ...]
    params: SamplingParams
    priority: int = 0
    """Higher is served first."""
    deadline: float | None = None
    """A moment of `time.monotonic` after which it is given up."""
    sequences: list[Sequence] = field(default_factory=list, repr=False)
    cancelled: bool = field(default=False, repr=False)
    """Whether the engine has been told to give it up."""

    @property
    def finished(self) -> bool:
        """Whether nothing more will come."""
        return all(sequence.finish is not None for sequence in self.sequences)

    @property
    def cached_tokens(self) -> int:
        """Tokens of the prompt that were found in the cache."""
        return self.sequences[0].cached or 0

    @property
    def picks(self) -> bool:
        """Whether some completions are made only to be left out (`best_of`)."""
        return len(self.sequences) > self.params.n

    @property
    def completions(self) -> list[Completion]:
        """The `n` completions, of `best_of` the ones with the highest mean log-probability, best first."""
        if not self.picks:
            return [sequence.completion() for sequence in self.sequences]
        return [replace(sequence.completion(), index=index) for index, sequence in enumerate(self.best())]

    def best(self) -> list[Sequence]:
        """The `n` sequences to hand out; ties go to the earlier one, failures last."""

        def merit(sequence: Sequence) -> tuple[bool, float]:
            failed = sequence.finish not in (FinishReason.STOP, FinishReason.LENGTH)
            total = sum(result.logprob for result in sequence.results)
            return failed, -total / max(len(sequence.results), 1)

        return sorted(self.sequences, key=merit)[: self.params.n]
