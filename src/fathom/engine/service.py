"""The engine for many at once: one thread that steps, and streams that asyncio programs read from."""

import asyncio
import logging
import threading
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable
from collections.abc import Sequence as Many
from dataclasses import fields
from typing import TYPE_CHECKING

from fathom.engine.accept import error_line
from fathom.engine.request import Completion, Delta, FinishReason, Output, Request
from fathom.engine.sampling import SamplingParams
from fathom.errors import FathomError, UnavailableError

if TYPE_CHECKING:
    from fathom.engine.engine import Engine

log = logging.getLogger("fathom.engine")
CLOSED = "The engine is shutting down and takes no more requests."
PACE, SLOWEST = 0.02, 0.2
"""Seconds between deliveries, apart from beginnings and ends, at least and at most."""
SHARE = 20
"""Handing tokens on takes at most one part in so many of an event loop's time, as far as `SLOWEST` allows."""
LOST = Delta((), "", (), None, FinishReason.ERROR, 0, 0, error="The engine stopped unexpectedly.")


class AsyncEngine:
    """Runs an engine in a thread of its own, from the first request on. The engine belongs to it alone.

    The thread never waits for a reader: what a slow one has not fetched is put together and handed over at once.
    """

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        engine.core  # noqa: B018  (made now, so that a machine without the memory is found out before it serves)
        self._wake = threading.Condition()
        self._orders: list[Callable[[], None]] = []
        self._closing = self._stopped = False
        self._thread: threading.Thread | None = None
        self._streams: dict[int, _Mailbox] = {}
        self._held: list[Output] = []
        self._delivered, self._pace = 0.0, PACE

    async def stream(
        self,
        prompt: str | Many[int],
        params: SamplingParams | None = None,
        *,
        priority: int = 0,
        deadline: float | None = None,
    ) -> AsyncGenerator[Delta, None]:
        """Continue a prompt; leaving the loop, by whatever way, gives the request up.

        What cannot be served raises `GenerationError` before the first delta. See `Engine.submit`.
        """
        if self._closing:
            raise UnavailableError(CLOSED)
        mailbox = _Mailbox(asyncio.get_running_loop())
        self._order(lambda: self._submit(mailbox, prompt, params, priority, deadline))
        try:
            await mailbox.accepted
            while not mailbox.finished:
                for delta in await mailbox.take():
                    yield delta
        finally:
            if not mailbox.finished:
                mailbox.left = True
                self._order(lambda: self._leave(mailbox))

    async def complete(
        self,
        prompt: str | Many[int],
        params: SamplingParams | None = None,
        *,
        priority: int = 0,
        deadline: float | None = None,
    ) -> list[Completion]:
        """Complete a prompt, whole; `n` completions, in order."""
        parts: defaultdict[int, list[Delta]] = defaultdict(list)
        async for delta in self.stream(prompt, params, priority=priority, deadline=deadline):
            parts[delta.index].append(delta)
        return [_completion(merged(parts[index])) for index in sorted(parts)]

    def metrics(self) -> dict[str, float]:
        """The engine's counts; guesses are `drafted_1`, `accepted_1` and so on, by how far ahead they were."""
        metrics = self._engine.metrics()
        numbers = {field.name: getattr(metrics, field.name) for field in fields(metrics)}
        drafted, accepted = numbers.pop("drafted"), numbers.pop("accepted")
        numbers |= {f"drafted_{ahead}": count for ahead, count in enumerate(drafted, 1)}
        numbers |= {f"accepted_{ahead}": count for ahead, count in enumerate(accepted, 1)}
        return {name: float(number) for name, number in numbers.items()}

    async def drain(self) -> None:
        """Take no more requests, let those under way finish, and stop."""
        self._stop()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def close(self) -> None:
        """Take no more requests, give up those under way, and stop."""
        self._order(self._engine.cancel_all)
        self._stop()
        if self._thread is not None:
            self._thread.join()

    def _stop(self) -> None:
        with self._wake:
            self._closing = True
            self._wake.notify()
            if self._thread is None and not self._stopped:
                self._stopped = True
                self._engine.close()

    def _order(self, order: Callable[[], None]) -> None:
        """Have the engine's thread do something before its next step."""
        with self._wake:
            if self._stopped:
                order()
                return
            self._orders.append(order)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="fathom-engine", daemon=True)
                self._thread.start()
            self._wake.notify()

    def _run(self) -> None:
        try:
            while self._wait():
                orders, self._orders = self._orders, []
                for order in orders:
                    order()
                new = self._step()
                self._held += new
                self._deliver(self._ripe(new))
            self._engine.close()
        finally:
            with self._wake:
                self._stopped = True
                orders, self._orders = self._orders, []
            for order in orders:
                order()
            lost = [Output(mailbox.request, LOST) for mailbox in self._streams.values() if mailbox.request]
            self._deliver(self._held + lost)

    def _wait(self) -> bool:
        """Wait for something to do; False when there will be nothing any more."""
        with self._wake:
            while not (self._orders or self._engine.busy or self._closing):
                self._wake.wait()
            return bool(self._orders or self._engine.busy)

    def _step(self) -> list[Output]:
        try:
            return self._engine.step() if self._engine.busy else []
        except Exception as error:
            log.exception("A step failed; the requests under way are given up.")
            return self._engine.fail_all(error_line(error))

    def _submit(
        self,
        mailbox: "_Mailbox",
        prompt: str | Many[int],
        params: SamplingParams | None,
        priority: int,
        deadline: float | None,
    ) -> None:
        if self._stopped:
            mailbox.refuse(UnavailableError(CLOSED))
            return
        if mailbox.left:
            return
        try:
            mailbox.request = self._engine.submit(prompt, params, priority=priority, deadline=deadline)
        except Exception as error:
            mailbox.refuse(error if isinstance(error, FathomError) else FathomError(error_line(error)))
            return
        self._streams[mailbox.request.id] = mailbox
        mailbox.accept()

    def _leave(self, mailbox: "_Mailbox") -> None:
        if mailbox.request is not None:
            self._streams.pop(mailbox.request.id, None)
            self._engine.cancel(mailbox.request)

    def _ripe(self, new: list[Output]) -> list[Output]:
        """What is to be handed over now: everything from time to time, beginnings and ends at once."""
        now = time.monotonic()
        if now - self._delivered >= self._pace:
            self._delivered = now
            ripe, self._held = self._held, []
            return ripe
        urgent = {request.id for request, delta in new if delta.finish_reason is not None or not self._begun(request)}
        if not urgent:
            return []
        held, self._held = self._held, [output for output in self._held if output.request.id not in urgent]
        return [output for output in held if output.request.id in urgent]

    def _begun(self, request: Request) -> bool:
        mailbox = self._streams.get(request.id)
        return mailbox is None or mailbox.begun

    def _deliver(self, outputs: list[Output]) -> None:
        """Hand outputs over, one call for each event loop."""
        parcels: defaultdict[asyncio.AbstractEventLoop, list[tuple[_Mailbox, Delta, bool]]] = defaultdict(list)
        last = {request.id: n for n, (request, delta) in enumerate(outputs) if request.finished or delta is LOST}
        for n, (request, delta) in enumerate(outputs):
            mailbox = self._streams.get(request.id)
            if mailbox is not None:
                mailbox.begun = True
                finished = last.get(request.id) == n
                if finished:
                    del self._streams[request.id]
                parcels[mailbox.loop].append((mailbox, delta, finished))
        for loop, parcel in parcels.items():
            try:
                loop.call_soon_threadsafe(self._unpack, loop, parcel)
            except RuntimeError:  # the loop is closed, and its readers gone
                for mailbox, _, _ in parcel:
                    self._leave(mailbox)

    def _unpack(self, loop: asyncio.AbstractEventLoop, parcel: "list[tuple[_Mailbox, Delta, bool]]") -> None:
        began = time.monotonic()
        for mailbox, delta, finished in parcel:
            mailbox.deltas.append(delta)
            mailbox.complete = mailbox.complete or finished
            mailbox.arrived.set()
        # The readers were woken up before this, and so have their turn before it.
        loop.call_soon(self._unpacked, began)

    def _unpacked(self, began: float) -> None:
        self._pace = min(max(SHARE * (time.monotonic() - began), PACE), SLOWEST)


