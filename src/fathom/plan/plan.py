"""What a pre-training run will take: memory, disk, traffic, time and money, before its first step."""

import math

import torch

from fathom.config.base import Section
from fathom.config.recipe import Recipe
from fathom.engine.memory import free_memory
from fathom.errors import RecipeError
from fathom.kernels.experts_sorted import WIDTH
from fathom.model.count import count
from fathom.parallel.device import best_device
from fathom.parallel.mesh import World
from fathom.plan.rehearsal import META, Rehearsal, sharded_pass, whole_step
from fathom.plan.shares import shares
from fathom.train.length import MARGIN, known_length
from fathom.train.prepare import check_sizes
from fathom.train.schedule import batch_sequences

FP32, BF16 = 4, 2


class GPUs(Section):
    """Machines that are not here."""

    count: int
    """How many, each with a process of its own."""
    peak_flops: float
    """Products in bf16 that one does in a second at most, in FLOP, as its maker says."""
    share: float
    """Of that peak, what training is taken to reach."""
    memory_bytes: int | None = None
    """Of each."""
    network: float | None = None
    """Bytes that each receives in a second from the others."""
    dollars_per_hour: float | None = None
    """Of each."""


class Plan(Section):
    """Every figure of a plan; sizes are those of the process that holds most."""

    device: str
    """`cpu` or `cuda`, here and measured; `GPUs`, on paper."""
    processes: int
    parameters: int
    active_parameters: int
    """Used by one token, without MTP modules."""
    mtp_parameters: int
    steps: int
    passes: int
    """Forward and backward passes of a process in a full step."""
    batch_tokens: int
    """Tokens of a full step."""
    tokens: int
    """Of the whole run."""
    flop: float
    """Of the whole run, nothing recomputed counted twice."""
    states_bytes: int
    """Parameters, gradients and moments."""
    gathered_bytes: int
    """Layers that stand whole while they compute, where several processes share a model."""
    working_bytes: int
    """Activations and all else that is alive at the fullest moment."""
    memory_bytes: int | None
    """What there is; None if nobody said."""
    average_bytes: int
    """The average of the parameters, in main memory."""
    received_bytes: int
    """From other processes, in a step."""
    received_seconds: float | None
    """What that takes; None if nobody said how fast the network is."""
    computing_seconds: float
    """What computing a full step takes. Traffic runs beside it, so that a step takes the longer of the two."""
    checkpoint_bytes: int
    """One checkpoint, of all processes together."""
    disk_bytes: int
    """The checkpoints kept, one being written, and the finished model."""
    tokens_per_second: float
    seconds: float
    dollars: float | None
    """None if nobody said what an hour costs."""

    @property
    def most_bytes(self) -> int:
        """Memory at the fullest moment."""
        return self.states_bytes + self.gathered_bytes + self.working_bytes

    @property
    def fits(self) -> bool | None:
        """Whether the memory is enough; None if it is not known."""
        return None if self.memory_bytes is None else self.most_bytes <= self.memory_bytes


def plan_here(recipe: Recipe) -> Plan:
    """A plan for one process on this machine, by passes and an update that are run and timed."""
    recipe = _per_process(recipe, 1)
    device = torch.device(best_device() if recipe.parallel.device == "auto" else recipe.parallel.device)
    passes = _passes(recipe, 1)
    step = whole_step(recipe, passes, device)
    seconds = passes * step.pass_seconds + step.update_seconds
    return _plan(recipe, str(device), 1, passes, step, 0, 0, seconds, free_memory(device), None)


def plan_for(recipe: Recipe, gpus: GPUs) -> Plan:
    """A plan for machines that are elsewhere, by a rehearsal on the meta device."""
    recipe = _per_process(recipe, gpus.count)
    _check_widths(recipe)
    passes = _passes(recipe, gpus.count)
    if gpus.count == 1:
        held, gathered, received = whole_step(recipe, passes), 0, 0
        working = held.most - held.states
    else:
        part, one = shares(recipe, gpus.count, passes), sharded_pass(recipe)
        states = part.parameters + part.gradients + part.moments
        working = one.most - one.states
        held, gathered, received = Rehearsal(states, states + working), part.gathered, part.received
    if recipe.train.precision == "fp32":
        # On paper all is bf16.
        held = Rehearsal(held.states, held.states + 2 * working)
    seconds = _batch_tokens(recipe) * _flop_per_token(recipe) / (gpus.count * gpus.peak_flops * gpus.share)
    return _plan(recipe, "GPUs", gpus.count, passes, held, gathered, received, seconds, gpus.memory_bytes, gpus)


