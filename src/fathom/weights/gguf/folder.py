"""A GGUF file written out as a Hugging Face folder, tensor by tensor."""

import json
from functools import partial
from pathlib import Path

import torch

from fathom.weights.atomic import new_folder
from fathom.weights.card import ModelCard
from fathom.weights.finite import checked
from fathom.weights.gguf.read import GGUFFile
from fathom.weights.gguf.vocabulary import write_folder
from fathom.weights.shards import Planned, write_shards

SHARD_BYTES = 5 * 10**9


def import_gguf(
    path: Path,
    folder: Path,
    dtype: torch.dtype | None = None,
    card: ModelCard | None = None,
    licence: str | None = None,
) -> None:
    """Write the model in the GGUF file `path` to `folder`, its numbers in `dtype`.

    Without `dtype`, quantised files become FP32, which holds every number they stand for, and others stay as they are.
    The tokenizer is rebuilt from what the file says of it, and the chat template goes along. `card` stands in for what
    the file says of itself; `licence` is the text of one, for the file LICENSE.
    """
    file = GGUFFile(path)
    dtype = dtype or (torch.float32 if file.is_quantised else file.stored_dtype)
    with new_folder(folder) as unfinished:
        description = file.config.to_hf() | {"torch_dtype": str(dtype).removeprefix("torch.")}
        _json(unfinished / "config.json", description)
        ids = {f"{role}_token_id": description.get(f"{role}_token_id") for role in ("bos", "eos", "pad")}
        _json(unfinished / "generation_config.json", {key: value for key, value in ids.items() if value is not None})
        write_folder(file.vocabulary, unfinished, str(path))
        (unfinished / "README.md").write_text((card or _card(file)).markdown(), encoding="utf-8")
        if licence is not None:
            (unfinished / "LICENSE").write_text(licence, encoding="utf-8")
        planned = [checked(_planned(file, name, shape, dtype), str(path)) for name, shape in file.shapes()]
        write_shards(unfinished, planned, SHARD_BYTES)


def _planned(file: GGUFFile, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Planned:
    # The routers' biases stay FP32, as everywhere.
    stored = torch.float32 if name.endswith("e_score_correction_bias") else dtype
    return Planned(name, stored, shape, partial(file.tensor, name))


def _card(file: GGUFFile) -> ModelCard:
    """What the file says of itself."""
    said = {key.removeprefix("general."): value for key, value in file.fields.items() if key.startswith("general.")}
    names = ("author", "organization", "version", "finetune", "license", "license.link", "source.url", "url")
    provenance = {"Read from": file.path.name} | {name: str(said[name]) for name in names if said.get(name)}
    title = str(said.get("name") or file.path.stem)
    quantised = "; its numbers were quantised before" if file.is_quantised else ""
    return ModelCard(
        title=title,
        about=(f"A {file.config.model_type} language model, converted from a GGUF file{quantised}.",),
        licence=str(said.get("license") or ""),
        language=tuple(map(str, said.get("languages") or ())),
        provenance=provenance,
    )


def _json(path: Path, values: object) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
