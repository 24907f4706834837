"""Hundreds of random schemas over HTTP: every answer obeys its own, and thinking before it ends in time."""

import json
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jsonschema
import pytest
from served import http, server

sys.path.insert(0, str(Path(__file__).parents[1] / "engine"))

from schemas import random_schema

pytestmark = pytest.mark.slow
ASKED_AT_ONCE = 8
CLOSING = 40
"""Tokens that bring thinking to its end, at most."""


def ask(address, model, schema, **fields):
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "How deep is the sea? Answer in JSON."}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "depth", "schema": schema}},
        "max_tokens": 900,
    }
    answer = http.post(address + "/chat/completions", json=body | fields, timeout=600)
    assert answer.status_code == 200, answer.text
    return answer.json()


def obeys(answer, schema):
    choice = answer["choices"][0]
    assert choice["finish_reason"] == "stop", (schema, choice)
    jsonschema.validate(json.loads(choice["message"]["content"]), schema)


def many(work, count):
    with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
        list(pool.map(work, range(count)))


@pytest.mark.timeout(3600)
def test_a_chat_model_obeys_300_schemas(tmp_path):
    with server("smollm2-135m-instruct", "--no-page", data=tmp_path) as (_, address):

        def work(seed):
            schema = random_schema(random.Random(seed))
            obeys(ask(address, "deepseek-chat", schema, seed=seed), schema)

        many(work, 300)


@pytest.mark.timeout(3600)
def test_a_model_that_says_anything_thinks_within_its_budget_and_then_obeys(served_model):
    with server(served_model, "--no-page", "--template", "deepseek-v3.1") as (_, address):

        def work(seed):
            chance = random.Random(seed)
            schema, budget = random_schema(chance), chance.randint(1, 200)
            thinking = {"type": "enabled", "budget_tokens": budget}
            answer = ask(address, "deepseek-reasoner", schema, seed=seed, thinking=thinking)
            assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] <= budget + CLOSING
            obeys(answer, schema)

        many(work, 200)
