"""Chat completions, streamed and not."""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from fathom.serve.api.answers import ChatCompletion
from fathom.serve.api.asking import ask_of
from fathom.serve.api.chat_request import ChatRequest
from fathom.serve.api.describe import responses
from fathom.serve.api.sampling_request import params_of_choice
from fathom.serve.api.wire import DONE, dumped, event, logprob_entry, new_id, quoted, usage_of
from fathom.serve.api.writing import Run, events
from fathom.serve.desk import Desk, Visit, key_of, problem_of
from fathom.serve.dialogue import Ask, Finish, Piece, TokenLogprob
from fathom.serve.encoding import CallArguments, CallBegin, Channel, Content, Event, Message, Reasoning
from fathom.serve.knowledge.ground import ground
from fathom.serve.knowledge.passages import Passage
from fathom.serve.problem import Problem, bad_parameter
from fathom.serve.replies import AwaitedJson, EventStream


def chat_router(desk: Desk) -> APIRouter:
    """`POST /chat/completions`."""
    router = APIRouter(tags=["chat"])

    @router.post("/chat/completions", response_model=None, responses=responses(ChatCompletion, stream=True))
    async def create_chat_completion(request: Request, body: ChatRequest) -> Response:
        """Go on with a conversation: DeepSeek's and OpenAI's chat completion, with prefix completion."""
        name = desk.model(body.model)
        count = body.n or 1
        if count > desk.limits.choices:
            raise bad_parameter(f"n is {count}, and this server answers at most {desk.limits.choices} times.", "n")
        visit = desk.visit(key_of(request), "chat", body.model, body.user or body.user_id)
        with visit.beginning():
            ask, passages = ask_of(body, name, desk.speaker.template, desk.limits), None
            if body.search:
                ask, passages = await run_in_threadpool(_grounded, desk, ask)
            run = await _start(desk, visit, ask, count)
        if body.stream:
            with_usage = bool(body.stream_options and body.stream_options.include_usage)
            writer = ChunkWriter(desk, body.model, count, with_usage=with_usage, with_logprobs=bool(body.logprobs))
            writer.passages = passages
            return EventStream(events(run, visit, writer), desk.limits, visit.close)
        return AwaitedJson(_body(desk, run, visit, body, count, passages), desk.limits, visit.close)

    return router


