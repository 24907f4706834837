"""The safetensors files of a model folder, opened by memory map and read in pieces, so that nothing is held twice."""

import json
import mmap
import warnings
from collections.abc import Iterable, Iterator
from math import prod
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fathom.errors import WeightsError
from fathom.weights.pickles import SUFFIXES, WAY_OUT, is_pickle, refusal

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PIECE_BYTES = 4 * 2**20
"""Read at a time: enough for the disk's full speed, small beside any model."""
NEIGHBOURHOOD = 2 * 2**20
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E8M0": torch.float8_e8m0fnu,
}
"""Kinds of numbers that weights and their factors are made of, as safetensors names them."""


class Stored(NamedTuple):
    """A tensor as its file's header describes it."""

    file: Path
    kind: str
    """The dtype as the header names it, of `DTYPES` or not."""
    shape: tuple[int, ...]
    begin: int
    """Offset of its first byte in the file."""

    @property
    def dtype(self) -> torch.dtype | None:
        """None for integers and others that no weight is made of."""
        return DTYPES.get(self.kind)


class TensorFiles:
    """All tensors of a folder by name. Use as a context manager, so that the maps are closed."""

    def __init__(self, folder: Path) -> None:
        self._maps: dict[Path, mmap.mmap] = {}
        self.stored: dict[str, Stored] = {}
        """What every file holds."""
        weight_map = _weight_map(folder)
        for path in _files(folder, weight_map):
            for name, stored in _header(path).items():
                if name in self.stored:
                    raise WeightsError(f"{path}: holds {name}, which {self.stored[name].file.name} holds already.")
                self.stored[name] = stored
        self.broken_promises = sorted(name for name in weight_map if name not in self.stored)
        """Tensors that the index names and no file holds."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Not closed by hand: a tensor that still looks at a map keeps it, and the last one lets go of it.
        self._maps.clear()

    def __contains__(self, name: object) -> bool:
        return name in self.stored

    def in_order(self, names: Iterable[str]) -> list[str]:
        """`names` as they follow each other on the disk."""
        return sorted(names, key=lambda name: (self.stored[name].file, self.stored[name].begin))

    def read(self, name: str) -> Tensor:
        """One whole tensor, in memory of its own."""
        stored = self.stored[name]
        whole = torch.empty(stored.shape or (1,), dtype=stored.dtype)
        for first, piece in self.pieces(name):
            whole[first : first + len(piece)] = piece
        return whole.view(stored.shape)

    def pieces(self, name: str, rows: int = 1) -> Iterator[tuple[int, Tensor]]:
        """The tensor in parts of whole multiples of `rows` rows, each with its first row's number.

        A part is read from the disk as it is looked at, and forgotten when the next is asked for.
        """
        stored = self.stored[name]
        dtype = stored.dtype
        if dtype is None:
            raise WeightsError(f"{stored.file}: {name} is {stored.kind}, which no weights are made of.")
        row = prod(stored.shape[1:]) * dtype.itemsize
        count = stored.shape[0] if stored.shape else 1
        step = max(PIECE_BYTES // max(row, 1) // rows, 1) * rows
        for first in range(0, count, step):
            last = min(first + step, count)
            begin, end = stored.begin + first * row, stored.begin + last * row
            if end == begin:
                yield first, torch.empty(last - first, *stored.shape[1:], dtype=dtype)
                continue
            file = self._map(stored.file)
            _advise(file, "MADV_WILLNEED", begin, end)
            with warnings.catch_warnings():
                # Of the map being read-only, as it is meant to be.
                warnings.simplefilter("ignore", UserWarning)
                flat = torch.frombuffer(file, dtype=dtype, count=(end - begin) // dtype.itemsize, offset=begin)
            yield first, flat.view(last - first, *stored.shape[1:])
            _advise(file, "MADV_DONTNEED", begin, end)

    def _map(self, path: Path) -> mmap.mmap:
        if path not in self._maps:
            with open(path, "rb") as file:
                self._maps[path] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._maps[path]


def _advise(file: mmap.mmap, advice: str, begin: int, end: int) -> None:
    """Tell the operating system, if it listens, what is meant with the pages around these bytes."""
    if hasattr(mmap, advice):
        # Looking at a page brings its neighbours too, those of the tensor before among them.
        start = begin // NEIGHBOURHOOD * NEIGHBOURHOOD
        stop = min(-(-end // NEIGHBOURHOOD) * NEIGHBOURHOOD, len(file))
        file.madvise(getattr(mmap, advice), start, stop - start)


def _header(path: Path) -> dict[str, Stored]:
    try:
        # The library checks that names, shapes and sizes agree with each other and with the length of the file.
        with safe_open(path, framework="pt"):
            pass
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
    except (OSError, SafetensorError, ValueError) as error:
        if path.is_file() and is_pickle(path):
            raise WeightsError(refusal(path)) from None
        raise WeightsError(f"{path}: truncated or damaged ({error}). Copy or download the file again.") from None
    header.pop("__metadata__", None)
    return {
        name: Stored(path, entry["dtype"], tuple(entry["shape"]), 8 + length + entry["data_offsets"][0])
        for name, entry in header.items()
    }


def _weight_map(folder: Path) -> dict[str, str]:
    """File of each tensor, by the folder's index; empty without one."""
    index = folder / INDEX
    if not index.exists():
        return {}
    try:
        weight_map = {str(name): str(file) for name, file in json.loads(index.read_text("utf-8"))["weight_map"].items()}
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{index}: not a readable index of safetensors ({error!r}).") from None
    shards = sorted(set(weight_map.values()))
    outside = [shard for shard in shards if Path(shard).name != shard or "\\" in shard or shard == ".."]
    if outside:
        raise WeightsError(f"{index}: names files outside the folder ({_some(outside)}), which are not opened.")
    foreign = [shard for shard in shards if not shard.endswith(".safetensors")]
    if foreign:
        raise WeightsError(f"{index}: names files that are no safetensors ({_some(foreign)}), which are not opened.")
    if not shards:
        raise WeightsError(f"{index}: names no files.")
    return weight_map


def _files(folder: Path, weight_map: dict[str, str]) -> list[Path]:
    if weight_map:
        shards = sorted(set(weight_map.values()))
        absent = [shard for shard in shards if not (folder / shard).is_file()]
        if absent:
            raise WeightsError(
                f"{folder}: {len(absent)} of {len(shards)} weight files are missing: {_some(absent)}. "
                "Copy or download them too."
            )
        return [folder / shard for shard in shards]
    if (folder / SINGLE).exists():
        return [folder / SINGLE]
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in SUFFIXES)
    if pickles:
        raise WeightsError(f"{folder}: holds pickled weights only ({_some(pickles)}). {WAY_OUT}")
    raise WeightsError(f"{folder}: holds no weights, neither {SINGLE} nor {INDEX}.")


def _some(names: list[str], most: int = 6) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
