"""Text completions and fill-in-the-middle, streamed and not."""

from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from fathom.serve.api.answers import TextCompletion
from fathom.serve.api.chat import collect, policy_of
from fathom.serve.api.completion_request import CompletionRequest
from fathom.serve.api.describe import responses
from fathom.serve.api.sampling_request import params_of_choice
from fathom.serve.api.wire import DONE, dumped, event, new_id, quoted, token_text, usage_of
from fathom.serve.api.writing import Run, events
from fathom.serve.desk import Desk, Visit, key_of, problem_of
from fathom.serve.dialogue import Finish, FinishReason, Piece, TokenLogprob
from fathom.serve.encoding import Content, OutputState, Prompt, Reasoning, encode_fim, encode_text
from fathom.serve.policy import refusal
from fathom.serve.problem import Problem, bad_parameter
from fathom.serve.replies import AwaitedJson, EventStream
from fathom.serve.settings import Limits
from fathom.serve.speaker import Speaker


def completions_router(desk: Desk) -> APIRouter:
    """`POST /completions`."""
    router = APIRouter(tags=["completions"])

    @router.post("/completions", response_model=None, responses=responses(TextCompletion, stream=True))
    async def create_completion(request: Request, body: CompletionRequest) -> Response:
        """Continue a text, or fill the hole before `suffix`: DeepSeek's FIM completion and OpenAI's completion."""
        desk.model(body.model)
        answers = body.n or 1
        count = answers * len(_texts(body))
        _check_counts(desk.limits, answers, count // answers)
        visit = desk.visit(key_of(request), "completions", body.model, body.user or body.user_id)
        with visit.beginning():
            prompts = await run_in_threadpool(_prompts, desk.speaker, body)
            run = _start(desk, visit, body, prompts, answers)
        if body.stream:
            writer = TextWriter(desk, body, count, answers)
            return EventStream(events(run, visit, writer), desk.limits, visit.close)
        return AwaitedJson(_body(desk, run, visit, body, count, answers), desk.limits, visit.close)

    return router


def _check_counts(limits: Limits, answers: int, prompts: int) -> None:
    if answers > limits.choices:
        raise bad_parameter(f"n is {answers}, and this server answers at most {limits.choices} times.", "n")
    if prompts > limits.prompts:
        raise bad_parameter(f"There are {prompts} prompts; at most {limits.prompts} can be sent at once.", "prompt")


def _texts(body: CompletionRequest) -> list[str] | list[list[int]]:
    """The prompts, one or several."""
    prompt: Any = body.prompt
    several = isinstance(prompt, list) and not isinstance(prompt[0], int)
    return prompt if several else [prompt]


def _prompts(speaker: Speaker, body: CompletionRequest) -> list[Prompt]:
    prompts = []
    for text in _texts(body):
        if not isinstance(text, str):
            prompt = Prompt(tuple(text), OutputState(fresh=False))
        elif body.suffix is None:
            prompt = encode_text(text, tokenizer=speaker.tokenizer)
        else:
            prompt = encode_fim(text, body.suffix, tokenizer=speaker.tokenizer)
        speaker.check(prompt)
        prompts.append(prompt)
    return prompts


def _start(desk: Desk, visit: Visit, body: CompletionRequest, prompts: list[Prompt], answers: int) -> Run:
    speaker = desk.speaker
    params = replace(body.sampling(desk.limits.max_tokens), logprobs=body.logprobs)
    params.check_vocabulary(speaker.vocab_size)
    policy = speaker.policy
    texts = [text for text in _texts(body) if isinstance(text, str)]
    rule = next((rule for text in texts if policy and (rule := policy.about_question(text))), None)

    async def refused() -> AsyncGenerator[Piece | Finish, None]:
        assert rule
        yield Piece([Content(refusal(rule))], [])
        yield Finish(FinishReason.POLICY, rule=rule)

    if rule:
        return desk.run(visit, [refused() for _ in range(answers * len(prompts))])
    streams = [
        speaker.speak(prompt, params_of_choice(params, choice), visit.meter(same_prompt=choice > 0))
        for prompt in prompts
        for choice in range(answers)
    ]
    return desk.run(visit, streams)


class TextWriter:
    """Writes the chunks of one stream."""

    def __init__(self, desk: Desk, body: CompletionRequest, count: int, answers: int) -> None:
        self._tokenizer, self._body, self._answers = desk.speaker.tokenizer, body, answers
        self._finishes: dict[int, Finish] = {}
        self._offsets = [0] * count
        self._echo = [_echo(desk.speaker, body, number // answers) for number in range(count)]
        self._with_usage = bool(body.stream_options and body.stream_options.include_usage)
        self._head = b"data: " + dumped(_head(desk, body))[:-1]
        self._end = b',"usage":null}\n\n' if self._with_usage else b"}\n\n"

    def opening(self) -> bytes:
        """Nothing."""
        return b""

    def write(self, number: int, item: Piece | Finish) -> bytes:
        """One chunk."""
        text, logprobs, reason, policy = self._echo[number], b"null", b"null", b""
        self._echo[number] = ""
        if isinstance(item, Finish):
            self._finishes[number] = item
            reason = quoted(item.reason.value)
            policy = b',"policy":' + dumped(policy_of(item)) if item.rule else b""
        else:
            text += _said(item)
            if self._body.logprobs is not None:
                entries = _logprobs(self._tokenizer, item.logprobs, self._offsets[number])
                self._offsets[number] += sum(map(len, entries["tokens"]))
                logprobs = dumped(entries)
        choice = b'{"text":%s,"index":%d,"logprobs":%s,"finish_reason":%s}' % (quoted(text), number, logprobs, reason)
        return self._head + b',"choices":[' + choice + b"]" + policy + self._end

    def closing(self) -> bytes:
        """The usage, if it was asked for, and the end."""
        if not self._with_usage:
            return DONE
        finishes = [self._finishes[number] for number in sorted(self._finishes)]
        return self._head + b',"choices":[],"usage":' + dumped(usage_of(finishes, self._answers)) + b"}\n\n" + DONE

    def failing(self, problem: Problem) -> bytes:
        """An error in the middle of a stream."""
        return event(dumped(problem.openai()))


async def _body(
    desk: Desk, run: Run, visit: Visit, body: CompletionRequest, count: int, answers: int
) -> tuple[int, dict[str, str], bytes]:
    try:
        collected = [answer for answer in await collect(run, count) if answer.finish]
    except Exception as error:
        problem = problem_of(error)
        visit.done(problem.status)
        return problem.status, problem.headers, dumped(problem.openai())
    finishes = [answer.finish for answer in collected if answer.finish]
    tokenizer, with_logprobs = desk.speaker.tokenizer, body.logprobs is not None
    value = _head(desk, body) | {
        "choices": [
            {
                "text": _echo(desk.speaker, body, index // answers) + "".join((*answer.reasoning, *answer.content)),
                "index": index,
                "logprobs": _logprobs(tokenizer, answer.logprobs, 0) if with_logprobs else None,
                "finish_reason": finishes[index].reason.value,
            }
            for index, answer in enumerate(collected)
        ],
        "usage": usage_of(finishes, answers),
    }
    refused = next((finish for finish in finishes if finish.rule), None)
    if refused:
        value["policy"] = policy_of(refused)
    visit.done()
    return 200, {}, dumped(value)


def _head(desk: Desk, body: CompletionRequest) -> dict[str, Any]:
    return {
        "id": new_id(),
        "object": "text_completion",
        "created": desk.now(),
        "model": body.model,
        "system_fingerprint": desk.fingerprint,
    }


def _echo(speaker: Speaker, body: CompletionRequest, number: int) -> str:
    if not body.echo:
        return ""
    text = _texts(body)[number]
    return text if isinstance(text, str) else speaker.tokenizer.decode(text)


def _said(piece: Piece) -> str:
    return "".join(event.text for event in piece.events if isinstance(event, Content | Reasoning))


def _logprobs(tokenizer: Any, entries: list[TokenLogprob], offset: int) -> dict[str, Any]:
    tokens = [token_text(tokenizer, entry.token) for entry in entries]
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token)
    return {
        "tokens": tokens,
        "token_logprobs": [max(entry.logprob, -9999.0) for entry in entries],
        "top_logprobs": [
            {token_text(tokenizer, token): max(logprob, -9999.0) for token, logprob in entry.top} for entry in entries
        ],
        "text_offset": offsets,
    }
