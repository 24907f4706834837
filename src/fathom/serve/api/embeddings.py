"""Embeddings: texts as vectors, in OpenAI's form."""

import base64
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from fathom.serve.api.answers import Answer
from fathom.serve.api.base import Body, Count, Text, TokenId
from fathom.serve.api.describe import responses
from fathom.serve.api.wire import dumped
from fathom.serve.desk import Desk, Visit, key_of, problem_of
from fathom.serve.embedder import BATCH, Embedder, Vectors
from fathom.serve.problem import bad_format, bad_parameter
from fathom.serve.replies import AwaitedJson


class EmbeddingsRequest(Body):
    """Texts whose vectors are wanted."""

    model: str
    """The name of the model given with --embeddings; `GET /models` lists it."""
    input: (
        Text
        | Annotated[list[Text], Field(min_length=1)]
        | Annotated[list[TokenId], Field(min_length=1)]
        | Annotated[list[Annotated[list[TokenId], Field(min_length=1)]], Field(min_length=1)]
    )
    """A text, its token ids, or several of either."""
    encoding_format: Literal["float", "base64"] | None = None
    """Numbers, or their bytes as 32-bit floats, the least significant byte first, in base 64."""
    dimensions: Count | None = None
    """The model's own number; vectors cannot be shortened."""
    user: Text | None = None
    """Noted in the audit log."""


class Embedding(Answer):
    """One text's vector, of length 1."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingsUsage(Answer):
    """What was read."""

    prompt_tokens: int
    total_tokens: int


class Embeddings(Answer):
    """The vectors, in the order of the texts."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingsUsage


def embeddings_router(desk: Desk) -> APIRouter:
    """`POST /embeddings`."""
    router = APIRouter(tags=["embeddings"])

    @router.post("/embeddings", response_model=None, responses=responses(Embeddings))
    async def create_embedding(request: Request, body: EmbeddingsRequest) -> Response:
        """Vectors of texts: the cosine of two says how much the texts have to do with each other."""
        embedder = _embedder(desk, body)
        visit = desk.visit(key_of(request), "embeddings", body.model, body.user)
        with visit.beginning():
            texts = await run_in_threadpool(_tokens, embedder, body)
        return AwaitedJson(_body(embedder, visit, body, texts), desk.limits, visit.close)

    return router


def _embedder(desk: Desk, body: EmbeddingsRequest) -> Embedder:
    embedder, count = desk.embedder, len(_inputs(body))
    if embedder is None:
        raise bad_parameter("This server makes no embeddings: it is started with --embeddings MODEL.", "model")
    if body.model != embedder.name:
        raise bad_format(f"Model Not Exist: embeddings are made by '{embedder.name}', not '{body.model}'.", "model")
    if body.dimensions not in (None, embedder.dimension):
        raise bad_parameter(
            f"dimensions is {body.dimensions}: the vectors of {embedder.name} have {embedder.dimension} numbers, and "
            "cannot be shortened.",
            "dimensions",
        )
    if count > desk.limits.inputs:
        raise bad_parameter(f"There are {count} texts; at most {desk.limits.inputs} can be sent at once.", "input")
    return embedder


def _inputs(body: EmbeddingsRequest) -> list[Any]:
    """The texts, one or several, each as text or in tokens."""
    given: Any = body.input
    return given if isinstance(given, list) and not isinstance(given[0], int) else [given]


def _tokens(embedder: Embedder, body: EmbeddingsRequest) -> list[list[int]]:
    texts = _inputs(body)
    if isinstance(texts[0], str):
        texts = embedder.encode(texts)
    for number, tokens in enumerate(texts):
        if not 0 < len(tokens) <= embedder.longest:
            raise bad_format(
                f"Text {number} of the input has {len(tokens)} tokens; {embedder.name} reads from 1 to "
                f"{embedder.longest}: leave it out or cut it in parts.",
                "input",
            )
    return texts


async def _body(
    embedder: Embedder, visit: Visit, body: EmbeddingsRequest, texts: list[list[int]]
) -> tuple[int, dict[str, str], bytes]:
    meter, data = visit.meter(), list[dict[str, Any]]()
    try:
        # A client that leaves is noticed between two batches.
        for start in range(0, len(texts), BATCH):
            made = await run_in_threadpool(embedder.embed_tokens, texts[start : start + BATCH])
            meter.prompt_tokens += made.tokens
            data += _shown(made.vectors, start, as_bytes=body.encoding_format == "base64")
    except Exception as error:
        problem = problem_of(error)
        visit.done(problem.status)
        return problem.status, problem.headers, dumped(problem.openai())
    visit.done()
    usage = {"prompt_tokens": meter.prompt_tokens, "total_tokens": meter.prompt_tokens}
    return 200, {}, dumped({"object": "list", "data": data, "model": body.model, "usage": usage})


def _shown(vectors: Vectors, start: int, *, as_bytes: bool) -> list[dict[str, Any]]:
    return [
        {
            "object": "embedding",
            "index": number,
            "embedding": base64.b64encode(vector.astype("<f4").tobytes()).decode() if as_bytes else vector.tolist(),
        }
        for number, vector in enumerate(vectors, start)
    ]
