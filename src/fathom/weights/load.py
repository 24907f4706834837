"""Read a Hugging Face model folder: DeepSeek's own, one saved by transformers, or one written here."""

import json
import re
from pathlib import Path

import torch
from torch import Tensor

from fathom.config.model import ModelConfig
from fathom.errors import WeightsError
from fathom.model.transformer import Transformer
from fathom.progress import track
from fathom.weights.blocks import SCALE, block_size, dequantise, without_quantisation
from fathom.weights.names import Place, places
from fathom.weights.tensors import TensorFiles

# Old software stored the rotary frequencies, which follow from the configuration.
IGNORED = re.compile(r"rotary_emb\.inv_freq$|^model\.layers\.\d+\.(embed_tokens|shared_head\.head)\.weight$")
SHOW_PROGRESS_FROM_BYTES = 2**30


def load(
    folder: str | Path,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    check_finite: bool = False,
) -> Transformer:
    """The model in `folder`, its parameters and computation in `dtype`, or as stored if none is given.

    FP8 blocks are dequantised, to bfloat16 unless told otherwise. With `check_finite`, a NaN or infinity is an error.
    """
    folder = Path(folder)
    config = read_config(folder)
    with TensorFiles(folder) as files:
        config = _with_present_modules(config, files)
        blocks = block_size(config, str(folder))
        config = without_quantisation(config)
        if dtype is None:
            dtype = torch.bfloat16 if blocks else _stored_dtype(files)
        with torch.device("meta"):
            model = Transformer(config).to(dtype)
        where = places(model.state_dict())
        _check_names(folder, files, where, model)
        model = model.to_empty(device=device)
        _fill(model, files, where, blocks, check_finite, folder)
    model.compute_dtype = dtype
    _check_vocabulary(folder, config)
    return model.eval()


def read_config(folder: Path) -> ModelConfig:
    """The configuration of a model folder, or `WeightsError` if it is not one."""
    if not folder.is_dir():
        raise WeightsError(f"{folder}: there is no such folder; name one that holds config.json and safetensors files.")
    if not (folder / "config.json").exists():
        raise WeightsError(f"{folder}: not a model folder, for it holds no config.json.")
    return ModelConfig.from_hf(folder)


def _with_present_modules(config: ModelConfig, files: TensorFiles) -> ModelConfig:
    """Without MTP modules if no weights of one are there: transformers saves the number but not the modules."""
    first = f"model.layers.{config.num_hidden_layers}."
    if config.num_nextn_predict_layers and not any(name.startswith(first) for name in files.names):
        return config.model_copy(update={"num_nextn_predict_layers": 0})
    return config


def _stored_dtype(files: TensorFiles) -> torch.dtype:
    name = "model.embed_tokens.weight"
    dtype = files.read(name).dtype if name in files else torch.float32
    # Nothing here computes in FP16: its range is too short for these activations.
    return torch.bfloat16 if dtype == torch.float16 else dtype


def _check_names(folder: Path, files: TensorFiles, where: dict[str, Place], model: Transformer) -> None:
    """Raise one error that lists every missing, unexpected and wrongly shaped tensor."""
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    given = {name for name in files.names if not IGNORED.search(name) and not name.endswith(SCALE)} - tied
    state = model.state_dict()
    problems = [f"missing {name}" for name in where if name not in files]
    problems += [f"unexpected {name}" for name in sorted(given - where.keys())]
    for name in sorted(given & where.keys()):
        expected = tuple(state[where[name].name][where[name].part].shape)
        if files.shape(name) != expected:
            problems.append(f"{name} is {list(files.shape(name))} where config.json asks for {list(expected)}")
    if problems:
        shown = "; ".join(problems[:12]) + (f"; and {len(problems) - 12} more" if len(problems) > 12 else "")
        raise WeightsError(f"{folder}: weights and config.json do not belong together: {shown}.")


@torch.no_grad()
def _fill(
    model: Transformer,
    files: TensorFiles,
    where: dict[str, Place],
    blocks: tuple[int, int] | None,
    check_finite: bool,
    folder: Path,
) -> None:
    state = model.state_dict()
    size = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    broken: list[str] = []
    with track(f"Loading {folder.name}", len(where), quiet=size < SHOW_PROGRESS_FROM_BYTES) as progress:
        for name, place in where.items():
            tensor = _full(files, name, blocks)
            if check_finite and not tensor.isfinite().all():
                broken.append(name)
            state[place.name][place.part].copy_(tensor)
            progress.advance()
    if broken:
        raise WeightsError(
            f"{folder}: {len(broken)} tensors hold NaN or infinity: {', '.join(broken[:6])}. "
            "The run that wrote them had diverged, or the files are damaged."
        )


def _full(files: TensorFiles, name: str, blocks: tuple[int, int] | None) -> Tensor:
    tensor = files.read(name)
    if tensor.dtype != torch.float8_e4m3fn:
        return tensor
    if blocks is None or name + SCALE not in files:
        raise WeightsError(
            f"{name} is FP8 and cannot be read: config.json has no quantization_config, or its {SCALE} is missing."
        )
    return dequantise(tensor, files.read(name + SCALE), blocks)


def _check_vocabulary(folder: Path, config: ModelConfig) -> None:
    """A tokenizer may know fewer tokens than the embedding has rows (DeepSeek's does), never more."""
    path = folder / "tokenizer.json"
    if not path.exists():
        return
    try:
        contents = json.loads(path.read_text(encoding="utf-8"))
        vocabulary = contents["model"]["vocab"]
        ids = [token["id"] for token in contents.get("added_tokens", [])]
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: not a readable tokenizer ({error!r}).") from None
    ids += vocabulary.values() if isinstance(vocabulary, dict) else range(len(vocabulary))
    if ids and max(ids) >= config.vocab_size:
        raise WeightsError(
            f"{folder}: tokenizer.json gives ids up to {max(ids)}, and the model has {config.vocab_size} rows. "
            "The tokenizer belongs to another model; put the right one in its place."
        )
