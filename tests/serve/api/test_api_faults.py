"""What must not hurt the server: broken bodies, clients that vanish or dawdle, engines that fail."""

import contextlib
import json
import socket

import httpx
import pytest
from running import http, until

from fathom.engine.request import FinishReason
from fathom.errors import FathomError, GenerationError

ASK = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}
HEAVY = "x" * 100_000


def post(address, body, path="/chat/completions", **more):
    return http.post(address + path, **({"json": body} if not isinstance(body, bytes) else {"content": body}), **more)


def test_malformed_bodies_are_told_what_is_wrong(serve):
    address, _ = serve()
    json_type = {"headers": {"content-type": "application/json"}}
    cases = [
        (b"{", 400, "not valid JSON"),
        (b"\xff\xfe", 400, ""),
        (b"[" * 100_000, 400, ""),
        (b"", 400, "body"),
        (b"null", 400, ""),
        (b"[]", 400, "a JSON object"),
        (b'"text"', 400, "a JSON object"),
        (b'{"model": "tiny"}', 400, "'messages' is missing"),
        (json.dumps(ASK | {"temprature": 1}).encode(), 400, "unknown field 'temprature'"),
        (json.dumps(ASK | {"temperature": "1"}).encode(), 400, "temperature"),
        (json.dumps(ASK | {"temperature": 3}).encode(), 422, "temperature"),
        (json.dumps(ASK | {"temperature": float("nan")}).encode(), 422, "temperature"),
        (json.dumps(ASK | {"max_tokens": 0}).encode(), 422, "max_tokens"),
        (json.dumps(ASK | {"stop": ["x"] * 17}).encode(), 422, "stop"),
        (json.dumps(ASK | {"top_logprobs": 3}).encode(), 422, "needs logprobs"),
        (
            json.dumps(ASK | {"ignore_eos": True, "response_format": {"type": "json_object"}}).encode(),
            422,
            "cannot be combined",
        ),
        (json.dumps(ASK | {"n": 1000}).encode(), 422, "n is 1000"),
        (json.dumps(ASK | {"model": "gpt-9"}).encode(), 400, "Model Not Exist"),
        (json.dumps(ASK | {"messages": [{"role": "robot", "content": "x"}]}).encode(), 400, "role"),
        (json.dumps(ASK | {"messages": [{"role": "user", "content": "\ud800"}]}).encode(), 422, "surrogate"),
        (json.dumps(ASK | {"logit_bias": {"99999": 1}}).encode(), 422, "99999"),
        (json.dumps(ASK | {"tool_choice": "required"}).encode(), 422, "no tools"),
    ]
    for body, status, words in cases:
        answer = post(address, body, **json_type)
        error = answer.json()["error"]
        assert (answer.status_code, set(error)) == (status, {"message", "type", "param", "code"}), body[:80]
        assert words.lower() in error["message"].lower()


def test_only_json_is_read(serve):
    address, _ = serve()
    answer = http.post(address + "/chat/completions", content=json.dumps(ASK), headers={"content-type": "text/plain"})
    assert answer.status_code == 400
    assert "content-type: application/json" in answer.json()["error"]["message"].lower()


def test_a_long_body_is_refused_before_it_is_read(serve):
    address, service = serve(settings={"limits": {"body_bytes": 10_000}})
    assert post(address, ASK | {"user": HEAVY}).status_code == 413

    def endless():
        while True:
            yield b" " * 1000

    with contextlib.suppress(httpx.WriteError):
        headers = {"content-type": "application/json"}
        assert http.post(address + "/chat/completions", content=endless(), headers=headers).status_code == 413
    assert service.prompts == []


def test_a_prompt_longer_than_the_context_is_refused(serve):
    address, service = serve(context_length=30)
    answer = post(address, ASK | {"messages": [{"role": "user", "content": "deep " * 100}]})
    assert answer.status_code == 400
    assert "maximum context length is 30 tokens" in answer.json()["error"]["message"]
    assert service.prompts == []


def test_unknown_paths_and_methods(serve):
    address, _ = serve()
    assert http.get(address + "/nothing").json()["error"]["message"] == "There is nothing at /nothing."
    assert http.get(address + "/chat/completions").status_code == 405
    assert http.get(address + "/anthropic/nothing").json()["type"] == "error"


