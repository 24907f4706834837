"""What one sequence's sampling depends on: its parameters, its tokens so far, and where it stands in its structure."""

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from fathom.engine.noise import child_seed, key
from fathom.engine.rows import Row
from fathom.engine.sampling import SamplingParams
from fathom.engine.seen import SeenTokens
from fathom.engine.thinking import Phase, Thinking, advance, begin, closing_tokens, forced
from fathom.errors import GenerationError

if TYPE_CHECKING:
    from numpy import uint8
    from numpy.typing import NDArray

    from fathom.engine.structure import Structure


class SamplingState:
    """Follows one sequence token by token. Tokens may be taken back, so that guesses can be tried."""

    def __init__(
        self,
        params: SamplingParams,
        prompt_ids: Sequence[int],
        *,
        stop_tokens: Iterable[int] = (),
        room: int | None = None,
        structure: "Structure | None" = None,
        index: int = 0,
    ) -> None:
        """For completion `index` of a prompt, of which `room` tokens can be generated: `max_tokens` unless given."""
        self.params = params
        drawn = int.from_bytes(os.urandom(8), "little") >> 1 if params.seed is None else params.seed
        self.seed = child_seed(drawn, index)
        """Decides every draw; known even if none was asked for, so that a sequence can be taken up elsewhere."""
        self._prompt_length = len(prompt_ids)
        self._room = params.max_tokens if room is None else room
        self._tokens: list[int] = []
        self._stops = tuple(stop_tokens)
        self._seen = _seen(params, prompt_ids)
        self._structure = structure
        self._structured = 0  # the last so many tokens belong to the structure
        self._phases: list[Thinking] = []
        if params.thinking is not None:
            self._phases.append(advance(begin(params.thinking, prompt_ids), params.thinking, (), self._room))

    @property
    def position(self) -> int:
        """Place in the sequence, prompt included, of the token that comes next."""
        return self._prompt_length + len(self._tokens)

    def key(self, ahead: int = 0) -> int:
        """Of the random numbers, so many places further on; see `noise.key`."""
        return key(self.seed, self.position + ahead)

    @property
    def finished(self) -> bool:
        """Whether the text is complete because its structure is, and nothing can follow."""
        return self._structure is not None and self._structured > 0 and self._structure.finished

    @property
    def plain(self) -> bool:
        """Whether the next tokens, too, depend on nothing but the logits and `params`' temperature and limits."""
        params = self.params
        ruled = self._seen or self._structure or self._phases or params.logit_bias
        return not ruled and len(self._tokens) >= params.min_tokens

    @property
    def thinking(self) -> bool:
        """Whether the next token belongs to a thinking block."""
        return bool(self._phases) and self._phases[-1].phase is not Phase.ANSWERING

    @property
    def forced(self) -> int | None:
        """The token that must come next, if there is only one."""
        if self.params.thinking is None:
            return None
        return forced(self._phases[-1], self.params.thinking, len(self._tokens), self._room)

    def row(self) -> Row:
        """What `sample` must know to draw the next token; later tokens do not change it."""
        try:
            allowed, error = self._allowed(), None
        except GenerationError as complaint:
            allowed, error = None, complaint
        return Row(
            self.params,
            self.key(),
            self._seen.now() if self._seen else None,
            allowed,
            self._banned(),
            self.forced,
            error,
        )

    def push(self, token: int) -> None:
        """Take the next token into account."""
        answering = not self.thinking
        self._tokens.append(token)
        if self._seen:
            self._seen.add(token)
        if self.params.thinking is not None:
            after = advance(self._phases[-1], self.params.thinking, self._tokens, self._room)
            if after is not self._phases[-1]:
                self._phases.append(after)
        if self._structure is not None and answering and not self.thinking:
            self._structure.push(token)
            self._structured += 1

    def pop(self, count: int = 1) -> None:
        """Take the last `count` tokens back."""
        for _ in range(count):
            token = self._tokens.pop()
            if self._seen:
                self._seen.take_back(token)
            while len(self._phases) > 1 and self._phases[-1].since > len(self._tokens):
                self._phases.pop()
            if self._structure is not None and self._structured:
                self._structure.pop(1)
                self._structured -= 1

    def ahead(self) -> list[int]:
        """Tokens that come next for certain, or as good as: the end of a thinking block, what a structure dictates."""
        limit = self.params.thinking
        if limit is not None and self._phases[-1].phase is Phase.CLOSING:
            return [*closing_tokens(self._phases[-1], limit, self._room)[len(self._tokens) - self._phases[-1].since :]]
        return self._structure.ahead() if self._structure is not None and not self.thinking else []

    def possible(self, tokens: Sequence[int]) -> int:
        """How many of these guesses may be drawn one after the other, as far as rules can tell."""
        count = 0
        for token in tokens:
            if self.finished or not self._may_follow(token):
                break
            self.push(token)
            count += 1
        self.pop(count)
        return count

    def _may_follow(self, token: int) -> bool:
        only = self.forced
        if only is not None:
            return token == only
        if token in self._banned():
            return False
        structure = self._structure
        return structure is None or self.thinking or self._opens(token) or structure.accepts([token]) == 1

    def _banned(self) -> tuple[int, ...]:
        early = len(self._tokens) < self.params.min_tokens
        banned = self._stops if early or self.thinking else ()
        limit = self.params.thinking
        again = limit is not None and not self.thinking and self._phases[-1].cut and len(limit.start) == 1
        return (*banned, *limit.start) if limit is not None and again else banned

    def _allowed(self) -> "NDArray[uint8] | None":
        if self._structure is None or self.thinking:
            return None
        allowed = self._structure.allowed()
        limit = self.params.thinking
        if limit is not None and self._opens(limit.start[0]):
            allowed = allowed.copy()
            allowed[limit.start[0] // 8] |= 1 << limit.start[0] % 8
        return allowed

    def _opens(self, token: int) -> bool:
        """Whether the model may, with its very first token, begin to think before the structure begins."""
        limit = self.params.thinking
        return limit is not None and not self._tokens and limit.start == (token,)


def _seen(params: SamplingParams, prompt_ids: Sequence[int]) -> SeenTokens | None:
    if params.repetition_penalty != 1:
        return SeenTokens(prompt_ids)
    return SeenTokens() if params.presence_penalty or params.frequency_penalty else None
