"""Messages in Anthropic's form, streamed and not; counting tokens; models."""

import json
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from fathom.serve.api.chat import Collected, collect, policy_of
from fathom.serve.api.describe import plain_responses, responses
from fathom.serve.api.messages_answer import MessageAnswer, MessageError, ModelInfo, ModelPage, TokenCount
from fathom.serve.api.messages_asking import ask_of_messages
from fathom.serve.api.messages_request import CountRequest, MessagesRequest
from fathom.serve.api.messages_stream import MessageWriter, stop_reason, usage
from fathom.serve.api.wire import dumped, new_id
from fathom.serve.api.writing import Run, events
from fathom.serve.desk import Desk, Visit, key_of, problem_of
from fathom.serve.problem import Problem
from fathom.serve.replies import AwaitedJson, EventStream
from fathom.serve.settings import ModelName


def anthropic_router(desk: Desk) -> APIRouter:
    """`/v1/messages`, `/v1/messages/count_tokens` and `/v1/models`, to be put under a prefix."""
    router = APIRouter(tags=["anthropic"])

    @router.post(
        "/v1/messages", response_model=None, responses=responses(MessageAnswer, stream=True, error=MessageError)
    )
    async def create_message(request: Request, body: MessagesRequest) -> Response:
        """Go on with a conversation. Names that begin with `claude` mean this server's own model."""
        name = _model(desk, body.model)
        user = body.metadata.user_id if body.metadata else None
        visit = desk.visit(key_of(request), "messages", body.model, user)
        with visit.beginning():
            run = await _start(desk, visit, body, name)
        if body.stream:
            return EventStream(events(run, visit, MessageWriter(body.model)), desk.limits, visit.close)
        return AwaitedJson(_body(run, visit, body.model), desk.limits, visit.close)

    @router.post("/v1/messages/count_tokens", responses=responses(TokenCount, error=MessageError))
    async def count_tokens(body: CountRequest) -> TokenCount:
        """The length of a conversation's prompt, in tokens."""
        name = _model(desk, body.model)
        try:
            ask = ask_of_messages(body, name, desk.speaker.template, desk.limits)
            prompt = await run_in_threadpool(desk.speaker.encoded, ask)
        except Exception as error:
            raise problem_of(error) from error
        return TokenCount(input_tokens=len(prompt.tokens))

    @router.get("/v1/models", responses=plain_responses(ModelPage, error=MessageError))
    async def list_models_anthropic() -> ModelPage:
        """Every name of the model."""
        created = datetime.fromtimestamp(desk.created, UTC).isoformat().replace("+00:00", "Z")
        cards = [
            ModelInfo(type="model", id=name, display_name=name, created_at=created, lifecycle="active")
            for name in desk.names
        ]
        return ModelPage(data=cards, has_more=False, first_id=cards[0].id, last_id=cards[-1].id)

    return router


def _model(desk: Desk, name: str) -> ModelName:
    if name not in desk.names and name.startswith("claude"):
        return next(iter(desk.names.values()))
    try:
        return desk.model(name)
    except Problem as problem:
        raise Problem(404, problem.message) from None


async def _start(desk: Desk, visit: Visit, body: MessagesRequest, name: ModelName) -> Run:
    speaker = desk.speaker
    ask = ask_of_messages(body, name, speaker.template, desk.limits)
    if speaker.refused(ask.messages):
        return desk.run(visit, [speaker.answer(ask, visit.meter())])
    prompt = await speaker.prompt_of(ask)
    return desk.run(visit, [speaker.speak(prompt, speaker.params(ask), visit.meter())])


async def _body(run: Run, visit: Visit, model: str) -> tuple[int, dict[str, str], bytes]:
    try:
        answer = (await collect(run, 1))[0]
    except Exception as error:
        problem = problem_of(error)
        visit.done(problem.status)
        return problem.status, problem.headers, dumped(problem.anthropic())
    finish = answer.finish
    assert finish
    identity = new_id("msg_")
    value: dict[str, Any] = {
        "id": identity,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": _blocks(answer, identity),
        "stop_reason": stop_reason(finish),
        "stop_sequence": finish.stopped_by,
        "usage": usage(finish),
    }
    if finish.rule:
        value["policy"] = policy_of(finish)
    visit.done()
    return 200, {}, dumped(value)


def _blocks(answer: Collected, identity: str) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if answer.reasoning:
        blocks.append({"type": "thinking", "thinking": "".join(answer.reasoning), "signature": identity})
    if answer.content:
        blocks.append({"type": "text", "text": "".join(answer.content)})
    for call, pieces in answer.calls:
        text = "".join(pieces)
        value = _object(text)
        if value is None:
            # What is no JSON object cannot be an input; the user sees what the model wrote.
            blocks.append({"type": "text", "text": f"{call.name}: {text}"})
        else:
            blocks.append({"type": "tool_use", "id": call.id, "name": call.name, "input": value})
    return blocks


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
