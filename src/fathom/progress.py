"""Progress for anything longer than a second or two: a live bar in a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn


class Tracker(Protocol):
    """What long work reports to."""

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        """Say that `amount` more of the total is done."""


class _Silent:
    def advance(self, amount: float = 1.0, note: str = "") -> None:
        """Ignore the report."""


class _Bar:
    def __init__(self, bar: Progress, total: float, title: str) -> None:
        self._bar = bar
        self._task = bar.add_task(title, total=total, note="")

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        """Move the bar."""
        self._bar.update(self._task, advance=amount, note=note)


class _Lines:
    """One line at the start of each tenth, and never more often than every `interval` seconds."""

    def __init__(self, total: float, title: str, interval: float = 5.0) -> None:
        self._total, self._title, self._interval = max(total, 1e-9), title, interval
        self._done, self._start, self._last = 0.0, time.monotonic(), time.monotonic()

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        """Print a line if the last is old enough."""
        self._done += amount
        now = time.monotonic()
        if now - self._last >= self._interval:
            self._last = now
            share = min(self._done / self._total, 1.0)
            left = (now - self._start) * (1 - share) / max(share, 1e-9)
            print(f"{self._title}: {share:4.0%}, about {left:.0f} s left {note}".rstrip(), file=sys.stderr, flush=True)


@contextmanager
def track(title: str, total: float, *, quiet: bool = False) -> Iterator[Tracker]:
    """Show the progress of `total` units of work called `title`; stays out of standard output."""
    if quiet:
        yield _Silent()
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(total, title)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[note]}"), console=console, transient=True) as bar:
        yield _Bar(bar, total, title)
