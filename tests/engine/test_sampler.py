"""Many sequences are drawn from at once, each from the distribution its parameters describe and as if alone."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from distribution import log_probabilities, penalised
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fathom.engine.noise import key
from fathom.engine.sampler import Row, Sampled, adjusted, sample
from fathom.engine.sampling import SamplingParams
from fathom.engine.state import SamplingState
from fathom.errors import GenerationError
from fathom.kernels import draw as kernel

LOGITS = st.lists(st.integers(-768, 768), min_size=2, max_size=40).map(lambda values: torch.tensor(values) / 64)
DRAWS = 4000
CRITICAL = 0.9999
"""A right sampler fails a chi-square test once in ten thousand seeds; the seeds here are fixed."""
MANY = [
    SamplingParams(temperature=0),
    SamplingParams(seed=1),
    SamplingParams(temperature=0.6, seed=2),
    SamplingParams(temperature=1.3, min_p=0.05, seed=3),
    SamplingParams(top_k=5, seed=4),
    SamplingParams(top_p=0.9, temperature=0.8, seed=5),
    SamplingParams(top_k=200, top_p=0.95, min_p=0.01, seed=6),
    SamplingParams(frequency_penalty=0.7, presence_penalty=-0.4, repetition_penalty=1.3, seed=7),
    SamplingParams(logit_bias={3: 5.0, 4: -100.0}, seed=8, logprobs=3),
    SamplingParams(temperature=0, repetition_penalty=0.8, logprobs=2),
    SamplingParams(top_p=0.5, seed=9, record_kept=True, logprobs=4),
]


@pytest.fixture(autouse=True, params=["native", "plain"])
def form(request, monkeypatch):
    """Everything holds for the kernel and for the PyTorch form."""
    if request.param == "plain":
        monkeypatch.setattr(kernel, "usable", lambda scores: False)


def draw(logits, params, count=DRAWS):
    """The tokens drawn from logits (V,) at `count` places of a sequence."""
    rows = [Row(params, key(params.seed or 0, place)) for place in range(count)]
    return torch.tensor([result.token for result in sample(logits.expand(count, -1), rows)])


def chi_square_limit(freedom):
    """The Wilson-Hilferty approximation of the chi-square distribution's quantile."""
    normal = math.sqrt(2) * float(torch.erfinv(torch.tensor(2 * CRITICAL - 1, dtype=torch.float64)))
    return freedom * (1 - 2 / (9 * freedom) + normal * math.sqrt(2 / (9 * freedom))) ** 3


def assert_follows(drawn, probabilities):
    counts = torch.bincount(drawn, minlength=len(probabilities)).double()
    assert not counts[probabilities == 0].any()
    expected = probabilities.double() * len(drawn)
    order = expected.argsort(descending=True)
    common = order[expected[order] >= 8]
    rare = order[(expected[order] < 8) & (expected[order] > 0)]
    observed = torch.cat((counts[common], counts[rare].sum(0, keepdim=True)))
    wanted = torch.cat((expected[common], expected[rare].sum(0, keepdim=True)))
    observed, wanted = observed[wanted > 1], wanted[wanted > 1]
    if len(wanted) > 1:
        assert ((observed - wanted) ** 2 / wanted).sum() < chi_square_limit(len(wanted) - 1)


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(),
        SamplingParams(temperature=0.5),
        SamplingParams(temperature=2.5),
        SamplingParams(top_k=7),
        SamplingParams(top_p=0.8),
        SamplingParams(min_p=0.1),
        SamplingParams(temperature=1.5, top_k=30, top_p=0.9, min_p=0.02),
        SamplingParams(top_k=100, top_p=0.99),
    ],
    ids=str,
)
@pytest.mark.parametrize("size", [6, 300])
def test_draws_follow_the_exact_distribution(params, size):
    logits = torch.randn(size, generator=torch.Generator().manual_seed(size)) * 2
    assert_follows(draw(logits, replace(params, seed=11)), log_probabilities(logits, params).exp())


def test_draws_follow_it_across_seeds_as_well_as_along_a_sequence():
    logits = torch.randn(30, generator=torch.Generator().manual_seed(1))
    rows = [Row(SamplingParams(), key(seed, 5)) for seed in range(DRAWS)]
    drawn = torch.tensor([result.token for result in sample(logits.expand(DRAWS, -1), rows)])
    assert_follows(drawn, logits.softmax(-1))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    LOGITS,
    st.floats(0.05, 4),
    st.integers(0, 50),
    st.floats(0.01, 1),
    st.floats(0, 1),
    st.integers(0, 2**31),
)
def test_a_drawn_token_and_what_is_told_of_it_are_those_of_the_plain_distribution(
    logits, temperature, top_k, top_p, min_p, seed
):
    params = SamplingParams(
        temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, logprobs=2, record_kept=True
    )
    result = sample(logits[None].double(), [Row(params, seed)])[0]
    # At a limit that falls between two tokens to the last bit, one more or one fewer may be kept.
    nearby = [log_probabilities(logits.double(), replace(params, top_p=p)) for p in _around(top_p)]
    assert any(_agrees(result, expected) for expected in nearby)