def _plan(
    recipe: Recipe,
    device: str,
    processes: int,
    passes: int,
    held: Rehearsal,
    gathered: int,
    received: int,
    computing: float,
    memory: int | None,
    gpus: GPUs | None,
) -> Plan:
    train, counted = recipe.train, count(recipe.model, context=recipe.train.sequence_length)
    batch_tokens = _batch_tokens(recipe)
    network = None if gpus is None or gpus.network is None else received / gpus.network
    speed = batch_tokens / max(computing, network or 0.0)
    steps = known_length(train)
    if steps is None:
        assert train.minutes is not None
        steps = max(1, math.floor(MARGIN * 60 * train.minutes * speed / batch_tokens))
    tokens = _tokens(recipe, steps)
    stored = counted.total + counted.mtp
    whole = shares(recipe, processes=1, passes=1)
    average = stored * FP32 if train.ema.every else 0
    checkpoint = whole.parameters + whole.moments + average
    seconds = 60 * train.minutes if train.minutes is not None else tokens / speed
    price = None if gpus is None or gpus.dollars_per_hour is None else gpus.dollars_per_hour * gpus.count
    return Plan(
        device=device,
        processes=processes,
        parameters=counted.total,
        active_parameters=counted.active,
        mtp_parameters=counted.mtp,
        steps=steps,
        passes=passes,
        batch_tokens=batch_tokens,
        tokens=tokens,
        flop=tokens * _flop_per_token(recipe),
        states_bytes=round(held.states),
        gathered_bytes=gathered,
        working_bytes=round(held.most - held.states),
        memory_bytes=memory,
        average_bytes=average // processes,
        received_bytes=received,
        received_seconds=network,
        computing_seconds=computing,
        checkpoint_bytes=checkpoint,
        disk_bytes=checkpoint * (train.keep_last + 1) + stored * (BF16 if train.precision == "bf16" else FP32),
        tokens_per_second=speed,
        seconds=seconds,
        dollars=None if price is None else price * seconds / 3600,
    )


def _per_process(recipe: Recipe, processes: int) -> Recipe:
    """The recipe with passes no larger than a process's share of a batch; `RecipeError` if it does not divide."""
    check_sizes(recipe, World(META, size=processes))
    train = recipe.train
    sequences = min(train.micro_batch_sequences, train.batch_sequences // processes)
    return recipe.model_copy(update={"train": train.model_copy(update={"micro_batch_sequences": sequences})})


def _check_widths(recipe: Recipe) -> None:
    """`RecipeError` where the GPUs' form of experts, which is rehearsed, takes no such widths."""
    model = recipe.model
    for field in ("hidden_size", "moe_intermediate_size"):
        width = getattr(model, field)
        if model.first_k_dense_replace < model.num_hidden_layers and width % WIDTH:
            raise RecipeError(
                f"model.{field} = {width} is no multiple of {WIDTH}, and experts of such a width have no fast form on "
                "a GPU: change it before planning for one."
            )


def _passes(recipe: Recipe, processes: int) -> int:
    return math.ceil(recipe.train.batch_sequences / processes / recipe.train.micro_batch_sequences)


def _batch_tokens(recipe: Recipe) -> int:
    return recipe.train.batch_sequences * recipe.train.sequence_length


def _tokens(recipe: Recipe, steps: int) -> int:
    train = recipe.train
    ramp = min(steps, train.batch_ramp.steps)
    sequences = sum(batch_sequences(train, step) for step in range(ramp)) + (steps - ramp) * train.batch_sequences
    return sequences * train.sequence_length


def _flop_per_token(recipe: Recipe) -> float:
    counted = count(recipe.model, context=recipe.train.sequence_length)
    share = recipe.train.mtp.sequence_share if recipe.train.mtp.weight else 0.0
    return counted.training_flop_per_token + share * counted.mtp_flop_per_token
