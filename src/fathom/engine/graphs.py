"""Decode steps as CUDA graphs: launched in one go, where a step of a small model is otherwise spent on launching.

A graph replays the same kernels on the same memory. So for each of a few batch sizes there are buffers that stay where
they are; a step is padded to the next size, its numbers are written into the buffers, and the graph is replayed.
Sequences that only fill up stand in block 0, which belongs to nobody. A step with prompts, drafts or more sequences
than the largest size is read as ever.

A graph must not depend on a number that Python knows: attention reads lengths and tables from the device, which its
Triton form does. Where there is none, or whatever else cannot be recorded, there are no graphs, and the log says so.
"""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor

from fathom.errors import GenerationError
from fathom.kernels.paged_attention import Ragged
from fathom.model.attention import LatentAttention
from fathom.model.grouped_query_attention import GroupedQueryAttention
from fathom.model.paged import PagedBatch, PagedStores

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fathom.engine.chunks import Chunk
    from fathom.model.transformer import Transformer

log = logging.getLogger("fathom.engine")

LARGEST = 256
"""Sequences in the largest step that is recorded."""
Pass = Callable[[], tuple[Tensor, Tensor]]
"""Reads what the buffers say, and returns logits (B, V) and hidden states (B, D)."""


class Recorded(NamedTuple):
    """A pass that can be had again without Python."""

    replay: Callable[[], object]
    logits: Tensor
    """(B, V), written anew by each replay."""
    hidden: Tensor
    """(B, D), likewise."""


class Recorder(Protocol):
    """Runs a pass and keeps how to run it again."""

    def __call__(self, run: Pass) -> Recorded:
        """Record `run`, whose inputs are where they will be at each replay."""


class CudaRecorder:
    """Records CUDA graphs, which share one pool of memory."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, run: Pass) -> Recorded:
        """Run twice before recording: kernels are compiled and tried, and libraries claim their memory, then."""
        here, aside = torch.cuda.current_stream(), torch.cuda.Stream()
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            for _ in range(2):
                run()
        here.wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            logits, hidden = run()
        return Recorded(graph.replay, logits, hidden)


class Bound(Ragged):
    """A step whose lengths only the device knows; `keys` are the most there can be."""

    def spans(self, first_sequence: int = 0) -> "Iterator[tuple[int, int, int]]":
        """None, or refused: a loop in Python would be recorded with the wrong lengths."""
        if first_sequence == len(self.queries):
            return iter(())
        raise GenerationError("This attention loops over sequences in Python, which cannot be recorded.")


@dataclass(frozen=True)
class _Buffers:
    """A step's inputs for B sequences, where a graph reads them."""

    numbers: Tensor
    """(4, B) int64: tokens, positions, slots and lengths."""
    tables: Tensor
    """(B, M) int32."""
    block_size: int

    def ragged(self) -> Bound:
        """The step as attention sees it: one token of each sequence."""
        B, M = self.tables.shape
        starts = torch.arange(B + 1, dtype=torch.int32, device=self.tables.device)
        lengths = self.numbers[3].to(torch.int32)
        return Bound(self.numbers[2], self.tables, lengths, starts, (1,) * B, (M * self.block_size,) * B)


class DecodeGraphs:
    """The decode steps of one model over one cache."""

    def __init__(self, model: "Transformer", memory: PagedStores, record: Recorder, largest: int = LARGEST) -> None:
        """For steps of up to `largest` sequences."""
        self._model, self._memory, self._record = model, memory, record
        self.sizes = batch_sizes(largest)
        self._width = -(-model.config.max_position_embeddings // memory.block_size)
        self._recorded: dict[int, tuple[_Buffers, Recorded]] = {}
        self._failed = False

    def forget(self) -> None:
        """Record anew: the weights stand elsewhere."""
        self._recorded.clear()

    def read(
        self, chunks: "Sequence[Chunk]", tokens: list[int], positions: list[int], rows: list[int]
    ) -> tuple[Tensor, Tensor] | None:
        """Logits (n, V) and hidden states (n, D) of a step of n sequences that decode; None for any other step.

        The logits are good until the next step.
        """
        n = len(chunks)
        if self._failed or not n == len(tokens) == len(rows) <= self.sizes[-1]:
            return None
        if max(positions) >= self._width * self._memory.block_size:
            return None
        size = next(size for size in self.sizes if size >= n)
        if size not in self._recorded:
            buffers = self._make_buffers(size)
            self._fill(buffers, chunks, tokens, positions)
            try:
                self._recorded[size] = (buffers, self._record(lambda: self._run(buffers)))
            except Exception as error:
                log.warning("Decode steps cannot be recorded as graphs (%s); they are launched one by one.", error)
                self._failed = True
                return None
        buffers, recorded = self._recorded[size]
        self._fill(buffers, chunks, tokens, positions)
        recorded.replay()
        return recorded.logits[:n], recorded.hidden[:n].clone()

    def _make_buffers(self, size: int) -> _Buffers:
        device = self._memory.stores[0].device
        numbers = torch.zeros(4, size, dtype=torch.int64, device=device)
        return _Buffers(
            numbers, torch.zeros(size, self._width, dtype=torch.int32, device=device), self._memory.block_size
        )

    def _run(self, buffers: _Buffers) -> tuple[Tensor, Tensor]:
        batch = PagedBatch(self._memory, buffers.ragged())
        tokens, positions = buffers.numbers[:1], buffers.numbers[1:2]
        hidden = self._model.trunk(tokens, positions=positions, cache=batch).hidden[0]
        return self._model.head(hidden), hidden

    def _fill(self, buffers: _Buffers, chunks: "Sequence[Chunk]", tokens: list[int], positions: list[int]) -> None:
        """Write a step's numbers into the buffers; the rest stands at the first row of block 0, and sees it alone."""
        n, size, block = len(chunks), buffers.tables.shape[0], self._memory.block_size
        spare = [0] * (size - n)
        slots = [c.sequence.table[at // block] * block + at % block for c, at in zip(chunks, positions, strict=True)]
        lengths = [at + 1 for at in positions]
        rows = ([*tokens, *spare], [*positions, *spare], [*slots, *spare], [*lengths, *(1 for _ in spare)])
        needed = [chunk.sequence.table[: -(-length // block)] for chunk, length in zip(chunks, lengths, strict=True)]
        widest = max(map(len, needed))
        tables = torch.tensor([[*table, *[0] * (widest - len(table))] for table in needed], dtype=torch.int32)
        buffers.numbers.copy_(torch.tensor(rows))
        buffers.tables[:n, :widest].copy_(tables)
        buffers.tables[n:, 0] = 0


def batch_sizes(largest: int) -> tuple[int, ...]:
    """Batch sizes that are recorded: doubled up to 8, then in steps of 8, so that little is padded."""
    return tuple(sorted({*(size for size in (1, 2, 4) if size < largest), *range(8, largest, 8), largest}))


def make_graphs(model: "Transformer", memory: PagedStores, largest: int = LARGEST) -> DecodeGraphs | None:
    """Graphs of a model on a CUDA device; None elsewhere, for attention not known here, or with FATHOM_GRAPHS=0."""
    known = (LatentAttention, GroupedQueryAttention)
    layers = list(model.model.layers)[: model.config.num_hidden_layers]
    if (
        memory.stores[0].device.type != "cuda"
        or os.environ.get("FATHOM_GRAPHS") == "0"
        or not all(isinstance(layer.self_attn, known) for layer in layers)
    ):
        return None
    return DecodeGraphs(model, memory, CudaRecorder(), largest)
