"""An observer that writes what happens to the run folder's logs, and to TensorBoard where it is installed and
wanted."""

from typing import Any

from fathom.errors import RecipeError
from fathom.train.observer import Evaluation, Event, RunPlan, Sample, Silent, StepMetrics, as_record
from fathom.train.run import RunFolder, append_line


class RunLog(Silent):
    """Writes each record as a line of JSON."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder, self._step = folder, 0

    def on_start(self, plan: RunPlan) -> None:
        """Note where the run begins."""
        self._step = plan.first_step

    def on_step(self, metrics: StepMetrics) -> None:
        """Add to metrics.jsonl."""
        self._step = metrics.step
        append_line(self._folder.metrics, as_record(metrics))

    def on_evaluation(self, evaluation: Evaluation) -> None:
        """Add to evaluations.jsonl."""
        append_line(self._folder.evaluations, as_record(evaluation))

    def on_sample(self, sample: Sample) -> None:
        """Add to samples.jsonl."""
        append_line(self._folder.samples, as_record(sample))

    def on_event(self, text: str) -> None:
        """Add to events.jsonl."""
        append_line(self._folder.events, as_record(Event(self._step, text)))


class TensorBoardLog(Silent):
    """Draws the series of metrics.jsonl in TensorBoard."""

    SERIES = (
        "loss",
        "bits_per_byte",
        "balance_loss",
        "grad_norm",
        "learning_rate",
        "tokens_per_second",
        "matmul_share",
        "max_vio",
        "max_vio_global",
        "memory_bytes",
    )

    def __init__(self, folder: RunFolder, first_step: int) -> None:
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError:
            raise RecipeError(
                "train.tensorboard = true, and TensorBoard is not installed: `pip install 'fathom-lm[tensorboard]'`, "
                "or set it to false."
            ) from None
        self._writer: Any = SummaryWriter(str(folder.tensorboard), purge_step=first_step + 1)

    def on_step(self, metrics: StepMetrics) -> None:
        """One point of each series."""
        for name in self.SERIES:
            self._writer.add_scalar(f"train/{name}", getattr(metrics, name), metrics.step)
        for depth, loss in enumerate(metrics.mtp_loss, start=1):
            self._writer.add_scalar(f"train/mtp_loss_{depth}", loss, metrics.step)

    def on_evaluation(self, evaluation: Evaluation) -> None:
        """One point of the group's series."""
        self._writer.add_scalar(f"bits_per_byte/{evaluation.group}", evaluation.bits_per_byte, evaluation.step)
        self._writer.add_scalar(f"max_vio/{evaluation.group}", evaluation.max_vio, evaluation.step)

    def on_sample(self, sample: Sample) -> None:
        """The text."""
        self._writer.add_text(sample.prompt, sample.text, sample.step)
