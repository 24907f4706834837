"""From a message's body in Anthropic's form to what is asked of the speaker."""

import json
from collections.abc import Sequence

from fathom.engine.sampling import SamplingParams
from fathom.engine.structured import StructuredOutput
from fathom.serve.api.messages_request import (
    AnyChoice,
    AssistantBlock,
    AssistantTurn,
    CountRequest,
    MessagesRequest,
    NoChoice,
    TextBlock,
    ThinkingBlock,
    ThinkingOn,
    ToolChoice,
    ToolResultBlock,
    Turn,
    UserBlock,
)
from fathom.serve.dialogue import Ask, ToolUse
from fathom.serve.encoding import Message, Template, Tool, ToolCall
from fathom.serve.settings import Limits, ModelName

EFFORT = {"low": 16, "medium": 2, "high": 2, "xhigh": 2, "max": 1}
"""The server's longest thinking divided by this."""


def ask_of_messages(request: CountRequest, name: ModelName, template: Template, limits: Limits) -> Ask:
    """What a body asks for."""
    choice = request.tool_choice
    only = choice.name if isinstance(choice, ToolChoice) else None
    required = only is not None or (isinstance(choice, AnyChoice) and choice.type == "any")
    use = ToolUse.NONE if isinstance(choice, NoChoice) else ToolUse.REQUIRED if required else ToolUse.AUTO
    several = isinstance(choice, NoChoice) or choice is None or not choice.disable_parallel_tool_use
    return Ask(
        messages=tuple(_messages(request)),
        tools=tuple(
            Tool(tool.name, tool.description or "", tool.input_schema, strict=bool(tool.strict))
            for tool in request.tools or ()
        ),
        tool_use=use,
        only_tool=only,
        several_calls=several and only is None,
        thinking=_wants_thinking(request, name, template),
        thinking_tokens=_thinking_tokens(request, limits),
        params=_params(request) if isinstance(request, MessagesRequest) else SamplingParams(),
    )


def _wants_thinking(request: CountRequest, name: ModelName, template: Template) -> bool:
    if request.thinking is not None and request.thinking.type != "adaptive":
        return request.thinking.type == "enabled"
    if name.thinking is not None:
        return name.thinking
    if request.thinking is not None or (request.output_config and request.output_config.effort):
        return template.thinks
    return not template.can_answer_at_once


def _thinking_tokens(request: CountRequest, limits: Limits) -> int:
    if isinstance(request.thinking, ThinkingOn) and request.thinking.budget_tokens is not None:
        return min(request.thinking.budget_tokens, limits.thinking_tokens)
    effort = request.output_config.effort if request.output_config else None
    return max(limits.thinking_tokens // EFFORT[effort or "max"], 1)


def _params(request: MessagesRequest) -> SamplingParams:
    form = request.output_config.format if request.output_config else None
    return SamplingParams(
        max_tokens=request.max_tokens,
        temperature=1.0 if request.temperature is None else request.temperature,
        top_p=1.0 if request.top_p is None else request.top_p,
        top_k=request.top_k or 0,
        stop=tuple(request.stop_sequences or ()),
        structured=StructuredOutput(json_schema=form.schema_) if form else None,
    )


def _messages(request: CountRequest) -> list[Message]:
    messages = []
    if request.system is not None:
        messages.append(Message("system", _text(request.system, between="\n\n")))
    for number, turn in enumerate(request.messages):
        last = number == len(request.messages) - 1
        messages += _assistant(turn, last=last) if isinstance(turn, AssistantTurn) else _user(turn.content)
    return messages


def _user(content: str | Sequence[UserBlock]) -> list[Message]:
    """One message a tool's answer, and one for the words."""
    if isinstance(content, str):
        return [Message("user", content)]
    messages, words = [], []
    for block in content:
        if isinstance(block, ToolResultBlock):
            text = _text(block.content or "")
            messages.append(
                Message("tool", f"Error: {text}" if block.is_error else text, tool_call_id=block.tool_use_id)
            )
        else:
            words.append(block.text)
    return [*messages, *([Message("user", "\n\n".join(words))] if words else [])]


def _assistant(turn: Turn, *, last: bool) -> list[Message]:
    if isinstance(turn.content, str):
        return [Message("assistant", turn.content, prefix=last)]
    words, thoughts, calls = [], [], []
    block: AssistantBlock
    for block in turn.content:  # type: ignore[assignment]
        if isinstance(block, TextBlock):
            words.append(block.text)
        elif isinstance(block, ThinkingBlock):
            thoughts.append(block.thinking)
        else:
            calls.append(ToolCall(block.id, block.name, json.dumps(block.input, ensure_ascii=False)))
    return [
        Message(
            "assistant",
            "\n\n".join(words),
            reasoning="".join(thoughts),
            tool_calls=tuple(calls),
            prefix=last and not calls,
        )
    ]


def _text(content: str | Sequence[TextBlock], between: str = "") -> str:
    return content if isinstance(content, str) else between.join(block.text for block in content)
