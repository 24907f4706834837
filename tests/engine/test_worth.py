"""Guesses are made where they pay: with few sequences, while they come true, and tried again now and then."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fathom.engine.judge import Judge
from fathom.engine.runner import Reading
from fathom.engine.worth import Budget, StepCost, Trust


@given(st.floats(1e-4, 1e-2), st.floats(1e-6, 1e-2), st.integers(0, 99))
def test_the_cost_of_a_step_is_learnt_from_steps_of_different_sizes(base, slope, seed):
    cost, draw = StepCost(), random.Random(seed)
    for _ in range(300):
        tokens = draw.randint(1, 40)
        cost.see(tokens, (base + slope * tokens) * draw.uniform(0.95, 1.05))
    found_base, found_slope = cost.line()
    for tokens in (1, 20, 40):
        assert found_base + found_slope * tokens == pytest.approx(base + slope * tokens, rel=0.1, abs=slope)


def test_one_held_up_step_changes_little():
    calm, disturbed = StepCost(), StepCost()
    for cost in (calm, disturbed):
        for tokens in [1, 2, 5] * 30:
            cost.see(tokens, 0.001 + 0.0001 * tokens)
    disturbed.see(1, 5.0)
    assert disturbed.line()[0] == pytest.approx(calm.line()[0], rel=0.2)


def test_before_any_step_guesses_are_worth_trying():
    assert StepCost().line() is None
    assert Budget(StepCost(), 1).grant(0.5)


@given(st.integers(1, 8), st.floats(0, 1))
def test_trust_becomes_what_is_seen(successes, confidence):
    trust = Trust()
    assert trust.of(confidence) == pytest.approx(confidence)
    for i in range(800):
        trust.see(confidence, i % 8 < successes)
    assert trust.of(confidence) == pytest.approx(successes / 8, abs=0.1)


def test_what_the_next_guess_is_worth_counts_those_that_were_not_used_too():
    trust = Trust()
    for i in range(600):
        confidence = 0.95 if i % 4 == 0 else 0.1
        trust.note(confidence)
        if confidence > 0.9:
            trust.see(confidence, True)
    assert trust.mean == pytest.approx((1 + 3 * 0.1) / 4, abs=0.05)


def test_nothing_is_learnt_of_guesses_behind_a_wrong_one():
    trust = Trust()
    for _ in range(100):
        trust.learn([0.95, 0.55, 0.05], accepted=1)
    assert trust.of(0.95) > 0.95
    assert trust.of(0.55) < 0.1
    assert trust.of(0.05) == pytest.approx(0.05)


def cost_of(base, slope):
    cost = StepCost()
    for tokens in [1, 4, 16, 64] * 20:
        cost.see(tokens, base + slope * tokens)
    return cost


def granted(cost, sequences, chance=0.8, most=8):
    """Guesses each of the sequences gets, their chances falling one after the other."""
    budget = Budget(cost, sequences)
    counts = []
    for _ in range(sequences):
        count = 0
        while count < most and budget.grant(chance ** (count + 1)):
            count += 1
        counts.append(count)
    return counts


def test_drafts_become_shorter_with_load_and_with_worse_guesses():
    cost = cost_of(0.001, 0.0001)
    alone, few, many = (granted(cost, n) for n in (1, 8, 64))
    assert alone[0] > few[0] >= many[0]
    assert alone[0] >= 4
    assert granted(cost, 1, chance=0.3)[0] < alone[0]
    assert granted(cost, 1, chance=0.05) == [0]


def test_where_every_token_costs_the_same_only_certain_guesses_pay():
    assert granted(cost_of(0.0, 0.001), 4, chance=0.9) == [0, 0, 0, 0]


def test_making_a_guess_counts_as_a_cost_too():
    budget = Budget(cost_of(0.001, 0.0001), 1)
    assert budget.allows(0.5)
    assert not budget.allows(0.5, extra=0.001)


def test_a_few_guesses_are_free_so_that_something_is_learnt():
    budget = Budget(cost_of(0.0, 0.001), 2, free=2)
    assert budget.allows(0.0, extra=1.0)
    assert [budget.grant(0.01) for _ in range(4)] == [True, True, False, False]


def rests_of(watch, steps, paid):
    """How many steps each rest took."""
    rests, run = [], 0
    for _ in range(steps):
        if watch.rests():
            run += 1
            continue
        rests += [run] if run else []
        run = 0
        watch.learn(Reading([], None, None, [], [], None, 0.0))
        watch.expect({}, paid)
    return rests


def test_what_does_not_pay_is_left_alone_for_longer_and_longer():
    watch = Judge(longest_rest=100)
    assert rests_of(watch, 500, paid=False)[:4] == [32, 64, 100, 100]


def test_what_pays_is_never_left_alone():
    assert rests_of(Judge(longest_rest=100), 500, paid=True) == []