def test_a_client_that_leaves_ends_its_generation(serve):
    address, service = serve(endless=True, wait=0.001)
    with http.stream("POST", address + "/chat/completions", json=ASK | {"stream": True}) as answer:
        next(answer.iter_lines())
    assert until(lambda: service.cancelled == 1)
    with pytest.raises(httpx.ReadTimeout):
        post(address, ASK, timeout=0.3)
    assert until(lambda: service.cancelled == 2)
    assert until(lambda: service.app.state.desk.gate.under_way == 0)


def test_several_answers_end_together(serve):
    address, service = serve(endless=True, wait=0.001)
    with http.stream("POST", address + "/chat/completions", json=ASK | {"stream": True, "n": 3}) as answer:
        next(answer.iter_lines())
    assert until(lambda: service.cancelled == 3 and service.under_way == 0)


def test_a_body_that_never_comes_is_not_waited_for(serve):
    address, _ = serve(settings={"limits": {"send": 0.3}})
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as client:
        head = f"POST /chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        client.sendall(head.encode() + b"Content-Length: 1000\r\n\r\n{")
        assert b" 408 " in client.recv(1000)


def test_a_waiting_client_hears_something(serve):
    address, _ = serve(wait=0.5, piece=100, settings={"limits": {"keep_alive": 0.1}})
    with http.stream("POST", address + "/chat/completions", json=ASK | {"stream": True}) as answer:
        lines = list(answer.iter_lines())
    assert ": keep-alive" in lines
    assert lines[-2] == "data: [DONE]"
    whole = post(address, ASK)
    assert whole.text.startswith("\n")
    assert whole.json()["choices"][0]["message"]["content"] == "Hello."


def test_an_answer_that_does_not_begin_is_given_up(serve):
    address, service = serve(wait=5, settings={"limits": {"start": 0.2}})
    answer = post(address, ASK)
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    with http.stream("POST", address + "/chat/completions", json=ASK | {"stream": True}) as stream:
        events = [line for line in stream.iter_lines() if line.startswith("data: {")]
    assert "service_unavailable_error" in events[-1]
    assert until(lambda: service.under_way == 0)


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (GenerationError("The schema cannot be followed."), 422, "schema"),
        (FathomError("The weights are damaged."), 500, "damaged"),
        (RuntimeError("secret path /home/x"), 500, "did not foresee"),
    ],
)
def test_an_engine_that_fails(serve, error, status, words):
    address, _ = serve(error=error)
    answer = post(address, ASK)
    assert answer.status_code == status
    assert words in answer.json()["error"]["message"]
    assert "/home/x" not in answer.text
    with http.stream("POST", address + "/chat/completions", json=ASK | {"stream": True}) as stream:
        events = [json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: {")]
    assert words in events[-1]["error"]["message"]
    message = {"model": "tiny", "max_tokens": 9, "messages": ASK["messages"]}
    answer = post(address, message, "/anthropic/v1/messages")
    assert answer.status_code == status
    assert answer.json()["type"] == "error"


def test_an_engine_that_stops_in_the_middle(serve):
    address, _ = serve("Hello", finish=FinishReason.CANCELLED)
    answer = post(address, ASK)
    assert answer.json()["choices"][0]["finish_reason"] == "insufficient_system_resource"


def test_a_server_that_is_asked_to_stop_finishes_what_it_began(serve):
    address, service = serve("Hello.", wait=0.3)
    with http.stream("POST", address + "/chat/completions", json=ASK | {"stream": True}) as stream:
        lines = stream.iter_lines()
        next(lines)
        service.app.state.desk.gate.closing = True
        assert http.get(address + "/health").status_code == 503
        assert post(address, ASK).status_code == 503
        assert "data: [DONE]" in list(lines)


def test_many_streams_at_once(serve):
    """None is dropped, and each gets its own words."""
    import asyncio

    address, service = serve("deep " * 20, wait=0.001)

    async def ask(client):
        async with client.stream("POST", "/chat/completions", json=ASK | {"stream": True}) as answer:
            text = ""
            async for line in answer.aiter_lines():
                if line.startswith("data: {"):
                    text += json.loads(line[6:])["choices"][0]["delta"].get("content") or ""
            return text

    async def everyone():
        limits = httpx.Limits(max_connections=100)
        async with httpx.AsyncClient(base_url=address, timeout=60, limits=limits) as client:
            return await asyncio.gather(*(ask(client) for _ in range(60)))

    assert asyncio.run(everyone()) == ["deep " * 20] * 60
    assert until(lambda: service.app.state.desk.gate.under_way == 0)
