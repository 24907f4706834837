"""What stands before the first step: the text, checked against the recipe, and the model, laid over the processes."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from fathom.config.model import ModelConfig
from fathom.config.recipe import Recipe
from fathom.config.train import TrainConfig
from fathom.corpus.batches import TrainingBatches
from fathom.corpus.manifest import Manifest
from fathom.corpus.shards import TokenShards
from fathom.corpus.tokenizer import Tokenizer
from fathom.errors import RecipeError
from fathom.model.transformer import Transformer
from fathom.parallel.fsdp import shard
from fathom.parallel.mesh import World
from fathom.train.objective import Teacher
from fathom.weights.load import load
from fathom.weights.located import located

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
NOT_THE_NETWORK = {"extra", "initializer_range", "bos_token_id", "eos_token_id", "pad_token_id"}
"""Fields of a model's configuration that do not change what its weights compute."""


@dataclass(frozen=True)
class Text:
    """A corpus as training sees it."""

    folder: Path
    manifest: Manifest
    batches: TrainingBatches
    validation: dict[str, TokenShards]
    """Held-out shards by group."""

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The corpus's tokenizer."""
        return Tokenizer(self.folder)

    @property
    def bytes_per_token(self) -> float:
        """Mean size of a training token."""
        entry = self.manifest.split("train")
        return entry.text_bytes / entry.tokens

    @property
    def digest(self) -> str:
        """A hash that two corpora share only if they hold the same training tokens and tokenizer."""
        entries = [*self.manifest.split("train").files, *self.manifest.tokenizer]
        return hashlib.sha256("".join(entry.sha256 for entry in entries).encode()).hexdigest()


def open_text(recipe: Recipe, folder: Path) -> Text:
    """Open the corpus in `folder` and refuse one that the recipe's model cannot be trained on."""
    manifest = Manifest.load(folder)
    model = recipe.model
    if manifest.vocab_size > model.vocab_size:
        raise RecipeError(
            f"model.vocab_size = {model.vocab_size}, and the tokenizer of {folder} has {manifest.vocab_size} tokens: "
            "set model.vocab_size to at least that, or build the corpus anew with a smaller vocabulary."
        )
    ends = model.eos_token_id if isinstance(model.eos_token_id, list) else [model.eos_token_id]
    if manifest.eos_id not in ends:
        raise RecipeError(
            f"model.eos_token_id = {model.eos_token_id}, and documents in {folder} end with token {manifest.eos_id}: "
            f"set model.eos_token_id = {manifest.eos_id}, or the model will never learn where to stop."
        )
    train = recipe.train
    shards = TokenShards(folder, "train")
    batches = TrainingBatches(shards, train.sequence_length, model.num_nextn_predict_layers, train.seed)
    held_out = {group: TokenShards(folder, f"validation-{group}") for group in manifest.validation_groups}
    return Text(folder, manifest, batches, {group: part for group, part in held_out.items() if len(part) > 1})


def check_sizes(recipe: Recipe, world: World) -> None:
    """Refuse sizes that do not fit each other or the number of processes."""
    train = recipe.train
    if train.sequence_length > recipe.model.max_position_embeddings:
        raise RecipeError(
            f"train.sequence_length = {train.sequence_length} exceeds model.max_position_embeddings = "
            f"{recipe.model.max_position_embeddings}: shorten the one or raise the other."
        )
    for field, size in _batch_sizes(train).items():
        if size % world.size:
            raise RecipeError(
                f"train.{field} = {size} does not divide among {world.size} processes: make it a multiple of that."
            )


def _batch_sizes(train: TrainConfig) -> dict[str, int]:
    sizes = {"batch_sequences": train.batch_sequences}
    if train.batch_ramp.steps:
        sizes["batch_ramp.start_sequences"] = train.batch_ramp.start_sequences
        sizes["batch_ramp.increment"] = train.batch_ramp.increment
    return sizes


def build_model(recipe: Recipe, world: World) -> Transformer:
    """The recipe's model with its first weights, on its device and cut over the processes.

    Weights are drawn on the CPU from the recipe's seed, so that they do not depend on device or number of processes; or
    they are those of `train.initialise_from`.
    """
    if recipe.train.initialise_from is not None:
        model = _model_of(recipe.train.initialise_from, recipe.model)
    else:
        model = Transformer(recipe.model)
        model.init_weights(torch.Generator().manual_seed(recipe.train.seed))
    freeze_all_but(model, recipe.train.only)
    model.to(world.device)
    model.compute_dtype = DTYPES[recipe.train.precision]
    model.recompute = recipe.train.recompute
    shard(model, world, reshard_after_forward=recipe.parallel.reshard_after_forward)
    return model.train()


def freeze_all_but(model: Transformer, only: tuple[str, ...]) -> None:
    """Let only parameters learn whose names contain one of `only`; `RecipeError` where one is in no name."""
    if not only:
        return
    names = [name for name, _ in model.named_parameters()]
    unknown = [part for part in only if not any(part in name for name in names)]
    if unknown:
        raise RecipeError(
            f"train.only = {list(only)}: no parameter's name contains {unknown[0]!r}; names are such as {names[-1]}."
        )
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(any(part in name for part in only))


def _model_of(folder: Path, config: ModelConfig) -> Transformer:
    """The model in `folder` as FP32 masters; `RecipeError` if its network is another than `config`."""
    model = load(folder, dtype=torch.float32)
    wanted, found = config.model_dump(exclude=NOT_THE_NETWORK), model.config.model_dump(exclude=NOT_THE_NETWORK)
    differing = [
        f"{name} = {found[name]} there, {value} here" for name, value in wanted.items() if found[name] != value
    ]
    if differing:
        raise RecipeError(
            f"train.initialise_from = {folder} holds another network than the recipe: {'; '.join(differing)}. Write "
            f"model.folder = '{folder}' to take the network from there."
        )
    return model


def build_teacher(recipe: Recipe, text: Text, world: World) -> Teacher | None:
    """The recipe's teacher, whole on this process's device in the compute dtype; `RecipeError` if it cannot teach."""
    wanted = recipe.train.teacher
    if wanted is None:
        return None
    folder = located(wanted.folder)
    first, second = (json.loads(Tokenizer(f).path.read_text(encoding="utf-8")) for f in (folder, text.folder))
    if first != second:
        raise RecipeError(
            f"train.teacher.folder = {wanted.folder} has another tokenizer than the corpus in {text.folder}, so a "
            "token of one means nothing to the other: set corpus.tokenizer to the teacher's folder."
        )
    model = load(folder, dtype=DTYPES[recipe.train.precision]).to(world.device).eval().requires_grad_(False)
    model.compute_dtype = DTYPES[recipe.train.precision]
    config = model.config
    if len(model.head_weight) != recipe.model.vocab_size:
        raise RecipeError(
            f"train.teacher.folder = {wanted.folder} predicts {len(model.head_weight):,} tokens, and model.vocab_size "
            f"= {recipe.model.vocab_size:,}: a student needs as many as its teacher."
        )
    if recipe.train.sequence_length > config.max_position_embeddings:
        raise RecipeError(
            f"train.sequence_length = {recipe.train.sequence_length}, and the teacher {wanted.folder} reads at most "
            f"{config.max_position_embeddings} tokens: shorten the sequences."
        )
    return Teacher(model, wanted.share)
