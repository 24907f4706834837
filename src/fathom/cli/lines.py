"""A run told in plain lines, for logs and pipes: often at first, then every few seconds."""

import time

from fathom.cli.console import say
from fathom.cli.standing import Standing, plan_lines
from fathom.train.observer import Evaluation, RunPlan, Sample, StepMetrics

EVERY_SECONDS = 10.0
FIRST_STEPS = 3


class Lines:
    """Prints what happens on standard error."""

    def __init__(self, every_seconds: float = EVERY_SECONDS) -> None:
        self._every = every_seconds
        self._last = 0.0
        self._standing: Standing

    def on_start(self, plan: RunPlan) -> None:
        """Print the plan."""
        self._standing = Standing(plan)
        for line in plan_lines(plan):
            say(line)

    def on_step(self, metrics: StepMetrics) -> None:
        """Print a line if the last is old enough, or the step is one of the first or the last."""
        self._standing.step(metrics)
        now, first = time.monotonic(), self._standing.plan.first_step
        notable = metrics.step - first <= FIRST_STEPS or metrics.step == metrics.steps
        if notable or now - self._last >= self._every:
            self._last = now
            say(self._line(metrics))

    def on_evaluation(self, evaluation: Evaluation) -> None:
        """Print how a group of held-out text is coded."""
        say(f"held out, step {evaluation.step:,}: {evaluation.group} {evaluation.bits_per_byte:.3f} bits per byte")

    def on_sample(self, sample: Sample) -> None:
        """Print a sample on one line."""
        say(f"sample, step {sample.step:,}: {' '.join((sample.prompt + sample.text).split())}")

    def on_event(self, text: str) -> None:
        """Print the event."""
        say(text)

    def _line(self, metrics: StepMetrics) -> str:
        parts = [
            self._standing.steps_words,
            self._standing.left_words,
            f"{metrics.bits_per_byte:.3f} bits per byte",
            f"loss {metrics.loss:.3f}",
            "" if metrics.teacher_kl is None else f"KL {metrics.teacher_kl:.3f} from the teacher",
            f"{self._standing.tokens_per_second:,.0f} tokens/s",
            f"{self._standing.matmul_share:.0%} of peak",
            f"MaxVio {metrics.max_vio:.2f}",
        ]
        return "  ".join(part for part in parts if part)
