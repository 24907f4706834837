"""Guessing with the model's own MTP module, which was trained to see one token further (V3 section 2.2 and 5.4.3).

The module has rows of its own in the paged cache, one layer behind the main model's. At position i it reads the main
model's hidden state of token i and the embedding of token i + 1, and says what token i + 2 may be. So after each step

1. it reads all positions that the step has settled, each with the token that has come after it; the last of a
   sequence's gives the first guess,
2. for further guesses it goes on from itself: from its own output in the place of the main model's state, and from the
   guess in the place of a token. Those rows are written over in the next step.

Where guesses do not pay at present, 1 is put off: hidden states are kept until it is worth reading them all at once.

Guesses are drawn as the tokens themselves will be: with the request's parameters, structure and, above all, its own
random numbers, so that a guess is right as often as two similar distributions can agree.

A position whose main state was not made in this engine run cannot be read: where a prefix is taken over from the cache,
the row of its last token belongs to the text that the prefix was first read in. Only guesses suffer.
"""

import math
from collections import deque
from collections.abc import Sequence as Many
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from fathom.engine.chunks import Chunk
from fathom.engine.judge import Judge, most_guesses
from fathom.engine.native_drafts import NativeDrafts
from fathom.engine.request import Sequence
from fathom.engine.rows import Sampled
from fathom.engine.runner import Reading
from fathom.engine.sampler import sample
from fathom.engine.worth import clock_for

if TYPE_CHECKING:
    from torch import Tensor

    from fathom.engine.mtp_pass import Said
    from fathom.engine.state import SamplingState
    from fathom.engine.worth import Budget
    from fathom.model.paged import PagedStores
    from fathom.model.transformer import Transformer


PUT_OFF = 4096
"""Most positions, of all sequences, that wait to be read; the oldest are given up."""
LONGEST_REST = 4096
"""Steps."""


class _Step(NamedTuple):
    """What a step has settled."""

    hidden: "Tensor"
    """(T, D): the main model's states."""
    spans: list[tuple[Sequence, int, int, int]]
    """(sequence, first row, first position, end of its positions)."""


@dataclass
class _Unread:
    """Positions of a sequence that the module has not read, up to the last that is settled."""

    start: int
    end: int
    hidden: "list[Tensor]" = field(default_factory=list)
    """The main model's states, (n, D) each."""


@dataclass
class _Thread:
    """One sequence's guesses in the making."""

    sequence: Sequence
    row: int
    """Of what the module said last."""
    guesses: list[int] = field(default_factory=list)
    confidences: list[float] = field(default_factory=list)
    chance: float = 1.0
    """That all guesses so far are right."""
    going: bool = True


