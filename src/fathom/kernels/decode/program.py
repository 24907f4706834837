"""Builds a native decode program node by node, and runs it. The nodes are C++; the sources are beside this file.

A program works on buffers of activations, one row a token. The caller makes buffers, adds nodes that read and write
them in order, and then runs steps. Weights are read where they lie whenever they have the program's operand type.
"""

import ctypes
import functools
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fathom.errors import GenerationError
from fathom.kernels import native
from fathom.kernels.quantise import Quantised

# Unlike the training kernels', sums here keep the order they are written in, on which equal results in any batch rest.
FLAGS = ["-O3", "-march=native", "-fPIC", "-std=c++17", "-pthread"]
FLAGS += ["-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"]

KINDS = {torch.float32: 0, torch.bfloat16: 1}
STORE_FLOAT, STORE_OPERAND, ADD, LOGITS = range(4)
"""What becomes of a linear map's result: FP32 or operand type in a buffer, added to an FP32 buffer, or the logits."""


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled sources; None where they cannot be built."""
    loaded = native.build("decode", Path(__file__).parent, FLAGS)
    if loaded is not None:
        loaded.plan_new.restype = loaded.plan_attention_work.restype = ctypes.c_void_p
        loaded.plan_buffer.restype = loaded.plan_run.restype = loaded.plan_draft.restype = ctypes.c_int64
    return loaded


class Matrix(ctypes.Structure):
    """The address of a weight and what it is, as nodes take it; made by `Program.matrix`."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("kind", "rows", "columns")),
    )


class _Step(ctypes.Structure):
    _fields_ = (
        *(
            (name, ctypes.c_int64)
            for name in ("tokens_count", "sequences", "wanted_count", "block_size", "blocks", "table_width")
        ),
        *(
            (name, ctypes.c_void_p)
            for name in ("tokens", "positions", "query_start", "lengths", "table", "wanted", "first_store")
        ),
        *((name, ctypes.c_void_p) for name in ("second_store", "logits", "hidden", "inputs")),
    )


@dataclass(frozen=True)
class Step:
    """What one run is given: T tokens of N sequences, one after the other, and the paged cache they live in."""

    tokens: Tensor
    """(T,) int64."""
    positions: Tensor
    """(T,) int64, for the rotary embedding."""
    starts: Tensor
    """(N + 1,) int32: sequence n has tokens starts[n] to starts[n + 1]."""
    lengths: Tensor
    """(N,) int32: tokens in the cache once this step's are."""
    tables: Tensor
    """(N, M) int32: the blocks of each sequence."""
    stores: tuple[Tensor, ...]
    """(layers, blocks, block size, W) for each cached tensor, of the program's operand type."""
    wanted: Tensor
    """(m,) int64: tokens whose logits are wanted."""


class Packed:
    """A `Step` from plain numbers, in two arrays: what is made anew for every token should cost little."""

    def __init__(
        self,
        tokens: list[int],
        positions: list[int],
        wanted: list[int],
        starts: list[int],
        lengths: list[int],
        tables: "Sequence[array[int]]",
    ) -> None:
        """Each as in `Step`; `tables` may be of different lengths."""
        self.tokens, self.sequences, self.wanted = len(tokens), len(lengths), len(wanted)
        self.width = max(map(len, tables))
        self._longs = array("q", tokens + positions + wanted)
        self._ints = array("i", starts + lengths)
        for table in tables:
            self._ints.extend(table)
            if len(table) < self.width:
                self._ints.extend([0] * (self.width - len(table)))

    def sizes(self) -> tuple[int, int, int]:
        """T, N and m."""
        return self.tokens, self.sequences, self.wanted

    def addresses(self) -> tuple[int, ...]:
        """Of tokens, positions, starts, lengths, tables and wanted."""
        longs, ints = self._longs.buffer_info()[0], self._ints.buffer_info()[0]
        lengths = ints + 4 * (self.sequences + 1)
        tables = lengths + 4 * self.sequences
        return longs, longs + 8 * self.tokens, ints, lengths, tables, longs + 16 * self.tokens


