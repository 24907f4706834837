"""Everything that changes over a run, as pure functions of the optimiser step (V3 section 4.2).

`steps` is the length of the run, or None while a wall-clock run is still being measured: then nothing late has begun.
"""

import math

from fathom.config.train import BatchRamp, ScheduleConfig, TrainConfig


def learning_rate_factor(schedule: ScheduleConfig, step: int, steps: int | None) -> float:
    """The share of the peak learning rate at `step` (0, 1, ...)."""
    warm = min(1.0, (step + 1) / schedule.warmup_steps) if schedule.warmup_steps else 1.0
    return warm * _after_warmup(schedule, step / steps if steps else 0.0)


def _after_warmup(schedule: ScheduleConfig, share: float) -> float:
    if share >= schedule.final_from:
        return schedule.final_factor
    if share >= schedule.decay_until:
        return schedule.decay_to
    if share < schedule.constant_until:
        return 1.0
    done = (share - schedule.constant_until) / (schedule.decay_until - schedule.constant_until)
    left = 0.5 * (1.0 + math.cos(math.pi * done)) if schedule.decay_shape == "cosine" else 1.0 - done
    return schedule.decay_to + (1.0 - schedule.decay_to) * left


def batch_sequences(train: TrainConfig, step: int) -> int:
    """The sequences in the batch of `step`, over all processes."""
    ramp = train.batch_ramp
    if step >= ramp.steps:
        return train.batch_sequences
    return _ramped(ramp, train.batch_sequences, step)


def _ramped(ramp: BatchRamp, final: int, step: int) -> int:
    grown = (final - ramp.start_sequences) * step / ramp.steps
    return ramp.start_sequences + int(grown // ramp.increment) * ramp.increment


def steps_for_tokens(train: TrainConfig, tokens: int) -> int:
    """The least number of steps that train on `tokens` tokens."""
    left, step = math.ceil(tokens / train.sequence_length), 0
    while left > 0 and step < train.batch_ramp.steps:
        left -= batch_sequences(train, step)
        step += 1
    return step + math.ceil(max(left, 0) / train.batch_sequences)


def mtp_weight(train: TrainConfig, step: int, steps: int | None) -> float:
    """Lambda, the weight of the MTP loss at `step`."""
    late = steps is not None and step >= train.mtp.switch_at * steps
    return train.mtp.final_weight if late else train.mtp.weight


def bias_update_speed(train: TrainConfig, step: int, steps: int | None) -> float:
    """Gamma, how far routing biases move after `step`."""
    late = steps is not None and step >= train.balance.bias_update_until * steps
    return 0.0 if late or train.balance.method != "bias" else train.balance.bias_update_speed


def balance_alpha(train: TrainConfig) -> float:
    """Alpha, the weight of the sequence-wise balance loss under the chosen method."""
    balance = train.balance
    return {"bias": balance.sequence_balance_alpha, "auxiliary": balance.auxiliary_alpha, "none": 0.0}[balance.method]


def least_steps_consistent_with(train: TrainConfig, done: int) -> int:
    """The shortest run in which nothing late would have begun in the first `done` steps."""
    return max(math.ceil(done / share) for share in train.late_shares().values())
