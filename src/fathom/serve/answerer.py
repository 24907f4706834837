"""The chat page's way to the model: the same door, books and limits as the interfaces'."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from starlette.concurrency import run_in_threadpool

from fathom.engine.sampling import SamplingParams
from fathom.serve.desk import Desk
from fathom.serve.dialogue import Ask, Finish, FinishReason, Piece
from fathom.serve.encoding import Content, Message, Prompt, Reasoning, encode_text
from fathom.serve.keys import Key
from fathom.serve.page.answerer import Ended, Said, Thinking

TEMPERATURE, TOP_P = 0.6, 0.95
"""What DeepSeek recommends for R1 and uses in its own application."""


class PageAnswerer:
    """Answers the page; a base model continues the last message's text."""

    def __init__(self, desk: Desk, *, chats: bool = True) -> None:
        self._desk, self.chats = desk, chats
        self.model = next(iter(desk.names))
        self.context_length = desk.speaker.context_length

    @property
    def thinking(self) -> Thinking:
        """Whether the model thinks."""
        template = self._desk.speaker.template
        if not self.chats or not template.thinks:
            return Thinking.NEVER
        return Thinking.CHOICE if template.can_answer_at_once else Thinking.ALWAYS

    @property
    def continues(self) -> bool:
        """Whether an answer that was broken off can be gone on with."""
        return not self.chats or self._desk.speaker.template.continues

    def count(self, messages: Sequence[Message]) -> int:
        """Tokens of a conversation."""
        return len(self._encoded(self._ask(messages, thinking=self.thinking is Thinking.ALWAYS)).tokens)

    async def answer(
        self, caller: Key | None, messages: Sequence[Message], *, thinking: bool
    ) -> AsyncGenerator[Said | Ended, None]:
        """Go on with a conversation; raises `Problem`, and `PromptTooLongError` for one that does not fit."""
        desk, ask = self._desk, self._ask(messages, thinking=thinking)
        speaker = desk.speaker
        visit = desk.visit(caller, "page", self.model)
        try:
            if speaker.refused(messages):
                stream = speaker.answer(ask, visit.meter())
            else:
                prompt = await run_in_threadpool(self._encoded, ask)
                speaker.check(prompt)
                stream = speaker.speak(prompt, speaker.params(ask), visit.meter())
            async with aclosing(desk.run(visit, [stream])) as run:
                async for _, item in run:
                    said = _said(item)
                    if said is not None:
                        yield said
            visit.done()
        finally:
            visit.close()

    def _ask(self, messages: Sequence[Message], *, thinking: bool) -> Ask:
        limits = self._desk.limits
        tokens = limits.max_tokens + (limits.thinking_tokens if thinking else 0)
        params = SamplingParams(max_tokens=tokens, temperature=TEMPERATURE, top_p=TOP_P)
        return Ask(tuple(messages), thinking=thinking, thinking_tokens=limits.thinking_tokens, params=params)

    def _encoded(self, ask: Ask) -> Prompt:
        if self.chats:
            return self._desk.speaker.encoded(ask)
        last = ask.messages[-1]
        before = ask.messages[-2].content if last.prefix and len(ask.messages) > 1 else ""
        return encode_text(before + last.content, tokenizer=self._desk.speaker.tokenizer)


def _said(item: Piece | Finish) -> Said | Ended | None:
    if isinstance(item, Finish):
        if item.reason is FinishReason.POLICY and item.rule:
            return Ended(item.reason.value, rule=item.rule.name, reason=item.rule.reason)
        return Ended(item.reason.value, item.prompt_tokens, item.completion_tokens)
    reasoning = "".join(event.text for event in item.events if isinstance(event, Reasoning))
    content = "".join(event.text for event in item.events if isinstance(event, Content))
    return Said(reasoning, content) if reasoning or content else None
