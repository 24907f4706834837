"""Conversations of models that are not DeepSeek's, written by the Jinja template in their folder."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fathom.corpus import special_tokens as special
from fathom.corpus.chat_template import ChatTemplate
from fathom.errors import UsageError
from fathom.serve.encoding.messages import Message, Tool
from fathom.serve.encoding.prompt import Channel, OutputState, Prompt, PromptBuilder, ToolStyle

if TYPE_CHECKING:
    from fathom.corpus.tokenizer import Tokenizer

SWITCHES = ("enable_thinking", "thinking")
"""Variables by which templates are told whether to think."""
NEAR_THE_END = 3
"""So many tokens may stand behind an opening tag that ends a prompt: a line break or two."""


class ForeignTemplate:
    """A template that came with the weights."""

    name = "jinja"
    continues = True

    def __init__(self, source: str, tokenizer: "Tokenizer") -> None:
        """Read `source`; `WeightsError` if it is no template."""
        self._template = ChatTemplate(source, tokenizer)
        has_switch = any(switch in source for switch in SWITCHES)
        self.thinks = has_switch or special.THINK_BEGIN in source
        self.can_answer_at_once = has_switch or special.THINK_BEGIN not in source
        named = ("<tool_call>", "</tool_call>")
        has_calls = "tools" in source and all(name in source and name in tokenizer.reserved for name in named)
        self.tool_style = ToolStyle.TAGGED if has_calls else ToolStyle.NONE

    def encode(
        self, messages: Sequence[Message], *, tokenizer: "Tokenizer", tools: Sequence[Tool], thinking: bool
    ) -> Prompt:
        """Write `messages` up to where the model speaks; raises `UsageError` for what the template cannot say."""
        begun = messages[-1] if messages[-1].prefix else None
        if begun:
            messages = messages[:-1]
        ids = self._template.encode(
            [_as_openai(message) for message in messages],
            tools=[_tool(tool) for tool in tools],
            **dict.fromkeys(SWITCHES, thinking),
        )
        channel = _channel(ids, tokenizer)
        if begun:
            return _continued(ids, begun, channel, tokenizer)
        return Prompt(tuple(ids), OutputState(channel, self.tool_style if tools else ToolStyle.NONE))


def _continued(ids: Sequence[int], begun: Message, channel: Channel, tokenizer: "Tokenizer") -> Prompt:
    """Where the model would begin to speak, what it is to go on with."""
    builder = PromptBuilder(tokenizer).token(*ids)
    if begun.reasoning and special.THINK_END not in tokenizer.reserved:
        raise UsageError("This model cannot go on with thoughts (reasoning_content): it has no tokens for them.")
    if begun.reasoning and channel is Channel.CONTENT:
        builder.control(special.THINK_BEGIN).text("\n")
    builder.text(begun.reasoning)
    if begun.reasoning and not begun.content:
        return Prompt(builder.build(), OutputState(Channel.REASONING, fresh=False))
    if begun.reasoning or channel is Channel.REASONING:
        builder.text("\n").control(special.THINK_END).text("\n\n")
    return Prompt(builder.text(begun.content).build(), OutputState(Channel.CONTENT, fresh=False))


def _channel(ids: Sequence[int], tokenizer: "Tokenizer") -> Channel:
    opening = tokenizer.reserved.get(special.THINK_BEGIN)
    end = list(ids[-NEAR_THE_END:])
    if opening in end and tokenizer.reserved.get(special.THINK_END) not in end:
        return Channel.REASONING
    return Channel.CONTENT


def _as_openai(message: Message) -> dict[str, Any]:
    value: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        value["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        value["tool_call_id"] = message.tool_call_id
    if message.reasoning:
        value["reasoning_content"] = message.reasoning
    return value


def _tool(tool: Tool) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
    return {"type": "function", "function": function}
