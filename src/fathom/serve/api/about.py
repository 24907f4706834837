"""What the server tells of itself: models, balance, health, metrics, policy."""

from typing import Literal

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from fathom.serve.api.answers import Answer, Balance, ErrorBody, ModelCard, ModelList
from fathom.serve.api.describe import ERRORS, plain_responses
from fathom.serve.desk import Desk, key_of
from fathom.serve.problem import Problem


class Health(Answer):
    """Whether the server takes requests."""

    status: Literal["ok", "closing"]


class PolicyRule(Answer):
    """One thing that is refused."""

    name: str
    pattern: str
    reason: str
    where: list[str]


class PolicyBody(Answer):
    """Everything that is refused, and why."""

    title: str
    refuse: list[PolicyRule]


def models_router(desk: Desk) -> APIRouter:
    """`GET /models` and `GET /user/balance`."""
    router = APIRouter(tags=["models"])

    def card(name: str) -> ModelCard:
        return ModelCard(id=name, object="model", created=desk.created, owned_by="fathom")

    @router.get("/models", responses=plain_responses(ModelList))
    async def list_models() -> ModelList:
        """Every name of the model, and the name of the one that makes embeddings."""
        return ModelList(object="list", data=[card(name) for name in desk.listed])

    @router.get("/models/{name:path}", responses=plain_responses(ModelCard) | {404: {"model": ErrorBody}})
    async def retrieve_model(name: str) -> ModelCard:
        """One name of the model."""
        if name not in desk.listed:
            raise Problem(404, f"Model Not Exist: '{name}' is none of {', '.join(desk.listed)}.")
        return card(name)

    @router.get("/user/balance", responses=plain_responses(Balance))
    async def get_user_balance(request: Request) -> Balance:
        """What is left of the key's quota, in tokens; nothing to count where there is no quota."""
        key = key_of(request)
        if key is None or key.quota_tokens is None:
            return Balance(is_available=True, balance_infos=[])
        left = f"{max(key.quota_tokens - key.used_tokens, 0)}.00"
        info = {"currency": "TOKENS", "total_balance": left, "granted_balance": left, "topped_up_balance": "0.00"}
        return Balance.model_validate({"is_available": key.used_tokens < key.quota_tokens, "balance_infos": [info]})

    return router


def about_router(desk: Desk) -> APIRouter:
    """`GET /health`, `/metrics` and `/policy`."""
    router = APIRouter(tags=["server"])

    @router.get("/health", responses={200: {"model": Health}, 503: {"model": Health, "description": ERRORS[503]}})
    async def health() -> Response:
        """Whether the server takes requests."""
        if desk.gate.closing:
            return JSONResponse({"status": "closing"}, 503)
        return JSONResponse({"status": "ok"})

    @router.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Counts and durations in Prometheus' text format."""
        gauges = {"requests_under_way": float(desk.gate.under_way)}
        gauges |= {f"engine_{name}": value for name, value in desk.speaker.service.metrics().items()}
        return PlainTextResponse(desk.metrics.text(gauges), media_type="text/plain; version=0.0.4")

    @router.get("/policy", responses={200: {"model": PolicyBody}})
    async def policy() -> PolicyBody:
        """What this server refuses and why; nothing where it has no policy."""
        found = desk.speaker.policy
        if found is None:
            return PolicyBody(title="", refuse=[])
        return PolicyBody.model_validate(found.model_dump(mode="json"))

    return router
