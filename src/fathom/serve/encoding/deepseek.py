"""The chat formats of DeepSeek-V3, R1 and V3.1, token for token.

Each equals the Jinja template that DeepSeek published with the model, as revised in V3-0324 and R1-0528: those reset
the first call and the first output of each round of tools, which the oldest files forgot. Two rules are ours. V3's
format, too, leaves thoughts out of past turns, and texts are always plain.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fathom.corpus import special_tokens as special
from fathom.serve.encoding import tools as tool_texts
from fathom.serve.encoding.messages import Message, Tool
from fathom.serve.encoding.prompt import Channel, OutputState, Prompt, PromptBuilder, ToolStyle

if TYPE_CHECKING:
    from fathom.corpus.tokenizer import Tokenizer


@dataclass(frozen=True)
class DeepSeekTemplate(ABC):
    """What the formats have in common: whose turn follows whose."""

    name: str
    thinks: bool = True
    can_answer_at_once: bool = True
    continues: bool = True
    tool_style: ToolStyle = ToolStyle.NONE

    def encode(
        self, messages: Sequence[Message], *, tokenizer: "Tokenizer", tools: Sequence[Tool], thinking: bool
    ) -> Prompt:
        """Write `messages` up to where the model speaks."""
        system = "\n\n".join(message.content for message in messages if message.role == "system")
        builder = PromptBuilder(tokenizer).control(special.BEGIN_OF_SENTENCE).text(system)
        if tools:
            self._describe(builder.text("\n\n" if system else ""), tools)
        previous = ""
        for message in messages:
            if message.role == "user":
                builder.control(special.USER).text(message.content)
            elif message.role == "tool":
                self._write_output(builder, message, previous)
            elif message.prefix:
                return self._continued(builder, message, previous)
            elif message.role == "assistant":
                self._write_answer(builder, message, previous)
            previous = message.role if message.role != "system" else previous
        channel = self._begin(builder, previous, thinking=thinking)
        return Prompt(builder.build(), OutputState(channel, self.tool_style if tools else ToolStyle.NONE))

    @abstractmethod
    def _describe(self, builder: PromptBuilder, tools: Sequence[Tool]) -> None:
        """Say which tools there are."""

    @abstractmethod
    def _write_output(self, builder: PromptBuilder, message: Message, previous: str) -> None:
        """What a tool answered; `previous` is the role of the message before."""

    @abstractmethod
    def _write_answer(self, builder: PromptBuilder, message: Message, previous: str) -> None:
        """An earlier answer."""

    @abstractmethod
    def _continued(self, builder: PromptBuilder, message: Message, previous: str) -> Prompt:
        """The beginning of the answer that is wanted."""

    @abstractmethod
    def _begin(self, builder: PromptBuilder, previous: str, *, thinking: bool) -> Channel:
        """Let the model speak."""


@dataclass(frozen=True)
class FencedTemplate(DeepSeekTemplate):
    """DeepSeek-V3, and R1, which differs in how the model begins to speak."""

    tool_style: ToolStyle = ToolStyle.FENCED
    between_outputs: str = ""

    def _describe(self, builder: PromptBuilder, tools: Sequence[Tool]) -> None:
        tool_texts.describe_fenced(builder, tools)

    def _write_output(self, builder: PromptBuilder, message: Message, previous: str) -> None:
        if previous != "tool":
            builder.control(special.TOOL_OUTPUTS_BEGIN)
        else:
            builder.text(self.between_outputs)
        builder.control(special.TOOL_OUTPUT_BEGIN).text(message.content).control(special.TOOL_OUTPUT_END)

    def _write_answer(self, builder: PromptBuilder, message: Message, previous: str) -> None:
        _answering(builder, previous).text(message.content.rpartition(special.THINK_END)[2])
        for number, call in enumerate(message.tool_calls):
            if number == 0:
                builder.control(special.TOOL_CALLS_BEGIN)
            else:
                builder.text("\n")
            builder.control(special.TOOL_CALL_BEGIN).text("function").control(special.TOOL_SEPARATOR)
            builder.text(f"{call.name}\n```json\n{call.arguments}\n```").control(special.TOOL_CALL_END)
        if message.tool_calls:
            builder.control(special.TOOL_CALLS_END)
        builder.control(special.END_OF_SENTENCE)

    def _continued(self, builder: PromptBuilder, message: Message, previous: str) -> Prompt:
        _answering(builder, previous)
        if message.reasoning:
            builder.control(special.THINK_BEGIN).text("\n" + message.reasoning)
            if not message.content:
                return Prompt(builder.build(), OutputState(Channel.REASONING, fresh=False))
            builder.text("\n").control(special.THINK_END).text("\n\n")
        return Prompt(builder.text(message.content).build(), OutputState(Channel.CONTENT, fresh=False))

    def _begin(self, builder: PromptBuilder, previous: str, *, thinking: bool) -> Channel:
        _answering(builder, previous)
        if previous == "tool" or not self.thinks:
            return Channel.CONTENT
        builder.control(special.THINK_BEGIN)
        if thinking:
            builder.text("\n")
            return Channel.REASONING
        builder.text("\n\n").control(special.THINK_END).text("\n\n")
        return Channel.CONTENT


@dataclass(frozen=True)
class BareTemplate(DeepSeekTemplate):
    """DeepSeek-V3.1: one model that thinks or answers at once; arguments stand without a fence."""

    tool_style: ToolStyle = ToolStyle.BARE

    def _describe(self, builder: PromptBuilder, tools: Sequence[Tool]) -> None:
        tool_texts.describe_bare(builder, tools)

    def _write_output(self, builder: PromptBuilder, message: Message, previous: str) -> None:
        builder.control(special.TOOL_OUTPUT_BEGIN).text(message.content).control(special.TOOL_OUTPUT_END)

    def _write_answer(self, builder: PromptBuilder, message: Message, previous: str) -> None:
        if previous == "user":
            builder.control(special.ASSISTANT, special.THINK_END)
        kept = message.content
        if not message.tool_calls and previous != "tool" and special.THINK_END in kept:
            kept = kept.split(special.THINK_END, 1)[1]
        builder.text(kept)
        if message.tool_calls:
            builder.control(special.TOOL_CALLS_BEGIN)
            for call in message.tool_calls:
                builder.control(special.TOOL_CALL_BEGIN).text(call.name).control(special.TOOL_SEPARATOR)
                builder.text(call.arguments).control(special.TOOL_CALL_END)
            builder.control(special.TOOL_CALLS_END)
        builder.control(special.END_OF_SENTENCE)

    def _continued(self, builder: PromptBuilder, message: Message, previous: str) -> Prompt:
        if previous != "tool":
            builder.control(special.ASSISTANT)
        if message.reasoning:
            builder.control(special.THINK_BEGIN).text(message.reasoning)
            if not message.content:
                return Prompt(builder.build(), OutputState(Channel.REASONING, fresh=False))
        if message.reasoning or previous != "tool":
            builder.control(special.THINK_END)
        return Prompt(builder.text(message.content).build(), OutputState(Channel.CONTENT, fresh=False))

    def _begin(self, builder: PromptBuilder, previous: str, *, thinking: bool) -> Channel:
        if previous == "tool":
            return Channel.CONTENT
        builder.control(special.ASSISTANT, special.THINK_BEGIN if thinking else special.THINK_END)
        return Channel.REASONING if thinking else Channel.CONTENT


def _answering(builder: PromptBuilder, previous: str) -> PromptBuilder:
    return builder.control(special.TOOL_OUTPUTS_END if previous == "tool" else special.ASSISTANT)


V3 = FencedTemplate("deepseek-v3", thinks=False, between_outputs="\n")
R1 = FencedTemplate("deepseek-r1")
V31 = BareTemplate("deepseek-v3.1")
