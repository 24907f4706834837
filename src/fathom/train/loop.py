"""The training run, from a recipe to a Hugging Face folder; killed at any moment, it goes on to the same losses."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from fathom.config.recipe import Recipe
from fathom.errors import CheckpointError, TrainingError
from fathom.kernels.memory import keep_freed_memory
from fathom.parallel.mesh import World, processes
from fathom.train import schedule
from fathom.train.checkpoint import Checkpoint, CheckpointStore
from fathom.train.finish import export, judge, write_samples
from fathom.train.guard import Batch, Verdict, describe, first_after
from fathom.train.length import known_length, measured_length
from fathom.train.log import RunLog, TensorBoardLog
from fathom.train.meter import Meter
from fathom.train.observer import Everyone, Observer, Silent
from fathom.train.peak import matmul_peak
from fathom.train.prepare import DTYPES, Text, build_model, build_teacher, check_sizes, open_text
from fathom.train.result import TrainResult, never
from fathom.train.run import RunFolder, RunMemory, claimed
from fathom.train.state import Counters, TrainingState, build_state
from fathom.train.step import Gradients, apply_update, compute_gradients
from fathom.train.threads import AGREEMENT_BATCHES, AdaptingThreads, gradients_agree


def train(
    recipe: Recipe,
    run: Path,
    *,
    corpus: Path | None = None,
    observer: Observer | None = None,
    stop: Callable[[], bool] = never,
) -> TrainResult:
    """Train `recipe` in the folder `run`, going on where an earlier call stopped or was killed.

    `corpus` is a folder that `build_corpus` made (default: `run/corpus`). `stop` is asked before every step; once it
    says yes, the state is saved and the call returns. The finished model is `run/model`.
    """
    folder = RunFolder(Path(run))
    with ExitStack() as stack:
        world = stack.enter_context(processes(recipe.parallel))
        check_sizes(recipe, world)
        if world.device.type == "cpu":
            keep_freed_memory()
        text = open_text(recipe, corpus or folder.folder / "corpus")
        if world.is_main:
            stack.enter_context(claimed(folder.folder))
        return _Run(recipe, folder, text, world, observer or Silent(), stop).to_the_end()


class _Run:
    """One process's life of a run."""

    def __init__(
        self, recipe: Recipe, folder: RunFolder, text: Text, world: World, observer: Observer, stop: Callable[[], bool]
    ) -> None:
        self._recipe, self._train, self._folder, self._text, self._world = recipe, recipe.train, folder, text, world
        self._stop, self._watching = stop, observer
        self._observer: Observer = Silent()
        self._begin = time.monotonic()
        self._durations: list[float] = []
        self._store = CheckpointStore(folder.checkpoints, world, recipe.train.keep_last)
        self._memory = RunMemory([recipe.choices(), text.digest], world)
        self._incidents: list[dict[str, Any]] = self._memory.recall(folder.incidents).get("incidents", [])
        self._steps = known_length(recipe.train) or self._memory.recall(folder.length).get("steps")
        adapts = recipe.parallel.adapt_threads and world.device.type == "cpu" and world.size == 1
        self._threads = AdaptingThreads() if adapts and torch.get_num_threads() > 1 else None
        self._state: TrainingState
        self._meter: Meter

    def to_the_end(self) -> TrainResult:
        """Train until the last step or until asked to stop."""
        complete = self._store.complete()
        self._elapsed_before = 0.0
        if complete:
            self._refuse_another_recipe(complete[-1])
        done = self._already_finished(complete)
        if done is not None:
            return done
        self._teacher = build_teacher(self._recipe, self._text, self._world)
        self._state = build_state(build_model(self._recipe, self._world), self._train)
        if complete:
            self._take_up(complete[-1])
        self._announce(resumed=bool(complete))
        try:
            while self._steps is None or self._counters.step < self._steps:
                if self._world.from_main(self._stop()):
                    return self._pause()
                if self._one_step():
                    self._fix_length()
                    self._when_due()
        except BaseException:
            self._store.keep_what_is_written()
            raise
        finally:
            if self._threads is not None:
                self._threads.use_all()
        return self._finish()

    @property
    def _counters(self) -> Counters:
        return self._state.counters

    # -- before the first step

    def _refuse_another_recipe(self, checkpoint: Checkpoint) -> None:
        facts = checkpoint.facts()
        fields = self._recipe.differing_fields(facts["recipe"])
        if facts["corpus"] != self._text.digest:
            fields.append(f"the text (its training tokens or tokenizer are not those of {self._text.folder})")
        if fields:
            raise CheckpointError(
                f"{checkpoint.folder} belongs to another recipe; it differs in {'; '.join(fields)}. Go on with the "
                f"recipe in {self._folder.recipe}, or train this one in another folder."
            )

    def _already_finished(self, complete: list[Checkpoint]) -> TrainResult | None:
        result = self._memory.recall(self._folder.result)
        if not result or not complete or complete[-1].step != self._steps or not self._folder.model.exists():
            return None
        return TrainResult(**result | {"model": self._folder.model})

    def _take_up(self, checkpoint: Checkpoint) -> None:
        tensors = self._state.tensors()
        checkpoint.load_into(tensors)
        elapsed = self._counters.elapsed
        self._state.load(tensors, checkpoint.facts())
        self._counters.elapsed = max(elapsed, self._counters.elapsed)

    def _announce(self, resumed: bool) -> None:
        step = self._counters.step
        self._elapsed_before = self._counters.elapsed
        peak = matmul_peak(DTYPES[self._train.precision], self._world.device) * self._world.size
        self._meter = Meter(self._recipe, self._text, self._world, peak)
        if not self._world.is_main:
            return
        self._folder.describe(self._recipe, self._text.folder)
        self._folder.forget_after(step)
        observers: list[Observer] = [RunLog(self._folder), self._watching]
        if self._train.tensorboard:
            observers.append(TensorBoardLog(self._folder, step))
        self._observer = Everyone(observers)
        self._observer.on_start(self._meter.plan(str(self._folder.folder), step, self._steps))
        if resumed:
            self._observer.on_event(f"going on from the checkpoint of step {step}")

    # -- one step

    def _one_step(self) -> bool:
        """Train on the next batch; False if the guard took the run back instead."""
        begin = time.perf_counter()
        state, step = self._state, self._counters.step
        batch = self._next_batch()
        rows = self._text.batches.batch(batch.first, batch.size, self._world.rank, self._world.size)
        tokens = torch.from_numpy(rows).to(self._world.device)
        gradients = compute_gradients(state.model, tokens, self._train, self._world, step, self._steps, self._teacher)
        verdict = state.guard.judge(batch, gradients.loss, gradients.norm_value)
        if verdict is Verdict.NON_FINITE or (verdict is Verdict.SPIKE and self._train.guard.spike != "warn"):
            self._heal(verdict, batch, gradients)
            return False
        if verdict is Verdict.SPIKE:
            self._observer.on_event(f"the loss has been high since {state.guard.high[0]}: {gradients.loss:.3f} nats")
            state.guard.high.clear()
        apply_update(state.model, state.optimizer, gradients, self._train, step, self._steps)
        counters = self._counters
        counters.step, counters.sequences = step + 1, batch.end
        counters.tokens += batch.size * self._train.sequence_length
        if state.average is not None:
            state.average.update(counters.step)
        counters.elapsed = self._elapsed()
        seconds = time.perf_counter() - begin
        self._durations.append(seconds)
        if self._world.is_main:
            self._observer.on_step(self._meter.step(batch, gradients, counters, self._steps, seconds))
        if self._threads is not None:
            self._threads.after_step(seconds, self._gradients_agree)
        return True

    def _gradients_agree(self, most: int) -> bool:
        size = self._train.batch_sequences
        batches = (torch.from_numpy(self._text.batches.batch(i * size, size, 0, 1)) for i in range(AGREEMENT_BATCHES))
        step, teacher = self._counters.step, self._teacher
        return gradients_agree(self._state.model, batches, self._train, self._world, step, self._steps, most, teacher)

    def _next_batch(self) -> Batch:
        step = self._counters.step
        skipped = [(incident["first"], incident["end"]) for incident in self._incidents]
        first = first_after(self._counters.sequences, skipped)
        return Batch(step, first, schedule.batch_sequences(self._train, step))

    def _elapsed(self) -> float:
        return self._elapsed_before + time.monotonic() - self._begin

    # -- when something is wrong

    def _heal(self, verdict: Verdict, batch: Batch, gradients: Gradients) -> None:
        """Go back to before the trouble and leave its batches out, or stop with the state saved."""
        guard, state = self._train.guard, self._state
        state.optimizer.zero_grad()
        since = state.guard.high[0] if verdict is Verdict.SPIKE else batch
        what = describe(verdict, batch, since, gradients.loss, gradients.norm_value)
        policy = guard.non_finite if verdict is Verdict.NON_FINITE else guard.spike
        if policy == "stop" or len(self._incidents) >= guard.max_rollbacks:
            self._save()
            self._store.wait()
            reason = "" if policy == "stop" else f" after {len(self._incidents)} rollbacks (train.guard.max_rollbacks)"
            raise TrainingError(
                f"training stopped{reason}: {what}. The state before this step is saved in {self._folder.checkpoints}. "
                "Look at this batch, lower train.optimizer.learning_rate in a new run, or go on without the batch: "
                "train.guard.non_finite = 'rollback' and a larger train.guard.max_rollbacks."
            )
        self._incidents.append({"step": since.step, "first": since.first, "end": batch.end, "what": what})
        self._memory.remember(self._folder.incidents, {"incidents": self._incidents})
        self._roll_back(since.step)
        self._observer.on_event(f"{what}: back to step {self._counters.step}, leaving out these sequences")

    def _roll_back(self, step: int) -> None:
        """Restore the state of the last checkpoint at or before `step`, or the first weights."""
        self._store.remove_after(step)
        elapsed = self._elapsed()
        complete = self._store.complete()
        if complete:
            self._take_up(complete[-1])
        else:
            self._state.begin_again(build_model(self._recipe, self._world))
        self._counters.elapsed = elapsed
        if self._world.is_main:
            self._folder.forget_after(self._counters.step)

    # -- between steps

    def _fix_length(self) -> None:
        """Once a wall-clock run's speed is known, decide its number of steps for good."""
        if self._steps is not None:
            return
        tokens = [len(shards) for shards in self._text.validation.values()]
        done = self._counters.step
        measured = measured_length(self._train, done, self._durations, self._elapsed(), tokens)
        self._steps = self._world.from_main(measured)
        if self._steps is not None:
            self._memory.remember(self._folder.length, {"steps": self._steps, "measured_at_step": done})
            self._observer.on_event(f"measured over {done} steps: the run takes {self._steps} steps")

    def _when_due(self) -> None:
        """Evaluate, write samples and save where this step is one for it."""
        step, train = self._counters.step, self._train
        last = step == self._steps
        self._store.poll()
        if _due(step, train.evaluate_every) and not last:
            for evaluation in judge(self._state.model, self._text, self._world, train, step, complete=False):
                self._observer.on_evaluation(evaluation)
        if _due(step, train.samples.every) or (last and train.samples.every):
            for sample in write_samples(self._state.model, self._text, self._world, train, step):
                self._observer.on_sample(sample)
        if _due(step, train.checkpoint_every) or last:
            self._save()

    def _save(self) -> None:
        facts = {"recipe": self._recipe.identity(), "corpus": self._text.digest, **self._state.facts()}
        self._store.save(self._counters.step, self._state.tensors(), facts)

    # -- at the end

    def _pause(self) -> TrainResult:
        complete = self._store.complete()
        if not complete or complete[-1].step != self._counters.step:
            self._save()
        self._store.wait()
        self._observer.on_event(f"stopped after step {self._counters.step}; run it again to go on")
        counters = self._counters
        return TrainResult(False, counters.step, counters.tokens, counters.elapsed, {}, None)

    def _finish(self) -> TrainResult:
        self._store.wait()
        state, counters = self._state, self._counters
        with ExitStack() as stack:
            if self._train.ema.export and state.average is not None:
                stack.enter_context(state.average.in_place())
            evaluations = judge(state.model, self._text, self._world, self._train, counters.step, complete=True)
            for evaluation in evaluations:
                self._observer.on_evaluation(evaluation)
            export(state.model, self._recipe, self._text, self._world, self._folder.model, evaluations)
        counters.elapsed = self._elapsed()
        result = TrainResult(
            finished=True,
            steps=counters.step,
            tokens=counters.tokens,
            seconds=counters.elapsed,
            bits_per_byte={evaluation.group: evaluation.bits_per_byte for evaluation in evaluations},
            model=self._folder.model,
        )
        self._memory.remember(self._folder.result, vars(result) | {"model": "model"})
        self._world.barrier()
        return result


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
