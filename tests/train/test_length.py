"""A wall-clock budget becomes a number of steps that fits it."""

import pytest

from fathom.config.train import TrainConfig
from fathom.train.length import known_length, measured_length

BUDGET = TrainConfig(minutes=10, measure_share=0.05, sequence_length=100, batch_sequences=10)


def test_steps_and_tokens_are_known_from_the_start() -> None:
    assert known_length(TrainConfig(steps=7)) == 7
    assert known_length(TrainConfig(tokens=2001, sequence_length=100, batch_sequences=10)) == 3
    assert known_length(BUDGET) is None


@pytest.mark.parametrize(("done", "elapsed"), [(5, 100.0), (100, 29.0)])
def test_nothing_is_fixed_before_enough_is_measured(done: int, elapsed: float) -> None:
    assert measured_length(BUDGET, done, [1.0] * done, elapsed, []) is None


def test_the_steps_fill_the_budget() -> None:
    steps = measured_length(BUDGET, 30, [9.0, 9.0, *[1.0] * 28], 46.0, [])
    assert steps is not None
    assert 550 <= 46 + (steps - 30) * 1.0 <= 600


def test_slow_steps_before_the_run_found_its_threads_do_not_count() -> None:
    steps = measured_length(BUDGET, 60, [*[9.0] * 20, *[1.0] * 40], 220.0, [])
    assert steps is not None
    assert 550 <= 220 + (steps - 60) * 1.0 <= 600


def test_evaluations_take_their_part_of_the_budget() -> None:
    often = BUDGET.model_copy(update={"evaluate_every": 10, "evaluate_tokens": 1000})
    plain = measured_length(BUDGET, 30, [1.0] * 30, 30.0, [])
    judged = measured_length(often, 30, [1.0] * 30, 30.0, [50_000, 50_000])
    assert plain is not None
    assert judged is not None
    assert judged < plain - 80


def test_a_budget_already_spent_still_ends_as_the_schedule_says() -> None:
    assert measured_length(BUDGET, 30, [60.0] * 30, 1800.0, []) == 44