def _around(top_p):
    return [top_p, max(top_p * (1 - 1e-9), 1e-3), min(top_p * (1 + 1e-9), 1.0)]


def _agrees(result, expected):
    kept = (expected > -math.inf).nonzero()[:, 0]
    told = np.arange(len(expected)) if result.kept is None else result.kept
    return (
        told.tolist() == kept.tolist()
        and result.logprob == pytest.approx(float(expected[result.token]), abs=1e-6)
        and [pair[1] for pair in result.top_logprobs]
        == pytest.approx(expected.sort(descending=True).values[: min(2, len(kept))].tolist(), abs=1e-6)
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LOGITS, st.floats(0.05, 4))
def test_without_limits_it_is_the_softmax_of_the_tempered_logits(logits, temperature):
    logprobs = log_probabilities(logits, SamplingParams(temperature=temperature))
    torch.testing.assert_close(logprobs, (logits / temperature).log_softmax(-1), atol=1e-5, rtol=1e-5)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LOGITS, st.floats(0.01, 0.99))
def test_top_p_keeps_the_fewest_tokens_that_reach_the_mass(logits, top_p):
    probabilities = logits.softmax(-1)
    kept = log_probabilities(logits, SamplingParams(top_p=top_p)) > -math.inf
    assert probabilities[kept].sum() >= top_p - 1e-5
    least = probabilities[kept].min()
    assert probabilities[kept].sum() - least < top_p + 1e-5


@pytest.mark.parametrize("params", [SamplingParams(top_p=0.97, temperature=3.0), SamplingParams(top_k=1500)])
def test_limits_that_keep_many_tokens_are_exact_too(params):
    logits = torch.randn(4000, generator=torch.Generator().manual_seed(3))
    params = replace(params, record_kept=True)
    expected = log_probabilities(logits, params)
    result = sample(logits[None], [Row(params, 5)])[0]
    assert result.kept.tolist() == (expected > -math.inf).nonzero()[:, 0].tolist()
    assert result.logprob == pytest.approx(float(expected[result.token]), abs=1e-5)


def test_of_equally_likely_tokens_the_limits_keep_the_first():
    logits = torch.zeros(3000)
    logits[2000] = 1
    kept = sample(logits[None], [Row(SamplingParams(top_k=4, record_kept=True), 1)])[0].kept
    assert kept.tolist() == [0, 1, 2, 2000]


def test_temperature_zero_takes_the_likeliest_token_and_reports_the_models_own_logprob():
    logits = torch.tensor([0.1, 2.0, -1.0, 1.9])
    result = sample(logits[None], [Row(SamplingParams(temperature=0))])[0]
    assert result.token == 1
    assert result.logprob == pytest.approx(float(logits.log_softmax(-1)[1]))


def test_a_temperature_close_to_zero_is_nearly_greedy_and_overflows_nowhere():
    logits = torch.tensor([[1.0, 3.0, 3.5, -2.0]])
    assert sample(logits, [Row(SamplingParams(temperature=1e-38))]) == [Sampled(2, 0.0)]


def states_in_the_middle():
    states = [SamplingState(params, prompt_ids=[1, 5, 9]) for params in MANY]
    for i, state in enumerate(states):
        for token in (3, 4, 3, 10 + i):
            state.push(token)
    return states