def _grounded(desk: Desk, ask: Ask) -> tuple[Ask, Sequence[Passage]]:
    if desk.source is None:
        raise bad_parameter("search: this server has no documents; it is started with --knowledge FOLDER.", "search")
    length = desk.speaker.context_length
    room = length - min(1024, length // 4)

    def fits(messages: Sequence[Message]) -> bool:
        return len(desk.speaker.encoded(replace(ask, messages=tuple(messages))).tokens) <= room

    grounded = ground(ask.messages, desk.source, fits)
    return replace(ask, messages=grounded.messages), grounded.passages


async def _start(desk: Desk, visit: Visit, ask: Ask, count: int) -> Run:
    speaker = desk.speaker
    if speaker.refused(ask.messages):
        return desk.run(visit, [speaker.answer(ask, visit.meter())])
    prompt = await speaker.prompt_of(ask)
    params = speaker.params(ask)
    streams = [
        speaker.speak(prompt, params_of_choice(params, choice), visit.meter(same_prompt=choice > 0))
        for choice in range(count)
    ]
    return desk.run(visit, streams)


class ChunkWriter:
    """Writes the chunks of one stream; what stays the same in all of them is written once."""

    def __init__(self, desk: Desk, model: str, count: int, *, with_usage: bool, with_logprobs: bool) -> None:
        self._tokenizer = desk.speaker.tokenizer
        self._count, self._with_usage, self._with_logprobs = count, with_usage, with_logprobs
        self.passages: Sequence[Passage] | None = None
        self._finishes: dict[int, Finish] = {}
        head = {
            "id": new_id(),
            "object": "chat.completion.chunk",
            "created": desk.now(),
            "model": model,
            "system_fingerprint": desk.fingerprint,
        }
        self._head = b"data: " + dumped(head)[:-1]
        self._deltas = [self._head + b',"choices":[{"index":%d,"delta":' % index for index in range(count)]
        self._end = b',"usage":null}\n\n' if with_usage else b"}\n\n"
        self._plain = b',"logprobs":null,"finish_reason":null}]' + self._end

    def opening(self) -> bytes:
        """The first chunk of each choice says who speaks."""
        chunks = [delta + b'{"role":"assistant","content":""}' + self._plain for delta in self._deltas]
        if self.passages is not None:
            cited = b'"citations":' + dumped(citations_of(self.passages)) + b","
            chunks[0] = chunks[0].replace(b'"choices":', cited + b'"choices":', 1)
        return b"".join(chunks)

    def write(self, number: int, item: Piece | Finish) -> bytes:
        """One chunk for each kind of thing said."""
        if isinstance(item, Finish):
            self._finishes[number] = item
            return self._finish(number, item)
        delta = self._deltas[number]
        if not self._with_logprobs:
            return b"".join(delta + _delta(event) + self._plain for event in item.events)
        events = item.events or [Content("")]
        chunks = [delta + _delta(event) + self._plain for event in events[:-1]]
        logprobs = dumped(_logprobs(self._tokenizer, item.logprobs))
        chunks.append(delta + _delta(events[-1]) + b',"logprobs":' + logprobs + b',"finish_reason":null}]' + self._end)
        return b"".join(chunks)

    def _finish(self, number: int, finish: Finish) -> bytes:
        reason = quoted(finish.reason.value)
        policy = b',"policy":' + dumped(policy_of(finish)) if finish.rule else b""
        return (
            self._deltas[number]
            + b'{"content":""},"logprobs":null,"finish_reason":'
            + reason
            + b"}]"
            + policy
            + self._end
        )

    def closing(self) -> bytes:
        """The usage, if it was asked for, and the end."""
        if not self._with_usage:
            return DONE
        return (
            self._head
            + b',"choices":[],"usage":'
            + dumped(usage_of([self._finishes[number] for number in sorted(self._finishes)]))
            + b"}\n\n"
            + DONE
        )

    def failing(self, problem: Problem) -> bytes:
        """An error in the middle of a stream."""
        return event(dumped(problem.openai()))


def _delta(event: Event) -> bytes:
    if isinstance(event, Content):
        return b'{"content":' + quoted(event.text) + b"}"
    if isinstance(event, Reasoning):
        return b'{"content":null,"reasoning_content":' + quoted(event.text) + b"}"
    if isinstance(event, CallBegin):
        function = {"name": event.name, "arguments": ""}
        call = {"index": event.index, "id": event.id, "type": "function", "function": function}
        return b'{"tool_calls":[' + dumped(call) + b"]}"
    return b'{"tool_calls":[{"index":%d,"function":{"arguments":%s}}]}' % (event.index, quoted(event.text))


@dataclass
class Collected:
    """One whole answer."""

    content: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: list[tuple[CallBegin, list[str]]] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish: Finish | None = None

    def add(self, item: Piece | Finish) -> None:
        """Take what comes."""
        if isinstance(item, Finish):
            self.finish = item
            return
        self.logprobs += item.logprobs
        for said in item.events:
            if isinstance(said, Content):
                self.content.append(said.text)
            elif isinstance(said, Reasoning):
                self.reasoning.append(said.text)
            elif isinstance(said, CallBegin):
                self.calls.append((said, []))
            elif isinstance(said, CallArguments):
                self.calls[said.index][1].append(said.text)

    def message(self) -> dict[str, Any]:
        """As a chat completion's message."""
        content = "".join(self.content)
        message: dict[str, Any] = {"role": "assistant", "content": content if content or not self.calls else None}
        if self.reasoning:
            message["reasoning_content"] = "".join(self.reasoning)
        if self.calls:
            message["tool_calls"] = [
                {
                    "index": call.index,
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": "".join(pieces)},
                }
                for call, pieces in self.calls
            ]
        return message


async def collect(run: Run, count: int) -> list[Collected]:
    """Every answer, whole."""
    answers = [Collected() for _ in range(count)]
    async with aclosing(run):
        async for number, item in run:
            answers[number].add(item)
    return answers


async def _body(
    desk: Desk, run: Run, visit: Visit, body: ChatRequest, count: int, passages: Sequence[Passage] | None
) -> tuple[int, dict[str, str], bytes]:
    try:
        answers = [answer for answer in await collect(run, count) if answer.finish]
    except Exception as error:
        problem = problem_of(error)
        visit.done(problem.status)
        return problem.status, problem.headers, dumped(problem.openai())
    finishes = [answer.finish for answer in answers if answer.finish]
    value: dict[str, Any] = {
        "id": new_id(),
        "object": "chat.completion",
        "created": desk.now(),
        "model": body.model,
        "choices": [
            {
                "index": index,
                "message": answer.message(),
                "logprobs": _logprobs(desk.speaker.tokenizer, answer.logprobs) if body.logprobs else None,
                "finish_reason": finishes[index].reason.value,
            }
            for index, answer in enumerate(answers)
        ],
        "usage": usage_of(finishes),
        "system_fingerprint": desk.fingerprint,
    }
    refused = next((finish for finish in finishes if finish.rule), None)
    if refused:
        value["policy"] = policy_of(refused)
    if passages is not None:
        value["citations"] = citations_of(passages)
    visit.done()
    return 200, {}, dumped(value)


def citations_of(passages: Sequence[Passage]) -> list[dict[str, str | int]]:
    """The passages as told to the client."""
    return [
        {"number": number, "title": one.title, "place": one.place, "text": one.text}
        for number, one in enumerate(passages, start=1)
    ]


def policy_of(finish: Finish) -> dict[str, str]:
    """The rule that ended an answer, as told to the client."""
    assert finish.rule
    return {"rule": finish.rule.name, "reason": finish.rule.reason}


def _logprobs(tokenizer: Any, entries: list[TokenLogprob]) -> dict[str, Any]:
    said = [logprob_entry(tokenizer, entry) for entry in entries if entry.channel is Channel.CONTENT]
    thought = [logprob_entry(tokenizer, entry) for entry in entries if entry.channel is Channel.REASONING]
    return {"content": said} | ({"reasoning_content": thought} if thought else {})
