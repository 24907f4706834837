"""A GGUF file as a model folder, tensor by tensor."""

import struct
from pathlib import Path
from typing import Any

import gguf
import torch
from gguf import GGUFReader
from torch import Tensor

from fathom.config.model import ModelConfig
from fathom.errors import WeightsError
from fathom.weights.gguf.layout import ROPE_FACTORS, Layout, layout
from fathom.weights.gguf.metadata import from_metadata
from fathom.weights.gguf.quantise import decode
from fathom.weights.gguf.vocabulary import Vocabulary
from fathom.weights.inventory import gathered


class GGUFFile:
    """An opened GGUF file of one of our families: its configuration, vocabulary and tensors."""

    def __init__(self, path: Path) -> None:
        """Read the header of `path`; `WeightsError` if it is damaged, of another architecture, or one of several."""
        self.path = path
        reader = _open(path)
        self.fields = {key: field.contents() for key, field in reader.fields.items() if field.types}
        if self.fields.get("split.count", 1) > 1:
            raise WeightsError(
                f"{path}: is one of {self.fields['split.count']} parts; join them with `llama-gguf-split`."
            )
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        if "token_embd.weight" not in self._tensors:
            raise WeightsError(f"{path}: holds no token_embd.weight; it is not a whole language model.")
        rows = self._shape("token_embd.weight")[0]
        factors = self._read(ROPE_FACTORS) if ROPE_FACTORS in self._tensors else None
        self.config: ModelConfig = from_metadata(self.fields, self._tensors.keys(), rows, factors, str(path))
        self.vocabulary = Vocabulary.from_keys(self.fields, str(path))
        self._layout: Layout = layout(
            self.config,
            up_is_split="blk.0.attn_kv_b.weight" not in self._tensors,
            ends_repeated=f"blk.{self.config.num_hidden_layers}.nextn.embed_tokens.weight" in self._tensors,
        )
        self._published = {tensor.name: tensor for tensor in self._layout.published}
        self._check()

    @property
    def is_quantised(self) -> bool:
        """Whether some tensor is in a format coarser than 16 bits a number."""
        plain = gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.BF16
        return any(tensor.tensor_type not in plain for tensor in self._tensors.values())

    def shapes(self) -> list[tuple[str, tuple[int, ...]]]:
        """Names and shapes of the published tensors, in order."""
        return [(tensor.name, tensor.shape) for tensor in self._layout.published]

    @property
    def stored_dtype(self) -> torch.dtype:
        """The dtype of the embedding; FP32 if it is quantised."""
        plain = {gguf.GGMLQuantizationType.BF16: torch.bfloat16, gguf.GGMLQuantizationType.F16: torch.float16}
        return plain.get(self._tensors["token_embd.weight"].tensor_type, torch.float32)

    def tensor(self, name: str) -> Tensor:
        """The published tensor `name`, dequantised."""
        tensor = self._published[name]
        made: Tensor = tensor.make(*(self._read(source, tensor.slot) for source in tensor.sources))
        return made

    def _read(self, name: str, slot: int | None = None) -> Tensor:
        stored = self._tensors[name]
        return decode(stored.data if slot is None else stored.data[slot], stored.tensor_type)

    def _shape(self, name: str) -> tuple[int, ...]:
        return tuple(int(size) for size in reversed(self._tensors[name].shape))

    def _check(self) -> None:
        expected = {tensor.name: tensor.shape for tensor in self._layout.packed}
        missing = [name for name in expected if name not in self._tensors]
        unexpected = sorted(self._tensors.keys() - expected.keys())
        problems = [f"missing {gathered(missing)}"] if missing else []
        problems += [f"unexpected {gathered(unexpected)}"] if unexpected else []
        for name in sorted(expected.keys() & self._tensors.keys()):
            if self._shape(name) != expected[name]:
                problems.append(f"{name} is {list(self._shape(name))} where {list(expected[name])} is expected")
        if problems:
            raise WeightsError(f"{self.path}: is not the model its header describes: {'; '.join(problems)}.")


def _open(path: Path) -> Any:
    try:
        return GGUFReader(path)
    except FileNotFoundError:
        raise WeightsError(f"{path}: there is no such file.") from None
    except (OSError, ValueError, IndexError, KeyError, OverflowError, struct.error, MemoryError) as error:
        raise WeightsError(f"{path}: not a readable GGUF file ({error}). Copy or download it again.") from None
