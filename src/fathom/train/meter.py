"""Turns what a step found into numbers for people: losses, speed against the machine's peak, load, memory."""

import math
from collections import deque

import torch
from torch import Tensor

from fathom.config.recipe import Recipe
from fathom.model.count import count
from fathom.parallel.mesh import World
from fathom.train import schedule
from fathom.train.balance import max_violation
from fathom.train.guard import Batch
from fathom.train.memory import memory_bytes
from fathom.train.observer import RunPlan, StepMetrics
from fathom.train.prepare import Text
from fathom.train.state import Counters
from fathom.train.step import Gradients

LOAD_WINDOW = 100
"""Steps whose loads MaxVio is also judged over together."""


class Meter:
    """Knows what a token costs and what the machine can do."""

    def __init__(self, recipe: Recipe, text: Text, world: World, peak: float) -> None:
        """`peak` is the measured matrix-product FLOP/s of all processes together."""
        self._recipe, self._train, self._text, self._world, self._peak = recipe, recipe.train, text, world, peak
        self._count = count(recipe.model, context=recipe.train.sequence_length)
        self._loads: deque[Tensor] = deque(maxlen=LOAD_WINDOW)

    def plan(self, run: str, step: int, steps: int | None) -> RunPlan:
        """What a run that has done `step` of `steps` steps is about to do."""
        return RunPlan(
            run=run,
            steps=steps,
            first_step=step,
            minutes=self._train.minutes,
            sequence_length=self._train.sequence_length,
            batch_sequences=self._train.batch_sequences,
            total_parameters=self._count.total,
            active_parameters=self._count.active,
            training_flop_per_token=self._flop_per_token(step, steps),
            matmul_peak=self._peak,
            training_tokens=self._text.manifest.split("train").tokens,
            validation_groups=tuple(self._text.validation),
            device=str(self._world.device),
            processes=self._world.size,
        )

    def step(
        self, batch: Batch, gradients: Gradients, counters: Counters, steps: int | None, seconds: float
    ) -> StepMetrics:
        """The record of a step that is done, which took `seconds`."""
        train = self._train
        factor = schedule.learning_rate_factor(train.schedule, batch.step, steps)
        speed = batch.size * train.sequence_length / seconds
        records_load = train.expert_load_every > 0 and counters.step % train.expert_load_every == 0
        return StepMetrics(
            step=counters.step,
            steps=steps,
            sequences=counters.sequences,
            tokens=counters.tokens,
            loss=gradients.loss,
            bits_per_byte=gradients.loss / math.log(2) / self._text.bytes_per_token,
            mtp_loss=gradients.mtp_loss,
            balance_loss=gradients.balance_loss,
            grad_norm=gradients.norm_value,
            learning_rate=train.optimizer.learning_rate * factor,
            seconds=seconds,
            elapsed=counters.elapsed,
            tokens_per_second=speed,
            matmul_share=speed * self._flop_per_token(batch.step, steps) / self._peak,
            max_vio=sum(gradients.max_vio) / max(len(gradients.max_vio), 1),
            max_vio_by_layer=gradients.max_vio,
            max_vio_global=self._global_violation(gradients.loads),
            expert_load=tuple(map(tuple, gradients.loads.tolist())) if records_load else None,
            memory_bytes=memory_bytes(self._world.device),
            teacher_kl=gradients.teacher_kl if train.teacher is not None else None,
        )

    def _global_violation(self, loads: Tensor) -> float:
        """MaxVio of the last steps' loads together, mean over the expert layers that ran in all of them."""
        if self._loads and self._loads[-1].shape != loads.shape:
            self._loads.clear()
        self._loads.append(loads.cpu())
        return (
            max_violation(sum(self._loads, torch.zeros_like(self._loads[-1]))).mean().item() if loads.numel() else 0.0
        )

    def _flop_per_token(self, step: int, steps: int | None) -> float:
        """Of the forward and backward pass, MTP modules included while they run; nothing recomputed counts twice."""
        runs = schedule.mtp_weight(self._train, step, steps) > 0
        share = self._train.mtp.sequence_share if runs else 0.0
        return self._count.training_flop_per_token + share * self._count.mtp_flop_per_token
