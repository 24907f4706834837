"""Documents through the interface: the field `search`."""

import json

import httpx
import numpy as np
import pytest
from running import until

from fathom.errors import UsageError

ASK = {"model": "tiny", "messages": [{"role": "user", "content": "How deep is the trench?"}], "search": True}


@pytest.fixture
def library(serve, tmp_path):
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "trench.md").write_text("The trench is 11 km deep.\n")
    settings = {"page": tmp_path / "data", "knowledge": tmp_path / "documents"}
    address, engine = serve("Deep [citation:1].", settings=settings)
    assert until(lambda: httpx.get(f"{address}/page/api/knowledge").json()["documents"] == 1)
    return address, engine


def test_an_answer_comes_with_what_it_may_cite(library):
    address, engine = library
    answer = httpx.post(f"{address}/chat/completions", json=ASK).json()
    assert answer["choices"][0]["message"]["content"] == "Deep [citation:1]."
    assert answer["citations"] == [
        {"number": 1, "title": "trench.md", "place": "l. 1", "text": "The trench is 11 km deep."}
    ]
    assert "[webpage 1 begin]" in engine.tokenizer.decode(engine.prompts[-1])


def test_a_stream_begins_with_what_it_may_cite(library):
    address, _ = library
    lines = httpx.post(f"{address}/chat/completions", json=ASK | {"stream": True}).text.split("\n\n")
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    assert [one["title"] for one in chunks[0]["citations"]] == ["trench.md"]
    assert all("citations" not in chunk for chunk in chunks[1:])


def test_nothing_found_is_an_empty_list_and_not_asking_is_no_list(library):
    address, engine = library
    zebra = ASK | {"messages": [{"role": "user", "content": "zebra"}]}
    assert httpx.post(f"{address}/chat/completions", json=zebra).json()["citations"] == []
    assert "webpage" not in engine.tokenizer.decode(engine.prompts[-1])
    assert "citations" not in httpx.post(f"{address}/chat/completions", json=zebra | {"search": False}).json()


def test_a_server_without_documents_says_so(serve):
    address, _ = serve()
    refused = httpx.post(f"{address}/chat/completions", json=ASK)
    assert refused.status_code == 422
    assert "--knowledge" in refused.json()["error"]["message"]


def test_documents_without_the_page_are_refused_at_the_start(serve, tmp_path):
    with pytest.raises(UsageError, match="--no-page"):
        serve(settings={"knowledge": tmp_path})


class Nearby:
    """Takes every text for the same."""

    name, dimension, maker = "nearby", 2, b"nearby"

    def embed(self, texts):
        return np.tile(np.float32([0.6, 0.8]), (len(texts), 1))


def test_a_passage_is_cited_that_shares_no_word_with_the_question(serve, tmp_path):
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "trench.md").write_text("The trench is 11 km deep.\n")
    settings = {"page": tmp_path / "data", "knowledge": tmp_path / "documents"}
    address, _ = serve("Deep.", settings=settings, embedder=Nearby())

    def cited():
        zebra = ASK | {"messages": [{"role": "user", "content": "zebra"}]}
        return httpx.post(f"{address}/chat/completions", json=zebra, timeout=60).json()["citations"]

    assert until(cited)
    assert httpx.get(f"{address}/page/api/knowledge").json()["without_vector"] == 0
