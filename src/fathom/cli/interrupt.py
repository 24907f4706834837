"""Ctrl-C during a run: once stops it after the step at hand, with its state saved; twice leaves at once."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from fathom.cli.console import say

Stop = Callable[[], bool]
SIGNALS = (signal.SIGINT, signal.SIGTERM)
SAME_WISH_SECONDS = 1.0
"""A second signal so soon is an echo of the first: torchrun passes on to its processes what the terminal sent them."""


class Interruption:
    """Whether, and by which signal, the run was asked to stop."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __call__(self) -> bool:
        """Whether to stop."""
        return self.signal is not None

    @property
    def exit_status(self) -> int:
        """What a shell expects of a program that a signal ended."""
        return 128 + (self.signal or signal.SIGINT)


@contextmanager
def interruptible(tell: Callable[[str], None] = say) -> Iterator[Interruption]:
    """Take signals as a wish to stop, until the block ends; `tell` says so to the person at the screen."""
    interruption = Interruption()
    first = 0.0

    def take(number: int, frame: FrameType | None) -> None:
        nonlocal first
        if interruption.signal is not None:
            if time.monotonic() - first < SAME_WISH_SECONDS:
                return
            raise KeyboardInterrupt
        interruption.signal, first = number, time.monotonic()
        tell("Stopping after this step and saving the state. Once more leaves at once, back to the last checkpoint.")

    before = {number: signal.signal(number, take) for number in SIGNALS}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
