"""A stream from its first event to its last, whatever its form."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Protocol

from fathom.serve.desk import Visit, problem_of
from fathom.serve.dialogue import Finish, Piece
from fathom.serve.problem import Problem

Run = AsyncGenerator[tuple[int, Piece | Finish], None]
"""What is said, each item with the number of its answer."""


class Writer(Protocol):
    """Writes whole events; empty bytes where there is nothing to say."""

    def opening(self) -> bytes:
        """What comes before all answers."""

    def write(self, number: int, item: Piece | Finish) -> bytes:
        """What answer `number` says, or that it ends."""

    def closing(self) -> bytes:
        """What comes after all answers."""

    def failing(self, problem: Problem) -> bytes:
        """What comes in the place of all that is missing."""


async def events(run: Run, visit: Visit, writer: Writer) -> AsyncGenerator[bytes, None]:
    """The events of a stream; the books are kept before the last is sent."""
    try:
        async with aclosing(run):
            if opening := writer.opening():
                yield opening
            async for number, item in run:
                if said := writer.write(number, item):
                    yield said
            visit.done()
            yield writer.closing()
    except Exception as error:
        problem = problem_of(error)
        visit.done(problem.status)
        yield writer.failing(problem)
