"""What is asked of the model, and what it says."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from fathom.engine.sampling import SamplingParams
from fathom.errors import GenerationError
from fathom.serve.encoding import Channel, Event, Message, Tool
from fathom.serve.policy import Rule


class PromptTooLongError(GenerationError):
    """The conversation does not fit the model's context."""


class ToolUse(Enum):
    """Whether tools are to be called."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"


@dataclass(frozen=True)
class Ask:
    """What is wanted: a conversation to go on with, and how."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_use: ToolUse = ToolUse.AUTO
    only_tool: str | None = None
    """The one tool that may be called."""
    several_calls: bool = True
    thinking: bool = False
    thinking_tokens: int = 32_768
    """Thinking ends after so many tokens at the latest."""
    params: SamplingParams = field(default_factory=SamplingParams)
    """The rest; `structured` is the form of the answer, and `thinking` is set from this."""


class TokenLogprob(NamedTuple):
    """How likely a token was, and what else was."""

    token: int
    logprob: float
    top: Sequence[tuple[int, float]]
    channel: Channel


class Piece(NamedTuple):
    """What has been said since the last piece."""

    events: list[Event]
    logprobs: list[TokenLogprob]


class FinishReason(Enum):
    """Why an answer ended."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    POLICY = "content_filter"
    INTERRUPTED = "insufficient_system_resource"


@dataclass(frozen=True)
class Finish:
    """The end of an answer."""

    reason: FinishReason
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    stopped_by: str | None = None
    """The stop string that ended it."""
    rule: Rule | None = None
    """The rule of the policy that ended it."""


@dataclass
class Meter:
    """What one answer has cost so far."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
