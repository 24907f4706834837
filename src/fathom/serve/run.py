"""Running the server: uvicorn on one port, and an end that lets answers finish."""

import ipaddress
import logging
import socket
import sys
from types import FrameType

import uvicorn
from fastapi import FastAPI

from fathom.errors import UsageError
from fathom.serve.desk import Desk
from fathom.serve.guard import is_loopback
from fathom.serve.settings import ServeSettings

SWITCH = 0.0005
"""Seconds until the engine's thread and the server's take turns; Python's own ten times as many would be a good part of
the time to a first token."""


def check_address(settings: ServeSettings) -> None:
    """Raise `UsageError` where others could reach a server without keys."""
    if settings.keys is None and not is_loopback(settings.host):
        raise UsageError(
            f"The server would listen on {settings.host}, where others can reach it, without keys: make one with "
            "`fathom keys add NAME --keys FILE` and give --keys FILE, or listen on 127.0.0.1."
        )


def listen(settings: ServeSettings) -> socket.socket:
    """Open the port; raises `UsageError` where it is taken or the address is not this machine's."""
    family = socket.AF_INET6 if _is_ipv6(settings.host) else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise UsageError(
            f"The server cannot listen on {settings.host}:{settings.port} ({error.strerror or error}): "
            "name another with --port or --host."
        ) from None
    return listener


def address(listener: socket.socket) -> str:
    """What to type into a browser."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(app: FastAPI, settings: ServeSettings, listener: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM; then take no more requests and let those under way finish."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=max(int(settings.drain), 1),
        timeout_keep_alive=75,
        h11_max_incomplete_event_size=64 * 1024,
    )
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    sys.setswitchinterval(SWITCH)
    _Server(config, app.state.desk).run(sockets=[listener])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, desk: Desk) -> None:
        super().__init__(config)
        self._desk = desk

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Refuse new requests from the signal on."""
        self._desk.gate.closing = True
        super().handle_exit(sig, frame)


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False
