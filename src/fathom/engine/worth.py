"""Whether a guess is worth its cost: what a step costs, and how often guesses come true, learnt while serving.

A step that reads N tokens takes about S = base + slope * N seconds and yields R tokens. One more guess, right with
probability P, makes that S + slope and R + P, which is faster where P * S > R * slope. With few sequences the base is
most of S and many guesses pay; with many sequences it is little and few do. Only speed depends on any of this: what is
generated does not.
"""

import time
from array import array
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fathom.kernels.decode.program import Drafting


def clock_for(device_type: str) -> Callable[[], float]:
    """What steps are timed by: on a CPU the thread's own time, which is not that of neighbours on the same cores."""
    return time.thread_time if device_type == "cpu" else time.perf_counter


class StepCost:
    """Seconds of a step as a straight line over the tokens it reads, fitted to the recent steps."""

    REMEMBERS = 0.98
    """Weight of a step after each further one."""
    PRIOR_SLOPE = 0.1
    """Share of a one-token step that a further token costs, before steps of different sizes have been seen."""
    PRIOR_WEIGHT = 4.0
    """How much that counts, in steps that lie a token apart."""

    def __init__(self) -> None:
        self._weight = self._tokens = self._seconds = self._squares = self._products = 0.0

    def see(self, tokens: int, seconds: float) -> None:
        """Take one step into account."""
        line = self.line()
        if line is not None:
            # A step that was held up by something else is no news about its size.
            seconds = min(seconds, 3 * (line[0] + line[1] * tokens))
        keep = self.REMEMBERS
        self._weight = keep * self._weight + 1
        self._tokens = keep * self._tokens + tokens
        self._seconds = keep * self._seconds + seconds
        self._squares = keep * self._squares + tokens * tokens
        self._products = keep * self._products + tokens * seconds

    def line(self) -> tuple[float, float] | None:
        """(base, slope) in seconds; None before any step."""
        if not self._weight:
            return None
        mean, time = self._tokens / self._weight, self._seconds / self._weight
        prior = time * self.PRIOR_SLOPE / (1 + self.PRIOR_SLOPE * mean)
        spread = self._squares - self._tokens * mean
        together = self._products - self._tokens * time
        slope = (together + self.PRIOR_WEIGHT * prior) / (spread + self.PRIOR_WEIGHT)
        slope = min(max(slope, 0.0), time / mean)
        return time - slope * mean, slope


class Trust:
    """How often guesses of a certain confidence have come true."""

    REMEMBERS = 0.99
    PRIOR_WEIGHT = 4.0

    def __init__(self, levels: int = 8) -> None:
        self._hits = array("d", [0.0] * levels)
        self._counts = array("d", [0.0] * levels)
        self._chances = self._made = 0.0

    def of(self, confidence: float) -> float:
        """Probability that a guess of this confidence, from 0 to 1, is right."""
        level = self._level(confidence)
        prior = self.PRIOR_WEIGHT * confidence
        return (self._hits[level] + prior) / (self._counts[level] + self.PRIOR_WEIGHT)

    def fill(self, drafting: "Drafting") -> None:
        """Tell native drafting the same."""
        drafting.levels, drafting.prior, drafting.mean = len(self._counts), self.PRIOR_WEIGHT, self.mean
        drafting.hits, drafting.counts = self._hits.buffer_info()[0], self._counts.buffer_info()[0]

    def see(self, confidence: float, right: bool) -> None:
        """Take the fate of a guess into account."""
        level = self._level(confidence)
        self._hits[level] = self.REMEMBERS * self._hits[level] + right
        self._counts[level] = self.REMEMBERS * self._counts[level] + 1

    def learn(self, confidences: Sequence[float], accepted: int) -> None:
        """The same for guesses in a row, of which so many came true; what lies behind a wrong one is not known."""
        for place, confidence in enumerate(confidences[: accepted + 1]):
            self.see(confidence, place < accepted)

    def note(self, confidence: float) -> None:
        """Take into account how sure a guess was, whether it was then used or not."""
        self._chances = self.REMEMBERS * self._chances + self.of(confidence)
        self._made = self.REMEMBERS * self._made + 1

    @property
    def mean(self) -> float:
        """Probability that the next guess is right, before it is known how sure it is.

        Of all that were made: those that were used are the surer ones.
        """
        prior = self.PRIOR_WEIGHT / 2
        return (self._chances + prior) / (self._made + 2 * prior)

    def _level(self, confidence: float) -> int:
        levels = len(self._counts)
        return min(int(confidence * levels), levels - 1)


class Budget:
    """What one step's guesses may cost: each is asked for in turn, and counted once it is granted."""

    def __init__(self, cost: StepCost, sequences: int, free: int = 0) -> None:
        """For a step of so many sequences. The first `free` guesses are granted anyway, to learn from them."""
        base, self._slope = cost.line() or (1.0, 0.0)
        self._seconds = base + self._slope * sequences
        self._tokens = float(sequences)
        self._free = free
        self.paid = False
        """Whether a guess has been granted that was worth its cost."""

    def allows(self, probability: float, extra: float = 0.0) -> bool:
        """Whether a guess that is right with this probability would pay, if it took `extra` seconds to make."""
        return self._free > 0 or self._pays(probability, extra)

    def grant(self, probability: float, extra: float = 0.0) -> bool:
        """The same for a guess whose `extra` seconds have been spent already; counts it if so."""
        if not self.allows(probability):
            return False
        self.paid = self.paid or self._pays(probability, extra)
        self._free -= 1
        self._seconds += self._slope
        self._tokens += probability
        return True

    def fill(self, drafting: "Drafting") -> None:
        """Hand the budget over to native drafting, which sets `paid` itself."""
        drafting.seconds, drafting.tokens, drafting.slope = self._seconds, self._tokens, self._slope
        drafting.free = self._free

    def _pays(self, probability: float, extra: float) -> bool:
        return probability * self._seconds > self._tokens * (self._slope + extra)
