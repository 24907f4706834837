"""The processes of a run, and the one mesh they form."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from fathom.config.parallel import ParallelConfig
from fathom.errors import RecipeError, UsageError
from fathom.parallel.device import best_device

DATA = "data"
"""The mesh dimension along which batches are divided and parameters sharded."""


@dataclass(frozen=True)
class World:
    """This process among those of the run."""

    device: torch.device
    rank: int = 0
    size: int = 1
    mesh: DeviceMesh | None = None
    """Named dimensions over all processes; none where there is one process."""
    checkpoint_group: Any = None
    """A gloo group of its own, so that a save in the background never meets the training's collectives."""
    sums_every_pass: bool = False
    """Whether gradients are added up over processes after each pass of a step, not after the last alone."""

    @property
    def is_main(self) -> bool:
        """Whether this process writes the run's files and speaks to the user."""
        return self.rank == 0

    def sum_(self, tensor: Tensor) -> Tensor:
        """Add up `tensor` over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def from_main(self, value: Any) -> Any:
        """The main process's `value`, on every process."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def from_all(self, value: Any) -> list[Any]:
        """Every process's `value` in the order of ranks, on every process."""
        if self.size == 1:
            return [value]
        found = [None] * self.size
        dist.all_gather_object(found, value)
        return found

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            dist.barrier()


ALONE = World(torch.device("cpu"))
"""The only process of a run that is not spread."""


@contextmanager
def processes(config: ParallelConfig) -> Iterator[World]:
    """Join the processes that torchrun started, or be the only one."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if config.data not in (0, size):
        raise RecipeError(
            f"parallel.data = {config.data}, and {size} process{'es run' if size > 1 else ' runs'}: start with "
            f"`torchrun --nproc-per-node {config.data} -m -- fathom ...`, or set parallel.data = 0."
        )
    device = _device(config.device)
    if size == 1:
        yield World(device)
        return
    joined_here = not dist.is_initialized()
    if joined_here:
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        mesh = init_device_mesh(device.type, (size,), mesh_dim_names=(DATA,))
        yield World(device, dist.get_rank(), size, mesh, dist.new_group(backend="gloo"), config.sum_every_pass)
    finally:
        if joined_here:
            dist.destroy_process_group()


def one_process() -> World:
    """The world of a command whose work is not shared; refused under torchrun."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size > 1:
        raise UsageError(f"This command runs as one process, and {size} were started: call it without torchrun.")
    return World(_device("auto"))


def _device(wanted: str) -> torch.device:
    if wanted == "cuda" and not torch.cuda.is_available():
        raise RecipeError("parallel.device = 'cuda', and no CUDA device is here: set it to 'auto' or 'cpu'.")
    if (best_device() if wanted == "auto" else wanted) == "cpu":
        return torch.device("cpu")
    index, there = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if index >= there:
        raise RecipeError(
            f"This is process {index + 1} of its machine, and the machine shows {there} CUDA devices: start at most "
            f"`torchrun --nproc-per-node {there}`, or set parallel.device = 'cpu'."
        )
    device = torch.device("cuda", index)
    torch.cuda.set_device(device)
    return device
