"""Between the interfaces and the engine: a conversation in, thoughts, words and tool calls out."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

from fathom.corpus import special_tokens as special
from fathom.engine.sampling import SamplingParams
from fathom.engine.structured import StructuredOutput
from fathom.engine.thinking import ThinkingLimit
from fathom.errors import CorpusError, FathomError, GenerationError
from fathom.serve.dialogue import Ask, Finish, FinishReason, Meter, Piece, PromptTooLongError, TokenLogprob, ToolUse
from fathom.serve.encoding import (
    Content,
    Event,
    Message,
    OutputParser,
    Prompt,
    Reasoning,
    Template,
    ToolStyle,
    encode,
)
from fathom.serve.generation import Delta, Service
from fathom.serve.policy import Policy, Rule, refusal
from fathom.serve.tool_grammar import tool_grammar

if TYPE_CHECKING:
    from fathom.corpus.tokenizer import Tokenizer

CLOSING = "\n\nI have thought long enough; now I answer.\n"
"""Written where thinking is cut short."""
ROOM_FOR_CLOSING = 128
SHORT = 4096
"""Characters that are encoded sooner than a thread would take over."""


class Speaker:
    """Answers conversations with one model."""

    def __init__(
        self,
        service: Service,
        tokenizer: "Tokenizer",
        template: Template,
        *,
        context_length: int,
        vocab_size: int,
        policy: Policy | None = None,
    ) -> None:
        self.service = service
        self.tokenizer = tokenizer
        self.template = template
        self.context_length = context_length
        self.vocab_size = vocab_size
        self.policy = policy

    def prompt(self, ask: Ask) -> Prompt:
        """The conversation as tokens; raises `UsageError` where it cannot be written or is too long."""
        prompt = self.encoded(ask)
        self.check(prompt)
        return prompt

    async def prompt_of(self, ask: Ask) -> Prompt:
        """The same, long ones in a thread of their own, so that others need not wait."""
        if not ask.tools and sum(map(_length, ask.messages)) <= SHORT:
            return self.prompt(ask)
        return await asyncio.to_thread(self.prompt, ask)

    def encoded(self, ask: Ask) -> Prompt:
        """The conversation as tokens, however many; raises `UsageError` where it cannot be written."""
        tools = () if ask.tool_use is ToolUse.NONE else ask.tools
        return encode(
            ask.messages, tokenizer=self.tokenizer, template=self.template, tools=tools, thinking=ask.thinking
        )

    def check(self, prompt: Prompt) -> None:
        """Raise `GenerationError` where a prompt cannot be read, `PromptTooLongError` where no room is left."""
        if not prompt.tokens:
            raise GenerationError("The prompt is empty.")
        outside = next((token for token in prompt.tokens if not 0 <= token < self.vocab_size), None)
        if outside is not None:
            raise GenerationError(
                f"The prompt holds token {outside}; this model's vocabulary ends at {self.vocab_size}."
            )
        if len(prompt.tokens) >= self.context_length:
            raise PromptTooLongError(
                f"This model's maximum context length is {self.context_length} tokens, and the prompt has "
                f"{len(prompt.tokens)}: shorten it."
            )

    def params(self, ask: Ask) -> SamplingParams:
        """What the engine is asked for."""
        params = ask.params
        structured = self._tool_grammar(ask)
        if structured is not None and params.structured is not None:
            raise GenerationError("response_format cannot be combined with tools that are required or strict.")
        stops = params.stop_token_ids
        if not params.ignore_eos:
            stops = (*stops, *self.tokenizer.stop_ids)
        if ask.tools and ask.tool_use is not ToolUse.NONE and not ask.several_calls:
            stops = (*stops, self.tokenizer.reserved_id(special.TOOL_CALL_END))
        params = replace(
            params,
            structured=structured or params.structured,
            stop_token_ids=tuple(dict.fromkeys(stops)),
            thinking=self._thinking_limit(ask),
        )
        params.check_vocabulary(self.vocab_size)
        return params

    async def answer(self, ask: Ask, meter: Meter | None = None) -> AsyncGenerator[Piece | Finish, None]:
        """Go on with a conversation, piece by piece; the last item is a `Finish`."""
        if rule := self.refused(ask.messages):
            yield Piece([Content(refusal(rule))], [])
            yield Finish(FinishReason.POLICY, rule=rule)
            return
        async with aclosing(self.speak(self.prompt(ask), self.params(ask), meter)) as items:
            async for item in items:
                yield item

    def refused(self, messages: Sequence[Message]) -> Rule | None:
        """The rule of the policy that refuses the last question."""
        if self.policy is None:
            return None
        question = next((message.content for message in reversed(messages) if message.role == "user"), "")
        return self.policy.about_question(question)

    async def speak(
        self, prompt: Prompt, params: SamplingParams, meter: Meter | None = None
    ) -> AsyncGenerator[Piece | Finish, None]:
        """Continue a prompt, piece by piece; the last item is a `Finish`. `meter` is right at any moment."""
        meter = meter or Meter()
        parser = OutputParser(self.tokenizer, prompt.state, stop=params.stop)
        watch = self.policy.watch() if self.policy else None
        wants_logprobs = params.logprobs is not None
        reason = "cancelled"
        async with aclosing(self.service.stream(prompt.tokens, params)) as stream:
            async for delta in stream:
                reason = delta.finish_reason or reason
                meter.prompt_tokens, meter.cached_tokens = len(prompt.tokens), delta.cached_tokens
                meter.completion_tokens += len(delta.tokens)
                if delta.error:
                    raise FathomError(f"The answer could not be gone on with: {delta.error}")
                logprobs: list[TokenLogprob] = []
                if wants_logprobs:
                    logprobs, events = self._with_logprobs(parser, delta)
                else:
                    events = parser.feed(delta.tokens)
                meter.reasoning_tokens = parser.reasoning_tokens
                if watch and (rule := watch.see(_words(events))):
                    yield Piece([Content(refusal(rule))], [])
                    yield _finish(FinishReason.POLICY, meter, parser, rule)
                    return
                if events or logprobs:
                    yield Piece(events, logprobs)
        if events := parser.finish():
            yield Piece(events, [])
        yield _finish(_reason(reason, parser), meter, parser)

    def _with_logprobs(self, parser: OutputParser, delta: Delta) -> tuple[list[TokenLogprob], list[Event]]:
        logprobs: list[TokenLogprob] = []
        tops: Sequence[Sequence[tuple[int, float]] | None] = delta.top_logprobs or [None] * len(delta.tokens)
        for token, logprob, top in zip(delta.tokens, delta.logprobs, tops, strict=False):
            channel = parser.channel
            parser.push(token)
            # Hidden tokens, such as the end of the sentence, are no part of the text.
            if self.tokenizer.decode_bytes([token]):
                logprobs.append(TokenLogprob(token, logprob, top or (), channel))
        return logprobs, parser.take()

    def _tool_grammar(self, ask: Ask) -> StructuredOutput | None:
        if not ask.tools or ask.tool_use is ToolUse.NONE or self.template.tool_style is ToolStyle.NONE:
            return None
        required = ask.tool_use is ToolUse.REQUIRED
        if not required and not any(tool.strict for tool in ask.tools):
            return None
        tools = [tool for tool in ask.tools if ask.only_tool in (None, tool.name)]
        return tool_grammar(
            self.tokenizer, self.template.tool_style, tools, required=required, several=ask.several_calls
        )

    def _thinking_limit(self, ask: Ask) -> ThinkingLimit | None:
        if not ask.thinking or ask.params.max_tokens < 2:
            return None
        try:
            start = self.tokenizer.reserved_id(special.THINK_BEGIN)
            end = self.tokenizer.reserved_id(special.THINK_END)
        except CorpusError:
            return None
        closing = self.tokenizer.encode(CLOSING) if ask.params.max_tokens >= ROOM_FOR_CLOSING else []
        return ThinkingLimit(start=(start,), end=(end,), max_tokens=ask.thinking_tokens, closing=tuple(closing))


def _length(message: Message) -> int:
    calls = sum(len(call.arguments) for call in message.tool_calls)
    return len(message.content) + len(message.reasoning) + calls


def _finish(reason: FinishReason, meter: Meter, parser: OutputParser, rule: Rule | None = None) -> Finish:
    return Finish(
        reason=reason,
        prompt_tokens=meter.prompt_tokens,
        cached_tokens=meter.cached_tokens,
        completion_tokens=meter.completion_tokens,
        reasoning_tokens=meter.reasoning_tokens,
        stopped_by=parser.stopped_by,
        rule=rule,
    )


def _reason(engine: str, parser: OutputParser) -> FinishReason:
    if parser.calls and engine == "stop":
        return FinishReason.TOOL_CALLS
    return {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}.get(engine, FinishReason.INTERRUPTED)


def _words(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Content | Reasoning))
