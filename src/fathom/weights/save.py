"""Write a Hugging Face model folder, whole or not at all."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from fathom.config.model import ModelConfig
from fathom.errors import WeightsError
from fathom.model.transformer import Transformer
from fathom.weights.names import published
from fathom.weights.tensors import INDEX, SINGLE

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
SHARD_BYTES = 5 * 10**9
# What a model folder may hold for a new one to take its place; anything else is the user's and stays.
REPLACEABLE = {"config.json", "generation_config.json", "README.md", INDEX, SINGLE, *TOKENIZER_FILES}


def save(
    model: Transformer,
    folder: str | Path,
    tokenizer_from: Path | None = None,
    card: str | None = None,
    dtype: torch.dtype | None = None,
    state: Mapping[str, Tensor] | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Path:
    """Write `model` to `folder` under published names, in `dtype` or as it stands; returns the folder.

    The tokenizer's files are copied from `tokenizer_from`, `card` becomes README.md. `state` stands in for the model's
    own where that is spread over processes. Everything is written beside `folder` and moved there at the end.
    """
    folder = Path(folder)
    _check_replaceable(folder)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _write(model, partial, tokenizer_from, card, dtype, model.state_dict() if state is None else state, shard_bytes)
        _move(partial, folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise WeightsError(f"{folder}: could not be written ({error}). What was there before is unchanged.") from error
    return folder


def _write(
    model: Transformer,
    folder: Path,
    tokenizer_from: Path | None,
    card: str | None,
    dtype: torch.dtype | None,
    state: Mapping[str, Tensor],
    shard_bytes: int,
) -> None:
    stored = dtype or state["model.embed_tokens.weight"].dtype
    _json(folder / "config.json", model.config.to_hf() | {"torch_dtype": str(stored).removeprefix("torch.")})
    _json(folder / "generation_config.json", _generation(model.config))
    _write_tensors(folder, _stored(published(state, model.config), dtype), shard_bytes)
    if tokenizer_from is not None:
        for name in TOKENIZER_FILES:
            if (tokenizer_from / name).exists():
                shutil.copyfile(tokenizer_from / name, folder / name)
    if card is not None:
        (folder / "README.md").write_text(card, encoding="utf-8")


def _stored(tensors: Iterator[tuple[str, Tensor]], dtype: torch.dtype | None) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in tensors:
        keep = dtype is None or name.endswith("e_score_correction_bias")
        # A clone, for two names may not share memory in a file, and views of stacked experts do.
        yield name, tensor.detach().to("cpu", None if keep else dtype).clone(memory_format=torch.contiguous_format)


def _write_tensors(folder: Path, tensors: Iterator[tuple[str, Tensor]], shard_bytes: int) -> None:
    shards: list[list[str]] = []
    shard: dict[str, Tensor] = {}
    size = total = 0
    for name, tensor in tensors:
        nbytes = tensor.numel() * tensor.element_size()
        if shard and size + nbytes > shard_bytes:
            shards.append(_write_shard(folder, shard, len(shards)))
            shard, size = {}, 0
        shard[name] = tensor
        size, total = size + nbytes, total + nbytes
    shards.append(_write_shard(folder, shard, len(shards)))
    if len(shards) == 1:
        os.rename(folder / _temporary(0), folder / SINGLE)
        return
    weight_map: dict[str, str] = {}
    for i, names in enumerate(shards):
        file = f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors"
        os.rename(folder / _temporary(i), folder / file)
        weight_map |= dict.fromkeys(names, file)
    _json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})


def _write_shard(folder: Path, tensors: dict[str, Tensor], number: int) -> list[str]:
    save_file(tensors, folder / _temporary(number), metadata={"format": "pt"})
    return list(tensors)


def _temporary(number: int) -> str:
    return f"shard-{number}"


def _generation(config: ModelConfig) -> dict[str, Any]:
    ids = {"bos_token_id": config.bos_token_id, "eos_token_id": config.eos_token_id}
    return ids | ({} if config.pad_token_id is None else {"pad_token_id": config.pad_token_id})


def _json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _check_replaceable(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise WeightsError(f"{folder}: is a file; name a folder to save the model in.")
    foreign = sorted(
        path.name for path in folder.iterdir() if path.name not in REPLACEABLE and path.suffix != ".safetensors"
    )
    if foreign:
        raise WeightsError(
            f"{folder}: holds {', '.join(foreign[:4])}, which is no part of a model and would be lost. "
            "Move it away or save to another folder."
        )


def _move(partial: Path, folder: Path) -> None:
    """Put the finished folder in its place. The one before is moved aside first and deleted last."""
    for path in partial.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    before = folder.with_name(f".{folder.name}.{os.getpid()}.before")
    shutil.rmtree(before, ignore_errors=True)
    replaces = folder.exists()
    if replaces:
        os.rename(folder, before)
    try:
        os.rename(partial, folder)
    except OSError:
        if replaces:
            os.rename(before, folder)
        raise
    shutil.rmtree(before, ignore_errors=True)