class Drafting(ctypes.Structure):
    """What `Program.draft` is asked for and says; `draft.cpp` explains the fields."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("longest", "vocabulary", "width", "levels")),
        *((name, ctypes.c_void_p) for name in ("draw", "sequences", "most", "wholes", "reals", "hits", "counts")),
        *((name, ctypes.c_double) for name in ("prior", "mean", "seconds", "tokens", "slope")),
        ("pass_seconds", ctypes.c_double * 2),
        *((name, ctypes.c_int64) for name in ("free", "paid")),
        *((name, ctypes.c_void_p) for name in ("guesses", "logprobs", "made")),
        ("further_seconds", ctypes.c_double),
        ("passes", ctypes.c_int64),
    )


class Program:
    """A list of nodes over buffers. `dtype`, FP32 or bf16, is that of products' operands; sums are FP32."""

    def __init__(self, dtype: torch.dtype, threads: int) -> None:
        self.dtype, self.threads = dtype, threads
        loaded = library()
        assert loaded is not None
        self._library = loaded
        address = loaded.plan_new(_int(KINDS[dtype]), _int(threads))
        if not address:
            raise MemoryError("no room for a decode program and its threads")
        self._plan = ctypes.c_void_p(address)
        self._kept: list[object] = []
        self._copies: list[tuple[Tensor, Tensor]] = []

    def __del__(self) -> None:
        if hasattr(self, "_plan"):
            self._library.plan_free(self._plan)

    def refresh(self) -> None:
        """Copy those weights again that could not be read where they are, after a change of the model's."""
        for source, copy in self._copies:
            copy.copy_(source)

    def float_vector(self, vector: Tensor) -> ctypes.c_void_p:
        """The address of an FP32 vector, of a copy if `vector` is of another type."""
        return _address(self._as(vector, torch.float32))

    def _as(self, tensor: Tensor, dtype: torch.dtype) -> Tensor:
        source = tensor.detach()
        made = source.to(dtype).contiguous()
        if made.data_ptr() != source.data_ptr():
            self._copies.append((source, made))
        self._kept.append(made)
        return made

    def matrix(self, weight: Tensor | Quantised, dtype: torch.dtype | None = None) -> Matrix:
        """A weight (..., rows, columns) as nodes take it, in `dtype` or the operand type; leading axes are rows too."""
        if isinstance(weight, Quantised):
            kind = {8: 2, 4: 3}[weight.bits]
            made = Matrix(weight.data.data_ptr(), weight.scales.data_ptr(), kind, *weight.shape)
        else:
            tensor = self._as(weight, dtype or self.dtype)
            columns = tensor.shape[-1]
            made = Matrix(tensor.data_ptr(), None, KINDS[tensor.dtype], tensor.numel() // columns, columns)
        self._kept += [weight, made]
        return made

    def buffer(self, width: int, dtype: torch.dtype | None = None, rows_per_token: int = 1) -> int:
        """A buffer of rows of `width` numbers, of the operand type unless given."""
        kind = KINDS[dtype or self.dtype]
        number: int = self._library.plan_buffer(self._plan, _int(kind), _int(width), _int(rows_per_token))
        return number

    def add(self, node: str, *arguments: object) -> None:
        """Add a node by its C name; integers are 64 bits, floats 32, other things ctypes objects."""
        self._library[f"plan_{node}"](self._plan, *(_pass(argument) for argument in arguments))

    def linear(self, source: int, *maps: tuple[Matrix, Tensor | None, int, int]) -> None:
        """Maps that read the same buffer: (weight, bias or None, target buffer, what becomes of the result) each."""
        count = len(maps)
        weights = (ctypes.c_void_p * count)(*(ctypes.addressof(weight) for weight, *_ in maps))
        biases = (ctypes.c_void_p * count)(
            *(None if bias is None else self.float_vector(bias).value for _, bias, *_ in maps)
        )
        targets = integers(target for _, _, target, _ in maps)
        into = integers(what for *_, what in maps)
        self.add("linear", source, count, weights, biases, targets, into)

    def attention_work(self, groups: int, heads_per_group: int, value_width: int) -> ctypes.c_void_p:
        """What attention layers of one shape share in a step."""
        sizes = (_int(groups), _int(heads_per_group), _int(value_width))
        return ctypes.c_void_p(self._library.plan_attention_work(self._plan, *sizes))

    def run(self, step: Step, vocabulary: int, hidden: Tensor | None = None, inputs: Tensor | None = None) -> Tensor:
        """Logits (m, V) FP32 of the wanted tokens. `hidden` (T, D) FP32 receives what the head would see of all.

        `inputs` (T, D) FP32 are the states that an MTP module reads beside its tokens.
        """
        made = _Step(
            step.tokens.shape[0],
            step.lengths.shape[0],
            step.wanted.shape[0],
            step.stores[0].shape[2],
            step.stores[0].shape[1],
            step.tables.shape[1],
            *(t.data_ptr() for t in (step.tokens, step.positions, step.starts, step.lengths, step.tables, step.wanted)),
        )
        return self._run(made, step.stores, vocabulary, hidden, inputs)

    def run_packed(
        self,
        packed: Packed,
        stores: tuple[Tensor, ...],
        vocabulary: int,
        hidden: Tensor | None = None,
        inputs: Tensor | None = None,
        drafting: Drafting | None = None,
    ) -> Tensor:
        """The same for a packed step over `stores`; with `drafting`, guesses are made from it on."""
        shape = stores[0].shape
        made = _Step(*packed.sizes(), shape[2], shape[1], packed.width, *packed.addresses())
        return self._run(made, stores, vocabulary, hidden, inputs, drafting)

    def _run(
        self,
        made: _Step,
        stores: tuple[Tensor, ...],
        vocabulary: int,
        hidden: Tensor | None,
        inputs: Tensor | None,
        drafting: Drafting | None = None,
    ) -> Tensor:
        logits = torch.empty(made.wanted_count, vocabulary)
        made.first_store = stores[0].data_ptr()
        made.second_store = stores[1].data_ptr() if len(stores) > 1 else None
        made.logits = logits.data_ptr()
        made.hidden = None if hidden is None else hidden.data_ptr()
        made.inputs = None if inputs is None else inputs.data_ptr()
        if drafting is None:
            failed = self._library.plan_run(self._plan, ctypes.byref(made))
        else:
            failed = self._library.plan_draft(self._plan, ctypes.byref(made), ctypes.byref(drafting))
        if failed:
            raise GenerationError(
                f"Memory ran out for the activations of a step of {made.tokens_count} tokens: lower max_batched_tokens."
            )
        return logits


def integers(values: Iterable[int]) -> "ctypes.Array[ctypes.c_int64]":
    """64-bit integers as C takes them."""
    listed = list(values)
    made: ctypes.Array[ctypes.c_int64] = (ctypes.c_int64 * len(listed))(*listed)
    return made


def _int(value: int) -> ctypes.c_int64:
    return ctypes.c_int64(value)


def _address(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def _pass(argument: object) -> object:
    if isinstance(argument, bool | int):
        return ctypes.c_int64(argument)
    if isinstance(argument, float):
        return ctypes.c_float(argument)
    if isinstance(argument, ctypes.Structure):
        return ctypes.byref(argument)
    return ctypes.c_void_p(None) if argument is None else argument