def plain(result):
    return result._replace(kept=None if result.kept is None else result.kept.tolist())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_company_in_a_batch_changes_nothing_not_even_the_last_bit(dtype):
    logits = (torch.randn(len(MANY), 2000, generator=torch.Generator().manual_seed(2)) * 3).to(dtype)
    rows = [state.row() for state in states_in_the_middle()]
    rows = [replace(row, key=i) for i, row in enumerate(rows)]
    together = [plain(result) for result in sample(logits, rows)]
    alone = [plain(sample(logits[i : i + 1], [row])[0]) for i, row in enumerate(rows)]
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(9)).tolist()
    shuffled = [plain(result) for result in sample(logits[order], [rows[i] for i in order])]
    assert together == alone
    assert shuffled == [together[i] for i in order]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    LOGITS.filter(lambda logits: len(logits) > 8),
    st.floats(0.5, 2),
    st.floats(-2, 2),
    st.floats(-2, 2),
    st.dictionaries(st.integers(0, 8), st.floats(-100, 100), max_size=3),
    st.lists(st.integers(0, 8), max_size=6),
    st.lists(st.integers(0, 8), max_size=12),
)
def test_penalties_and_bias_have_openais_meaning(logits, repetition, presence, frequency, bias, prompt, text):
    params = SamplingParams(
        repetition_penalty=repetition, presence_penalty=presence, frequency_penalty=frequency, logit_bias=bias
    )
    state, neighbour = SamplingState(params, prompt), SamplingState(SamplingParams(), prompt)
    for token in text:
        state.push(token)
    counts = {token: text.count(token) for token in text}
    expected = penalised(logits.double(), params, set(prompt), counts)
    changed = adjusted(logits.double().expand(2, -1), [neighbour.row(), state.row()])
    torch.testing.assert_close(changed[1], expected)
    assert torch.equal(changed[0], logits.double())


def test_a_row_does_not_change_with_the_tokens_that_come_later():
    state = SamplingState(SamplingParams(frequency_penalty=1.0, seed=1), [])
    logits = torch.zeros(1, 300)
    row = state.row()
    before = adjusted(logits, [row])
    for token in range(200):
        state.push(token)
    assert torch.equal(adjusted(logits, [row]), before)
    assert adjusted(logits, [state.row()]).sum() == -200


@given(st.lists(st.integers(0, 30), max_size=30), st.lists(st.integers(0, 30), min_size=1, max_size=5))
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_guesses_that_are_taken_back_leave_no_trace(text, guesses):
    params = SamplingParams(frequency_penalty=1.0, repetition_penalty=1.2, min_tokens=3, seed=4)
    state = SamplingState(params, [1, 2], stop_tokens=(0,))
    for token in text:
        state.push(token)
    logits = torch.linspace(-1, 1, 31)[None]
    before, place = sample(logits, [state.row()]), state.position
    for token in guesses:
        state.push(token)
    state.pop(len(guesses))
    assert state.position == place
    assert sample(logits, [state.row()]) == before


def test_no_stop_token_comes_before_min_tokens():
    logits = torch.tensor([[9.0, 8.0, 0.0]])
    state = SamplingState(SamplingParams(temperature=0, min_tokens=2), [1], stop_tokens=(0, 1))
    tokens = []
    for _ in range(3):
        tokens.append(sample(logits, [state.row()])[0].token)
        state.push(tokens[-1])
    assert tokens == [2, 2, 0]


def test_the_same_seed_draws_the_same_and_completions_of_one_request_differ():
    logits = torch.zeros(1, 1000)

    def tokens(index):
        state = SamplingState(SamplingParams(seed=11, n=3), [1, 2], index=index)
        drawn = []
        for _ in range(6):
            drawn.append(sample(logits, [state.row()])[0].token)
            state.push(drawn[-1])
        return drawn

    assert tokens(0) == tokens(0)
    assert tokens(0) != tokens(1) != tokens(2)


def test_a_sequence_that_is_taken_up_again_draws_what_it_would_have_drawn():
    logits = torch.zeros(1, 1000)
    whole = SamplingState(SamplingParams(seed=3), [1, 2])
    for token in (7, 8, 9):
        whole.push(token)
    resumed = SamplingState(SamplingParams(seed=3), [1, 2, 7, 8, 9])
    assert sample(logits, [whole.row()]) == sample(logits, [resumed.row()])


def test_without_a_seed_two_sequences_differ_and_tell_the_seed_they_took():
    logits = torch.zeros(1, 1_000_000)
    first, second = SamplingState(SamplingParams(), []), SamplingState(SamplingParams(), [])
    assert sample(logits, [first.row()]) != sample(logits, [second.row()])
    again = SamplingState(SamplingParams(seed=first.seed), [])
    assert sample(logits, [first.row()]) == sample(logits, [again.row()])


@pytest.mark.parametrize("params", MANY)
@pytest.mark.parametrize("damage", [math.nan, math.inf])
def test_a_row_that_is_not_numbers_fails_alone(params, damage):
    logits = torch.randn(3, 500, generator=torch.Generator().manual_seed(2))
    damaged = logits.clone()
    damaged[1, 77] = damage
    rows = [Row(params, key=i) for i in range(3)]
    whole, results = sample(logits, rows), sample(damaged, rows)
    assert isinstance(results[1], GenerationError)
    assert "not numbers" in str(results[1])
    assert [plain(results[i]) for i in (0, 2)] == [plain(whole[i]) for i in (0, 2)]


