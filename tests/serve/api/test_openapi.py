"""The OpenAPI description is right: what it allows is served or refused as it says, and never breaks the server."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from running import running
from schemathesis.checks import positive_data_acceptance
from scripted import Scripted

from fathom.serve.app import create_app
from fathom.serve.embedder import Embedder
from fathom.serve.encoding import TEMPLATES
from fathom.serve.settings import ServeSettings
from talkative import anything

FAST, ALL = 4, 2_000
"""Cases of each kind. Of the endpoints, five have a body that can be right or wrong: ten kinds, 20,000 cases."""

REFUSALS = [400, 401, 403, 404, 405, 406, 409, 415, 422, 428, 429]
"""What schemathesis itself takes for a refusal of a wrong body."""


@pytest.fixture(scope="module")
def server(tokenizer):
    service = Scripted(tokenizer, "Two and two.</think>Four.")
    app = create_app(
        ServeSettings(),
        service,
        tokenizer,
        template=TEMPLATES["deepseek-v3.1"],
        model="tiny",
        context_length=2048,
        vocab_size=tokenizer.vocab_size,
        embedder=Embedder("tiny", anything(tokenizer), tokenizer),
    )
    with running(app) as address:
        # Its own list of refusals leaves out 413, which a body of more than 8 MB gets before anybody reads it.
        refused = {"expected-statuses": [*REFUSALS, 413]}
        config = schemathesis.Config.from_dict({"base-url": address, "checks": {"negative_data_rejection": refused}})
        yield schemathesis.openapi.from_dict(app.openapi(), config=config)


@st.composite
def cases_of(draw, operation, mode):
    """One case; where schemathesis cannot make up its mind how to be wrong, another."""
    try:
        return draw(operation.as_strategy(generation_mode=mode))
    except schemathesis.core.errors.InvalidSchema:
        reject()


BODIES = [
    "/chat/completions",
    "/completions",
    "/embeddings",
    "/anthropic/v1/messages",
    "/anthropic/v1/messages/count_tokens",
]
MODES = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]
"""Bodies that the description allows, and bodies that it does not."""
PATIENCE = 600
"""Seconds to wait for an answer, for the machine may be busy."""


def check_all(schema, path, mode, cases):
    """Try every endpoint of a path."""
    operations = [result.ok() for result in schema.get_all_operations()]
    for operation in operations:
        if path != operation.path and (path is not None or operation.path in BODIES):
            continue

        # A valid body may still name a model that is not there, so refusing it is right.
        @given(case=cases_of(operation, mode))
        @settings(max_examples=cases, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        def check(case):
            response = case.call(timeout=PATIENCE)
            assert response.status_code < 500
            case.validate_response(response, excluded_checks=[positive_data_acceptance])

        check()


def test_every_endpoint_with_a_body_is_tried(server):
    with_body = {result.ok().path for result in server.get_all_operations() if result.ok().method != "get"}
    assert with_body == set(BODIES)


@pytest.mark.parametrize("mode", MODES, ids=["right", "wrong"])
@pytest.mark.parametrize("path", BODIES)
def test_endpoints_do_as_described(server, path, mode):
    check_all(server, path, mode, FAST)


def test_what_only_tells_does_as_described(server):
    check_all(server, None, MODES[0], FAST)


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("mode", MODES, ids=["right", "wrong"])
@pytest.mark.parametrize("path", BODIES)
def test_endpoints_do_as_described_in_20000_cases(server, path, mode):
    check_all(server, path, mode, ALL)
