"""Muon (Jordan et al. 2024; Moonlight, arXiv 2502.16982), batched: one Newton-Schulz call for all matrices of a
shape.

Update of a matrix W with gradient G: M = momentum * M + (1 - momentum) * G; U = orthogonalise(Nesterov(M, G)); W <-
(1 - rate * decay) * W - rate * scale * U.

An expert stack (E, R, C) is E matrices; a fused gate and up (E, 2I, D) is 2E of them, since its halves are two maps
with one input. Tall matrices are transposed, so that gate, up and down of one width, of all layers, share a batch.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from fathom.kernels.newton_schulz import orthogonalise

LARGEST_BATCH = 2**25
"""Elements in one Newton-Schulz call: enough to be fast, little beside the weights."""


@dataclass(frozen=True)
class MuonMatrix:
    """A parameter Muon updates, and how many matrices are stacked in its rows (2 for a fused gate and up)."""

    name: str
    parameter: nn.Parameter
    stacked: int = 1


class Muon(torch.optim.Optimizer):
    """Muon over 2-D parameters and 3-D stacks, on one process or over FSDP2's row shards."""

    def __init__(
        self,
        matrices: Iterable[MuonMatrix],
        lr: float,
        *,
        momentum: float = 0.95,
        weight_decay: float = 0.1,
        scale: Callable[[int, int], float],
        newton_schulz_steps: int = 5,
        expert_turns: int = 1,
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        """With `expert_turns` n, expert e of every stack moves at each step that leaves e over by n, n times as far."""
        self._matrices = tuple(matrices)
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__([matrix.parameter for matrix in self._matrices], defaults)
        self._scale, self._steps, self._dtype = scale, newton_schulz_steps, dtype
        self._turns = expert_turns
        self.now = 0
        """The step that comes next, which says whose turn it is; whoever counts the steps sets it."""

    def materialise(self) -> None:
        """Create the momentum of every parameter, as zeros."""
        for matrix in self._matrices:
            state = self.state[matrix.parameter]
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(matrix.parameter)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        self.materialise()
        live = [matrix for matrix in self._matrices if matrix.parameter.grad is not None]
        if not live:
            return
        group = self.param_groups[0]
        rate, momentum = group["lr"], group["momentum"]
        gradients = [_local(gradient) for m in live if (gradient := m.parameter.grad) is not None]
        momenta = [_local(self.state[matrix.parameter]["momentum"]) for matrix in live]
        torch._foreach_lerp_(momenta, gradients, 1.0 - momentum)
        if group["weight_decay"]:
            torch._foreach_mul_([_local(matrix.parameter) for matrix in live], 1.0 - rate * group["weight_decay"])
        pieces = [
            _Piece(matrix, gradient, average, momentum, self.now, self._turns)
            for matrix, gradient, average in zip(live, gradients, momenta, strict=True)
        ]
        for batch in _batches(pieces):
            self._update(batch, rate)

    def _update(self, pieces: list["_Piece"], rate: float) -> None:
        counts = [piece.count for piece in pieces]
        batch = torch.empty(sum(counts), *pieces[0].key, dtype=self._dtype, device=pieces[0].gradient.device)
        for piece, part in zip(pieces, batch.split(counts), strict=True):
            part.copy_(piece.matrices())
        if sum(counts):
            batch = orthogonalise(batch, steps=self._steps, dtype=self._dtype)
        for piece, part in zip(pieces, batch.split(counts), strict=True):
            piece.apply(part, rate * self._scale(*piece.shape))


class _Piece:
    """One parameter's share of a batch: N matrices of R by C, and the way from and to the (sharded) parameter."""

    def __init__(
        self, matrix: MuonMatrix, gradient: Tensor, average: Tensor, momentum: float, now: int, turns: int
    ) -> None:
        parameter = matrix.parameter
        self.matrix = matrix
        self.is_stack = parameter.dim() == 3
        self.turns = turns if self.is_stack else 1
        first = _local_rows(parameter).start if isinstance(parameter, DTensor) and self.is_stack else 0
        # The experts of this process whose number in the whole stack is `now` modulo `turns`.
        self.chosen = slice((now - (first or 0)) % self.turns, None, self.turns)
        if self.is_stack:
            gradient, average = gradient[self.chosen], average[self.chosen]
        self.gradient, self.average, self.momentum = gradient, average, momentum
        rows = parameter.shape[-2] // matrix.stacked
        self.shape = (rows, parameter.shape[-1])
        # A stack is sharded by whole matrices, so each process orthogonalises its own; one matrix must be gathered.
        stacks = gradient.shape[0] if self.is_stack else 1
        self.count = stacks * matrix.stacked

    @property
    def key(self) -> tuple[int, int]:
        return min(self.shape), max(self.shape)

    def matrices(self) -> Tensor:
        """Nesterov's update as (N, R, C), R <= C, gathered from all processes where one matrix is cut."""
        whole = torch.lerp(self.gradient, self.average, self.momentum)
        parameter = self.matrix.parameter
        if isinstance(parameter, DTensor) and not self.is_stack:
            whole = DTensor.from_local(
                whole, parameter.device_mesh, parameter.placements, shape=parameter.shape, stride=parameter.stride()
            ).full_tensor()
        matrices = whole.reshape(-1, *self.shape)
        return matrices.transpose(-1, -2) if self.shape[0] > self.shape[1] else matrices

    def apply(self, orthogonal: Tensor, rate: float) -> None:
        """Subtract `rate` times the orthogonal update (N, R, C) from the parameter."""
        if self.shape[0] > self.shape[1]:
            orthogonal = orthogonal.transpose(-1, -2)
        parameter = self.matrix.parameter
        target = _local(parameter)
        if isinstance(parameter, DTensor) and not self.is_stack:
            orthogonal = orthogonal.reshape(parameter.shape)[_local_rows(parameter)]
        if self.is_stack:
            target = target[self.chosen]
        target.add_(orthogonal.reshape(target.shape), alpha=-rate * self.turns)


def _batches(pieces: list[_Piece]) -> Iterable[list[_Piece]]:
    """The pieces by shape, in batches of at most `LARGEST_BATCH` elements (or one piece).

    The order of pieces is the same on every process, whatever share of a stack it holds, since some are gathered.
    """
    by_shape: dict[tuple[int, int], list[_Piece]] = defaultdict(list)
    for piece in pieces:
        by_shape[piece.key].append(piece)
    for (rows, columns), alike in sorted(by_shape.items()):
        batch: list[_Piece] = []
        for piece in alike:
            if batch and (sum(p.count for p in batch) + piece.count) * rows * columns > LARGEST_BATCH:
                yield batch
                batch = []
            batch.append(piece)
        yield batch


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _local_rows(parameter: DTensor) -> slice:
    """The rows of a row-sharded parameter that this process holds."""
    if parameter.placements[-1].is_replicate():
        return slice(None)
    world, rank = parameter.device_mesh.size(-1), parameter.device_mesh.get_local_rank(-1)
    chunk = -(-parameter.shape[0] // world)
    return slice(min(rank * chunk, parameter.shape[0]), min((rank + 1) * chunk, parameter.shape[0]))


def rms_scale(rows: int, columns: int) -> float:
    """Moonlight's 0.2 sqrt(max(R, C)): the update has AdamW's usual root mean square, so both share one rate."""
    return 0.2 * math.sqrt(max(rows, columns))


def spectral_scale(rows: int, columns: int) -> float:
    """Jordan's sqrt(max(1, R / C)): the update changes any input's output by about the rate."""
    return math.sqrt(max(1.0, rows / columns))
