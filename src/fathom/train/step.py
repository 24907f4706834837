"""One optimiser step, in two halves: gradients of a batch, and the update they make. The guard judges in between."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fathom.config.train import TrainConfig
from fathom.model.transformer import Transformer, moe_layers
from fathom.parallel.fsdp import local, synchronise_gradients
from fathom.parallel.mesh import World
from fathom.train import schedule
from fathom.train.balance import max_violation, update_biases
from fathom.train.objective import Teacher, Weights, objective
from fathom.train.optimizer import Optimizer, clip_gradients, square_norm


@dataclass(frozen=True)
class Gradients:
    """What a batch says, over all processes, before anything is changed."""

    loss: float
    """Mean nll of the next token in nats."""
    teacher_kl: float
    """Mean KL(teacher, model) in nats; 0 without a teacher."""
    mtp_loss: tuple[float, ...]
    """The same for each MTP depth."""
    balance_loss: float
    """Mean over sequences, without alpha."""
    norm: Tensor
    """L2 norm of the whole gradient, a scalar."""
    norm_value: float
    loads: Tensor
    """(expert layers, E): tokens each expert took in the batch."""
    max_vio: tuple[float, ...]
    """Of each expert layer."""


def compute_gradients(
    model: Transformer,
    rows: Tensor,
    train: TrainConfig,
    world: World,
    step: int,
    steps: int | None,
    teacher: Teacher | None = None,
) -> Gradients:
    """Form the gradients of the batch of `step`; `rows` (B, S + 1 + depths) are this process's share of it."""
    mtp, alpha = schedule.mtp_weight(train, step, steps), schedule.balance_alpha(train)
    weights = Weights(mtp, train.mtp.sequence_share, alpha, train.mtp.self_distillation)
    batch = rows.shape[0] * world.size
    sums, loads = None, None
    parts = rows.split(train.micro_batch_sequences)
    for index, part in enumerate(parts):
        synchronise_gradients(model, world.sums_every_pass or index == len(parts) - 1)
        terms = objective(model, part, weights, batch, teacher)
        # FSDP averages over processes, and the terms are shares of a sum.
        (terms.loss * world.size).backward()
        sums = terms.sums if sums is None else sums + terms.sums
        loads = terms.loads if loads is None else loads + terms.loads
    assert sums is not None
    assert loads is not None

    # One collective for every number of the step, and one transfer from the device.
    numbers = world.sum_(torch.cat([sums.float(), square_norm(gradients_of(model)).view(1)]))
    world.sum_(loads)
    norm = numbers[-1].sqrt()
    tokens = batch * (rows.shape[1] - 1 - model.config.num_nextn_predict_layers)
    values = torch.cat([numbers[:-1], norm.view(1), max_violation(loads)]).tolist()
    modules = sums.shape[0] - 3
    return Gradients(
        loss=values[0] / tokens,
        teacher_kl=values[1] / tokens,
        balance_loss=values[2] / batch,
        mtp_loss=tuple(value / tokens for value in values[3 : 3 + modules]),
        norm=norm,
        norm_value=values[3 + modules],
        loads=loads,
        max_vio=tuple(values[4 + modules :]),
    )


def apply_update(
    model: Transformer, optimizer: Optimizer, gradients: Gradients, train: TrainConfig, step: int, steps: int | None
) -> None:
    """Clip, update the parameters, move the routing biases, and let the gradients go."""
    clip_gradients(gradients_of(model), gradients.norm, train.optimizer.gradient_clip)
    optimizer.step(schedule.learning_rate_factor(train.schedule, step, steps), step)
    speed = schedule.bias_update_speed(train, step, steps)
    # MTP modules come last and stand still in a step in which they did not run.
    update_biases(routing_biases(model)[: gradients.loads.shape[0]], gradients.loads, speed)
    optimizer.zero_grad()


def gradients_of(model: Transformer) -> list[Tensor]:
    """This process's part of every gradient."""
    return [local(parameter.grad) for parameter in model.parameters() if parameter.grad is not None]


def routing_biases(model: Transformer) -> list[Tensor]:
    """The balancing biases in the order of the loads; V2's routers have none."""
    return [layer.gate.e_score_correction_bias for _, layer in moe_layers(model) if layer.gate.biased]
