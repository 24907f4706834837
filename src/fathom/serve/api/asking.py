"""From a chat completion's body to what is asked of the speaker."""

from collections.abc import Sequence
from dataclasses import replace

from fathom.engine.sampling import SamplingParams
from fathom.engine.structured import StructuredOutput
from fathom.serve.api.chat_request import (
    AssistantMessage,
    ChatMessage,
    ChatRequest,
    JsonFormat,
    NamedTool,
    ResponseFormat,
    SchemaFormat,
    TextPart,
    ToolMessage,
)
from fathom.serve.dialogue import Ask, ToolUse
from fathom.serve.encoding import Message, Template, Tool, ToolCall
from fathom.serve.settings import Limits, ModelName

LOW_EFFORT = 2048


def ask_of(request: ChatRequest, name: ModelName, template: Template, limits: Limits) -> Ask:
    """What a body asks for."""
    thinking = wants_thinking(request, name, template)
    choice = request.tool_choice or "auto"
    named = choice.function.name if isinstance(choice, NamedTool) else None
    return Ask(
        messages=tuple(_message(message) for message in request.messages),
        tools=tuple(
            Tool(
                tool.function.name,
                tool.function.description or "",
                tool.function.parameters or {},
                strict=bool(tool.function.strict),
            )
            for tool in request.tools or ()
        ),
        tool_use=ToolUse.REQUIRED if named else ToolUse(choice),
        only_tool=named,
        several_calls=request.parallel_tool_calls is not False and named is None,
        thinking=thinking,
        thinking_tokens=_thinking_tokens(request, limits),
        params=_params(request, limits),
    )


def wants_thinking(request: ChatRequest, name: ModelName, template: Template) -> bool:
    """Whether to think: the request says so, or the model's name, or the template leaves no choice."""
    if request.thinking is not None:
        return request.thinking.type == "enabled"
    if request.reasoning_effort is not None:
        return request.reasoning_effort != "none"
    if name.thinking is not None:
        return name.thinking
    return not template.can_answer_at_once


def _thinking_tokens(request: ChatRequest, limits: Limits) -> int:
    if request.thinking is not None and request.thinking.budget_tokens is not None:
        return min(request.thinking.budget_tokens, limits.thinking_tokens)
    if request.reasoning_effort in ("minimal", "low"):
        return min(LOW_EFFORT, limits.thinking_tokens)
    if request.reasoning_effort in ("medium", "high", "xhigh"):
        return max(limits.thinking_tokens // 2, 1)
    return limits.thinking_tokens


def _params(request: ChatRequest, limits: Limits) -> SamplingParams:
    return replace(
        request.sampling(request.max_completion_tokens or limits.max_tokens),
        logprobs=(request.top_logprobs or 0) if request.logprobs else None,
        structured=structured_of(request.response_format),
    )


def structured_of(form: ResponseFormat | None) -> StructuredOutput | None:
    """The form of an answer."""
    if isinstance(form, JsonFormat):
        return StructuredOutput(json_object=True)
    if isinstance(form, SchemaFormat):
        return StructuredOutput(json_schema=form.json_schema.schema_)
    return None


def _message(message: ChatMessage) -> Message:
    content = plain_text(message.content)
    if isinstance(message, AssistantMessage):
        calls = message.tool_calls or ()
        return Message(
            "assistant",
            content,
            reasoning=message.reasoning_content or message.reasoning or "",
            tool_calls=tuple(ToolCall(call.id, call.function.name, call.function.arguments) for call in calls),
            prefix=message.prefix,
        )
    if isinstance(message, ToolMessage):
        return Message("tool", content, tool_call_id=message.tool_call_id)
    return Message("system" if message.role == "developer" else message.role, content)


def plain_text(content: str | Sequence[TextPart] | None) -> str:
    """A message's text, given whole or in parts."""
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.text for part in content)
