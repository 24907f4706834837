"""Whatever the model would like to say, the text obeys the schema, expression or grammar it was asked for."""

import json
import re
from dataclasses import replace
from random import Random

import jsonschema
import pytest
import torch
from schemas import random_schema

from fathom.engine.endless import is_endless
from fathom.engine.sampler import sample
from fathom.engine.sampling import SamplingParams
from fathom.engine.states import States
from fathom.engine.structured import StructuredOutput
from fathom.engine.thinking import ThinkingLimit
from fathom.errors import GenerationError

PADDED = 530
"""A model's vocabulary may be larger than its tokenizer's."""
ENDLESS = {"$ref": "#/$defs/n", "$defs": {"n": {"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}}}}
ENDLESS["$defs"]["n"] |= {"required": ["n"], "additionalProperties": False}


@pytest.fixture(scope="module")
def states(tokenizer):
    return States(PADDED, (tokenizer.eos_id,), tokenizer)


def run(states, tokenizer, many, prompt=(1,)):
    """Draw with random logits until each text ends: tokens and whether they ended before max_tokens."""
    generator = torch.Generator().manual_seed(0)
    rows = [states.start(params, prompt, stop_tokens=(tokenizer.eos_id,), room=params.max_tokens) for params in many]
    texts = [[] for _ in many]
    ended = [False] * len(many)
    going = list(range(len(many)))
    while going:
        logits = torch.randn(len(going), PADDED, generator=generator) * 2
        for i, result in zip(list(going), sample(logits, [rows[i].row() for i in going]), strict=True):
            assert not isinstance(result, GenerationError), result
            rows[i].push(result.token)
            texts[i].append(result.token)
            ended[i] = result.token == tokenizer.eos_id or rows[i].finished
            if ended[i] or len(texts[i]) == many[i].max_tokens:
                going.remove(i)
    return texts, ended


def structured(seed=0, max_tokens=3000, **kind):
    return SamplingParams(max_tokens=max_tokens, seed=seed, structured=StructuredOutput(**kind))


def test_hundreds_of_random_schemas_are_all_obeyed(states, tokenizer):
    schemas = [random_schema(Random(seed)) for seed in range(800)]
    many = [structured(seed, json_schema=schema) for seed, schema in enumerate(schemas)]
    texts, ended = run(states, tokenizer, many)
    assert all(ended)
    for schema, tokens in zip(schemas, texts, strict=True):
        value = json.loads(tokenizer.decode(tokens))
        jsonschema.Draft202012Validator(schema).validate(value)


@pytest.mark.parametrize(
    "schema", [{"type": "number", "minimum": 12, "exclusiveMaximum": 44}, {"type": "integer"}, {"type": "number"}]
)
def test_a_model_that_likes_digits_comes_to_an_end(states, tokenizer, schema):
    digits = {token: 50.0 for token in range(tokenizer.vocab_size) if tokenizer.decode_bytes([token]).isdigit()}
    params = replace(structured(3, max_tokens=60, json_schema=schema), logit_bias=digits)
    texts, ended = run(states, tokenizer, [params])
    assert ended == [True]
    jsonschema.validate(json.loads(tokenizer.decode(texts[0])), schema)


def test_digits_in_strings_are_as_many_as_they_like(states, tokenizer):
    schema = {"type": "string", "pattern": "^[0-9]{40}$"}
    texts, ended = run(states, tokenizer, [structured(3, max_tokens=60, json_schema=schema)])
    assert ended == [True]
    assert len(json.loads(tokenizer.decode(texts[0]))) == 40


def test_a_schema_that_is_too_deep_is_refused(states, tokenizer):
    schema = {}
    for _ in range(400):
        schema = {"type": "array", "items": schema}
    with pytest.raises(GenerationError, match=r"structured\.json_schema cannot be used"):
        run(states, tokenizer, [structured(json_schema=schema)])


def test_a_text_that_runs_out_of_tokens_is_the_beginning_of_a_valid_one(states, tokenizer):
    schema = {"type": "array", "items": {"enum": ["deep"]}, "minItems": 300}
    texts, ended = run(states, tokenizer, [structured(max_tokens=40, json_schema=schema)])
    assert ended == [False]
    text = tokenizer.decode(texts[0])
    assert re.fullmatch(r'\[(\s*"deep"\s*,)*\s*("(d(e(e(p)?)?)?)?)?"?\s*,?\s*', text)


def test_expressions_grammars_and_objects_are_obeyed(states, tokenizer):
    grammar = 'start: verb " " NUMBER ("," " " NUMBER)? "."\nverb: "dive" | "rise"\nNUMBER: /[1-9][0-9]{0,2}/'
    many = [
        structured(1, regex=r"[a-f0-9]{8}(-[a-f0-9]{4}){3}"),
        structured(2, regex="(海|深){2,5}!"),
        structured(3, lark=grammar),
    ]
    texts, ended = run(states, tokenizer, many)
    assert all(ended)
    text = [tokenizer.decode(tokens) for tokens in texts]
    assert re.fullmatch(r"[a-f0-9]{8}(-[a-f0-9]{4}){3}", text[0])
    assert re.fullmatch("(海|深){2,5}!", text[1])
    assert re.fullmatch(r"(dive|rise) [1-9]\d{0,2}(, [1-9]\d{0,2})?\.", text[2])


def test_any_json_object_will_do_where_only_an_object_is_asked_for(states, tokenizer):
    ending = {tokenizer.encode(text)[0]: 6.0 for text in ('"', "}", "]", ":", ",")}
    wanted = structured(max_tokens=2000, json_object=True)
    many = [replace(wanted, seed=seed, logit_bias=ending, temperature=0.5) for seed in range(20)]
    texts, ended = run(states, tokenizer, many)
    assert sum(ended) >= 15
    for tokens, complete in zip(texts, ended, strict=True):
        if complete:
            assert isinstance(json.loads(tokenizer.decode(tokens)), dict)


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        ({"json_schema": {"type": "nonsense"}}, "json_schema cannot be used: Invalid type"),
        ({"json_schema": {"type": "integer", "minimum": 5, "maximum": 3}}, "Unsatisfiable"),
        ({"json_schema": {"type": "string", "minLength": 3, "maxLength": 2}}, "Unsatisfiable"),
        ({"json_schema": {"enum": []}}, "Unsatisfiable"),
        ({"json_schema": False}, "json_schema cannot be"),
        ({"json_schema": {"type": "array", "uniqueItems": True}}, "uniqueItems"),
        ({"json_schema": {"$ref": "#/nowhere"}}, "nowhere"),
        ({"json_schema": ENDLESS}, "contains itself, without end"),
        ({"regex": "(a"}, "regex cannot be used: .*unclosed group"),
        ({"regex": "(?=a)b"}, "look-around"),
        ({"regex": r"[^\x00-\U0010FFFF]"}, "regex cannot be satisfied"),
        ({"lark": "start: nowhere"}, "unknown name"),
        ({"lark": "start: start"}, "lark cannot be satisfied"),
    ],
)
def test_what_cannot_be_obeyed_is_refused_at_the_door(states, kind, complaint):
    with pytest.raises(GenerationError, match=complaint):
        states.check(structured(**kind))


def test_structure_needs_a_tokenizer_and_an_end():
    with pytest.raises(GenerationError, match="structured needs a tokenizer"):
        States(512, (1,)).check(structured(regex="a"))


def test_a_model_without_an_end_of_sequence_cannot_end_a_structure(tokenizer):
    with pytest.raises(GenerationError, match="end-of-sequence"):
        States(512, (), tokenizer).check(structured(regex="a"))


@pytest.mark.parametrize(
    ("schema", "endless"),
    [
        (ENDLESS, True),
        ({"$ref": "#"}, True),
        ({"type": "array", "items": {"$ref": "#"}, "minItems": 1}, True),
        ({"type": "array", "items": {"$ref": "#"}}, False),
        ({"anyOf": [{"type": "null"}, {"type": "array", "items": {"$ref": "#"}, "minItems": 1}]}, False),
        ({"type": "object", "properties": {"child": {"$ref": "#"}}}, False),
        ({"allOf": [{"$ref": "#"}, {"type": "integer"}]}, True),
        ({"type": ["object", "null"], "properties": {"child": {"$ref": "#"}}, "required": ["child"]}, False),
        ({"$ref": "#/properties/a~1b", "properties": {"a/b": {"type": "null"}}}, False),
        (True, False),
        ({}, False),
    ],
)
def test_a_schema_is_endless_when_every_value_of_it_is(schema, endless):
    assert is_endless(schema) == endless


def test_reserved_tokens_have_no_place_in_a_text_unless_a_grammar_names_them(states, tokenizer):
    reserved = set(tokenizer.reserved.values())
    allowed = sample(
        torch.zeros(1, PADDED),
        [
            states.start(
                SamplingParams(record_kept=True, structured=StructuredOutput(regex="(.|\n)+")),
                (1,),
                stop_tokens=(),
                room=9,
            ).row()
        ],
    )[0].kept
    assert not reserved & set(allowed.tolist())
    assert max(allowed) < tokenizer.vocab_size
    texts, _ = run(states, tokenizer, [structured(lark="start: <think> /[ab]{3}/ </think>")])
    assert texts[0][0] == tokenizer.reserved_id("<think>")
    assert texts[0][-1] == tokenizer.reserved_id("</think>")


def thinking(tokenizer, **more):
    start, end = (tokenizer.reserved_id(name) for name in ("<think>", "</think>"))
    return ThinkingLimit(start=start, end=end, **more)


def test_the_structure_begins_after_the_thinking(states, tokenizer):
    limit = thinking(tokenizer, max_tokens=20, answer_tokens=50)
    params = [
        SamplingParams(max_tokens=200, seed=seed, thinking=limit, structured=StructuredOutput(regex="[0-9]{4}"))
        for seed in range(10)
    ]
    texts, ended = run(states, tokenizer, params, prompt=(1, *limit.start))
    assert all(ended)
    for tokens in texts:
        place = tokens.index(limit.end[0])
        assert place <= 20
        assert re.fullmatch("[0-9]{4}", tokenizer.decode(tokens[place + 1 :]))


def test_a_model_that_may_think_does_so_with_its_first_token_or_not_at_all(states, tokenizer):
    limit = thinking(tokenizer, max_tokens=5)
    bias = {limit.start[0]: 100.0}
    params = [
        SamplingParams(max_tokens=100, thinking=limit, structured=StructuredOutput(regex="[0-9]+x"), logit_bias=bias),
        SamplingParams(max_tokens=100, thinking=limit, structured=StructuredOutput(regex="[0-9]+x"), seed=3),
    ]
    texts, ended = run(states, tokenizer, params)
    assert all(ended)
    assert texts[0][0] == limit.start[0]
    assert re.fullmatch("[0-9]+x", tokenizer.decode(texts[0][texts[0].index(limit.end[0]) + 1 :]))
    assert re.fullmatch("[0-9]+x", tokenizer.decode(texts[1]))


def test_guesses_in_a_structure_can_be_tried_and_taken_back(states, tokenizer):
    params = structured(json_schema={"type": "object", "properties": {"a": {"const": 12}}, "required": ["a"]})
    state = states.start(params, (1,), stop_tokens=(), room=100)
    before = state.row().allowed.tolist()
    good = tokenizer.encode('{"a":12,')
    bad = tokenizer.encode('{"a":13,')
    assert state.possible(good) == len(good)
    assert state.possible(bad) < len(bad)
    assert state.row().allowed.tolist() == before
    for token in good:
        state.push(token)
    assert state.row().allowed.tolist() != before
    state.pop(len(good))
    assert state.row().allowed.tolist() == before


def test_a_text_that_is_complete_can_go_back_to_when_it_was_not(states, tokenizer):
    state = states.start(structured(regex="ab?"), (1,), stop_tokens=(), room=9)
    for token in tokenizer.encode("a") + tokenizer.encode("b"):
        state.push(token)
    assert state.finished
    state.pop(1)
    assert not state.finished
    state.push(tokenizer.eos_id)
    assert state.finished
