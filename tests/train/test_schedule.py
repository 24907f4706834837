"""What changes over a run is a function of the step alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fathom.config.train import BatchRamp, ScheduleConfig, TrainConfig
from fathom.train.schedule import (
    balance_alpha,
    batch_sequences,
    bias_update_speed,
    learning_rate_factor,
    least_steps_consistent_with,
    mtp_weight,
    steps_for_tokens,
)

V3_STEPS = 240_212


def test_the_rate_follows_v3s_published_shape() -> None:
    peak = 2.2e-4
    rate = {step: peak * learning_rate_factor(ScheduleConfig(), step, V3_STEPS) for step in range(0, V3_STEPS, 499)}
    assert rate[0] == pytest.approx(peak / 2000)
    assert rate[499 * 10] == peak
    assert rate[499 * 300] == peak
    assert rate[499 * 470] == pytest.approx(2.2e-5, rel=1e-6)
    assert max(rate.values()) == peak
    assert peak * learning_rate_factor(ScheduleConfig(), V3_STEPS - 1, V3_STEPS) == pytest.approx(7.3e-6, rel=1e-2)


def test_the_rate_never_rises_after_warm_up() -> None:
    rates = [learning_rate_factor(ScheduleConfig(warmup_steps=5), step, 100) for step in range(5, 100)]
    assert rates == sorted(rates, reverse=True)


@given(st.integers(0, 300), st.sampled_from(["cosine", "linear"]))
def test_the_rate_is_always_a_share_of_the_peak(step: int, shape: str) -> None:
    schedule = ScheduleConfig(warmup_steps=7, decay_shape=shape, decay_to=0.0, final_factor=0.0)
    assert 0.0 <= learning_rate_factor(schedule, step, 301) <= 1.0


def test_nothing_late_has_begun_while_the_length_is_unknown() -> None:
    train = TrainConfig(minutes=1)
    assert learning_rate_factor(train.schedule, 10**6, None) == 1.0
    assert mtp_weight(train, 10**6, None) == 0.3
    assert bias_update_speed(train, 10**6, None) == 0.001


def test_the_batch_grows_in_whole_increments_to_its_full_size() -> None:
    train = TrainConfig(steps=100, batch_sequences=16, batch_ramp=BatchRamp(start_sequences=4, steps=10, increment=4))
    sizes = [batch_sequences(train, step) for step in range(12)]
    assert sizes == [4, 4, 4, 4, 8, 8, 8, 12, 12, 12, 16, 16]


@given(st.integers(1, 5000))
def test_the_steps_for_tokens_are_just_enough(tokens: int) -> None:
    ramp = BatchRamp(start_sequences=1, steps=6, increment=1)
    train = TrainConfig(tokens=tokens, sequence_length=8, batch_sequences=7, batch_ramp=ramp)
    steps = steps_for_tokens(train, tokens)
    served = [8 * sum(batch_sequences(train, step) for step in range(count)) for count in (steps - 1, steps)]
    assert served[0] < tokens <= served[1]


def test_mtp_weight_and_bias_speed_change_where_v3_changes_them() -> None:
    train = TrainConfig(steps=1000)
    assert [mtp_weight(train, step, 1000) for step in (0, 681, 682, 999)] == [0.3, 0.3, 0.1, 0.1]
    assert [bias_update_speed(train, step, 1000) for step in (0, 966, 967)] == [0.001, 0.001, 0.0]


@pytest.mark.parametrize(
    ("method", "alpha", "speed"), [("bias", 1e-4, 0.001), ("auxiliary", 1e-3, 0.0), ("none", 0, 0)]
)
def test_each_balancing_method_uses_its_own_means(method: str, alpha: float, speed: float) -> None:
    train = TrainConfig(steps=10, balance={"method": method})
    assert balance_alpha(train) == alpha
    assert bias_update_speed(train, 0, 10) == speed


def test_a_measured_run_is_long_enough_for_what_is_already_done() -> None:
    train = TrainConfig(minutes=1)
    steps = least_steps_consistent_with(train, 100)
    assert [learning_rate_factor(train.schedule, s, None) for s in range(100)] == [
        learning_rate_factor(train.schedule, s, steps) for s in range(100)
    ]
