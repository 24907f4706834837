"""Pieces of JSON that are written again and again, by hand where every token pays."""

import json
import uuid
from json.encoder import encode_basestring as _quoted
from typing import TYPE_CHECKING, Any

from fathom.serve.dialogue import Finish, TokenLogprob

if TYPE_CHECKING:
    from fathom.corpus.tokenizer import Tokenizer

DONE = b"data: [DONE]\n\n"


def quoted(text: str) -> bytes:
    """A JSON string."""
    return _quoted(text).encode("utf-8")


def dumped(value: Any) -> bytes:
    """Any JSON value."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8")


def new_id(prefix: str = "") -> str:
    """An id of an answer."""
    return f"{prefix}{uuid.uuid4()}"


def event(body: bytes) -> bytes:
    """A server-sent event."""
    return b"data: " + body + b"\n\n"


def usage_of(finishes: list[Finish], answers: int | None = None) -> dict[str, Any]:
    """What some answers cost; each `answers` in a row, all by default, are to one prompt."""
    firsts = finishes[:: answers or len(finishes) or 1]
    return usage(
        sum(finish.prompt_tokens for finish in firsts),
        sum(finish.cached_tokens for finish in firsts),
        sum(finish.completion_tokens for finish in finishes),
        sum(finish.reasoning_tokens for finish in finishes),
    )


def usage(prompt: int, cached: int, completion: int, reasoning: int) -> dict[str, Any]:
    """The usage of a request."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_cache_hit_tokens": cached,
        "prompt_cache_miss_tokens": prompt - cached,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


def token_text(tokenizer: "Tokenizer", token: int) -> str:
    """A token alone; what is no whole character is shown by its bytes."""
    raw = tokenizer.decode_bytes([token])
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


def logprob_entry(tokenizer: "Tokenizer", entry: TokenLogprob) -> dict[str, Any]:
    """A written token with its likely rivals."""
    return _likely(tokenizer, entry.token, entry.logprob) | {
        "top_logprobs": [_likely(tokenizer, token, logprob) for token, logprob in entry.top]
    }


def _likely(tokenizer: "Tokenizer", token: int, logprob: float) -> dict[str, Any]:
    # JSON has no infinity; what OpenAI writes for "impossible" is -9999.
    return {
        "token": token_text(tokenizer, token),
        "logprob": max(logprob, -9999.0),
        "bytes": list(tokenizer.decode_bytes([token])),
    }
