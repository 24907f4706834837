"""Watches the loss and the gradient: what is not a number, and what stays too high, is named and left out."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from statistics import median
from typing import Any

from fathom.config.train import GuardConfig


class Verdict(Enum):
    """What the guard makes of a step."""

    GOOD = "good"
    HIGH = "high"
    """Above the usual loss, and not yet for long enough to act."""
    NON_FINITE = "non-finite"
    SPIKE = "spike"


@dataclass(frozen=True)
class Batch:
    """A step's sequences, by their place in the run's order of the data."""

    step: int
    first: int
    size: int

    @property
    def end(self) -> int:
        """The place after its last sequence."""
        return self.first + self.size

    def __str__(self) -> str:
        return f"step {self.step} (sequences {self.first:,} to {self.end - 1:,} in the order of the data)"


@dataclass
class Guard:
    """The memory of recent losses, and the judgement of the next."""

    config: GuardConfig
    recent: list[float] = field(default_factory=list)
    """Losses of the last good steps."""
    high: list[Batch] = field(default_factory=list)
    """The batches of the current row of high steps."""

    def judge(self, batch: Batch, loss: float, norm: float) -> Verdict:
        """Judge a step by its loss and gradient norm, before it changes anything."""
        if not (math.isfinite(loss) and math.isfinite(norm)):
            return Verdict.NON_FINITE
        ready = len(self.recent) >= self.config.spike_window // 2
        if ready and loss > median(self.recent) + self.config.spike_nats:
            self.high.append(batch)
            return Verdict.SPIKE if len(self.high) >= self.config.spike_patience else Verdict.HIGH
        self.high.clear()
        self.recent.append(loss)
        del self.recent[: -self.config.spike_window]
        return Verdict.GOOD

    def facts(self) -> dict[str, Any]:
        """Everything remembered, as plain values."""
        return {"recent": list(self.recent), "high": [asdict(batch) for batch in self.high]}

    def restore(self, facts: dict[str, Any]) -> None:
        """Take over what `facts` gave."""
        self.recent = list(facts["recent"])
        self.high = [Batch(**batch) for batch in facts["high"]]


def describe(verdict: Verdict, batch: Batch, since: Batch, loss: float, norm: float) -> str:
    """What happened at `batch`, in words; a spike began at `since`."""
    if verdict is Verdict.NON_FINITE:
        return f"loss {loss:.4g}, gradient norm {norm:.4g} at {batch}"
    return f"loss {loss:.3f} nats at {batch}, high since {since}"


def first_after(place: int, skipped: Sequence[tuple[int, int]]) -> int:
    """The first place from `place` on that lies in none of the `skipped` ranges (first, end)."""
    moved = True
    while moved:
        moved = False
        for first, end in skipped:
            if first <= place < end:
                place, moved = end, True
    return place
