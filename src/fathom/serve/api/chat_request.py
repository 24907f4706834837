"""The body of a chat completion, in DeepSeek's and OpenAI's form."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from fathom.serve.api.base import Body, Count, JsonObject, Nothing, Text
from fathom.serve.api.sampling_request import SamplingRequest

FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class TextPart(Body):
    """A piece of a message."""

    type: Literal["text"]
    text: Text


class CalledFunction(Body):
    """What was called."""

    name: str
    arguments: Text


class CalledTool(Body):
    """A tool call of an earlier turn."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction
    index: int | None = None
    """As in the answer it was copied from; its place in the list counts."""


class SystemMessage(Body):
    """Instructions. `developer` is another word for `system`."""

    role: Literal["system", "developer"]
    content: Text | list[TextPart]
    name: Text | None = None
    """Names tell senders apart for you; the model does not see them."""


class UserMessage(Body):
    """A question."""

    role: Literal["user"]
    content: Text | list[TextPart]
    name: Text | None = None
    """Names tell senders apart for you; the model does not see them."""


class AssistantMessage(Body):
    """An earlier answer, or the beginning of the one wanted (`prefix`)."""

    role: Literal["assistant"]
    content: Text | list[TextPart] | None = None
    name: Text | None = None
    """Names tell senders apart for you; the model does not see them."""
    prefix: bool = False
    """Go on with this message, the last one, in the place of answering it."""
    reasoning_content: Text | None = None
    """Earlier thoughts. Those of past turns are left out of the prompt, as the models were trained; with `prefix`
    the model goes on with them."""
    reasoning: Text | None = None
    """Another name of `reasoning_content`."""
    tool_calls: list[CalledTool] | None = None
    refusal: None = None
    annotations: Nothing = None
    audio: None = None
    function_call: None = None

    @model_validator(mode="after")
    def _says_something(self) -> "AssistantMessage":
        if (
            self.content is None
            and not self.tool_calls
            and not (self.prefix and (self.reasoning_content or self.reasoning))
        ):
            raise ValueError("an assistant's message needs content or tool_calls")
        return self


class ToolMessage(Body):
    """What a called tool answered."""

    role: Literal["tool"]
    content: Text | list[TextPart]
    tool_call_id: str
    name: Text | None = None


ChatMessage = Annotated[SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")]


class Function(Body):
    """A function the model may call."""

    name: FunctionName
    description: Text | None = None
    parameters: JsonObject | None = None
    """JSON schema of its arguments."""
    strict: bool | None = None
    """Hold the arguments to the schema while they are written."""


class ToolDefinition(Body):
    """A tool."""

    type: Literal["function"]
    function: Function


class NamedFunction(Body):
    """A function's name."""

    name: FunctionName


class NamedTool(Body):
    """Call this tool."""

    type: Literal["function"]
    function: NamedFunction


class PlainFormat(Body):
    """Any text."""

    type: Literal["text"]


class JsonFormat(Body):
    """A JSON object."""

    type: Literal["json_object"]


class NamedSchema(Body):
    """A schema."""

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: Text | None = None
    schema_: Annotated[JsonObject, Field(alias="schema")]
    strict: bool | None = None
    """Answers always obey the schema here, strict or not."""


class SchemaFormat(Body):
    """JSON of a schema."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


ResponseFormat = Annotated[PlainFormat | JsonFormat | SchemaFormat, Field(discriminator="type")]


class Thinking(Body):
    """Whether to think before answering."""

    type: Literal["enabled", "disabled"]
    budget_tokens: Count | None = None
    """Thinking ends after so many tokens at the latest."""


class ChatRequest(SamplingRequest):
    """A conversation to go on with."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=4096)]
    max_completion_tokens: Count | None = None
    """Another name of `max_tokens`."""
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    """The likeliest tokens in each place, with `logprobs`."""
    response_format: ResponseFormat | None = None
    tools: Annotated[list[ToolDefinition], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    """False allows one call at most."""
    thinking: Thinking | None = None
    """Whether to think before answering; the model's name decides without it."""
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    """How long to think: none at all, low up to 2,048 tokens, high up to half of what the server allows, max all."""
    search: bool | None = None
    """Look the last question up in the server's documents and let the answer cite them as [citation:N]."""

    @model_validator(mode="after")
    def _fits_together(self) -> "ChatRequest":
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise ValueError("max_tokens and max_completion_tokens mean the same: give one")
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs: true")
        if self.thinking and self.thinking.type == "disabled" and self.reasoning_effort not in (None, "none"):
            raise ValueError("thinking is disabled and reasoning_effort asks for it: give one")
        if self.thinking and self.thinking.type == "enabled" and self.reasoning_effort == "none":
            raise ValueError("thinking is enabled and reasoning_effort is none: give one")
        if isinstance(self.tool_choice, NamedTool):
            names = [tool.function.name for tool in self.tools or ()]
            if self.tool_choice.function.name not in names:
                raise ValueError(f"tool_choice names '{self.tool_choice.function.name}', which is not among the tools")
        if self.ignore_eos and (self.tools or not isinstance(self.response_format, PlainFormat | None)):
            raise ValueError("ignore_eos cannot be combined with tools or response_format, which say where to end")
        if self.tool_choice == "required" and not self.tools:
            raise ValueError("tool_choice is 'required' and there are no tools")
        return self
