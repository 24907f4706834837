"""The safetensors files of a model folder, opened by memory map and read tensor by tensor."""

import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from safetensors import SafetensorError, safe_open
from torch import Tensor

from fathom.errors import WeightsError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


class TensorFiles:
    """All tensors of a folder by name. Use as a context manager, so that the maps are closed."""

    def __init__(self, folder: Path) -> None:
        self._open: dict[Path, Any] = {}
        self._where: dict[str, Path] = {}
        for path in _files(folder):
            try:
                self._open[path] = safe_open(path, framework="pt")
            except (OSError, SafetensorError) as error:
                raise WeightsError(
                    f"{path}: truncated or damaged ({error}). Copy or download the file again."
                ) from None
            self._where |= dict.fromkeys(self._open[path].keys(), path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for path in list(self._open):
            self._open.pop(path).__exit__(kind, error, trace)

    def __contains__(self, name: object) -> bool:
        return name in self._where

    @property
    def names(self) -> list[str]:
        """Every tensor's name."""
        return list(self._where)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, without reading it."""
        return tuple(self._open[self._where[name]].get_slice(name).get_shape())

    def read(self, name: str) -> Tensor:
        """One tensor, as it is stored."""
        tensor: Tensor = self._open[self._where[name]].get_tensor(name)
        return tensor


def _files(folder: Path) -> list[Path]:
    index = folder / INDEX
    if index.exists():
        try:
            weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            shards = sorted({str(shard) for shard in weight_map.values()})
        except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise WeightsError(f"{index}: not a readable index of safetensors ({error!r}).") from None
        outside = [shard for shard in shards if Path(shard).name != shard]
        if outside:
            raise WeightsError(f"{index}: names files outside the folder ({', '.join(outside[:4])}).")
        absent = [shard for shard in shards if not (folder / shard).exists()]
        if absent:
            raise WeightsError(f"{folder}: {len(absent)} of {len(shards)} weight files are missing: {_some(absent)}.")
        return [folder / shard for shard in shards]
    if (folder / SINGLE).exists():
        return [folder / SINGLE]
    pickles = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for path in folder.glob(pattern))
    if pickles:
        raise WeightsError(
            f"{folder}: holds pickled weights only ({_some(pickles)}), and opening a pickle can run any program. "
            "Convert them to safetensors where you trust them, for instance with transformers' save_pretrained."
        )
    raise WeightsError(f"{folder}: holds no weights, neither {SINGLE} nor {INDEX}.")


def _some(names: list[str], most: int = 6) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
