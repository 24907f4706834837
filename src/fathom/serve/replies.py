"""Answers that take their time: streams of events, and JSON that is awaited.

Both say something to a client that waits, notice when it has gone, and give up on one that takes nothing. Leaving in
any way runs `close`, and with it ends the generation.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from fathom.serve.settings import Limits

log = logging.getLogger("fathom.serve")
KEEP_ALIVE = b": keep-alive\n\n"
JSON = (b"content-type", b"application/json")


class EventStream(Response):
    """Server-sent events from a generator of whole events."""

    def __init__(self, events: AsyncGenerator[bytes, None], limits: Limits, close: Callable[[], None]) -> None:
        super().__init__(
            media_type="text/event-stream", headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        )
        del self.headers["content-length"]
        self._events, self._limits, self._close = events, limits, close
        self._spoke = False
        self._sending: float | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await _until_gone(receive, self._write(send), self._beat(send), self._patience())
        finally:
            await _quietly(self._events.aclose())
            self._close()

    async def _write(self, send: Send) -> None:
        async for event in self._events:
            self._spoke, self._sending = True, time.monotonic()
            await send({"type": "http.response.body", "body": event, "more_body": True})
            self._sending = None
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _patience(self) -> None:
        """Wait until the client has taken nothing for too long; a timer for each piece would cost more than it."""
        limit = self._limits.send
        while self._sending is None or time.monotonic() - self._sending < limit:
            await asyncio.sleep(limit / 4)

    async def _beat(self, send: Send) -> None:
        while True:
            self._spoke = False
            await asyncio.sleep(self._limits.keep_alive)
            if not self._spoke:
                await send({"type": "http.response.body", "body": KEEP_ALIVE, "more_body": True})


class AwaitedJson(Response):
    """A JSON answer; where it takes long, empty lines come first, which JSON allows."""

    def __init__(
        self, answer: Awaitable[tuple[int, dict[str, str], bytes]], limits: Limits, close: Callable[[], None]
    ) -> None:
        super().__init__(media_type="application/json")
        self._answer, self._limits, self._close = answer, limits, close
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait for the answer and send it."""
        try:
            await _until_gone(receive, self._write(send), self._beat(send))
        finally:
            self._close()

    async def _write(self, send: Send) -> None:
        status, headers, body = await self._answer
        if not self._started:
            self._started = True
            fields = [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
            fields += [JSON, (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": status, "headers": fields})
        async with asyncio.timeout(self._limits.send):
            await send({"type": "http.response.body", "body": body, "more_body": False})

    async def _beat(self, send: Send) -> None:
        while True:
            await asyncio.sleep(self._limits.keep_alive)
            if not self._started:
                self._started = True
                await send({"type": "http.response.start", "status": 200, "headers": [JSON]})
            await send({"type": "http.response.body", "body": b"\n", "more_body": True})


async def _until_gone(
    receive: Receive, write: Awaitable[None], beat: Awaitable[None], patience: Awaitable[None] | None = None
) -> None:
    """Run `write` to its end, with `beat` beside it, unless the client leaves first or `patience` ends."""
    writing = asyncio.ensure_future(write)
    ends = [asyncio.ensure_future(end) for end in (_left(receive), patience) if end is not None]
    beside = [*ends, asyncio.ensure_future(beat)]
    try:
        await asyncio.wait([writing, *ends], return_when=asyncio.FIRST_COMPLETED)
        if writing.done():
            await writing
        elif not ends[0].done():
            raise TimeoutError
    except TimeoutError:
        log.info("A client took nothing for too long and was let go.")
    finally:
        for task in (writing, *beside):
            task.cancel()
        await asyncio.gather(writing, *beside, return_exceptions=True)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _quietly(work: Awaitable[Any]) -> None:
    with contextlib.suppress(Exception):
        await work
