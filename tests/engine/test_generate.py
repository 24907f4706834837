"""Decoding with the paged cache says what the whole model says, and bad requests are refused before any work."""

import math

import pytest
import torch
from distribution import log_probabilities

from fathom.engine.config import EngineConfig
from fathom.engine.engine import Engine
from fathom.engine.sampling import SamplingParams
from fathom.errors import GenerationError

PROMPT = [5, 100, 7, 300, 42]
GREEDY = SamplingParams(max_tokens=12, temperature=0, ignore_eos=True)


def complete(model, prompt, params):
    return Engine(model).generate([prompt], params)[0]


def whole_model_logits(model, tokens):
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0]


def test_greedy_decoding_is_what_the_model_says_without_a_cache(model):
    tokens = list(PROMPT)
    for token in complete(model, PROMPT, GREEDY).tokens:
        assert token == int(whole_model_logits(model, tokens)[-1].argmax())
        tokens.append(token)
    assert len(tokens) == len(PROMPT) + 12


def test_logprobs_are_those_a_training_pass_over_the_same_tokens_gives(model):
    params = SamplingParams(max_tokens=16, temperature=0.9, top_k=50, top_p=0.9, seed=3, ignore_eos=True)
    completion = complete(model, PROMPT, params)
    logits = whole_model_logits(model, [*PROMPT, *completion.tokens])
    for index, (token, logprob) in enumerate(zip(completion.tokens, completion.logprobs, strict=True)):
        expected = log_probabilities(logits[len(PROMPT) - 1 + index], params)[token]
        assert logprob == pytest.approx(float(expected), abs=1e-5)


def test_the_same_seed_gives_the_same_tokens(model):
    params = SamplingParams(max_tokens=10, seed=1, ignore_eos=True)
    assert complete(model, PROMPT, params) == complete(model, PROMPT, params)


def test_a_stop_token_ends_the_sequence_and_is_the_last_of_it(model):
    full = complete(model, PROMPT, GREEDY).tokens
    stop = full[4]
    stopped = complete(model, PROMPT, SamplingParams(max_tokens=12, temperature=0, stop_token_ids=(stop,))).tokens
    assert stopped == full[: full.index(stop) + 1]


def test_the_context_ends_a_text_that_max_tokens_would_let_go_on(model):
    context = model.config.max_position_embeddings
    params = SamplingParams(max_tokens=1000, temperature=0, ignore_eos=True)
    assert len(complete(model, PROMPT, params).tokens) == context - len(PROMPT) + 1
    assert len(complete(model, [1] * context, params).tokens) == 1


@pytest.mark.parametrize(
    ("prompt", "complaint"),
    [([], "empty"), ([3, 512], "token 512, out"), ([-1], "token -1, out"), ([1] * 49, "shorten it by 1 tokens")],
)
def test_a_prompt_the_model_cannot_read_is_refused_at_once(model, prompt, complaint):
    engine = Engine(model)
    with pytest.raises(GenerationError, match=complaint):
        engine.stream(prompt)
    with pytest.raises(GenerationError, match=complaint):
        engine.generate([PROMPT, prompt])
    assert not engine.core.busy


def test_the_callers_own_code_stays_outside_inference_mode(model, tokenizer):
    for _ in Engine(model, tokenizer).stream("the sea", GREEDY):
        assert not torch.is_inference_mode_enabled()
        assert not torch.ones(1, requires_grad=True).mul(2).is_inference()


def test_half_precision_decoding_stays_close_to_the_whole_model(model):
    model.compute_dtype = torch.bfloat16
    try:
        completion = complete(model, PROMPT, GREEDY)
    finally:
        model.compute_dtype = torch.float32
    assert all(math.isfinite(logprob) for logprob in completion.logprobs)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"max_batch_size": 0}, "max_batch_size is 0"),
        ({"block_size": 1.5}, "block_size is 1.5"),
        ({"max_batch_size": 8, "max_batched_tokens": 7}, "at least max_batch_size, which is 8"),
        ({"cache_tokens": 9, "cache_bytes": 9}, "give one of them"),
        ({"spill_folder": "x", "prefix_caching": False}, "leave prefix_caching on"),
    ],
)
def test_impossible_sizes_are_refused_by_name(changes, complaint):
    with pytest.raises(GenerationError, match=complaint):
        EngineConfig(**changes)


@pytest.mark.parametrize("asked", [{"cache_bytes": 1 << 60}, {"cache_tokens": 1 << 50}])
def test_more_memory_than_there_is_is_refused_with_what_there_is(model, asked):
    with pytest.raises(GenerationError, match=r"GiB of memory are free on cpu"):
        Engine(model, config=EngineConfig(**asked))


def test_a_cache_too_small_for_a_block_says_what_a_block_takes(model):
    with pytest.raises(GenerationError, match="one block of 16 tokens takes 3,072 bytes"):
        Engine(model, config=EngineConfig(cache_bytes=100))


def test_a_request_that_the_cache_can_never_hold_is_refused(model):
    engine = Engine(model, config=EngineConfig(cache_tokens=32))
    with pytest.raises(GenerationError, match="prompt of 5 tokens may grow by 40 and the cache has room for 32"):
        engine.submit(PROMPT, SamplingParams(max_tokens=40))
    assert len(engine.generate([PROMPT], SamplingParams(max_tokens=28, ignore_eos=True))[0].tokens) == 28
