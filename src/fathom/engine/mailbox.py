"""Where what the engine's thread says waits for the asyncio program that reads it."""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from collections.abc import Sequence as Many

from fathom.engine.request import Delta, Request
from fathom.errors import FathomError


class Mailbox:
    """Where the engine's thread leaves a request's deltas. `complete`, `deltas` and what wakes are the loop's own."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.accepted: asyncio.Future[None] = loop.create_future()
        self.request: Request | None = None
        self.left = False
        self.begun = False
        """Whether a word has been held."""
        self.held: list[Delta] = []
        """Not handed over yet."""
        self.ended = False
        """Whether nothing will be held any more."""
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
