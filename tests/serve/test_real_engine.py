"""The server around the real engine, on a tiny model of random weights that says anything at all."""

import json

import jsonschema
import openai
import pytest
from running import http, running, until

from fathom.engine.config import EngineConfig
from fathom.engine.engine import Engine
from fathom.engine.service import AsyncEngine
from fathom.serve.app import create_app
from fathom.serve.encoding import TEMPLATES
from fathom.serve.settings import ServeSettings
from talkative import anything

ASK = [{"role": "user", "content": "How deep is the sea, and how long is the line?"}]
SCHEMA = {
    "type": "object",
    "properties": {"unit": {"enum": ["m", "km"]}, "exact": {"type": "boolean"}},
    "required": ["unit", "exact"],
    "additionalProperties": False,
}
DEPTH = {"type": "function", "function": {"name": "depth", "parameters": SCHEMA, "strict": True}}


def tiny_model(tokenizer):
    return anything(tokenizer, bos_token_id=tokenizer.bos_id, eos_token_id=tokenizer.eos_id)


@pytest.fixture(scope="module")
def addresses(tokenizer):
    """One server for each of DeepSeek's templates."""
    import contextlib

    model = tiny_model(tokenizer)
    with contextlib.ExitStack() as stack:
        found = {}
        for name, template in TEMPLATES.items():
            service = AsyncEngine(Engine(model, tokenizer, EngineConfig(max_batch_size=8, cache_tokens=8192)))
            app = create_app(
                ServeSettings(),
                service,
                tokenizer,
                template=template,
                model="tiny",
                context_length=1024,
                vocab_size=tokenizer.vocab_size,
            )
            found[name] = stack.enter_context(running(app))
        yield found


@pytest.fixture(scope="module")
def client(addresses):
    return openai.OpenAI(base_url=addresses["deepseek-v3.1"], api_key="any", max_retries=0)


def test_the_same_seed_gives_the_same_answer(client):
    def ask(seed, **more):
        answer = client.chat.completions.create(model="tiny", messages=ASK, seed=seed, max_tokens=20, **more)
        return [choice.message.content for choice in answer.choices]

    assert ask(1) == ask(1)
    first, second = ask(1, n=2)
    assert first == ask(1)[0]
    assert second != first


def test_a_repeated_prompt_is_found_in_the_cache(client):
    messages = [{"role": "user", "content": "A question that is asked twice, word for word, and long enough."}]
    first = client.chat.completions.create(model="tiny", messages=messages, max_tokens=1).usage
    second = client.chat.completions.create(model="tiny", messages=messages, max_tokens=1).usage
    assert first.prompt_cache_hit_tokens == 0
    assert second.prompt_cache_hit_tokens > 0
    assert second.prompt_cache_hit_tokens + second.prompt_cache_miss_tokens == second.prompt_tokens


@pytest.mark.parametrize("max_tokens", [4, 10, 200])
def test_thinking_always_leaves_room_for_an_answer(client, max_tokens):
    for seed in range(3):
        answer = client.chat.completions.create(
            model="deepseek-reasoner", messages=ASK, max_tokens=max_tokens, seed=seed
        )
        usage = answer.usage
        assert usage.completion_tokens_details.reasoning_tokens < usage.completion_tokens


def test_a_budget_for_thoughts_is_kept(client):
    answer = client.chat.completions.create(
        model="tiny",
        messages=ASK,
        max_tokens=60,
        extra_body={"thinking": {"type": "enabled", "budget_tokens": 5}},
    )
    assert answer.usage.completion_tokens_details.reasoning_tokens <= 6


@pytest.mark.parametrize("thinking", ["enabled", "disabled"])
def test_answers_obey_their_schema(client, thinking):
    form = {"type": "json_schema", "json_schema": {"name": "depth", "schema": SCHEMA}}
    for seed in range(5):
        answer = client.chat.completions.create(
            model="tiny",
            messages=ASK,
            max_tokens=400,
            seed=seed,
            response_format=form,
            extra_body={"thinking": {"type": thinking, **({"budget_tokens": 20} if thinking == "enabled" else {})}},
        )
        assert answer.choices[0].finish_reason == "stop"
        jsonschema.validate(json.loads(answer.choices[0].message.content), SCHEMA)


@pytest.mark.parametrize("template", list(TEMPLATES))
def test_required_tools_are_called_as_their_schema_says(addresses, template):
    client = openai.OpenAI(base_url=addresses[template], api_key="any", max_retries=0)
    for seed in range(3):
        answer = client.chat.completions.create(
            model="tiny",
            messages=ASK,
            tools=[DEPTH],
            tool_choice="required",
            parallel_tool_calls=False,
            max_tokens=300,
            seed=seed,
        )
        choice = answer.choices[0]
        assert choice.finish_reason == "tool_calls"
        assert [call.function.name for call in choice.message.tool_calls] == ["depth"]
        jsonschema.validate(json.loads(choice.message.tool_calls[0].function.arguments), SCHEMA)


def test_a_schema_that_nothing_obeys_is_refused(client):
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nothing"}}}
    with pytest.raises(openai.UnprocessableEntityError):
        client.chat.completions.create(model="tiny", messages=ASK, response_format=form)


def test_one_call_at_most(client):
    answer = client.chat.completions.create(
        model="tiny", messages=ASK, tools=[DEPTH], parallel_tool_calls=False, max_tokens=300, seed=1
    )
    assert len(answer.choices[0].message.tool_calls or []) <= 1


def test_streams_say_what_answers_say(client):
    whole = client.chat.completions.create(model="deepseek-reasoner", messages=ASK, max_tokens=50, seed=3).choices[0]
    thoughts = words = ""
    for chunk in client.chat.completions.create(
        model="deepseek-reasoner", messages=ASK, max_tokens=50, seed=3, stream=True
    ):
        delta = chunk.choices[0].delta
        thoughts += getattr(delta, "reasoning_content", None) or ""
        words += delta.content or ""
    assert (thoughts, words) == (whole.message.reasoning_content, whole.message.content)


def test_log_probabilities_are_those_of_the_written_tokens(client):
    choice = client.chat.completions.create(
        model="tiny", messages=ASK, max_tokens=10, temperature=0, logprobs=True, top_logprobs=3
    ).choices[0]
    for entry in choice.logprobs.content:
        assert entry.logprob <= 0
        assert entry.top_logprobs[0].token == entry.token
        assert entry.top_logprobs[0].logprob == pytest.approx(entry.logprob, abs=1e-4)


def test_an_answer_goes_on_past_its_end_where_it_is_asked_to(client):
    bias = {"1": 100}
    eager = client.chat.completions.create(model="tiny", messages=ASK, max_tokens=9, logit_bias=bias)
    assert (eager.choices[0].finish_reason, eager.usage.completion_tokens) == ("stop", 1)
    endless = client.chat.completions.create(
        model="tiny", messages=ASK, max_tokens=9, logit_bias=bias, extra_body={"ignore_eos": True}
    )
    assert (endless.choices[0].finish_reason, endless.usage.completion_tokens) == ("length", 9)


def test_whoever_leaves_frees_the_engine(addresses):
    address = addresses["deepseek-v3.1"]
    body = {"model": "tiny", "messages": ASK, "stream": True, "max_tokens": 900}
    with http.stream("POST", address + "/chat/completions", json=body) as answer:
        next(answer.iter_lines())
    assert until(lambda: "fathom_engine_running 0" in http.get(address + "/metrics").text)
