"""The door: what is turned away before an endpoint sees it."""

import asyncio
import ipaddress
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fathom.serve.gate import Gate
from fathom.serve.problem import Problem
from fathom.serve.settings import Limits

LOOPBACK = ("localhost", "127.0.0.1", "::1")
KEYED = (
    "/v1/",
    "/beta/",
    "/anthropic/",
    "/chat/completions",
    "/completions",
    "/embeddings",
    "/models",
    "/user/",
    "/metrics",
)
UPLOADS = "/page/api/files"
SAFE = ("GET", "HEAD", "OPTIONS")


class Guard:
    """Checks host, origin and key, and measures the body while it comes."""

    def __init__(self, app: ASGIApp, *, gate: Gate, limits: Limits, hosts: Collection[str]) -> None:
        self._app, self._gate, self._limits = app, gate, limits
        self._hosts = {*LOOPBACK, *(host.lower() for host in hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            self._check(scope)
        except Problem as problem:
            await answer(scope, problem)(scope, receive, send)
            return
        await self._app(scope, _Measured(receive, self._limits, _longest(scope, self._limits)), _with_headers(send))

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._gate.keys is None and hostname(host) not in self._hosts:
            raise Problem(403, f"The Host header names '{host}', which this server is not: see --allow-host.")
        origin = headers.get("origin")
        if origin is not None and scope["method"] not in SAFE and urlsplit(origin).netloc.lower() != host.lower():
            raise Problem(403, "A page of another origin may not ask this server.")
        length, longest = headers.get("content-length", "0"), _longest(scope, self._limits)
        if not length.isdigit() or int(length) > longest:
            raise too_long(longest)
        if scope["path"].startswith(KEYED) and scope["method"] != "OPTIONS":
            scope["fathom.key"] = self._gate.caller(secret_of(headers))


def secret_of(headers: Headers) -> str | None:
    """The key that a request carries."""
    scheme, _, secret = headers.get("authorization", "").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else headers.get("x-api-key")


def hostname(host: str) -> str:
    """A Host header without its port and brackets."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def too_long(limit: int) -> Problem:
    """The body is too long."""
    return Problem(413, f"The body is longer than {limit} bytes.")


def answer(scope: Scope, problem: Problem) -> JSONResponse:
    """A problem in the form of the interface that was asked."""
    body = problem.anthropic() if scope["path"].startswith("/anthropic") else problem.openai()
    return JSONResponse(body, problem.status, headers=problem.headers)


def _longest(scope: Scope, limits: Limits) -> int:
    return limits.upload_bytes if scope["path"] == UPLOADS else limits.body_bytes


class _Measured:
    """Receives a body of a bounded length, without waiting for ever."""

    def __init__(self, receive: Receive, limits: Limits, longest: int) -> None:
        self._receive, self._limits, self._longest = receive, limits, longest
        self._length, self._whole = 0, False

    async def __call__(self) -> Message:
        if self._whole:
            return await self._receive()
        try:
            async with asyncio.timeout(self._limits.send):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(408, "The body did not come in time.") from None
        if message["type"] == "http.request":
            self._length += len(message.get("body", b""))
            self._whole = not message.get("more_body", False)
            if self._length > self._longest:
                raise HTTPException(413, too_long(self._longest).message)
        return message


def _with_headers(send: Send) -> Send:
    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (b"x-content-type-options", b"nosniff")]
        await send(message)

    return sending
