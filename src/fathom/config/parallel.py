"""The `[parallel]` part of a recipe: how one run is spread over processes. The numbers it computes stay the same."""

from typing import Literal

from pydantic import Field

from fathom.config.base import Section


class ParallelConfig(Section):
    """How the model is laid over the processes that `torchrun` starts."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """What to compute on; `auto` takes what FATHOM_DEVICE names, or else CUDA where there is one. Processes talk over
    NCCL on CUDA and gloo on CPUs."""
    data: int = Field(default=0, ge=0)
    """Processes that share each batch; 0 means all there are. V3: 16-way pipeline, 64-way experts, ZeRO-1 data."""
    reshard_after_forward: bool = True
    """Let go of a layer's gathered parameters after its forward pass (FSDP2's full sharding): least memory. Off,
    they stay until the backward pass: less traffic."""
    sum_every_pass: bool = False
    """Where a step is several passes, sum gradients over processes after each: a process then holds its share of them
    in the place of all, 4 bytes a parameter, and sends so many times more."""
    adapt_threads: bool = True
    """On a CPU, try fewer or more threads now and then, and keep what is faster: beside a busy neighbour fewer are.
    Only for a single process, and only where it changed no bit of the gradients of four batches, compared first; turn
    it off for a run that must repeat to the bit whatever runs beside it."""
