"""The life of a run that trains a model on texts: weights, steps, judgements, checkpoints, a kill, the end."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from fathom.config.train import OptimizerConfig
from fathom.corpus.tokenizer import Tokenizer
from fathom.engine.engine import Engine, EngineConfig
from fathom.engine.speculation import Speculation
from fathom.errors import CheckpointError, TrainingError
from fathom.model.transformer import Transformer
from fathom.parallel.mesh import ALONE, World
from fathom.reason.judging import Judgement, judge
from fathom.reason.objective import add_up_gradients
from fathom.reason.rollouts import Sampling
from fathom.reason.routing import record_routing
from fathom.reason.task import Task
from fathom.train.checkpoint import CheckpointStore
from fathom.train.optimizer import Optimizer, clip_gradients, square_norm
from fathom.train.result import never
from fathom.train.run import append_line, read_json, write_json
from fathom.train.state import persistent_tensors
from fathom.train.step import gradients_of
from fathom.weights.folder import load, save

SHOWN_TEXTS = 8
"""Texts of a judgement that are kept for the report."""


class Watcher(Protocol):
    """Who is told how a run goes."""

    def on_step(self, record: dict[str, Any]) -> None:
        """An optimiser step was done."""
        ...

    def on_judgement(self, step: int, judgement: Judgement) -> None:
        """The model was judged on held-out problems."""
        ...


class Unwatched:
    """A watcher that looks away."""

    def on_step(self, record: dict[str, Any]) -> None:
        """Ignore it."""

    def on_judgement(self, step: int, judgement: Judgement) -> None:
        """Ignore it."""


@dataclass(frozen=True)
class RunResult:
    """How a run ended."""

    finished: bool
    steps: int
    seconds: float
    """Over all restarts, judgements included."""
    model: Path | None
    """The finished model folder."""
    judgements: dict[int, dict[str, Any]] = field(default_factory=dict)
    """By step: pass@k, and the means of what was written."""


@dataclass(frozen=True)
class Judging:
    """What the model is judged on before, after and every so many steps; `every` 0 leaves out the middle."""

    task: Task
    how: Sampling
    problems: int
    every: int = 0


@dataclass(frozen=True)
class Surroundings:
    """What a run has around it, whatever it trains."""

    watcher: Watcher = field(default_factory=Unwatched)
    stop: Callable[[], bool] = never
    precision: torch.dtype = torch.bfloat16
    world: World = ALONE
    """The device, and the processes that share each step's texts; the main one writes the run's files."""


class Trainer:
    """A model, its optimiser and its run folder. Whoever holds it adds gradients and says when a step is done."""

    def __init__(
        self,
        base: Path,
        run: Path,
        *,
        optimizer: OptimizerConfig,
        identity: Sequence[Any],
        checkpoint_every: int,
        judging: Judging | None,
        around: Surroundings,
        with_reference: bool = False,
        with_routing: bool = False,
        speculation: Speculation = "off",
    ) -> None:
        """Take the model of folder `base`. `identity` (JSON values) says which run it is: only that one goes on.

        `with_routing`, what the engine writes tells which experts its tokens took; it guesses ahead by `speculation`.
        """
        self.run, self.step, self.steps = run, 0, 0
        self.tokenizer = Tokenizer(base)
        _ = self.tokenizer.eos_id  # a model that cannot end a text is named here, not found out by texts all cut off
        self.model = _trainable(base, around)
        self.reference: Transformer | None = _trainable(base, around) if with_reference else None
        self._base, self._config, self._around = base, optimizer, around
        self._checkpoint_every, self._judging = checkpoint_every, judging
        fp32 = around.precision == torch.float32
        self._optimizer = Optimizer(optimizer, self.model.named_parameters(), fp32=fp32)
        self.world, self._with_routing, self._speculation = around.world, with_routing, speculation
        self._store = CheckpointStore(run / "checkpoints", self.world, keep_last=2)
        self._mark = _mark_of([*identity, digest_of_weights(base)])
        self._before, self._begin = 0.0, time.monotonic()
        self.judgements: dict[int, dict[str, Any]] = {}

    def belongs_to(self, *more: str) -> None:
        """Make what else decides what is learned, known only now, part of what the run is."""
        self._mark = _mark_of([self._mark, *more])

    @cached_property
    def engine(self) -> Engine:
        """Writes texts with the weights that are being trained."""
        config = EngineConfig(max_batch_size=256, prefix_caching=not self._with_routing, speculation=self._speculation)
        engine = Engine(self.model, self.tokenizer, config)
        if self._with_routing:
            record_routing(engine)
        return engine

    @property
    def elapsed(self) -> float:
        """Seconds over all restarts."""
        return self._before + time.monotonic() - self._begin

    def to_the_end(
        self, steps: int, advance: Callable[[], None], admit: Callable[[dict[str, Any]], None] | None = None
    ) -> RunResult:
        """Call `advance`, which does one or more steps, until the last step or until asked to stop.

        `admit` is shown what was found of the model before the first step; it may add to it, or raise.
        """
        self.steps = steps
        self._take_up()
        while self.step < steps:
            if self._is_judged(self.step):
                self._judge()
            if self.step == 0 and admit is not None:
                admit(self.judgements[0])
                self._keep_judgements()
            if self.world.from_main(self._around.stop()):
                self._save()
                return RunResult(False, self.step, self.elapsed, None, self.judgements)
            advance()
            if self.step % self._checkpoint_every == 0 or self.step == steps:
                self._save()
        self._judge()
        self._store.wait()
        folder = self.run / "model"
        if self.world.is_main:
            save(self.model, folder, tokenizer_from=self._base)
        self.world.barrier()
        return RunResult(True, self.step, self.elapsed, folder, self.judgements)

    def update(self, factor: float = 1.0) -> float:
        """Move the weights along the gradients that were added, at `factor` of the peak rate; the gradients' norm."""
        add_up_gradients(self.model, self.world)
        gradients = gradients_of(self.model)
        norm = square_norm(gradients).sqrt()
        if not torch.isfinite(norm):
            raise TrainingError(
                f"the gradient is not a number at step {self.step + 1}; the last checkpoint is in {self.run}. Lower "
                "optimizer.learning_rate or optimizer.gradient_clip, and run again to go on from there."
            )
        clip_gradients(gradients, norm, self._config.gradient_clip)
        self._optimizer.step(factor, self.step)
        self._optimizer.zero_grad()
        self._forget()
        return float(norm)

    def done(self, record: dict[str, Any]) -> None:
        """Count the step and tell of it."""
        self.step += 1
        if not self.world.is_main:
            return
        record = {**record, "step": self.step, "steps": self.steps, "elapsed": self.elapsed}
        append_line(self.run / "metrics.jsonl", record)
        self._around.watcher.on_step(record)

    # -- judging, saving, going on

    def _is_judged(self, step: int) -> bool:
        every = self._judging.every if self._judging else 0
        return step == 0 or (every > 0 and step % every == 0)

    def _judge(self) -> None:
        asked = self._judging
        if asked is None or self.step in self.judgements:
            return
        told = None
        if self.world.is_main:
            judgement = judge(self.engine, self.tokenizer, asked.task, asked.how, asked.problems, self.step)
            told = judgement.told
        self.judgements[self.step] = self.world.from_main(told)
        if not self.world.is_main:
            return
        self._keep_judgements()
        for group in judgement.groups[:SHOWN_TEXTS]:
            shown = {"step": self.step, "prompt": group.problem.prompt, "answer": group.problem.answer}
            text = group.rollouts[0]
            append_line(self.run / "samples.jsonl", shown | {"text": text.text, "score": asdict(text.score)})
        self._around.watcher.on_judgement(self.step, judgement)

    def _keep_judgements(self) -> None:
        if self.world.is_main:
            write_json(self.run / "judgements.json", self.judgements)

    def _forget(self) -> None:
        if "engine" in self.__dict__:
            self.engine.forget()

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {f"model.{name}": tensor for name, tensor in persistent_tensors(self.model).items()}
        tensors |= {f"optimizer.{name}": tensor for name, tensor in self._optimizer.state_tensors().items()}
        if self.reference is not None:
            tensors |= {f"reference.{name}": tensor for name, tensor in persistent_tensors(self.reference).items()}
        return tensors

    def _save(self) -> None:
        complete = self._store.complete()
        if self.step and not (complete and complete[-1].step == self.step):
            self._store.save(self.step, self._tensors(), {"run": self._mark, "elapsed": self.elapsed})
            self._store.wait()

    def _take_up(self) -> None:
        complete = self._store.complete()
        if complete:
            facts = complete[-1].facts()
            if facts["run"] != self._mark:
                raise CheckpointError(
                    f"{complete[-1].folder} belongs to another recipe, base or set of texts: go on with those, or use "
                    "another folder."
                )
            complete[-1].load_into(self._tensors())
            self._forget()
            self.step, self._before = complete[-1].step, facts["elapsed"]
        elif self.world.is_main and read_json(self.run / "begun.json", {}).get("run") != self._mark:
            # What another run found before its first checkpoint says nothing of this one.
            for name in ("judgements.json", "samples.jsonl"):
                (self.run / name).unlink(missing_ok=True)
            write_json(self.run / "begun.json", {"run": self._mark})
        self.world.barrier()
        kept = read_json(self.run / "judgements.json", {})
        self.judgements = {int(step): values for step, values in kept.items() if int(step) <= self.step}
        if self.world.is_main:
            _forget_after(self.run / "metrics.jsonl", self.step)
            _forget_after(self.run / "samples.jsonl", self.step)
        self.world.barrier()


def _trainable(folder: Path, around: Surroundings) -> Transformer:
    model = load(folder, dtype=torch.float32).to(around.world.device)
    model.compute_dtype = around.precision
    return model.train()


def _mark_of(values: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def digest_of_weights(folder: Path) -> str:
    """A fingerprint of a model folder's tensors."""
    found = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        found.update(file.read_bytes())
    return found.hexdigest()


def _forget_after(log: Path, step: int) -> None:
    """Drop a log's lines of steps that a kill undid."""
    if log.exists():
        whole = [line for line in log.read_text(encoding="utf-8").split("\n")[:-1] if json.loads(line)["step"] <= step]
        log.write_text("".join(f"{line}\n" for line in whole), encoding="utf-8")
