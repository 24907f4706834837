"""Axes of a chart: round ticks, and the map from values to places."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

LARGEST = 1e30


@dataclass(frozen=True)
class Axis:
    """A stretch of values laid over a stretch of the page."""

    low: float
    high: float
    start: float
    """Where `low` lies."""
    end: float
    """Where `high` lies."""

    def place(self, value: float) -> float:
        """Where a value lies, never outside the axis."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + (self.end - self.start) * min(max(share, 0.0), 1.0)

    def ticks(self, count: int) -> list[float]:
        """About `count` round values within the axis."""
        step = _round_step((self.high - self.low) / max(count, 1))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [index * step for index in range(first, last + 1)]


def spanning(values: Sequence[float], start: float, end: float, *, zero: bool = False, room: float = 0.05) -> Axis:
    """Lay an axis over finite values, from zero if asked, with a little room at the open ends."""
    shown = [value for value in values if is_drawable(value)]
    low, high = (min(shown), max(shown)) if shown else (0.0, 1.0)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-9):
        spare = abs(high) * 0.1 or 1.0
        low, high = (0.0 if zero and low == 0 else low - spare), high + spare
    margin = (high - low) * room
    return Axis(low if low == 0 else low - margin, high + margin, start, end)


def is_drawable(value: float) -> bool:
    """Whether a number has a place on a page: a run that diverged may have recorded any."""
    return math.isfinite(value) and abs(value) < LARGEST


def _round_step(raw: float) -> float:
    magnitude = 10.0 ** math.floor(math.log10(raw))
    for factor in (1, 2, 2.5, 5, 10):
        if raw <= factor * magnitude * (1 + 1e-9):
            return factor * magnitude
    return 10 * magnitude


def short(value: float) -> str:
    """Write a number as briefly as an axis wants it: 1,500 as 1.5k, 2,000,000 as 2M, 0.25 as it is."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{unit}"
    return f"{value:.4g}"