def test_a_row_from_which_everything_is_forbidden_says_so():
    result = sample(torch.zeros(1, 2), [Row(SamplingParams(), banned=(0, 1))])[0]
    assert isinstance(result, GenerationError)
    assert "No token is left" in str(result)


def test_a_forced_token_is_certain():
    rows = [Row(SamplingParams(logprobs=3, record_kept=True), forced=4), Row(SamplingParams(temperature=0))]
    forced, other = sample(torch.tensor([[0.0, 1, 2, 3, -9], [0, 5, 1, 1, 1]]), rows)
    assert plain(forced) == (4, 0.0, ((4, 0.0),), [4])
    assert other.token == 1


def test_the_callers_logits_are_left_as_they_were():
    logits = torch.zeros(2, 5)
    sample(logits, [Row(SamplingParams(logit_bias={1: 3.0})), Row(SamplingParams(), banned=(2,))])
    assert torch.equal(logits, torch.zeros(2, 5))


def test_bits_allow_tokens_and_what_lies_beyond_them_is_forbidden():
    bits = np.packbits([0, 1, 1, 0, 0, 0, 0, 0], bitorder="little")
    rows = [Row(SamplingParams(seed=1, record_kept=True), key=place, allowed=bits) for place in range(40)]
    results = sample(torch.zeros(40, 12), rows)
    assert {result.token for result in results} == {1, 2}
    assert results[0].kept.tolist() == [1, 2]
    assert results[0].logprob == pytest.approx(math.log(0.5))


def test_a_greedy_choice_is_the_first_of_equals():
    """Of 8,192 too, where the scores are looked through in blocks."""
    for size in (5, 64, 200, 8192):
        places = [0, size // 3, size - 1]
        logits = torch.full((3, size), -1.5)
        for row, place in enumerate(places):
            logits[row, place:] = 2.25
        results = sample(logits, [Row(SamplingParams(temperature=0))] * 3)
        assert [result.token for result in results] == places
        assert results[0].logprob == pytest.approx(-math.log(size), abs=1e-5)


@pytest.mark.parametrize("record_kept", [False, True])
@pytest.mark.parametrize(("equals", "top_p", "kept"), [(2, 0.5, 1), (4, 0.75, 3), (8, 0.125, 1), (1024, 0.5, 512)])
@pytest.mark.parametrize("temperature", [0.05, 0.7, 4.0])
def test_top_p_keeps_no_more_than_reaches_its_mass(equals, top_p, kept, temperature, record_kept):
    """Half of two tokens that are alike is one of them, the first."""
    logits = torch.full((200, equals), 3.25)
    params = SamplingParams(top_p=top_p, temperature=temperature, record_kept=record_kept)
    results = sample(logits, [Row(params, key(1, place)) for place in range(200)])
    assert max(result.token for result in results) < kept
    assert results[0].logprob == pytest.approx(-math.log(kept), abs=1e-6)
    assert not record_kept or results[0].kept.tolist() == list(range(kept))


def ends_within_rounding(logits, params):
    """Whether a sum of likeliest tokens comes so near to top_p that FP32 sums of 256 may fall on either side."""
    likely = (logits.double() / params.temperature).softmax(-1).sort(descending=True).values
    likely = likely[likely >= params.min_p * likely[0]][: params.top_k or None]
    return params.top_p < 1 and bool(((likely.cumsum(-1) / likely.sum() - params.top_p).abs() < 1e-5).any())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(1, 700),
    st.floats(0.05, 4),
    st.integers(0, 80),
    st.floats(0.01, 1),
    st.sampled_from([0.0, 0.001, 0.3]),
    st.sampled_from([0.3, 3.0, 12.0]),
    st.integers(0, 10**6),
)
def test_both_forms_draw_the_same(size, temperature, top_k, top_p, min_p, spread, seed):
    """But where top_p falls on the end of a token to FP32's rounding; the test before this one has exact such ends."""
    logits = torch.randn(3, size, generator=torch.Generator().manual_seed(seed)) * spread
    logits[0] = (logits[0] * 4).round() / 4
    logits[1, size // 2 :] = -math.inf
    params = SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    rows = [Row(params, key(seed, place)) for place in range(3)]
    telling = [replace(row, params=replace(params, record_kept=True)) for row in rows]
    plain_form = sample(logits, telling)
    for one, other, scores in zip(sample(logits, rows), plain_form, logits, strict=True):
        assert isinstance(one, Sampled) == isinstance(other, Sampled)
        if isinstance(one, Sampled) and not ends_within_rounding(scores, params):
            assert one.token == other.token
            assert one.logprob == pytest.approx(other.logprob, abs=2e-5)
