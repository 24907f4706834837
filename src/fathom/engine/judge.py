"""Learns, step by step, what guessing costs and how often it is right."""

from collections.abc import Mapping

from fathom.engine.request import Sequence
from fathom.engine.runner import Reading
from fathom.engine.worth import Budget, StepCost, Trust

PROBE_STEPS = 6
"""In so many steps on end guesses are made whatever they are thought to be worth, or nothing would be learnt of them:
at the beginning and after every rest. The first one finds everything cold."""
PROBE_GUESSES = 1
"""So many of them, for each sequence."""
PATIENCE = 8
"""After so many steps without a guess that pays, none are made for a while."""
SHORTEST_REST = 32
EVERY_GUESS = 1 << 40


class Judge:
    """Watches the engine's steps for a drafter."""

    def __init__(self, longest_rest: int, *, adaptive: bool = True) -> None:
        """Rests become longer while nothing pays, up to so many steps; without `adaptive`, all guesses are made."""
        self._adaptive = adaptive
        self.cost, self.trust = StepCost(), Trust()
        self._confidences: Mapping[Sequence, list[float]] = {}
        self._longest_rest = longest_rest
        self._rest = self._left = 0
        self._awake = self._idle = 0

    def rests(self) -> bool:
        """Whether no guesses are to be made after this step; asked once a step."""
        if self._left:
            self._left -= 1
            return True
        return False

    def learn(self, reading: Reading) -> None:
        """Take a step into account, whose tokens have just been settled."""
        self._awake += 1
        if reading.tokens and all(chunk.decodes for chunk in reading.chunks):
            self.cost.see(len(reading.tokens), reading.clock() - reading.begun)
        for sequence, start, length, drafts in reading.chunks:
            confidences = self._confidences.get(sequence)
            if drafts and confidences and sequence.finish is None:
                accepted = sequence.computed - (start + length - drafts)
                self.trust.learn(confidences[:drafts], min(accepted, drafts))

    def budget(self, sequences: int) -> Budget:
        """What the next step's guesses may cost."""
        if not self._adaptive:
            return Budget(self.cost, sequences, free=EVERY_GUESS)
        return Budget(self.cost, sequences, free=sequences * PROBE_GUESSES if self._awake <= PROBE_STEPS else 0)

    def expect(self, confidences: Mapping[Sequence, list[float]], paid: bool) -> None:
        """Remember how sure the guesses of the next step are, and whether any was worth its cost."""
        self._confidences = confidences
        if paid or not self._adaptive:
            self._idle = self._rest = 0
            return
        self._idle += 1
        if self._idle >= PATIENCE and self._awake > PROBE_STEPS:
            self._rest = min(max(2 * self._rest, SHORTEST_REST), self._longest_rest)
            self._left = self._rest
            self._awake = self._idle = 0


def most_guesses(sequence: Sequence, longest: int) -> int:
    """How many guesses can be of use: the last token of all is drawn without one."""
    return max(0, min(longest, sequence.limit - sequence.generated - 1))
