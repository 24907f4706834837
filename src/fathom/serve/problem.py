"""What can be wrong with a request, in DeepSeek's numbers and words."""

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

INVALID = "invalid_request_error"


@dataclass
class Problem(Exception):  # noqa: N818 (it is an answer, not a failure of the program)
    """An answer other than 200."""

    status: int
    message: str
    kind: str = INVALID
    code: str = INVALID
    param: str | None = None
    retry_after: int | None = None

    def __str__(self) -> str:
        return self.message

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.status in (408, 413):
            # The rest of the body will not be read.
            headers["Connection"] = "close"
        return headers | ({"WWW-Authenticate": "Bearer"} if self.status == 401 else {})

    def openai(self) -> dict[str, Any]:
        """The body in OpenAI's and DeepSeek's form."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    def anthropic(self) -> dict[str, Any]:
        """The body in Anthropic's form."""
        kind = ANTHROPIC_KINDS.get(self.status, "api_error" if self.status >= 500 else INVALID)
        return {"type": "error", "error": {"type": kind, "message": self.message}}


ANTHROPIC_KINDS = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


def bad_format(message: str, param: str | None = None) -> Problem:
    """The body is not what the endpoint reads."""
    return Problem(400, message, param=param)


def bad_parameter(message: str, param: str | None = None) -> Problem:
    """A parameter has a value that cannot be served."""
    return Problem(422, message, param=param)


def unauthorised(message: str) -> Problem:
    """No key, or a wrong one."""
    return Problem(401, message, kind="authentication_error")


def out_of_balance() -> Problem:
    """The key's quota is used up."""
    return Problem(402, "Insufficient Balance: this key's token quota is used up.", kind="insufficient_balance_error")


def too_many(message: str, retry_after: int) -> Problem:
    """A limit of the key."""
    return Problem(429, message, kind="rate_limit_error", code="rate_limit_reached", retry_after=retry_after)


def overloaded(message: str) -> Problem:
    """A limit of the server."""
    return Problem(503, message, kind="service_unavailable_error", code="service_unavailable", retry_after=5)


def broken() -> Problem:
    """Something nobody foresaw; its details go to the log, not to the client."""
    return Problem(
        500, "The server met an error it did not foresee; its log says more.", "server_error", "server_error"
    )


FORM = ("missing", "extra_forbidden", "json_invalid", "union_tag_invalid", "union_tag_not_found", "literal_error")


def of_validation(errors: list[Any]) -> Problem:
    """Every complaint about a body in one answer: 400 where its form is wrong, 422 where only values are."""
    errors = [error for error in errors if not _only_another_branch(error, errors)]
    complaints = list(dict.fromkeys(_complaint(error) for error in errors[:8]))
    param = next((field for error in errors if (field := _field(error))), None)
    text = "; ".join(complaints) or "the request cannot be read"
    return Problem(400 if any(map(_formal, errors)) else 422, text[:1].upper() + text[1:] + ".", param=param)


def _complaint(error: Any) -> str:
    field, kind, message = _field(error), error["type"], error["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        return f"unknown field '{field}': remove it or mend its spelling"
    if kind == "missing":
        return f"field '{field}' is missing" if field else "the body is missing"
    if kind == "json_invalid":
        return f"the body is not valid JSON ({error.get('ctx', {}).get('error', '')})"
    if field is None and kind == "model_attributes_type":
        # What is not announced as JSON comes as bytes.
        as_json = not isinstance(error.get("input"), bytes)
        return (
            "the body must be a JSON object" if as_json else "the body is not JSON: send Content-Type: application/json"
        )
    return f"field '{field}': {message}" if field else message


def _formal(error: Any) -> bool:
    return error["type"] in FORM or error["type"].endswith(("_type", "_parsing"))


def _field(error: Any) -> str | None:
    """The field as a client would write it, without pydantic's names of alternatives."""
    if error["type"] == "json_invalid":
        return None
    parts = [str(part) for part in error["loc"] if part != "body" and not _is_branch(part)]
    return ".".join(parts) or None


def _is_branch(part: str | int) -> bool:
    return isinstance(part, str) and ("[" in part or part in ("str", "int"))


def _only_another_branch(error: Any, errors: list[Any]) -> bool:
    """Whether a field may have several types, and another of them complains about the value that is there."""
    place = tuple(error["loc"])
    if not (_formal(error) and place and _is_branch(place[-1])):
        return False
    rest = place[:-1]
    return any(tuple(other["loc"])[: len(rest)] == rest and not _formal(other) for other in errors)


def of_pydantic(error: ValidationError) -> Problem:
    """The same for a model validated by hand."""
    return of_validation(list(error.errors(include_url=False)))
