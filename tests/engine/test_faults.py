"""A request that fails is alone in its failure."""

import math
from dataclasses import replace

import pytest
import torch

from fathom.engine import sampler
from fathom.engine.config import EngineConfig
from fathom.engine.engine import Engine
from fathom.engine.request import FinishReason
from fathom.engine.sampling import SamplingParams
from fathom.errors import CompletionError, GenerationError
from small import small_model

MODEL = small_model()
PARAMS = SamplingParams(max_tokens=10, temperature=0.8, seed=4, ignore_eos=True)
PROMPTS = [[1, 2, 3] * 4, [4, 5, 6] * 4, [7, 8, 9] * 4]


@pytest.fixture
def engine():
    return Engine(MODEL, config=EngineConfig(block_size=4, max_batched_tokens=16, max_batch_size=4))


def finish(engine, requests):
    outputs = []
    while engine.busy:
        outputs += engine.step()
    for request in requests:
        assert request.finished
    assert engine.core.blocks.available == engine.core.blocks.count
    return outputs


def is_unharmed(request):
    expected = Engine(MODEL).generate([request.prompt], PARAMS)[0]
    return request.completions[0].tokens == expected.tokens


def poison(engine, monkeypatch, victim, after):
    """Make the victim's logits NaN once it has drawn `after` tokens."""
    read = engine.core.runner.read

    def poisoned(chunks):
        reading = read(chunks)
        row = 0
        for chunk in reading.chunks:
            rows = 1 + chunk.drafts if chunk.completes else 0
            if chunk.sequence.request is victim and chunk.sequence.generated >= after and rows:
                with torch.inference_mode():
                    reading.logits[row : row + rows] = math.nan
            row += rows
        return reading

    monkeypatch.setattr(engine.core.runner, "read", poisoned)


@pytest.mark.parametrize("after", [0, 1, 5])
def test_logits_that_are_not_numbers_end_their_own_sequence(engine, monkeypatch, after):
    requests = [engine.submit(prompt, PARAMS) for prompt in PROMPTS]
    poison(engine, monkeypatch, requests[1], after)
    outputs = finish(engine, requests)
    broken = requests[1].completions[0]
    assert broken.finish_reason is FinishReason.ERROR
    assert "not numbers" in broken.error
    assert len(broken.tokens) == after
    assert [o.delta.error for o in outputs if o.request is requests[1]][-1] == broken.error
    assert is_unharmed(requests[0])
    assert is_unharmed(requests[2])
    assert engine.metrics().failed == 1


def test_what_a_failed_sequence_read_is_not_given_to_others(engine, monkeypatch):
    request = engine.submit(PROMPTS[0], PARAMS)
    with monkeypatch.context() as patch:
        poison(engine, patch, request, 0)
        finish(engine, [request])
    again = engine.submit(PROMPTS[0], PARAMS)
    finish(engine, [again])
    assert again.cached_tokens == 0
    assert is_unharmed(again)


def test_rows_that_are_not_numbers_do_not_reach_whoever_takes_their_blocks_over(monkeypatch):
    engine = Engine(MODEL, config=EngineConfig(block_size=4, cache_tokens=24))
    engine.core.memory.stores[0].fill_(math.nan)
    request = engine.submit(PROMPTS[0], PARAMS)
    finish(engine, [request])
    assert is_unharmed(request)


@pytest.mark.parametrize("where", ["row", "push", "sample", "key"])
def test_a_sampler_that_fails_for_one_sequence_ends_that_one(engine, monkeypatch, where):
    # Whoever asks for nothing but tokens may be served without rows and `sample`.
    asked = PARAMS if where == "key" else replace(PARAMS, logprobs=1)
    requests = [engine.submit(prompt, replace(asked)) for prompt in PROMPTS]
    state = requests[1].sequences[0].state
    if where == "sample":
        sample = sampler.sample

        def failing(logits, rows):
            if any(row.params is state.params for row in rows):
                raise ZeroDivisionError("in the sampler")
            return sample(logits, rows)

        monkeypatch.setattr(sampler, "sample", failing)
    else:
        monkeypatch.setattr(state, where, lambda *_: 1 / 0)
    finish(engine, requests)
    assert requests[1].completions[0].finish_reason is FinishReason.ERROR
    assert "ZeroDivisionError" in requests[1].completions[0].error
    assert is_unharmed(requests[0])
    assert is_unharmed(requests[2])