class _Mailbox:
    """Where the engine's thread leaves a request's deltas; all but `request`, `left` and `begun` is the loop's own."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.accepted: asyncio.Future[None] = loop.create_future()
        self.request: Request | None = None
        self.left = False
        self.begun = False
        """Whether anything was delivered."""
        self.complete = False
        self.deltas: list[Delta] = []
        self.arrived = asyncio.Event()

    @property
    def finished(self) -> bool:
        """Whether everything has come and been taken."""
        return self.complete and not self.deltas

    async def take(self) -> list[Delta]:
        """What has come since it was last asked, one delta for each completion."""
        await self.arrived.wait()
        self.arrived.clear()
        deltas, self.deltas = self.deltas, []
        if len(deltas) < 2:
            return deltas
        parts: defaultdict[int, list[Delta]] = defaultdict(list)
        for delta in deltas:
            parts[delta.index].append(delta)
        return [merged(part) for part in parts.values()]

    def accept(self) -> None:
        """Say, from the engine's thread, that the request is taken."""
        self._settle(lambda: self.accepted.set_result(None))

    def refuse(self, error: FathomError) -> None:
        """Say, from any thread, why it is not."""
        self._settle(lambda: self.accepted.set_exception(error))

    def _settle(self, outcome: Callable[[], None]) -> None:
        def settle() -> None:
            if not self.accepted.done():
                outcome()

        try:
            self.loop.call_soon_threadsafe(settle)
        except RuntimeError:
            self.left = True


def merged(deltas: Many[Delta]) -> Delta:
    """One delta for several of the same completion that follow each other."""
    if len(deltas) == 1:
        return deltas[0]
    tops = [delta.top_logprobs for delta in deltas if delta.top_logprobs is not None]
    last = deltas[-1]
    return Delta(
        tuple(token for delta in deltas for token in delta.tokens),
        "".join(delta.text for delta in deltas),
        tuple(logprob for delta in deltas for logprob in delta.logprobs),
        tuple(top for part in tops for top in part) if tops else None,
        last.finish_reason,
        last.cached_tokens,
        last.prompt_tokens,
        last.index,
        last.error,
    )


def _completion(delta: Delta) -> Completion:
    assert delta.finish_reason is not None
    return Completion(
        delta.tokens,
        delta.logprobs,
        delta.text,
        delta.finish_reason,
        delta.prompt_tokens,
        delta.cached_tokens,
        delta.top_logprobs,
        index=delta.index,
        error=delta.error,
    )
