"""The server, put together."""

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.responses import Response

from fathom.errors import UsageError
from fathom.serve.api.about import about_router, models_router
from fathom.serve.api.anthropic import anthropic_router
from fathom.serve.api.chat import chat_router
from fathom.serve.api.completions import completions_router
from fathom.serve.api.embeddings import embeddings_router
from fathom.serve.audit import AuditLog
from fathom.serve.desk import Desk, problem_of
from fathom.serve.embedder import Embedder
from fathom.serve.encoding import Template
from fathom.serve.gate import Gate
from fathom.serve.generation import Service
from fathom.serve.guard import Guard, answer
from fathom.serve.keys import KeyStore
from fathom.serve.metrics import Metrics
from fathom.serve.policy import Policy
from fathom.serve.problem import Problem, bad_format, of_validation
from fathom.serve.settings import ModelName, ServeSettings
from fathom.serve.speaker import Speaker

if TYPE_CHECKING:
    from fathom.corpus.tokenizer import Tokenizer

log = logging.getLogger("fathom.serve")
PREFIXES = ("", "/v1", "/beta")
"""DeepSeek serves the same endpoints under all of them."""
CHAT, REASONER = "deepseek-chat", "deepseek-reasoner"


def create_app(
    settings: ServeSettings,
    service: Service,
    tokenizer: "Tokenizer",
    *,
    template: Template,
    model: str,
    context_length: int,
    vocab_size: int,
    chats: bool = True,
    embedder: Embedder | None = None,
) -> FastAPI:
    """Put the server together around an engine's `service`.

    `model` is the model's own name, and `chats` whether it was taught to take turns. An `embedder` answers requests for
    embeddings and finds documents by what they mean. Raises `UsageError` for files that cannot be used.
    """
    if settings.knowledge is not None and settings.page is None:
        raise UsageError("--knowledge keeps its index beside the page's chats: leave out --no-page.")
    stack = ExitStack()
    policy = Policy.read(settings.policy) if settings.policy else None
    desk = Desk(
        speaker=Speaker(
            service, tokenizer, template, context_length=context_length, vocab_size=vocab_size, policy=policy
        ),
        names=names_of(settings, template, model),
        limits=settings.limits,
        gate=Gate(settings.limits, KeyStore(settings.keys) if settings.keys else None),
        audit=AuditLog(settings.audit),
        metrics=Metrics(),
        fingerprint=f"fathom_{template.name}",
        embedder=embedder,
    )
    app = FastAPI(
        title="Fathom",
        description=DESCRIPTION,
        version=_version(),
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan(desk, stack),
        separate_input_output_schemas=False,
    )
    app.state.desk = desk
    bearer = [] if desk.gate.keys is None else [HTTPBearer(auto_error=False, description="An API key.")]
    for prefix in PREFIXES:
        for router in (chat_router(desk), completions_router(desk), embeddings_router(desk), models_router(desk)):
            app.include_router(router, prefix=prefix, include_in_schema=not prefix, dependencies=_required(bearer))
    app.include_router(anthropic_router(desk), prefix="/anthropic", dependencies=_required(bearer))
    app.include_router(about_router(desk))
    if settings.page is not None:
        app.include_router(_page(settings, desk, stack, chats=chats))
    _answer_errors(app)
    app.add_middleware(Guard, gate=desk.gate, limits=settings.limits, hosts=[settings.host, *settings.hosts])
    return app


DESCRIPTION = """DeepSeek's and OpenAI's interface to one model, and Anthropic's under `/anthropic`.

Every path without a prefix exists under `/v1` and `/beta` too. Unknown fields are refused by name: nothing that is
sent is ignored in silence. A stream is of server-sent events; its chunks have `delta` in the place of `message`, and
the last event is `[DONE]`. While a request waits, comments (`: keep-alive`) or empty lines come."""


def names_of(settings: ServeSettings, template: Template, model: str) -> dict[str, ModelName]:
    """Every name of the model; the first is its own."""
    names = {model: ModelName()}
    if template.can_answer_at_once:
        names[CHAT] = ModelName(thinking=False)
    if template.thinks:
        names[REASONER] = ModelName(thinking=True)
    return names | settings.names


def _required(bearer: list[HTTPBearer]) -> list[Any]:
    # The guard at the door checks keys; this only tells the description of it.
    return [Depends(scheme) for scheme in bearer]


def _page(settings: ServeSettings, desk: Desk, stack: ExitStack, *, chats: bool) -> APIRouter:
    from fathom.serve.answerer import PageAnswerer
    from fathom.serve.knowledge.folder import KnowledgeFolder
    from fathom.serve.page.router import router
    from fathom.serve.store.store import Store

    assert settings.page is not None
    store = Store(settings.page)
    stack.callback(store.close)
    knowledge = None
    if settings.knowledge is not None:
        desk.source = knowledge = KnowledgeFolder(settings.knowledge, settings.page, desk.embedder)
        stack.callback(knowledge.close)
    return router(
        store,
        PageAnswerer(desk, chats=chats),
        knowledge=knowledge,
        keys=desk.gate.keys,
        limits=settings.limits,
        closing=lambda: desk.gate.closing,
        policy=desk.speaker.policy is not None,
    )


def _lifespan(desk: Desk, stack: ExitStack) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    stack.callback(desk.audit.close)
    if desk.gate.keys is not None:
        stack.callback(desk.gate.keys.close)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
        with stack:
            try:
                yield
            finally:
                desk.gate.closing = True
                await desk.speaker.service.drain()

    return lifespan


def _answer_errors(app: FastAPI) -> None:
    @app.exception_handler(Problem)
    async def _problem(request: Request, problem: Problem) -> Response:
        return answer(request.scope, problem)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> Response:
        return answer(request.scope, of_validation(list(error.errors())))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        if error.status_code == 404:
            return answer(request.scope, Problem(404, f"There is nothing at {request.url.path}."))
        if error.status_code == 400:
            return answer(request.scope, bad_format(f"The body cannot be read: {error.detail}."))
        response = answer(request.scope, Problem(error.status_code, str(error.detail)))
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)
    async def _broken(request: Request, error: Exception) -> Response:
        return answer(request.scope, problem_of(error))


def _version() -> str:
    from importlib.metadata import version

    return version("fathom-lm")