def test_a_forward_pass_that_fails_is_tried_for_each_alone(engine, monkeypatch):
    requests = [engine.submit(prompt, PARAMS) for prompt in PROMPTS]
    read = engine.core.runner.read

    def failing(chunks):
        if any(chunk.sequence.request is requests[1] and chunk.sequence.generated == 3 for chunk in chunks):
            raise RuntimeError("no kernel for this one")
        return read(chunks)

    monkeypatch.setattr(engine.core.runner, "read", failing)
    finish(engine, requests)
    assert requests[1].completions[0].error == "RuntimeError: no kernel for this one"
    assert len(requests[1].completions[0].tokens) == 3
    assert is_unharmed(requests[0])
    assert is_unharmed(requests[2])


def test_every_completion_of_a_prompt_that_cannot_be_read_fails(engine, monkeypatch):
    request = engine.submit([1, 2], SamplingParams(n=3))
    monkeypatch.setattr(engine.core.runner, "read", lambda chunks: 1 / 0)
    finish(engine, [request])
    assert [c.finish_reason for c in request.completions] == [FinishReason.ERROR] * 3


def test_generate_says_what_failed_and_returns_the_others_with_it(engine, monkeypatch):
    read = engine.core.runner.read

    def poisoned(chunks):
        reading = read(chunks)
        with torch.inference_mode():
            reading.logits[-1:] = math.nan
        return reading

    monkeypatch.setattr(engine.core.runner, "read", poisoned)
    with pytest.raises(CompletionError, match="not numbers") as caught:
        engine.generate(PROMPTS, PARAMS)
    assert len(caught.value.completions) == 3
    assert caught.value.exit_code == 1
    assert not engine.busy


def test_a_stream_that_fails_says_so(engine, monkeypatch):
    monkeypatch.setattr(engine.core.runner, "read", lambda chunks: 1 / 0)
    with pytest.raises(CompletionError, match="ZeroDivisionError"):
        engine.stream([1, 2]).run()


def test_an_interrupted_step_can_be_taken_again(engine, monkeypatch):
    requests = [engine.submit(prompt, PARAMS) for prompt in PROMPTS]
    engine.step()
    read = engine.core.runner.read

    def interrupted(chunks):
        monkeypatch.setattr(engine.core.runner, "read", read)
        raise KeyboardInterrupt

    monkeypatch.setattr(engine.core.runner, "read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        engine.step()
    finish(engine, requests)
    assert all(is_unharmed(request) for request in requests)


@pytest.mark.parametrize("priority", [1.5, "high", 1001])
def test_an_impossible_priority_is_refused(engine, priority):
    with pytest.raises(GenerationError, match="whole number from -1000 to 1000"):
        engine.submit([1], priority=priority)


def test_damaged_weights_fail_every_request_with_a_clear_word():
    model = small_model()
    with torch.no_grad():
        model.model.norm.weight.fill_(math.nan)
    with pytest.raises(CompletionError, match="its weights are damaged"):
        Engine(model).generate([[1, 2, 3]])


def test_guessing_that_fails_is_given_up_and_nothing_else(engine, caplog):
    class Failing:
        layers = 0

        def draft(self, reading, sequences):
            raise RuntimeError("no idea")

    engine.core.drafter = Failing()
    requests = [engine.submit(prompt, PARAMS) for prompt in PROMPTS]
    finish(engine, requests)
    assert all(is_unharmed(request) for request in requests)
    assert caplog.text.count("is turned off") == 1