class MTPDrafter:
    """Guesses for all sequences at once, as far as it pays."""

    layers = 1

    def __init__(
        self, model: "Transformer", longest: int = 4, *, adaptive: bool = True, vocabulary: int | None = None
    ) -> None:
        """With at most `longest` guesses a step for each sequence, of tokens below `vocabulary` if the native program
        runs; the model must have an MTP module."""
        from fathom.engine.mtp_pass import MTPPass

        self._pass = MTPPass(model, vocabulary)
        self._longest = longest
        self._clock = clock_for(next(model.parameters()).device.type)
        self._judge = Judge(LONGEST_REST, adaptive=adaptive)
        self._seconds = {False: 0.0, True: 0.0}
        """Of a pass: one that reads what is settled, and one that goes on from guesses."""
        self._steps: deque[_Step] = deque()
        self._waiting = 0

    def weights_changed(self) -> None:
        """See `Drafter`."""
        self._pass.weights_changed()

    def draft(self, reading: Reading, sequences: Many[Sequence]) -> Many[list[int]]:
        """See `Drafter`."""
        self._note(reading)
        if self._judge.rests():
            return [[] for _ in sequences]
        self._judge.learn(reading)
        budget = self._judge.budget(len(sequences))
        threads: dict[Sequence, _Thread] = {}
        reads = not all(chunk.decodes for chunk in reading.chunks)
        if reads or self._pays(budget, 1.0, len(sequences), goes_on=False):
            threads = self._draft(reading.memory, sequences, budget)
        self._judge.expect({sequence: thread.confidences for sequence, thread in threads.items()}, budget.paid)
        return [threads[sequence].guesses if sequence in threads else [] for sequence in sequences]

    def _note(self, reading: Reading) -> None:
        """Keep what the step has settled until it is read."""
        assert reading.hidden is not None
        spans = []
        at = 0
        for sequence, start, length, _ in reading.chunks:
            spans.append((sequence, at, start, sequence.computed))
            at += length
        self._steps.append(_Step(reading.hidden, spans))
        self._waiting += at
        while self._waiting > PUT_OFF and len(self._steps) > 1:
            self._waiting -= len(self._steps.popleft().hidden)

    def _unread(self) -> dict[Sequence, _Unread]:
        """What is to be read now of the sequences that go on, and none of it twice."""
        found: dict[Sequence, _Unread] = {}
        for hidden, spans in self._steps:
            for sequence, row, start, end in spans:
                if end > start:
                    known = found.get(sequence)
                    if known is None or known.end != start:
                        known = found[sequence] = _Unread(start, start)
                    known.hidden.append(hidden[row : row + end - start])
                    known.end = end
        self._steps.clear()
        self._waiting = 0
        return {
            sequence: unread
            for sequence, unread in found.items()
            if sequence.finish is None and sequence.table and unread.end == sequence.computed
        }

    def _draft(self, memory: "PagedStores", sequences: Many[Sequence], budget: "Budget") -> dict[Sequence, _Thread]:
        import torch

        unread = self._unread()
        if not unread:
            return {}
        chunks = [Chunk(sequence, part.start, part.end - part.start, 0) for sequence, part in unread.items()]
        states = [states for part in unread.values() for states in part.hidden]
        hidden = torch.cat(states) if len(states) > 1 else states[0]
        tokens = [token for chunk in chunks for token in _following(chunk)]
        last = dict(zip(unread, _ends(chunks), strict=True))
        threads = [_Thread(sequence, last[sequence]) for sequence in sequences if sequence in last]
        threads = [thread for thread in threads if most_guesses(thread.sequence, self._longest)]
        if threads and self._pass.draws and all(_state(thread).plain for thread in threads):
            self._draft_natively(memory, hidden, tokens, chunks, threads, budget)
            return {thread.sequence: thread for thread in threads}
        said = self._run(memory, hidden, tokens, chunks, [thread.row for thread in threads], goes_on=False)
        going = threads
        try:
            while going:
                self._guess(said, going, budget)
                going = [thread for thread in going if thread.going and _has_place(thread, memory.block_size)]
                going = [t for t in going if self._pays(budget, t.chance, len(going), goes_on=True)]
                if going:
                    hidden = said.hidden[[thread.row for thread in going]]
                    chunks = [Chunk(t.sequence, t.sequence.computed + len(t.guesses) - 1, 1, 0) for t in going]
                    for row, thread in enumerate(going):
                        thread.row = row
                    tokens = [thread.guesses[-1] for thread in going]
                    said = self._run(memory, hidden, tokens, chunks, [*range(len(going))], goes_on=True)
        finally:
            for thread in threads:
                _state(thread).pop(len(thread.guesses))
        return {thread.sequence: thread for thread in threads}

    def _draft_natively(
        self,
        memory: "PagedStores",
        hidden: "Tensor",
        tokens: list[int],
        chunks: list[Chunk],
        threads: Many[_Thread],
        budget: "Budget",
    ) -> None:
        """The same in one call, by the same rules."""
        begun = self._clock()
        drafts = NativeDrafts(self._longest, [thread.sequence for thread in threads], chunks, memory.block_size)
        budget.fill(drafts.asked)
        self._judge.trust.fill(drafts.asked)
        drafts.asked.pass_seconds[0], drafts.asked.pass_seconds[1] = self._seconds[False], self._seconds[True]
        self._pass.draft(hidden, tokens, memory, chunks, [thread.row for thread in threads], drafts.asked)
        further, passes = drafts.asked.further_seconds, drafts.asked.passes
        self._took(self._clock() - begun - further, len(tokens), len(chunks), goes_on=False)
        if passes > 1:
            self._took(further / (passes - 1), 1, 1, goes_on=True)
        budget.paid = bool(drafts.asked.paid)
        for confidence in drafts.drawn():
            self._judge.trust.note(confidence)
        for n, thread in enumerate(threads):
            thread.guesses, thread.confidences = drafts.made(n)

    def _guess(self, said: "Said", going: Many[_Thread], budget: "Budget") -> None:
        """Draw one more guess for each, and keep it where it pays."""
        for thread, result in zip(going, sample(said.logits, [_state(thread).row() for thread in going]), strict=True):
            thread.going = False
            if not isinstance(result, Sampled):
                continue
            confidence = math.exp(result.logprob)
            self._judge.trust.note(confidence)
            chance = thread.chance * self._judge.trust.of(confidence)
            if not budget.grant(chance, self._seconds[bool(thread.guesses)] / len(going)):
                continue
            thread.guesses.append(result.token)
            thread.confidences.append(confidence)
            thread.chance = chance
            state, sequence = _state(thread), thread.sequence
            state.push(result.token)
            ends = result.token in sequence.stops or state.finished
            thread.going = not ends and len(thread.guesses) < most_guesses(sequence, self._longest)

    def _pays(self, budget: "Budget", chance: float, sequences: int, *, goes_on: bool) -> bool:
        """Whether a further pass pays for guesses that follow one with this chance."""
        return budget.allows(chance * self._judge.trust.mean, self._seconds[goes_on] / max(sequences, 1))

    def _run(
        self,
        memory: "PagedStores",
        hidden: "Tensor",
        tokens: list[int],
        chunks: list[Chunk],
        wanted: list[int],
        *,
        goes_on: bool,
    ) -> "Said":
        begun = self._clock()
        positions = [place for chunk in chunks for place in range(chunk.start, chunk.start + chunk.length)]
        said = self._pass(hidden, tokens, positions, memory, chunks, wanted)
        self._took(self._clock() - begun, len(tokens), len(chunks), goes_on=goes_on)
        return said

    def _took(self, seconds: float, tokens: int, chunks: int, *, goes_on: bool) -> None:
        """Learn what a pass takes, unless it read a prompt."""
        if goes_on or tokens <= chunks * (1 + self._longest):
            known = self._seconds[goes_on]
            # What is slow may have been held up; what is fast is what it takes.
            weight = 0.3 if seconds < known else 0.03
            self._seconds[goes_on] = known + weight * (seconds - known) if known else seconds


def _following(chunk: Chunk) -> list[int]:
    """The token after each of the chunk's."""
    return chunk.sequence.tokens[chunk.start + 1 : chunk.start + chunk.length + 1]


def _ends(chunks: Many[Chunk]) -> list[int]:
    """Each chunk's last row."""
    ends, at = [], 0
    for chunk in chunks:
        at += chunk.length
        ends.append(at - 1)
    return ends


def _has_place(thread: _Thread, block_size: int) -> bool:
    """Whether the sequence has a block for the row of its last guess."""
    sequence = thread.sequence
    return sequence.computed + len(thread.guesses) <= len(sequence.table) * block_size


def _state(thread: _Thread) -> "SamplingState":
    state = thread.sequence.state
    assert state is not None
    return state
