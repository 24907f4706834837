"""What a run tells those who watch it: a live view, plain lines, a report, or nobody."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class RunPlan:
    """What a run is about to do."""

    run: str
    """The run folder."""
    steps: int | None
    """Optimiser steps; None until a wall-clock run has measured its speed."""
    first_step: int
    """Steps already done, by the checkpoint that is taken up."""
    minutes: float | None
    sequence_length: int
    batch_sequences: int
    total_parameters: int
    active_parameters: int
    training_flop_per_token: float
    matmul_peak: float
    """Measured FLOP/s of a large matrix product in the compute dtype, of all processes together."""
    training_tokens: int
    """Tokens in the corpus's training split."""
    validation_groups: tuple[str, ...]
    device: str
    processes: int


@dataclass(frozen=True)
class StepMetrics:
    """One optimiser step. Losses are in nats a token."""

    step: int
    """Steps done, this one included."""
    steps: int | None
    """Steps of the whole run; None until a wall-clock run has measured its speed."""
    sequences: int
    """Place in the order of the data after this step."""
    tokens: int
    """Tokens trained on since the beginning."""
    loss: float
    bits_per_byte: float
    """The loss over the training text's mean bytes a token."""
    mtp_loss: tuple[float, ...]
    """Of each depth."""
    balance_loss: float
    """Sequence-wise, without alpha; 0 where it is not formed."""
    grad_norm: float
    """Before clipping."""
    learning_rate: float
    """AdamW's, before the factor of a parameter's role."""
    seconds: float
    """Of this step."""
    elapsed: float
    """Seconds of training since the beginning, over all restarts."""
    tokens_per_second: float
    matmul_share: float
    """Model FLOP/s over the measured matrix-product peak (model FLOP utilisation)."""
    max_vio: float
    """(max load - mean load) / mean load over this step's batch, mean over expert layers."""
    max_vio_by_layer: tuple[float, ...]
    max_vio_global: float
    """The same of the last hundred steps' loads together: what is left when the differences between small batches,
    which no bias can foresee, have evened out (arXiv 2408.15664 judges by this)."""
    expert_load: tuple[tuple[int, ...], ...] | None
    """Tokens of each expert, by layer; None at steps that do not record it."""
    memory_bytes: int
    """Most memory held so far: on the device, or resident on a CPU."""
    teacher_kl: float | None = None
    """KL(teacher, model); None without a teacher."""


@dataclass(frozen=True)
class Evaluation:
    """Held-out text of one group at one step."""

    step: int
    group: str
    bits_per_byte: float
    nats_per_token: float
    tokens: int
    text_bytes: int
    context: int
    """Tokens a prediction sees at most."""
    stride: int
    """Predictions of one window that count: each after the first window's sees at least context - stride tokens."""
    complete: bool
    """Whether all of the group's held-out text was judged."""
    max_vio: float
    """Of the experts' loads over this text, mean over expert layers."""


@dataclass(frozen=True)
class Sample:
    """A text the model wrote."""

    step: int
    prompt: str
    text: str


@dataclass(frozen=True)
class Event:
    """Something worth a line: a resumed run, a fixed length, a skipped batch."""

    step: int
    text: str


class Observer(Protocol):
    """Whoever watches a run; called on the main process, between steps."""

    def on_start(self, plan: RunPlan) -> None:
        """Before the first step."""

    def on_step(self, metrics: StepMetrics) -> None:
        """After every step."""

    def on_evaluation(self, evaluation: Evaluation) -> None:
        """After each group of an evaluation."""

    def on_sample(self, sample: Sample) -> None:
        """After each sample."""

    def on_event(self, text: str) -> None:
        """For anything else worth a line."""


class Silent:
    """Watches without a word."""

    def on_start(self, plan: RunPlan) -> None:
        """Say nothing."""

    def on_step(self, metrics: StepMetrics) -> None:
        """Say nothing."""

    def on_evaluation(self, evaluation: Evaluation) -> None:
        """Say nothing."""

    def on_sample(self, sample: Sample) -> None:
        """Say nothing."""

    def on_event(self, text: str) -> None:
        """Say nothing."""


class Everyone:
    """Passes everything on to several observers."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)

    def on_start(self, plan: RunPlan) -> None:
        """Pass it on."""
        for observer in self._observers:
            observer.on_start(plan)

    def on_step(self, metrics: StepMetrics) -> None:
        """Pass it on."""
        for observer in self._observers:
            observer.on_step(metrics)

    def on_evaluation(self, evaluation: Evaluation) -> None:
        """Pass it on."""
        for observer in self._observers:
            observer.on_evaluation(evaluation)

    def on_sample(self, sample: Sample) -> None:
        """Pass it on."""
        for observer in self._observers:
            observer.on_sample(sample)

    def on_event(self, text: str) -> None:
        """Pass it on."""
        for observer in self._observers:
            observer.on_event(text)


def as_record(value: Any) -> dict[str, Any]:
    """One of the above as plain values, for a line of JSON."""
    return asdict(value)
