"""A server with the chat page and a model that says what the test tells it to."""

import asyncio
import contextlib
import json
import threading
import time

import httpx
import uvicorn
from fastapi import FastAPI

from fathom.serve.dialogue import PromptTooLongError
from fathom.serve.page.answerer import Ended, Said, Thinking
from fathom.serve.page.router import router
from fathom.serve.store.store import Store

WAIT = "wait"
"""In a script: go on only when the test says so."""


def echo(messages, thinking):
    return [Said("Let me think."), Said(content=f"You said: {messages[-1].content}")]


class Scripted:
    """A model that answers by a script."""

    model = "scripted"
    chats = True
    continues = True
    context_length = 4096

    def __init__(self):
        self.thinking = Thinking.CHOICE
        self.seen, self.pause = [], 0.0
        self.release = threading.Event()
        self.script = echo

    def count(self, messages):
        return sum(len(message.content.split()) for message in messages)

    async def answer(self, caller, messages, *, thinking):
        self.seen.append((list(messages), thinking))
        if self.count(messages) > self.context_length:
            raise PromptTooLongError("This model's maximum context length is 4096 tokens: shorten the chat.")
        written = 0
        for item in self.script(messages, thinking):
            if isinstance(item, Exception):
                raise item
            if item == WAIT:
                while not self.release.is_set():
                    await asyncio.sleep(0.01)
                continue
            if isinstance(item, Said) and item.reasoning and not thinking:
                continue
            if self.pause:
                await asyncio.sleep(self.pause)
            if isinstance(item, Ended):
                yield item
                return
            written += 1
            yield item
        yield Ended("stop", prompt_tokens=self.count(messages), completion_tokens=written)


class House:
    """A server on a port of its own, for as long as the `with` lasts."""

    def __init__(self, folder, answerer=None, **options):
        self.folder, self.answerer, self.options = folder, answerer or Scripted(), options

    def __enter__(self):
        self.store = Store(self.folder)
        app = FastAPI()
        app.include_router(router(self.store, self.answerer, closing=lambda: self.server.should_exit, **self.options))
        self.server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=3))
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}"
        self.http = httpx.Client(base_url=self.url, timeout=20)
        return self

    def __exit__(self, *_):
        self.answerer.release.set()
        self.http.close()
        self.server.should_exit = True
        self.thread.join()
        self.store.close()

    def ask(self, text, **fields):
        """Send a message and return the chat's id."""
        done = self.http.post("/page/api/messages", json={"text": text, **fields})
        assert done.status_code == 200, done.text
        return done.json()["chat"]["id"]

    def read(self, chat):
        """A chat as the page sees it."""
        done = self.http.get(f"/page/api/chats/{chat}")
        assert done.status_code == 200, done.text
        return done.json()

    def answered(self, chat):
        """The chat, once nothing is being written in it."""
        return self.until(lambda: None if (found := self.read(chat))["writing"] else found)

    def until(self, look):
        """Look again and again until there is something to see."""
        for _ in range(1000):
            if seen := look():
                return seen
            time.sleep(0.01)
        raise AssertionError("it never came")

    @contextlib.contextmanager
    def listening(self, chat=None):
        """The events of an open page."""
        query = {"chat": chat} if chat else {}
        with self.http.stream("GET", "/page/api/events", params=query) as response:
            assert response.status_code == 200
            yield _events(response.iter_lines())


def _events(lines):
    event = None
    for line in lines:
        if line.startswith("event: "):
            event = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield event, json.loads(line.removeprefix("data: "))
