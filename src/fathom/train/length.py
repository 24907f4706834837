"""How many steps a run takes: as the recipe says, or as many as fit a wall-clock budget at the measured speed."""

import math
from collections.abc import Sequence

from fathom.config.train import TrainConfig
from fathom.train.schedule import least_steps_consistent_with, steps_for_tokens

FIRST_STEPS = 2
"""Steps that are slower than the rest: memory is still being found."""
LEAST_STEPS = 6
"""Steps a speed is measured on at least, the first ones included."""
FORWARD_SHARE = 0.4
"""What judging a token costs of training on it: the forward pass is a third, and small batches add to it."""

MARGIN = 0.97
"""Share of the budget that is planned: samples, checkpoints and the finished folder take the rest."""


def known_length(train: TrainConfig) -> int | None:
    """The steps that the recipe itself says, or None for a wall-clock budget."""
    if train.steps is not None:
        return train.steps
    return steps_for_tokens(train, train.tokens) if train.tokens is not None else None


def measured_length(
    train: TrainConfig, done: int, durations: Sequence[float], elapsed: float, validation_tokens: Sequence[int]
) -> int | None:
    """The steps that fill `train.minutes`, or None while too little is measured.

    `done` steps took `durations` seconds (those of this process's life), `elapsed` counts from the start of the run.
    Evaluations, of which the last takes all `validation_tokens` of each group, are part of the budget.
    """
    assert train.minutes is not None
    budget = 60.0 * train.minutes
    if len(durations) < LEAST_STEPS or elapsed < train.measure_share * budget:
        return None
    # The later half: by then the run has as many threads as are fastest beside what else the machine does.
    measured = durations[max(FIRST_STEPS, len(durations) // 2) :]
    step = sum(measured) / len(measured)
    token = FORWARD_SHARE * step / (train.batch_sequences * train.sequence_length)
    # At the end half a context is read twice, see `evaluate.bits_per_byte`.
    at_the_end = 2 * token * sum(validation_tokens)
    on_the_way = token * sum(min(tokens, train.evaluate_tokens) for tokens in validation_tokens)
    each = step + (on_the_way / train.evaluate_every if train.evaluate_every else 0.0)
    more = math.floor(max(MARGIN * budget - elapsed - at_the_end, 0.0) / each)
    return max(done + more, least_steps_consistent_with(train, done))
