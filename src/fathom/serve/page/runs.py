"""Answers under way: written in the background, whoever looks; saved as they grow; told to every open page."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager

from anyio.to_thread import run_sync

from fathom.errors import FathomError, NotFoundError, UsageError
from fathom.serve.dialogue import PromptTooLongError
from fathom.serve.encoding.messages import Message as Turn
from fathom.serve.keys import Key
from fathom.serve.knowledge.passages import Passage
from fathom.serve.knowledge.source import Source
from fathom.serve.page import shown
from fathom.serve.page.answerer import Answerer, Ended
from fathom.serve.page.bus import Bus
from fathom.serve.page.compose import looked_up, to_summarise, turns
from fathom.serve.page.run import Painted, Run
from fathom.serve.problem import Problem
from fathom.serve.rendering.stream import Block
from fathom.serve.store.records import Citation, Message, Notice, Role, Status
from fathom.serve.store.store import Store

SAVE_EVERY = 0.5
"""Seconds of words that a crash may cost."""
PAINT_EVERY = 0.06
MOST_PASSAGES = 8
ANSWER = "\n"
"""What an answer begins with when the reader asked for it before the model did."""

log = logging.getLogger("fathom.serve")


class Runs:
    """All answers under way."""

    def __init__(self, store: Store, answerer: Answerer, bus: Bus, source: Source | None) -> None:
        self._store, self._answerer, self._bus, self._source = store, answerer, bus, source
        self._runs: dict[str, Run] = {}
        self._claimed: set[str] = set()

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[None, None]:
        """Save while in it; at the end, mark what is not finished as interrupted."""
        saver = asyncio.create_task(self._save())
        try:
            yield
        finally:
            for run in list(self._runs.values()):
                await self._end(run, Status.INTERRUPTED)
            saver.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await saver
            self._bus.close()

    def of(self, chat: str) -> Run | None:
        """The answer being written in a chat."""
        return self._runs.get(chat)

    @contextmanager
    def claimed(self, chat: str | None) -> Iterator[None]:
        """Hold a chat for an answer that is about to begin; UsageError while one is being written in it."""
        if chat in self._runs or chat in self._claimed:
            raise UsageError("An answer is still being written in this chat: wait for it, or stop it.")
        if chat is None:
            yield
            return
        self._claimed.add(chat)
        try:
            yield
        finally:
            self._claimed.discard(chat)

    def start(self, owner: str, caller: Key | None, message: Message) -> None:
        """Write `message`, which is in the store with the status `writing`; what it holds already is gone on with."""
        run = Run(owner, message)
        self._runs[run.chat] = run
        run.whole = asyncio.create_task(self._whole(run, caller))

    async def stop(self, chat: str) -> None:
        """Break off the answer of a chat; what was written stays."""
        if run := self._runs.get(chat):
            await self._end(run, Status.STOPPED)

    async def answer_now(self, chat: str) -> None:
        """End the thinking and let the answer begin."""
        run = self._runs.get(chat)
        if run and run.work and run.thinks and not run.answer_now:
            run.answer_now = True
            run.work.cancel()

    async def _end(self, run: Run, status: Status) -> None:
        run.stopped = run.stopped or status
        if run.work:
            run.work.cancel()
        if run.whole:
            await asyncio.wait([run.whole])

    async def _whole(self, run: Run, caller: Key | None) -> None:
        painter = asyncio.create_task(self._paint(run))
        try:
            await self._generate(run, caller)
            if run.answer_now and run.stopped is None:
                run.stop_thinking()
                await self._generate(run, caller, answer=ANSWER)
        finally:
            painter.cancel()
            run.stop_thinking()
            await self._finish(run)

    async def _generate(self, run: Run, caller: Key | None, answer: str = "") -> None:
        run.work = asyncio.create_task(self._speak(run, caller, answer))
        await asyncio.wait([run.work])
        if run.work.cancelled():
            return
        error = run.work.exception()
        if isinstance(error, PromptTooLongError):
            run.notices.append(Notice("context", str(error)))
        elif isinstance(error, Problem | FathomError):
            run.notices.append(Notice("error", str(error)))
        elif error is not None:
            log.error("An answer in a chat failed.", exc_info=error)
            run.notices.append(Notice("error", "The server met an error it did not foresee; its log says more."))

    async def _speak(self, run: Run, caller: Key | None, answer: str) -> None:
        if run.stopped:
            return
        conversation = await run_sync(self._conversation, run)
        before = run.report()
        if before.reasoning or before.content:
            said = before.content or answer
            conversation.append(Turn("assistant", said, reasoning=before.reasoning, prefix=True))
        items = self._answerer.answer(caller, conversation, thinking=run.message.thinking)
        async with aclosing(items):
            async for item in items:
                if isinstance(item, Ended):
                    run.end(item)
                else:
                    run.say(item)

    def _conversation(self, run: Run) -> list[Turn]:
        message, store = run.message, self._store
        if message.role is Role.SUMMARY:
            before = store.chats.get(run.owner, message.chat).continues
            path = store.messages.path(run.owner, before) if before else []
            return to_summarise(path, self._room(), self._answerer.count)
        path = store.messages.path_to(run.owner, message.chat, message.parent) if message.parent else []
        passages = self._passages(run, path) if message.search else ()
        return turns(path, passages)

    def _passages(self, run: Run, path: Sequence[Message]) -> Sequence[Passage]:
        """What was found for the last question; as much of it as fits beside the chat."""
        known = self._store.messages.get(run.owner, run.chat, run.message.id).citations
        if known:
            found = [Passage(one.title, one.place, "", one.text) for one in known]
        else:
            found = list(self._source.search(looked_up(path), MOST_PASSAGES)) if self._source else []
            while found and self._answerer.count(turns(path, found)) > self._room():
                found.pop()
            cited = [Citation(number, one.title, one.place, one.text) for number, one in enumerate(found, start=1)]
            self._store.messages.cite(run.message.id, cited)
        if not found:
            run.notices.append(Notice("search", "Nothing was found in the documents for this question."))
        run.cite(shown.sources(self._store.messages.get(run.owner, run.chat, run.message.id)))
        return found

    def _room(self) -> int:
        """Tokens a prompt may have if an answer is to follow it."""
        length = self._answerer.context_length
        return length - min(1024, length // 4)

    async def _paint(self, run: Run) -> None:
        while True:
            await run.news.wait()
            if self._bus.watched(run.chat) and run.due:
                run.news.clear()
                self._tell(run, await run_sync(run.paint, run.take_unseen()))
            await asyncio.sleep(PAINT_EVERY)

    def _tell(self, run: Run, painted: Painted) -> None:
        if painted.reasoning or painted.content:
            self._bus.tell(run.owner, "blocks", blocks_of(run, painted), chat=run.chat)

    async def _finish(self, run: Run) -> None:
        try:
            ended = await run_sync(self._store.messages.finish, run.report(), run.outcome())
            chat = await run_sync(self._store.chats.get, run.owner, run.chat)
        except NotFoundError:
            return
        finally:
            self._runs.pop(run.chat, None)
        if ended is not None:
            value = await run_sync(shown.message, ended)
            self._bus.tell(run.owner, "message", {**value, "chat": run.chat, "revision": chat.revision}, chat=run.chat)
            self._bus.tell(run.owner, "chats", {"chat": run.chat, "revision": chat.revision})

    async def _save(self) -> None:
        pause = SAVE_EVERY
        while True:
            await asyncio.sleep(pause)
            changed = [run for run in self._runs.values() if run.unsaved]
            for run in changed:
                run.unsaved = False
            started = time.monotonic()
            if changed:
                try:
                    await run_sync(self._store.messages.progress, [run.report() for run in changed])
                except Exception:
                    log.exception("Answers under way could not be saved; trying again.")
            # Saving takes at most a tenth of the time, however much there is to save.
            pause = max(SAVE_EVERY, 10 * (time.monotonic() - started))


def blocks_of(run: Run, painted: Painted) -> shown.Json:
    """What a page must change to show `painted`."""
    return {
        "message": run.message.id,
        "reasoning": [_pair(block) for block in painted.reasoning],
        "content": [_pair(block) for block in painted.content],
        "seconds": run.seconds,
        "thinks": run.thinks,
    }


def _pair(block: Block) -> list[object]:
    return [block.index, block.html]
