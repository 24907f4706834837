"""What every endpoint that generates does: check the caller, find the model, run, keep the books."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from fastapi import Request

from fathom.errors import FathomError, UnavailableError, UsageError
from fathom.serve.audit import AuditLog
from fathom.serve.dialogue import Finish, Meter, Piece, PromptTooLongError
from fathom.serve.embedder import Embedder
from fathom.serve.gate import Gate, Ticket
from fathom.serve.keys import Key
from fathom.serve.knowledge.source import Source
from fathom.serve.metrics import Metrics
from fathom.serve.problem import Problem, bad_format, bad_parameter, broken, overloaded
from fathom.serve.settings import Limits, ModelName
from fathom.serve.speaker import Speaker

Item = TypeVar("Item")
log = logging.getLogger("fathom.serve")
CLIENT_LEFT = 499
"""What nginx notes for a request whose client went away."""


@dataclass
class Visit:
    """One request that generates, from its admission to its end."""

    desk: "Desk"
    ticket: Ticket
    endpoint: str
    model: str
    user: str | None
    started: float = field(default_factory=time.perf_counter)
    status: int = 200
    finished: bool = False
    spoke: bool = False
    meters: list[tuple[Meter, bool]] = field(default_factory=list)
    """What each answer cost, and whether its prompt was counted with another's."""

    def meter(self, *, same_prompt: bool = False) -> Meter:
        """A meter for one more answer; `same_prompt` where it is to the same prompt as the one before."""
        meter = Meter()
        self.meters.append((meter, same_prompt))
        return meter

    def note(self, item: Piece | Finish) -> None:
        """Keep the books of what comes out."""
        if not self.spoke:
            self.spoke = True
            self.desk.metrics.observe("first_token_seconds", time.perf_counter() - self.started)
        if isinstance(item, Finish) and item.rule:
            self.desk.metrics.count("policy_refusals_total", rule=item.rule.name)

    def done(self, status: int = 200) -> None:
        """The answer is complete: enter it in the books, before its last word is sent."""
        if not self.finished:
            self.finished, self.status = True, status
            self._enter()

    @contextmanager
    def beginning(self) -> Iterator[None]:
        """What fails in here ends the visit; raises `Problem`."""
        try:
            yield
        except Exception as error:
            problem = problem_of(error)
            self.done(problem.status)
            self.close()
            raise problem from error

    def close(self) -> None:
        """Leave; what was not done was broken off by the client."""
        if not self.ticket.closed:
            self.ticket.close()
            self.done(CLIENT_LEFT)

    def _enter(self) -> None:
        first = [meter for meter, same_prompt in self.meters if not same_prompt]
        tokens = {
            "prompt": sum(meter.prompt_tokens for meter in first),
            "cached": sum(meter.cached_tokens for meter in first),
            "completion": sum(meter.completion_tokens for meter, _ in self.meters),
            "reasoning": sum(meter.reasoning_tokens for meter, _ in self.meters),
        }
        seconds = time.perf_counter() - self.started
        self.desk.gate.charge(self.ticket, tokens["prompt"], tokens["completion"])
        for kind, count in tokens.items():
            self.desk.metrics.count("tokens_total", count, kind=kind)
        self.desk.metrics.count("requests_total", endpoint=self.endpoint, status=str(self.status))
        self.desk.metrics.observe("request_seconds", seconds, endpoint=self.endpoint)
        self.desk.audit.note(
            key=self.ticket.name,
            endpoint=self.endpoint,
            model=self.model,
            status=self.status,
            user=self.user,
            prompt_tokens=tokens["prompt"],
            completion_tokens=tokens["completion"],
            seconds=round(seconds, 3),
        )


@dataclass
class Desk:
    """The parts of a running server."""

    speaker: Speaker
    names: dict[str, ModelName]
    """Every name of the model; the first is its own."""
    limits: Limits
    gate: Gate
    audit: AuditLog
    metrics: Metrics
    fingerprint: str
    source: Source | None = None
    """The documents that answers may cite."""
    embedder: Embedder | None = None
    """What makes vectors of texts."""
    created: int = field(default_factory=lambda: int(time.time()))

    def now(self) -> int:
        """The time, in whole seconds."""
        return int(time.time())

    @property
    def listed(self) -> list[str]:
        """Every name that a request may give: the model's, then the embedder's."""
        return list(dict.fromkeys([*self.names, *([self.embedder.name] if self.embedder else [])]))

    def model(self, name: str) -> ModelName:
        """The model of a name; raises `Problem` (400)."""
        if name not in self.names:
            raise bad_format(f"Model Not Exist: '{name}' is none of {', '.join(self.names)}.", param="model")
        return self.names[name]

    def visit(self, key: Key | None, endpoint: str, model: str, user: str | None = None) -> Visit:
        """Admit a request; raises `Problem`."""
        return Visit(self, self.gate.admit(key), endpoint, model, user)

    async def run(
        self, visit: Visit, streams: Sequence[AsyncGenerator[Piece | Finish, None]]
    ) -> AsyncGenerator[tuple[int, Piece | Finish], None]:
        """Run one generation, or several at once; each item comes with its stream's number. Raises `Problem`."""
        merged = _numbered(streams[0]) if len(streams) == 1 else together(streams)
        async with aclosing(merged):
            try:
                async for number, item in _in_time(merged, self.limits.start):
                    visit.note(item)
                    yield number, item
            except Exception as error:
                raise problem_of(error) from error


def key_of(request: Request) -> Key | None:
    """Whose request this is, as the guard found."""
    key: Key | None = request.scope.get("fathom.key")
    return key


def problem_of(error: BaseException) -> Problem:
    """What a client is told of an error."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, PromptTooLongError):
        return bad_format(str(error), param="messages")
    if isinstance(error, UsageError):
        return bad_parameter(str(error))
    if isinstance(error, UnavailableError):
        return overloaded(str(error))
    if isinstance(error, FathomError):
        log.error("%s", error)
        return Problem(500, str(error), "server_error", "server_error")
    log.exception("A request failed.", exc_info=error)
    return broken()


async def _numbered(stream: AsyncGenerator[Item, None]) -> AsyncGenerator[tuple[int, Item], None]:
    async with aclosing(stream):
        async for item in stream:
            yield 0, item


async def _in_time(items: AsyncGenerator[Item, None], seconds: float) -> AsyncGenerator[Item, None]:
    """Pass items on; the first must come in time."""
    try:
        async with asyncio.timeout(seconds):
            first = await anext(items)
    except StopAsyncIteration:
        return
    except TimeoutError:
        raise overloaded(f"The server is busy: no answer began within {seconds:g} s.") from None
    yield first
    async for item in items:
        yield item


async def together(streams: Sequence[AsyncGenerator[Item, None]]) -> AsyncGenerator[tuple[int, Item], None]:
    """Run streams at once and pass on what comes, each item with its stream's number."""
    queue: asyncio.Queue[tuple[int, Item] | BaseException | None] = asyncio.Queue(maxsize=4 * len(streams))

    async def pump(number: int, stream: AsyncGenerator[Item, None]) -> None:
        try:
            async with aclosing(stream):
                async for item in stream:
                    await queue.put((number, item))
            await queue.put(None)
        except Exception as error:
            await queue.put(error)

    tasks = [asyncio.create_task(pump(number, stream)) for number, stream in enumerate(streams)]
    try:
        running = len(tasks)
        while running:
            item = await queue.get()
            if item is None:
                running -= 1
            elif isinstance(item, BaseException):
                raise item
            else:
                yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
