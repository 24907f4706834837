"""Guessing from the text itself: what followed the last few tokens when they stood there before (prompt lookup).

Where there is no MTP module to guess, quotations, code and lists still repeat themselves; and what a structure
dictates, such as the names in an object, needs no guessing at all.
"""

from collections.abc import Sequence as Many

from fathom.engine.judge import Judge, most_guesses
from fathom.engine.request import Sequence
from fathom.engine.runner import Reading

CONFIDENCE = {4: 0.8, 3: 0.5, 2: 0.2}
"""So many tokens are looked for, the longest first; and what is thought of the guesses until it is known."""
CERTAIN = 0.95
"""The same of what the rules of a request dictate."""
LONGEST_REST = 64
"""Steps; a text may begin to repeat itself at any place."""


class Lookup:
    """Where every few tokens of a growing text stand."""

    def __init__(self) -> None:
        self._places: dict[tuple[int, ...], int] = {}
        self._known = 1

    def guess(self, tokens: Many[int], count: int) -> tuple[list[int], float]:
        """Up to `count` tokens that may follow, and how sure that is; `tokens` are those of the last call, and more."""
        # What ends with the very last token is not put down yet, or it would be found itself.
        for end in range(self._known, len(tokens)):
            for length in CONFIDENCE:
                if length <= end:
                    self._places[tuple(tokens[end - length : end])] = end
        self._known = max(self._known, len(tokens))
        for length, confidence in CONFIDENCE.items():
            place = self._places.get(tuple(tokens[-length:])) if length <= len(tokens) else None
            if place is not None:
                guesses = list(tokens[place : place + count])
                # Where the end of the text is reached, it goes on with what has just been guessed: in circles.
                period = len(tokens) - place
                while len(guesses) < count:
                    guesses.append(guesses[len(guesses) - period])
                return guesses, confidence
        return [], 0.0


class LookupDrafter:
    """Guesses for every sequence from its own prompt and text."""

    layers = 0

    def __init__(self, longest: int = 8, *, adaptive: bool = True) -> None:
        """With at most `longest` guesses a step for each sequence."""
        self._longest = longest
        self._judge = Judge(LONGEST_REST, adaptive=adaptive)
        self._lookups: dict[Sequence, Lookup] = {}

    def weights_changed(self) -> None:
        """See `Drafter`."""

    def draft(self, reading: Reading, sequences: Many[Sequence]) -> Many[list[int]]:
        """See `Drafter`."""
        if self._judge.rests():
            return [[] for _ in sequences]
        self._judge.learn(reading)
        self._lookups = {sequence: self._lookups.get(sequence) or Lookup() for sequence in sequences}
        budget = self._judge.budget(len(sequences))
        drafts: list[list[int]] = []
        sure: dict[Sequence, list[float]] = {}
        for sequence, lookup in self._lookups.items():
            guesses, confidence = _guess(sequence, lookup, most_guesses(sequence, self._longest))
            right, count = self._judge.trust.of(confidence), 0
            while count < len(guesses) and budget.grant(right ** (count + 1)):
                count += 1
            drafts.append(guesses[:count])
            sure[sequence] = [confidence] * count
        self._judge.expect(sure, budget.paid)
        return drafts


def _guess(sequence: Sequence, lookup: Lookup, most: int) -> tuple[list[int], float]:
    state = sequence.state
    if not most or state is None:
        return [], 0.0
    dictated = state.ahead()[:most]
    guesses, confidence = (dictated, CERTAIN) if dictated else lookup.guess(sequence.tokens, most)
    return guesses[: state.possible(guesses)], confidence
