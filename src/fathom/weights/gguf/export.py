"""A model folder as one GGUF file, tensor by tensor: never more of the model in memory than the largest one."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGUFWriter, TokenType
from numpy.typing import NDArray
from torch import Tensor

from fathom.config.model import ModelConfig
from fathom.kernels.fp8 import dequantise
from fathom.progress import track
from fathom.weights.atomic import new_file
from fathom.weights.blocks import SCALE, block_size
from fathom.weights.contents import whole_contents
from fathom.weights.finite import finite, fits
from fathom.weights.gguf import vocabulary
from fathom.weights.gguf.layout import Packed, layout
from fathom.weights.gguf.metadata import ARCHITECTURES, Value, check_expressible, rope_factors, to_metadata
from fathom.weights.gguf.quantise import FILE_TYPES, encode, kind_of, stored_bytes
from fathom.weights.load import read_config, with_present_modules
from fathom.weights.tensors import TensorFiles


def export_gguf(folder: Path, path: Path, kind: str, *, mtp: bool = True, quiet: bool = False) -> None:
    """Write the model in `folder` to the file `path` in the number format `kind` ("bf16", "q4_0", ...).

    The tokenizer and its chat template go along, and MTP modules unless `mtp` is false: llama.cpp of October 2026 runs
    DeepSeek's, and earlier ones may have no place for them. The file is written beside `path` and moved there at the
    end; what stood there before is replaced.
    """
    config = read_config(folder)
    check_expressible(config)
    with TensorFiles(folder) as files, new_file(path) as unfinished:
        whole_contents(folder, config, files)
        config = with_present_modules(config, files, mtp)
        _write(_Source(folder, config, files), config, unfinished, kind, f"Writing {path.name}", quiet)


class _Source:
    """The published tensors of a folder, FP8 blocks dequantised."""

    def __init__(self, folder: Path, config: ModelConfig, files: TensorFiles) -> None:
        self.folder, self._files = folder, files
        self._blocks = block_size(config, str(folder))

    def read(self, name: str, kind: gguf.GGMLQuantizationType) -> Tensor:
        """One tensor, to be stored as `kind`: FP16 if that, else in full precision."""
        tensor = self._files.read(name)
        if self._blocks is not None and name + SCALE in self._files:
            tensor = dequantise(tensor, self._files.read(name + SCALE), self._blocks)
        if kind == gguf.GGMLQuantizationType.F16:
            return fits(tensor, name, str(self.folder), torch.float16)
        return finite(tensor, name, str(self.folder))


def _write(source: _Source, config: ModelConfig, path: Path, kind: str, title: str, quiet: bool) -> None:
    keys = to_metadata(config)
    both = layout(config)
    words = vocabulary.from_folder(source.folder, config.vocab_size)
    writer = GGUFWriter(path, ARCHITECTURES[config.model_type])
    try:
        for name, value in _general(source.folder, kind).items():
            _add(writer, name, value)
        for name, value in keys.items():
            _add(writer, f"{writer.arch}.{name}", value)
        for name, value in words.to_keys().items():
            _add(writer, name, value)
        kinds = [kind_of(tensor.name, tensor.shape, kind) for tensor in both.packed]
        for tensor, stored in zip(both.packed, kinds, strict=True):
            size = stored_bytes(tensor.shape, stored)
            writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), size, stored)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        with track(title, len(kinds), quiet=quiet) as progress:
            for tensor, stored in zip(both.packed, kinds, strict=True):
                writer.write_tensor_data(_packed(tensor, stored, source, config))
                progress.advance()
    finally:
        writer.close()


def _packed(tensor: Packed, kind: gguf.GGMLQuantizationType, source: _Source, config: ModelConfig) -> NDArray[np.uint8]:
    """A tensor's bytes; a stack is encoded slot by slot into its place."""
    if not tensor.pieces:
        return encode(rope_factors(config), kind)
    if len(tensor.pieces) == 1:
        return encode(tensor.make(source.read(tensor.pieces[0], kind)), kind)
    data = np.empty((len(tensor.pieces), stored_bytes(tensor.shape[1:], kind)), dtype=np.uint8)
    for slot, name in enumerate(tensor.pieces):
        data[slot] = encode(tensor.make(source.read(name, kind)), kind)
    return data.reshape(-1)


def _general(folder: Path, kind: str) -> dict[str, Value]:
    keys: dict[str, Value] = {
        "general.type": "model",
        "general.name": folder.resolve().name,
        "general.file_type": int(FILE_TYPES[kind]),
        "general.quantization_version": gguf.GGML_QUANT_VERSION,
    }
    licence = _licence(folder / "README.md")
    return keys | ({"general.license": licence} if licence else {})


def _licence(card: Path) -> str | None:
    """The licence in a model card's front matter."""
    try:
        found = re.match(r"---\n(?:.*\n)*?license:[ \t]*(\S+)\n", card.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return None
    return found.group(1).strip("'\"") if found else None


def _add(writer: GGUFWriter, name: str, value: Any) -> None:
    """A key with the type that llama.cpp expects of it: whole numbers unsigned, others FP32."""
    adders: dict[type, Callable[[str, Any], None]] = {
        bool: writer.add_bool,
        int: writer.add_uint32,
        float: writer.add_float32,
        str: writer.add_string,
        list: writer.add_array,
    }
    if isinstance(value, list) and value and isinstance(value[0], TokenType):
        value = [int(each) for each in value]
    adders[int if isinstance(value, int) and not isinstance(value, bool) else type(value)](name, value)
