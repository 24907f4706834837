"""How many threads a run on a CPU uses from one minute to the next.

Threads that share an operation wait for the slowest of them. Beside a busy neighbour on the same cores each of some
thousand waits a step may last as long as the neighbour's turn: measured on two cores beside two busy processes, a step
of the quickstart took 0.56 s on two threads and 0.25 s on one. So a run tries fewer or more threads now and then, for
two steps, and keeps what is faster. Only if it changes no bit of the gradients: see `gradients_agree`.
"""

import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from fathom.config.train import TrainConfig
from fathom.model.transformer import Transformer
from fathom.parallel.mesh import World
from fathom.train.objective import Teacher
from fathom.train.step import compute_gradients, gradients_of

TRIAL_STEPS = 2
"""Steps another number of threads is tried for; the faster one counts."""
SHORTEST, LONGEST = 5.0, 60.0
"""Seconds between trials: doubled after one that changed nothing, back to the shortest after one that did."""
GAIN = 0.9
"""A number of threads is taken up if it needs less than this share of the time of the present one."""
AGREEMENT_BATCHES = 4
"""Batches on which gradients are compared before the first trial. A library may split a sum by threads and leave no
trace in most batches: of a product of (64, 4096) and (4096, 128), four of five had the same bits. Fathom's own kernels
split none; beside busy neighbours each batch can take half a minute, so there are no more than these."""
RECENT = 8
"""Steps of which the median is the present time of a step."""


class ThreadChoice:
    """Tells how many threads to use next, from how long each step took."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.most = most
        self.threads = most
        self._clock = clock
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._trial: list[float] = []
        self._before: int | None = None
        self._wait = SHORTEST
        self._due = clock() + SHORTEST
        self._up = False

    @property
    def trial_is_due(self) -> bool:
        """Whether the next step should be one with another number of threads."""
        return self._before is None and len(self._recent) >= TRIAL_STEPS and self._clock() >= self._due

    def observe(self, seconds: float) -> int:
        """Take note of a step's seconds; the number of threads for the next one."""
        if self._before is not None:
            self._trial.append(seconds)
            if len(self._trial) == TRIAL_STEPS or seconds > 2 * statistics.median(self._recent):
                self._judge(self._before)
        else:
            self._recent.append(seconds)
            if self.trial_is_due and self.most > 1:
                self._before, self.threads, self._trial = self.threads, self._other(), []
        return self.threads

    def _other(self) -> int:
        """Twice as many or half as many, in turn where both are possible."""
        possible = [n for n in (self.threads // 2, min(2 * self.threads, self.most)) if n >= 1 and n != self.threads]
        self._up = not self._up
        return possible[-1 if self._up else 0]

    def _judge(self, before: int) -> None:
        if min(self._trial) < GAIN * statistics.median(self._recent):
            self._recent.clear()
            self._recent.extend(self._trial)
            self._wait = SHORTEST
        else:
            self.threads = before
            self._wait = min(2 * self._wait, LONGEST)
        self._before = None
        self._due = self._clock() + self._wait


class AdaptingThreads:
    """Sets torch's threads from step to step, as long as that changes no bit of the gradients."""

    def __init__(self) -> None:
        self._choice = ThreadChoice(torch.get_num_threads())
        self._agree: bool | None = None

    def after_step(self, seconds: float, agree: Callable[[int], bool]) -> None:
        """Take note of a step's seconds and set the threads of the next.

        Before the first trial `agree` is asked once, with the most threads, whether fewer form the same gradients.
        """
        if self._agree is None and self._choice.trial_is_due:
            self._agree = agree(self._choice.most)
        if self._agree is False:
            return
        threads = self._choice.observe(seconds)
        if threads != torch.get_num_threads():
            torch.set_num_threads(threads)

    def use_all(self) -> None:
        """Set as many threads as there were before."""
        torch.set_num_threads(self._choice.most)


def gradients_agree(
    model: Transformer,
    batches: Iterable[Tensor],
    train: TrainConfig,
    world: World,
    step: int,
    steps: int | None,
    most: int,
    teacher: Teacher | None = None,
) -> bool:
    """Whether one thread forms bit for bit the gradients that `most` threads form, for each of these batches.

    They do where every sum runs in an order of its own, as in Fathom's kernels; a library may split one by threads.
    Leaves the gradients empty and `most` threads in use.
    """
    for rows in batches:
        found: list[list[Tensor]] = []
        for threads in (1, most):
            torch.set_num_threads(threads)
            compute_gradients(model, rows, train, world, step, steps, teacher)
            found.append([gradient.clone() for gradient in gradients_of(model)])
            model.zero_grad(set_to_none=True)
        if not all(torch.equal(one, other) for one, other in zip(*found, strict=True)):
            return False
    return True
