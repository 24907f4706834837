"""A server in a process of its own: asked, stopped, killed and started again."""

import json
import signal
import subprocess
import sys

import httpx
import pytest
from served import http, server

pytestmark = pytest.mark.slow
QUESTION = {"model": "tiny", "messages": [{"role": "user", "content": "How deep is the sea, and how long the line?"}]}


def test_a_server_that_is_asked_to_stop_finishes_its_answers(served_model):
    with server(served_model, "--no-page") as (process, address):
        body = QUESTION | {"stream": True, "max_tokens": 300}
        with http.stream("POST", address + "/v1/chat/completions", json=body, timeout=60) as answer:
            lines = answer.iter_lines()
            next(lines)
            process.send_signal(signal.SIGTERM)
            assert "data: [DONE]" in list(lines)
        process.wait(30)
        with pytest.raises(httpx.TransportError):
            http.get(address + "/health")


def test_a_server_holds_its_weights_as_it_is_told(served_model):
    with server(served_model, "--no-page", "--weights", "int8") as (_, address):
        answer = http.post(address + "/v1/chat/completions", json=QUESTION | {"max_tokens": 3, "ignore_eos": True})
        assert answer.json()["usage"]["completion_tokens"] == 3


def test_a_server_started_again_finds_what_it_had_read(served_model, tmp_path):
    options = ("--no-page", "--spill", str(tmp_path / "cache"))

    def hits(address):
        answer = http.post(address + "/v1/chat/completions", json=QUESTION | {"max_tokens": 1}, timeout=60)
        return answer.json()["usage"]["prompt_cache_hit_tokens"]

    with server(served_model, *options) as (process, address):
        assert hits(address) == 0
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    with server(served_model, *options) as (_, address):
        assert hits(address) > 0


def test_keys_that_were_used_are_charged_though_the_server_is_killed(served_model, tmp_path):
    keys = ("--keys", str(tmp_path / "keys.db"))
    fathom = [sys.executable, "-m", "fathom", "keys"]
    made = subprocess.run([*fathom, "add", "alice", *keys, "--json"], capture_output=True, text=True, check=True)
    headers = {"Authorization": f"Bearer {json.loads(made.stdout)['key']}"}
    with server(served_model, "--no-page", *keys) as (process, address):
        body = QUESTION | {"max_tokens": 5}
        assert http.post(address + "/v1/chat/completions", json=body, timeout=60).status_code == 401
        answer = http.post(address + "/v1/chat/completions", json=body, headers=headers, timeout=60)
        used = answer.json()["usage"]["total_tokens"]
        process.kill()
    listed = subprocess.run([*fathom, "list", *keys, "--json"], capture_output=True, text=True, check=True)
    assert json.loads(listed.stdout)[0]["used_tokens"] == used
