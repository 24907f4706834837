"""How a server is set up."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from fathom.config.base import Section

Positive = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]


class Limits(Section):
    """What one client, and all together, may ask for."""

    body_bytes: Positive = 8 * 2**20
    """Longest request body."""
    upload_bytes: Positive = 20 * 2**20
    """Longest file that is handed in at the chat page."""
    requests: Positive = 256
    """Requests under way or waiting, of all clients; beyond it the answer is 503."""
    concurrency: Positive | None = None
    """Requests under way of one key, or of everyone where there are no keys; beyond it the answer is 429."""
    requests_per_minute: Positive | None = None
    """Requests a minute of one key, or of everyone where there are no keys; beyond it the answer is 429."""
    max_tokens: Positive = 4096
    """New tokens where a request does not say."""
    thinking_tokens: Positive = 32_768
    """Thinking ends after so many tokens at the latest."""
    choices: Positive = 16
    """Answers to one prompt (`n`)."""
    prompts: Positive = 64
    """Prompts of one completion request."""
    inputs: Positive = 2048
    """Texts of one embeddings request."""
    keep_alive: Seconds = 10.0
    """A client that waits hears something after so many seconds."""
    start: Seconds = 600.0
    """A request whose answer has not begun after so many seconds ends with 503."""
    send: Seconds = 60.0
    """A client that takes nothing for so many seconds is let go."""


class ModelName(Section):
    """A name under which the model is offered."""

    thinking: bool | None = None
    """Whether it thinks unless a request says otherwise; None where the model's template leaves no choice."""


class ServeSettings(Section):
    """A server, apart from its model."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    hosts: tuple[str, ...] = ()
    """Names by which the server may be called, beside the loopback ones and `host`; a request with another Host header
    is refused unless keys are required, so that no web page can reach a server without keys under a name of its own."""
    names: dict[str, ModelName] = Field(default_factory=dict)
    """Further names of the model."""
    keys: Path | None = None
    """The file of API keys; without one, everyone on this machine may ask."""
    audit: Path | None = None
    """Write who asked when and how much, never what, to this file."""
    policy: Path | None = None
    """A file that says what is refused and why."""
    page: Path | None = None
    """Serve the chat page, and keep its chats in this folder."""
    knowledge: Path | None = None
    """A folder of documents that answers on the page may cite."""
    drain: Seconds = 30.0
    """How long answers under way may take to finish when the server is asked to stop."""
    limits: Limits = Limits()
