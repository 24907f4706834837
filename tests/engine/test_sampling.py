"""Sampling parameters are checked at the door, and the sampler draws from exactly the distribution they describe."""

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fathom.engine.sampling import Sampler, SamplingParams, log_probabilities, penalised
from fathom.errors import GenerationError

LOGITS = st.lists(st.integers(-768, 768), min_size=2, max_size=40).map(lambda values: torch.tensor(values) / 64)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", 0),
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.01),
        ("min_p", -0.01),
        ("min_p", 1.5),
        ("repetition_penalty", 0.0),
        ("seed", -1),
        ("stop", ("fine", "")),
    ],
)
def test_an_impossible_value_is_refused_by_name(field, value):
    with pytest.raises(GenerationError, match=f"^{field} is "):
        SamplingParams(**{field: value})


def test_one_stop_string_may_be_given_bare():
    assert SamplingParams(stop="\n\n").stop == ("\n\n",)


@given(LOGITS, st.floats(0.05, 4), st.integers(0, 50), st.floats(0.01, 1), st.floats(0, 1))
def test_what_is_drawn_from_is_a_distribution_that_keeps_the_likeliest_token(logits, temperature, top_k, top_p, min_p):
    params = SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    logprobs = log_probabilities(logits, params)
    assert logprobs.exp().sum().item() == pytest.approx(1, abs=1e-4)
    assert logprobs.max() == logprobs[logits.argmax()]
    if top_k:
        assert int((logprobs > -math.inf).sum()) <= top_k


@given(LOGITS, st.floats(0.05, 4))
def test_without_limits_it_is_the_softmax_of_the_tempered_logits(logits, temperature):
    logprobs = log_probabilities(logits, SamplingParams(temperature=temperature))
    torch.testing.assert_close(logprobs, (logits / temperature).log_softmax(-1), atol=1e-5, rtol=1e-5)


@given(LOGITS, st.floats(0.01, 0.99))
def test_top_p_keeps_the_fewest_tokens_that_reach_the_mass(logits, top_p):
    probabilities = logits.softmax(-1)
    kept = log_probabilities(logits, SamplingParams(top_p=top_p)) > -math.inf
    assert probabilities[kept].sum() >= top_p - 1e-5
    least = probabilities[kept].min()
    assert probabilities[kept].sum() - least < top_p + 1e-5


@given(LOGITS, st.floats(0.01, 1))
def test_min_p_leaves_out_what_is_too_unlikely_beside_the_likeliest(logits, min_p):
    probabilities = logits.softmax(-1)
    kept = log_probabilities(logits, SamplingParams(min_p=min_p)) > -math.inf
    assert (probabilities[kept] >= min_p * probabilities.max() * (1 - 1e-4)).all()
    assert (probabilities[~kept] <= min_p * probabilities.max() * (1 + 1e-4)).all()


@given(LOGITS, st.integers(1, 8), st.floats(0.2, 1), st.integers(0, 2**31))
@settings(max_examples=60)
def test_a_drawn_token_is_possible_and_its_logprob_is_that_of_the_distribution(logits, top_k, top_p, seed):
    params = SamplingParams(top_k=top_k, top_p=top_p, seed=seed, temperature=0.7)
    token, logprob = Sampler(params).draw(logits)
    assert logprob > -math.inf
    assert logprob == pytest.approx(float(log_probabilities(logits, params)[token]))


def test_temperature_zero_takes_the_likeliest_token_and_reports_the_models_own_logprob():
    logits = torch.tensor([0.1, 2.0, -1.0, 1.9])
    token, logprob = Sampler(SamplingParams(temperature=0)).draw(logits)
    assert token == 1
    assert logprob == pytest.approx(float(logits.log_softmax(-1)[1]))


def test_draws_follow_the_probabilities():
    logits, sampler = torch.tensor([0.0, 1.0, 2.0]), Sampler(SamplingParams(seed=3))
    drawn = Counter(sampler.draw(logits)[0] for _ in range(4000))
    for token, probability in enumerate(logits.softmax(-1).tolist()):
        assert drawn[token] / 4000 == pytest.approx(probability, abs=0.03)


def test_the_same_seed_draws_the_same_tokens_whatever_else_uses_random_numbers():
    logits = torch.linspace(0, 1, 50)
    first = Sampler(SamplingParams(seed=11))
    second = Sampler(SamplingParams(seed=11))
    drawn = [first.draw(logits)[0] for _ in range(10)]
    again = []
    for _ in range(10):
        torch.rand(3)
        again.append(second.draw(logits)[0])
    assert drawn == again


def test_without_a_seed_two_samplers_differ():
    logits = torch.zeros(1000)
    first, second = Sampler(SamplingParams()), Sampler(SamplingParams())
    assert [first.draw(logits)[0] for _ in range(8)] != [second.draw(logits)[0] for _ in range(8)]


@given(LOGITS, st.floats(1.01, 3))
def test_a_repetition_penalty_lowers_seen_tokens_alone(logits, penalty):
    lowered = penalised(logits, {0}, penalty)
    assert lowered[0] <= logits[0]
    assert torch.equal(lowered[1:], logits[1:])


def test_the_prompt_counts_as_seen():
    logits = torch.tensor([2.0, 1.9])
    token, _ = Sampler(SamplingParams(temperature=0, repetition_penalty=2.0), prompt_ids=[0]).draw(logits)
    assert token == 1


def test_logits_that_are_not_numbers_are_refused():
    with pytest.raises(GenerationError, match="damaged"):
        Sampler(SamplingParams()).draw(torch.tensor([0.0, math.nan]))
