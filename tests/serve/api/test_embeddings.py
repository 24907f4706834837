"""Embeddings, asked for by the official client."""

import base64

import httpx
import numpy as np
import openai
import pytest

from fathom.serve.embedder import Embedder
from talkative import anything

TEXTS = ["the sea is deep", "the line is long"]


@pytest.fixture(scope="module")
def embedder(tokenizer):
    return Embedder("tiny-embeddings", anything(tokenizer), tokenizer)


@pytest.fixture
def address(serve, embedder):
    return serve(embedder=embedder)[0]


@pytest.fixture
def client(address):
    return openai.OpenAI(base_url=f"{address}/v1", api_key="any", max_retries=0)


def ask(address, **body):
    return httpx.post(f"{address}/embeddings", json={"model": "tiny-embeddings", "input": "sea"} | body)


@pytest.mark.parametrize("form", [{}, {"encoding_format": "float"}, {"encoding_format": "base64"}])
def test_the_official_client_gets_vectors(client, embedder, form):
    answer = client.embeddings.create(model="tiny-embeddings", input=TEXTS, **form)
    found = [
        np.frombuffer(base64.b64decode(one.embedding), "<f4") if isinstance(one.embedding, str) else one.embedding
        for one in answer.data
    ]
    np.testing.assert_allclose(found, embedder.embed(TEXTS), atol=1e-5)
    assert [one.index for one in answer.data] == [0, 1]
    assert answer.model == "tiny-embeddings"
    tokens = sum(map(len, embedder.encode(TEXTS)))
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (tokens, tokens)


def test_a_text_may_come_in_tokens(client, embedder):
    texts = client.embeddings.create(model="tiny-embeddings", input=TEXTS)
    tokens = client.embeddings.create(model="tiny-embeddings", input=embedder.encode(TEXTS))
    one = client.embeddings.create(model="tiny-embeddings", input=embedder.encode(TEXTS)[1])
    assert tokens.data[0].embedding == pytest.approx(texts.data[0].embedding, abs=1e-5)
    assert one.data[0].embedding == pytest.approx(texts.data[1].embedding, abs=1e-5)


def test_more_texts_than_are_read_at_once_come_in_order(client, embedder):
    texts = [f"the line {'is long ' * (n % 5)}" for n in range(35)]
    answer = client.embeddings.create(model="tiny-embeddings", input=texts)
    np.testing.assert_allclose([one.embedding for one in answer.data], embedder.embed(texts), atol=1e-5)


def test_the_model_is_listed(client):
    assert "tiny-embeddings" in [one.id for one in client.models.list()]
    assert client.models.retrieve("tiny-embeddings").id == "tiny-embeddings"


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        ({"surprise": 1}, 400, "surprise"),
        ({"model": "tiny"}, 400, "Model Not Exist"),
        ({"input": ""}, 400, "0 tokens"),
        ({"input": ["sea", ""]}, 400, "Text 1"),
        ({"input": "sea " * 2000}, 400, "reads from 1 to"),
        ({"input": []}, 422, "input"),
        ({"input": 7}, 400, "input"),
        ({"input": [99999]}, 422, "99999"),
        ({"input": ["sea"] * 2049}, 422, "2048"),
        ({"dimensions": 8}, 422, "cannot be shortened"),
        ({"encoding_format": "bits"}, 400, "encoding_format"),
    ],
)
def test_what_cannot_be_served_is_refused_in_words(address, body, status, word):
    answer = ask(address, **body)
    assert answer.status_code == status
    assert word in answer.json()["error"]["message"]


def test_its_own_number_of_dimensions_may_be_named(address, embedder):
    assert len(ask(address, dimensions=embedder.dimension).json()["data"][0]["embedding"]) == embedder.dimension


def test_a_server_without_an_embedder_says_so(serve):
    refused = ask(serve()[0])
    assert refused.status_code == 422
    assert "--embeddings" in refused.json()["error"]["message"]


def test_a_key_pays_for_what_is_read(serve, embedder, tmp_path):
    from fathom.serve.keys import KeyStore

    store = KeyStore(tmp_path / "keys.db")
    secret = store.add("ann", quota_tokens=1000)
    store.close()
    address, _ = serve(embedder=embedder, settings={"keys": tmp_path / "keys.db"})
    assert ask(address).status_code == 401
    client = openai.OpenAI(base_url=address, api_key=secret, max_retries=0)
    used = client.embeddings.create(model="tiny-embeddings", input=TEXTS).usage.total_tokens
    left = httpx.get(f"{address}/user/balance", headers={"Authorization": f"Bearer {secret}"}).json()
    assert left["balance_infos"][0]["total_balance"] == f"{1000 - used}.00"
