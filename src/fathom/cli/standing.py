"""Where a run stands, put together from what it tells its observers."""

from collections import deque

from fathom.reports.words import big, clock, duration
from fathom.train.observer import Evaluation, RunPlan, Sample, StepMetrics

RECENT = 20


class Standing:
    """The latest of everything, and the time left."""

    def __init__(self, plan: RunPlan) -> None:
        self.plan = plan
        self.metrics: StepMetrics | None = None
        self.held_out: dict[str, Evaluation] = {}
        self.samples: dict[str, Sample] = {}
        self.loads: tuple[tuple[int, ...], ...] = ()
        self._recent: deque[StepMetrics] = deque(maxlen=RECENT)

    def step(self, metrics: StepMetrics) -> None:
        """Take in a step."""
        self.metrics = metrics
        self.loads = metrics.expert_load or self.loads
        self._recent.append(metrics)

    @property
    def share(self) -> float:
        """The part of the run that is done, from 0 to 1."""
        if self.metrics is None:
            return 0.0
        if self.metrics.steps:
            return min(self.metrics.step / self.metrics.steps, 1.0)
        return min(self.metrics.elapsed / (60 * self.plan.minutes), 1.0) if self.plan.minutes else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Until the last step; None before anything is known."""
        if self.metrics is None:
            return None
        if self.metrics.steps:
            return (self.metrics.steps - self.metrics.step) * self._recent_seconds / len(self._recent)
        return 60 * self.plan.minutes - self.metrics.elapsed if self.plan.minutes else None

    @property
    def _recent_seconds(self) -> float:
        return sum(metrics.seconds for metrics in self._recent)

    @property
    def tokens_per_second(self) -> float:
        """Over the last steps."""
        return sum(metrics.tokens_per_second * metrics.seconds for metrics in self._recent) / self._recent_seconds

    @property
    def matmul_share(self) -> float:
        """Of the machine's peak, over the last steps."""
        return sum(metrics.matmul_share * metrics.seconds for metrics in self._recent) / self._recent_seconds

    @property
    def steps_words(self) -> str:
        """The step among all, or alone while a wall-clock run measures its speed."""
        if self.metrics is None:
            return "first step"
        of = f" of {self.metrics.steps:,}" if self.metrics.steps else ""
        return f"step {self.metrics.step:,}{of}"

    @property
    def left_words(self) -> str:
        """The time left."""
        left = self.seconds_left
        return "" if left is None else f"{clock(left)} left"


def plan_lines(plan: RunPlan) -> list[str]:
    """What a run is about to do."""
    batch = plan.batch_sequences * plan.sequence_length
    if plan.steps:
        length = f"{plan.steps:,} steps, {big(plan.steps * batch)} tokens"
    else:
        length = f"{duration(60 * (plan.minutes or 0))}; the number of steps follows from the measured speed"
    lines = [
        f"Run      {plan.run}",
        f"Network  {big(plan.total_parameters)} parameters, {big(plan.active_parameters)} used for a token",
        f"Text     {big(plan.training_tokens)} tokens; held out: {', '.join(plan.validation_groups) or 'none'}",
        f"Length   {length}",
        f"Batch    {plan.batch_sequences} sequences of {plan.sequence_length} tokens",
        f"Machine  {plan.device}, {_processes(plan)}{plan.matmul_peak / 1e9:,.0f} GFLOP/s measured in matrix products",
    ]
    if plan.first_step:
        lines.append(f"Going on after step {plan.first_step:,}")
    return lines


def _processes(plan: RunPlan) -> str:
    return f"{plan.processes} processes, " if plan.processes > 1 else ""
