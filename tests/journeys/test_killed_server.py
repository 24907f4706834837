"""A server that is killed while it answers, as by a power cut: nothing that was finished is lost."""

import sqlite3
import threading
import time
from contextlib import suppress

import httpx
import pytest
from served import http, server

pytestmark = pytest.mark.slow
QUESTION = {"model": "tiny", "messages": [{"role": "user", "content": "How deep is the sea, and how long the line?"}]}
LOAD = 6
"""Chats that are asked at once, and as many streams."""
KILLS = 3


class Client(threading.Thread):
    """Asks until the server is gone."""

    def __init__(self, address):
        super().__init__()
        self.address, self.finished = address, {}

    def run(self):
        with suppress(httpx.TransportError, httpx.StreamError), httpx.Client(base_url=self.address, timeout=60) as own:
            while True:
                self.ask(own)


class Chatter(Client):
    """Asks in a chat of its own and notes what the page shows as finished."""

    def ask(self, own):
        chat = own.post("/page/api/messages", json={"text": f"How deep is the sea? {self.name}"}).json()["chat"]["id"]
        while (whole := own.get(f"/page/api/chats/{chat}").json())["writing"]:
            time.sleep(0.01)
        self.finished[chat] = [(one["text"], one["status"]) for one in whole["messages"]]


class Streamer(Client):
    """Reads streams."""

    def ask(self, own):
        body = QUESTION | {"stream": True, "max_tokens": 200}
        with own.stream("POST", "/v1/chat/completions", json=body) as answer:
            self.finished[time.monotonic()] = list(answer.iter_lines())


def test_a_server_killed_under_load_keeps_what_was_finished(served_model, tmp_path):
    data, spill = tmp_path / "data", tmp_path / "cache"
    options = ("--data", str(data), "--spill", str(spill), "--set", "limits.max_tokens=60")
    finished, hits = {}, []
    for kill in range(KILLS + 1):
        with server(served_model, *options) as (process, address):
            asked = http.post(address + "/v1/chat/completions", json=QUESTION | {"max_tokens": 1}).json()
            hits.append(asked["usage"]["prompt_cache_hit_tokens"])
            for chat, messages in finished.items():
                found = http.get(f"{address}/page/api/chats/{chat}").json()
                assert [(one["text"], one["status"]) for one in found["messages"]] == messages
            assert not any(chat["writing"] for chat in http.get(address + "/page/api/chats").json()["chats"])
            if kill == KILLS:
                break
            clients = [kind(address) for kind in (Chatter, Streamer) for _ in range(LOAD)]
            for client in clients:
                client.start()
            while sum(len(client.finished) for client in clients) < 4 * LOAD:
                time.sleep(0.01)
            process.kill()
            for client in clients:
                client.join()
            for client in clients[:LOAD]:
                finished |= client.finished
        assert sound(data / "chats.sqlite")
    assert len(finished) > LOAD
    assert hits[0] == 0
    assert min(hits[1:]) > 0


def sound(path):
    with sqlite3.connect(path) as database:
        return database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
