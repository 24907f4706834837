"""The chat page as one router: the page, its files, its interface, and shared chats."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, JSONResponse, Response

from fathom.errors import FathomError
from fathom.serve.keys import KeyStore
from fathom.serve.knowledge.folder import KnowledgeFolder
from fathom.serve.knowledge.source import Source
from fathom.serve.page import assets, shown
from fathom.serve.page.access import Access
from fathom.serve.page.answerer import Answerer
from fathom.serve.page.answers_routes import answers_routes
from fathom.serve.page.bodies import SignIn
from fathom.serve.page.bus import Bus
from fathom.serve.page.chats_routes import chats_routes, draft_of
from fathom.serve.page.parts import PageRoute, Parts
from fathom.serve.page.runs import Runs
from fathom.serve.page.shared_page import shared_page
from fathom.serve.problem import Problem
from fathom.serve.settings import Limits
from fathom.serve.store.store import Store

SYNC_EVERY = 5.0
"""Seconds after which a changed document is noticed."""

log = logging.getLogger("fathom.serve")


def router(
    store: Store,
    answerer: Answerer,
    *,
    knowledge: Source | None = None,
    keys: KeyStore | None = None,
    limits: Limits | None = None,
    closing: Callable[[], bool] = lambda: False,
    policy: bool = False,
) -> APIRouter:
    """Everything under `/`, `/page` and `/share`.

    `knowledge` is what the search stands on. While the router's lifespan is entered, answers are saved as they grow and
    documents are followed; at its end what is under way is marked as interrupted. The caller closes `store` and
    `knowledge` after that.
    """
    bus = Bus()
    runs = Runs(store, answerer, bus, knowledge)
    parts = Parts(
        store, answerer, runs, bus, Access(store, keys), knowledge, limits or Limits(), closing=closing, policy=policy
    )

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncGenerator[None, None]:
        folder = knowledge if isinstance(knowledge, KnowledgeFolder) else None
        follower = asyncio.create_task(_follow(folder)) if folder else None
        try:
            async with runs.serving():
                yield
        finally:
            if follower and folder:
                folder.stop()
                follower.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await follower

    whole = APIRouter(lifespan=lifespan, route_class=PageRoute, include_in_schema=False)
    _add_page(whole)
    _add_state(whole, parts)
    _add_sharing(whole, parts)
    whole.include_router(chats_routes(parts))
    whole.include_router(answers_routes(parts))
    return whole


def _add_page(whole: APIRouter) -> None:
    @whole.get("/")
    async def page() -> HTMLResponse:
        """The page itself; it asks for everything else."""
        return HTMLResponse(assets.page())

    @whole.get("/page/static/{version}/{name}")
    async def static(version: str, name: str) -> Response:
        """A style sheet, a script or a picture of the page."""
        found = assets.asset(name)
        if found is None:
            raise Problem(404, "The page has no such file.")
        kept = "public, max-age=31536000, immutable" if version == assets.version() else "no-store"
        return Response(found[0], media_type=found[1], headers={"Cache-Control": kept})

    @whole.get("/favicon.ico")
    async def icon() -> Response:
        """The page's sign."""
        found = assets.asset("icon.svg")
        return Response(found[0], media_type=found[1]) if found else Response(status_code=404)


def _add_state(whole: APIRouter, parts: Parts) -> None:
    @whole.get("/page/api/state")
    async def state(request: Request) -> shown.Json:
        """What the server can do, and who the visitor is."""
        visitor = await parts.visitor(request)
        answerer, source = parts.answerer, parts.source
        return {
            "model": answerer.model,
            "chats": answerer.chats,
            "thinking": answerer.thinking,
            "continues": answerer.continues,
            "context": answerer.context_length,
            "search": await run_in_threadpool(_standing, source) if source else None,
            "policy": parts.policy,
            "key": visitor.key.name if visitor.key else None,
            "draft": await run_in_threadpool(draft_of, parts.store, visitor.owner, None),
        }

    @whole.get("/page/api/knowledge")
    async def knowledge(request: Request) -> shown.Json:
        """How far the documents are indexed."""
        await parts.visitor(request)
        return await run_in_threadpool(_standing, parts.source) if parts.source else {}

    @whole.post("/page/api/session")
    async def sign_in(request: Request, body: SignIn) -> Response:
        """Sign in with an API key."""
        response = JSONResponse({})
        await run_in_threadpool(parts.access.sign_in, body.key.strip(), request, response)
        return response

    @whole.delete("/page/api/session")
    async def sign_out(request: Request) -> Response:
        """Sign out."""
        response = JSONResponse({})
        await run_in_threadpool(parts.access.sign_out, request, response)
        return response


def _add_sharing(whole: APIRouter, parts: Parts) -> None:
    store = parts.store

    @whole.get("/share/{token}")
    async def shared(request: Request, token: str) -> HTMLResponse:
        """A shared chat, for whoever has the link."""
        share = await run_in_threadpool(store.shares.open, token)
        language = "zh" if request.headers.get("accept-language", "").lower().startswith("zh") else "en"
        return HTMLResponse(await run_in_threadpool(shared_page, share, language))

    @whole.get("/page/api/chats/{chat}/shares")
    async def links(request: Request, chat: str) -> shown.Json:
        """The links of a chat."""
        visitor = await parts.visitor(request)
        found = await run_in_threadpool(store.shares.all, visitor.owner, chat)
        return {"shares": [{"token": one.token, "created": one.created} for one in found]}

    @whole.post("/page/api/chats/{chat}/shares")
    async def share(request: Request, chat: str) -> shown.Json:
        """Make a link to the chat as it is now."""
        visitor = await parts.visitor(request)

        def make() -> str:
            path = store.messages.path(visitor.owner, chat)
            return store.shares.create(visitor.owner, chat, path).token

        return {"token": await run_in_threadpool(make)}

    @whole.delete("/page/api/shares/{token}")
    async def revoke(request: Request, token: str) -> shown.Json:
        """End a link."""
        visitor = await parts.visitor(request)
        await run_in_threadpool(store.shares.revoke, visitor.owner, token)
        return {}


def _standing(source: Source) -> shown.Json:
    if not isinstance(source, KnowledgeFolder):
        return {"name": source.name}
    standing = source.standing()
    return {
        "name": source.name,
        "documents": standing.documents,
        "passages": standing.passages,
        "waiting": standing.waiting,
        "without_vector": standing.without_vector,
        "problems": [{"path": path, "problem": problem} for path, problem in standing.problems],
    }


async def _follow(knowledge: KnowledgeFolder) -> None:
    while True:
        started = time.monotonic()
        try:
            await run_sync(knowledge.sync)
        except FathomError as error:
            log.error("%s", error)
        except Exception:
            log.exception("The documents could not be indexed; trying again.")
        # Looking through a large folder takes at most a twentieth of the time.
        again = time.monotonic() + max(SYNC_EVERY, 20 * (time.monotonic() - started))
        try:
            await run_sync(knowledge.fill, again - time.monotonic())
        except Exception:
            log.exception("The documents' vectors could not be made; trying again.")
        await asyncio.sleep(max(again - time.monotonic(), 0))
