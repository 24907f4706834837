"""A model from one form into another: number formats of a folder, GGUF files out and in, always tensor by tensor."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from fathom.errors import UsageError, WeightsError
from fathom.kernels.fp8 import E4M3, Block, dequantise, quantise, scales_of
from fathom.model.fp8 import blocks_of
from fathom.weights.atomic import TOKENIZER_FILES, check_replaceable, new_folder
from fathom.weights.blocks import BLOCK, SCALE, Quantisation, block_size, is_quantised, settings_of
from fathom.weights.card import PROVENANCE, with_note
from fathom.weights.contents import whole_contents
from fathom.weights.finite import checked
from fathom.weights.load import read_config
from fathom.weights.pickles import is_pickle, refusal
from fathom.weights.shards import Planned, write_shards
from fathom.weights.tensors import TensorFiles

FolderKind = Literal["f32", "bf16", "f16", "fp8", "fp8-ue8m0"]
GGUFKind = Literal["f32", "bf16", "f16", "q8_0", "q4_0"]
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
SHARD_BYTES = 5 * 10**9
TEXTS = ("generation_config.json", "LICENSE", *TOKENIZER_FILES)


@dataclass(frozen=True)
class Conversion:
    """What has been written."""

    source: str
    target: str
    form: Literal["hf", "gguf"]
    kind: str
    """The number format; "as stored" where none was asked for."""
    bytes: int


def convert(
    source: Path, target: Path, kind: str | None = None, *, mtp: bool = True, quiet: bool = False
) -> Conversion:
    """Write the model `source`, a folder or a GGUF file, to `target`: a GGUF file if its name ends so, else a folder.

    `kind` is one of `FolderKind` or `GGUFKind`. A GGUF file holds the MTP modules unless `mtp` is false. What stood at
    `target` is replaced when all is written.
    """
    form: Literal["hf", "gguf"] = "gguf" if target.suffix == ".gguf" else "hf"
    allowed = get_args(GGUFKind if form == "gguf" else FolderKind)
    if kind is not None and kind not in allowed:
        raise UsageError(f"--type {kind}: a {_NAMES[form]} is written in {', '.join(allowed)}.")
    if form == "hf" and not mtp:
        raise UsageError("--no-mtp: only GGUF files leave MTP modules out.")
    _check_apart(source, target)
    if form == "hf":
        check_replaceable(target)
    if source.is_file() and is_pickle(source):
        raise WeightsError(refusal(source))
    if source.suffix == ".gguf" or source.is_file():
        _from_gguf(source, target, form, kind, mtp, quiet)
    elif form == "gguf":
        _to_gguf(source, target, kind or "bf16", mtp, quiet)
    else:
        convert_folder(source, target, kind)
    written = [target] if form == "gguf" else [*target.iterdir()]
    default = "bf16" if form == "gguf" else "as stored"
    return Conversion(str(source), str(target), form, kind or default, sum(path.stat().st_size for path in written))


_NAMES = {"hf": "model folder", "gguf": "GGUF file"}


def _check_apart(source: Path, target: Path) -> None:
    if source.resolve() == target.resolve():
        raise UsageError(f"{target} is the model itself: name another place for the converted one.")
    if source.is_dir() and source.resolve() in target.resolve().parents:
        raise UsageError(f"{target} lies inside the model's own folder: name a place outside of it.")


def _to_gguf(source: Path, target: Path, kind: str, mtp: bool, quiet: bool) -> None:
    from fathom.weights.gguf.export import export_gguf

    export_gguf(source, target, kind, mtp=mtp, quiet=quiet)


def _from_gguf(source: Path, target: Path, form: str, kind: str | None, mtp: bool, quiet: bool) -> None:
    from fathom.weights.gguf.folder import import_gguf

    if form == "gguf":
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.resolve().parent) as name:
            between = Path(name) / source.stem
            import_gguf(source, between)
            _to_gguf(between, target, kind or "bf16", mtp, quiet)
    elif kind in ("fp8", "fp8-ue8m0"):
        raise UsageError(f"--type {kind}: convert the GGUF file to a folder in bf16 first, and that to {kind}.")
    else:
        import_gguf(source, target, DTYPES[kind] if kind else None)


def convert_folder(source: Path, target: Path, kind: str | None) -> None:
    """Write the model folder `source` to `target` with its numbers in `kind`, or as they are stored.

    Texts go along as they are, config.json with its number format changed and nothing else.
    """
    config = read_config(source)
    described = json.loads((source / "config.json").read_text(encoding="utf-8"))
    quantisation: Quantisation | None = "fp8" if kind == "fp8" else "fp8-ue8m0" if kind == "fp8-ue8m0" else None
    if quantisation and config.family.attention != "mla":
        raise UsageError(
            f"--type {kind}: FP8 blocks are DeepSeek's format, and {source} is a {config.model_type} model."
        )
    with TensorFiles(source) as files:
        reader = _Reader(files, block_size(config, str(source)))
        planned = [
            each
            for name in whole_contents(source, config, files)
            for each in _planned(reader, name, kind, quantisation)
        ]
        with new_folder(target) as unfinished:
            _write_config(unfinished / "config.json", described, planned, quantisation, reader.block)
            for name in TEXTS:
                if (source / name).is_file():
                    shutil.copyfile(source / name, unfinished / name)
            _write_card(source, unfinished, kind)
            write_shards(unfinished, [checked(each, str(source)) for each in planned], SHARD_BYTES)


class _Reader:
    """Tensors of a folder, FP8 ones in full precision or as they are."""

    def __init__(self, files: TensorFiles, block: Block | None) -> None:
        self.files, self.block = files, block

    def is_fp8(self, name: str) -> bool:
        return self.files.stored[name].dtype == E4M3

    def full(self, name: str) -> Tensor:
        """The tensor, dequantised."""
        tensor = self.files.read(name)
        if not self.is_fp8(name) or self.block is None:
            return tensor
        return dequantise(tensor, self.files.read(name + SCALE), self.block)


def _planned(reader: _Reader, name: str, kind: str | None, quantisation: Quantisation | None) -> Iterator[Planned]:
    stored = reader.files.stored[name]
    if stored.dtype is None:
        raise WeightsError(f"{stored.file}: {name} is {stored.kind}, which no weights are made of.")
    block = reader.block or BLOCK
    if quantisation and is_quantised(name) and not (reader.is_fp8(name) and quantisation == "fp8"):
        powers = quantisation == "fp8-ue8m0"
        yield Planned(name, E4M3, stored.shape, lambda: quantise(reader.full(name), block, powers)[0])
        scales = blocks_of(stored.shape, block)
        yield Planned(name + SCALE, torch.float32, scales, lambda: scales_of(reader.full(name), block, powers))
    elif reader.is_fp8(name) and (kind is None or quantisation):
        yield Planned(name, E4M3, stored.shape, partial(reader.files.read, name))
        scale = reader.files.stored[name + SCALE]
        yield Planned(name + SCALE, scale.dtype or torch.float32, scale.shape, partial(reader.files.read, name + SCALE))
    elif name.endswith("e_score_correction_bias"):
        yield Planned(name, torch.float32, stored.shape, partial(reader.files.read, name))
    else:
        dtype = stored.dtype if kind is None else torch.bfloat16 if quantisation else DTYPES[kind]
        yield Planned(name, dtype, stored.shape, partial(reader.full, name))


def _write_config(
    path: Path,
    described: dict[str, Any],
    planned: list[Planned],
    quantisation: Quantisation | None,
    block: Block | None,
) -> None:
    dtypes = {tensor.name: tensor.dtype for tensor in planned}
    plain = str(dtypes["model.embed_tokens.weight"]).removeprefix("torch.")
    described = {key: value for key, value in described.items() if key not in ("torch_dtype", "dtype")}
    described["torch_dtype"] = plain
    if E4M3 not in dtypes.values():
        described.pop("quantization_config", None)
    elif quantisation is not None:
        described["quantization_config"] = settings_of(quantisation, block or BLOCK)
    path.write_text(json.dumps(described, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_card(source: Path, target: Path, kind: str | None) -> None:
    path = source / "README.md"
    try:
        card = path.read_text(encoding="utf-8") if path.is_file() else f"# {source.resolve().name}\n"
    except UnicodeDecodeError:
        card = f"# {source.resolve().name}\n"
    note = f"Converted by Fathom from {source.resolve().name}" + (f", its numbers to {kind}." if kind else ".")
    (target / "README.md").write_text(with_note(card, PROVENANCE, note), encoding="utf-8")
