"""The engine for many at once: one thread that steps, and streams that asyncio programs read from."""

import asyncio
import logging
import threading
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Iterable
from collections.abc import Sequence as Many
from dataclasses import fields
from typing import TYPE_CHECKING

from fathom.engine.accept import error_line
from fathom.engine.mailbox import Mailbox, merged
from fathom.engine.request import Completion, Delta, FinishReason, Output
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
        self._streams: dict[int, Mailbox] = {}
        self._urgent: set[Mailbox] = set()
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
        mailbox = Mailbox(asyncio.get_running_loop())
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
                self._hold(self._step())
                self._deliver(self._ripe())
            self._engine.close()
        finally:
            with self._wake:
                self._stopped = True
                orders, self._orders = self._orders, []
            for order in orders:
                order()
            self._hold([Output(mailbox.request, LOST) for mailbox in self._streams.values() if mailbox.request])
            self._deliver(list(self._streams.values()))

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
        mailbox: Mailbox,
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

    def _leave(self, mailbox: Mailbox) -> None:
        if mailbox.request is not None:
            self._streams.pop(mailbox.request.id, None)
            self._engine.cancel(mailbox.request)

    def _hold(self, outputs: list[Output]) -> None:
        """Put outputs by for their readers; beginnings and ends are urgent."""
        for request, delta in outputs:
            mailbox = self._streams.get(request.id)
            if mailbox is None:
                continue
            mailbox.held.append(delta)
            if delta.finish_reason is not None:
                mailbox.ended = request.finished or delta is LOST
                self._urgent.add(mailbox)
            elif not mailbox.begun:
                mailbox.begun = self._engine.tokenizer is None or bool(delta.text.strip())
                self._urgent.add(mailbox)

    def _ripe(self) -> Iterable[Mailbox]:
        """Whose outputs are to be handed over now: everybody's from time to time, urgent ones at once."""
        ripe, now = self._urgent, time.monotonic()
        if ripe:
            self._urgent = set()
        if now - self._delivered < self._pace:
            return ripe
        self._delivered = now
        return list(self._streams.values())

    def _deliver(self, mailboxes: Iterable[Mailbox]) -> None:
        """Hand over what is held, one call for each event loop."""
        parcels: defaultdict[asyncio.AbstractEventLoop, list[tuple[Mailbox, list[Delta], bool]]] = defaultdict(list)
        for mailbox in mailboxes:
            if mailbox.held:
                parcels[mailbox.loop].append((mailbox, mailbox.held, mailbox.ended))
                mailbox.held = []
                if mailbox.ended and mailbox.request is not None:
                    self._streams.pop(mailbox.request.id, None)
        for loop, parcel in parcels.items():
            try:
                loop.call_soon_threadsafe(self._unpack, loop, parcel)
            except RuntimeError:  # the loop is closed, and its readers gone
                for mailbox, _, _ in parcel:
                    self._leave(mailbox)

    def _unpack(self, loop: asyncio.AbstractEventLoop, parcel: list[tuple[Mailbox, list[Delta], bool]]) -> None:
        began = time.monotonic()
        for mailbox, deltas, ended in parcel:
            mailbox.deltas += deltas
            mailbox.complete = mailbox.complete or ended
            mailbox.arrived.set()
        # The readers were woken up before this, and so have their turn before it.
        loop.call_soon(self._unpacked, began)

    def _unpacked(self, began: float) -> None:
        self._pace = min(max(SHARE * (time.monotonic() - began), PACE), SLOWEST)


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
