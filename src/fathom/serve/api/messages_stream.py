"""The events of a streamed message, in Anthropic's form."""

from typing import Any

from fathom.serve.api.wire import dumped, new_id, quoted
from fathom.serve.dialogue import Finish, FinishReason, Piece
from fathom.serve.encoding import CallArguments, CallBegin, Content, Event, Reasoning
from fathom.serve.problem import Problem

STOP_REASONS = {
    FinishReason.STOP: "end_turn",
    FinishReason.LENGTH: "max_tokens",
    FinishReason.TOOL_CALLS: "tool_use",
    FinishReason.POLICY: "refusal",
    FinishReason.INTERRUPTED: "max_tokens",
}
NOTHING = {"input_tokens": 0, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 0}


def stop_reason(finish: Finish) -> str:
    """Why an answer ended, in Anthropic's words."""
    return "stop_sequence" if finish.stopped_by else STOP_REASONS[finish.reason]


def usage(finish: Finish) -> dict[str, int]:
    """What an answer cost."""
    return {
        "input_tokens": finish.prompt_tokens - finish.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": finish.cached_tokens,
        "output_tokens": finish.completion_tokens,
    }


class MessageWriter:
    """Opens, fills and closes blocks, one after the other."""

    def __init__(self, model: str) -> None:
        self._model, self._id = model, new_id("msg_")
        self._index, self._open = -1, ""
        self._delta = b""
        self._finish = Finish(FinishReason.STOP)

    def opening(self) -> bytes:
        """The message begins."""
        message: dict[str, Any] = {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": NOTHING,
        }
        return _event("message_start", {"type": "message_start", "message": message}) + _event("ping", {"type": "ping"})

    def write(self, number: int, item: Piece | Finish) -> bytes:
        """What was said; there is one answer."""
        if isinstance(item, Finish):
            self._finish = item
            return b""
        return b"".join(self._say(event) for event in item.events)

    def closing(self) -> bytes:
        """The message ends."""
        finish = self._finish
        delta: dict[str, Any] = {"stop_reason": stop_reason(finish), "stop_sequence": finish.stopped_by}
        body: dict[str, Any] = {"type": "message_delta", "delta": delta, "usage": usage(finish)}
        if finish.rule:
            body["policy"] = {"rule": finish.rule.name, "reason": finish.rule.reason}
        return self._close() + _event("message_delta", body) + _event("message_stop", {"type": "message_stop"})

    def failing(self, problem: Problem) -> bytes:
        """An error in the middle of the message."""
        return _event("error", problem.anthropic())

    def _say(self, event: Event) -> bytes:
        if isinstance(event, CallBegin):
            block = {"type": "tool_use", "id": event.id, "name": event.name, "input": {}}
            return self._begin(f"call {event.index}", block, b'"input_json_delta","partial_json":')
        begun = b""
        if isinstance(event, Reasoning) and self._open != "thinking":
            block = {"type": "thinking", "thinking": "", "signature": ""}
            begun = self._begin("thinking", block, b'"thinking_delta","thinking":')
        elif isinstance(event, Content) and self._open != "text":
            begun = self._begin("text", {"type": "text", "text": ""}, b'"text_delta","text":')
        assert isinstance(event, Reasoning | Content | CallArguments)
        return begun + self._delta + quoted(event.text) + b"}}\n\n"

    def _begin(self, name: str, block: dict[str, Any], delta: bytes) -> bytes:
        closed = self._close()
        self._index += 1
        self._open = name
        self._delta = (
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":' % self._index
        ) + delta
        start = {"type": "content_block_start", "index": self._index, "content_block": block}
        return closed + _event("content_block_start", start)

    def _close(self) -> bytes:
        if not self._open:
            return b""
        signed = self._delta.partition(b'"delta":')[0] + b'"delta":{"type":"signature_delta","signature":'
        signature = signed + quoted(self._id) + b"}}\n\n" if self._open == "thinking" else b""
        self._open = ""
        return signature + _event("content_block_stop", {"type": "content_block_stop", "index": self._index})


def _event(name: str, body: dict[str, Any]) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + dumped(body) + b"\n\n"
