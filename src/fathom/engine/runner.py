"""From a step's plan to the logits it needs: the only place where the engine meets the model's tensors."""

import itertools
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from fathom.engine.chunks import Chunk
from fathom.engine.worth import clock_for

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from fathom.engine.graphs import DecodeGraphs
    from fathom.engine.plan import Plan
    from fathom.kernels.decode.program import Packed
    from fathom.kernels.paged_attention import Ragged
    from fathom.model.paged import PagedStores
    from fathom.model.transformer import Transformer

PROBES = 16
"""Tensors of which a number is looked at to see whether the weights have changed."""


class Reading(NamedTuple):
    """What the model said in a step."""

    chunks: list[Chunk]
    """In the order in which their tokens were read."""
    memory: "PagedStores"
    """The cache, with the step's tokens in it."""
    hidden: "Tensor | None"
    """(T, D) after the final norm, of every token read; None where nobody asked for it."""
    tokens: list[int]
    """The T tokens."""
    rows: list[int]
    """Places among the T tokens whose logits were made: of each chunk that completes, its last unread token and its
    drafts."""
    logits: "Tensor"
    """(rows, V)."""
    begun: float
    """When the step's reading began, by `clock`."""
    clock: Callable[[], float] = time.perf_counter


class Runner:
    """Reads chunks through the model into the paged cache, by a native plan where the model has one."""

    def __init__(self, model: "Transformer", memory: "PagedStores", *, with_hidden: bool = False) -> None:
        self.model, self.memory, self.with_hidden = model, memory, with_hidden
        self.device: torch.device = memory.stores[0].device
        self._clock = clock_for(self.device.type)
        self._versions, self._places = self._weights()
        self._plan = self._make_plan()
        self._graphs = self._make_graphs()

    @property
    def weights_stale(self) -> bool:
        """Whether the model's weights are others than those that were last taken up.

        PyTorch counts changes in place, but not those that go through `.data` or NumPy, nor those of its fused
        optimisers; so a number of some of the tensors is looked at too.
        """
        return self._weights() != (self._versions, self._places)

    def take_weights(self) -> None:
        """Take up the model's present weights."""
        versions, places = self._weights()
        if places != self._places:
            self._plan = self._make_plan()
            self._graphs = self._make_graphs()
        elif self._plan is not None:
            self._plan.refresh()
        self._versions, self._places = versions, places

    def _weights(self) -> tuple[tuple[int | str, ...], int]:
        tensors = [*self.model.parameters(), *self.model.buffers()]
        # Inference tensors count nothing.
        versions = sum(tensor._version for tensor in tensors if not tensor.is_inference())
        probed = tensors[:: max(len(tensors) // PROBES, 1)]
        # As text, in which NaN equals itself.
        numbers = [repr(float(tensor.detach().reshape(-1)[-1])) for tensor in probed if tensor.numel()]
        return (versions, *numbers), hash(tuple(tensor.data_ptr() for tensor in tensors))

    def _make_plan(self) -> "Plan | None":
        from fathom.engine.plan import make_plan

        return make_plan(self.model)

    def _make_graphs(self) -> "DecodeGraphs | None":
        from fathom.engine.graphs import make_graphs

        return make_graphs(self.model, self.memory)

    def copy(self, copies: Sequence[tuple[int, int]]) -> None:
        """Copy blocks, in order."""
        for source, target in copies:
            self.memory.copy(source, target)

    def read(self, chunks: Sequence[Chunk]) -> Reading:
        """Read the chunks and make the logits that are to be drawn from."""
        import torch

        from fathom.model.paged import PagedBatch

        begun = self._clock()
        chunks = _by_cost(chunks)
        tokens: list[int] = []
        positions: list[int] = []
        rows: list[int] = []
        for sequence, start, count, drafts in chunks:
            settled = start + count - drafts
            tokens += sequence.tokens[start:settled]
            tokens += sequence.drafts[:drafts]
            positions += range(start, start + count)
            if settled == len(sequence.tokens):
                rows += range(len(tokens) - drafts - 1, len(tokens))
        hidden: Tensor | None
        if self._plan is not None:
            packed = pack(chunks, tokens, positions, rows)
            logits, hidden = self._plan.read(packed, self.memory, with_hidden=self.with_hidden)
            return Reading(chunks, self.memory, hidden, tokens, rows, logits, begun, self._clock)
        with torch.inference_mode():
            if self._graphs is not None and (made := self._graphs.read(chunks, tokens, positions, rows)) is not None:
                return Reading(chunks, self.memory, made[1], tokens, rows, made[0], begun, self._clock)
            batch = PagedBatch(self.memory, ragged(chunks, self.memory.block_size, self.device))
            at, wanted = _tensor([tokens, positions], self.device), _tensor(rows, self.device)
            hidden = self.model.trunk(at[:1], positions=at[1:], cache=batch).hidden[0]
            logits = self.model.head(hidden if len(rows) == len(tokens) else hidden[wanted])
        return Reading(chunks, self.memory, hidden, tokens, rows, logits, begun, self._clock)


def pack(chunks: Sequence[Chunk], tokens: list[int], positions: list[int], wanted: list[int]) -> "Packed":
    """A step of these chunks as a plan takes it."""
    from fathom.kernels.decode.program import Packed

    starts = [0, *itertools.accumulate(chunk.length for chunk in chunks)]
    lengths = [chunk.start + chunk.length for chunk in chunks]
    return Packed(tokens, positions, wanted, starts, lengths, [chunk.sequence.table for chunk in chunks])


def ragged(chunks: Sequence[Chunk], block_size: int, device: "torch.device") -> "Ragged":
    """Where the chunks' tokens stand in the cache."""
    import numpy as np

    from fathom.kernels.paged_attention import Ragged

    queries = tuple(chunk.length for chunk in chunks)
    keys = tuple(chunk.start + chunk.length for chunk in chunks)
    tables = np.zeros((len(chunks), -(-max(keys) // block_size)), np.int32)
    slots = np.empty(sum(queries), np.int64)
    at = 0
    for n, (sequence, start, count, _) in enumerate(chunks):
        end = start + count
        blocks = -(-end // block_size)
        tables[n, :blocks] = sequence.table[:blocks]
        if count == 1:
            slots[at] = sequence.table[start // block_size] * block_size + start % block_size
        else:
            places = np.arange(start, end)
            slots[at : at + count] = tables[n, places // block_size].astype(np.int64) * block_size + places % block_size
        at += count
    numbers = np.array([*keys, 0, *itertools.accumulate(queries)], np.int32)
    lengths, starts = _tensor(numbers, device).split((len(keys), len(queries) + 1))
    return Ragged(_tensor(slots, device), _tensor(tables, device), lengths, starts, queries, keys)


def _tensor(values: object, device: "torch.device") -> "Tensor":
    import numpy as np
    import torch

    # An empty list would become a tensor of floats.
    made = torch.from_numpy(values) if isinstance(values, np.ndarray) else torch.tensor(values, dtype=torch.int64)
    return made if device.type == "cpu" else made.to(device, non_blocking=True)


def _by_cost(chunks: Sequence[Chunk]) -> list[Chunk]:
    """First those with the fewest queries a key, which read latents as they are; see `fathom.model.paged`."""
    if all(chunk.length == 1 for chunk in chunks):
        return list(chunks)
    return sorted(chunks, key=lambda chunk: 1 / (chunk.start + chunk.length) - 1 / chunk.length)
