"""A recipe: one TOML file that says everything about a run, and the overrides it was started with."""

import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import PrivateAttr

from fathom.config.base import Section
from fathom.config.corpus import CorpusConfig
from fathom.config.fields import flatten, unknown_field
from fathom.config.kinds import of_kind
from fathom.config.model import ModelConfig
from fathom.config.parallel import ParallelConfig
from fathom.config.toml import to_toml
from fathom.config.train import FREE_FIELDS, LENGTHS, TrainConfig
from fathom.errors import RecipeError

MODEL_SOURCES = ("preset", "folder")


class Recipe(Section):
    """Model, text, training and parallel layout of a run."""

    about: str = ""
    """One line on what this run is for."""
    model: ModelConfig
    """The network. In a file: a `preset` by name, or the `folder` of a published model, and any fields to change; or
    all fields. A model that says no `vocab_size` takes the corpus's."""
    corpus: CorpusConfig = CorpusConfig()
    """Left out, it is the mix that ships with Fathom."""
    train: TrainConfig
    """Everything else has a default."""
    parallel: ParallelConfig = ParallelConfig()
    """Left out, it is one process, or all that torchrun starts."""

    _source: str = PrivateAttr(default="")
    _overrides: tuple[str, ...] = PrivateAttr(default=())

    @property
    def source(self) -> str:
        """The file this recipe was read from, or nothing."""
        return self._source

    @property
    def overrides(self) -> tuple[str, ...]:
        """What was changed after reading, as `field=value`."""
        return self._overrides

    @classmethod
    def load(cls, path: str | Path, overrides: Sequence[str] = ()) -> Self:
        """Read the TOML file at `path` and change fields as in `["train.steps=100"]`; `RecipeError` names what is
        wrong."""
        return cls.from_values(read_toml(Path(path)), overrides, source=str(path))

    @classmethod
    def from_values(cls, values: dict[str, Any], overrides: Sequence[str] = (), *, source: str = "recipe") -> Self:
        """Build from plain nested values, as a TOML file holds them; `source` names them in errors."""
        values = of_kind(cls, apply_overrides(values, overrides), source)
        model = values.get("model", {})
        if not isinstance(model, dict):
            raise RecipeError(f"{source}: field 'model' is {model!r}; it must be a table such as [model].")
        _refuse_unknown(cls, values | {"model": {k: v for k, v in model.items() if k not in MODEL_SOURCES}}, source)
        corpus = CorpusConfig.validated(values.get("corpus", {}), f"{source}, [corpus]")
        values["model"] = _model(model, corpus, f"{source}, [model]")
        recipe = cls.validated(values, source)
        recipe._source, recipe._overrides = source, tuple(overrides)
        return recipe

    def save(self, path: Path) -> None:
        """Write everything, defaults included, as TOML that `load` reads back; the head says where it came from."""
        head = [f"# From {self._source}." if self._source else "# Composed in a program."]
        head += [f"# Changed: {override}" for override in self._overrides]
        text = "\n".join(head) + "\n\n" + to_toml(self.model_dump(mode="json"))
        partial = path.with_name(path.name + ".partial")
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)

    def identity(self) -> dict[str, Any]:
        """The fields that decide what is learned, by dotted path."""
        return _deciding(self.model_dump(mode="json"))

    def choices(self) -> dict[str, Any]:
        """Those of them that are not at their default: the same for a version that knows more fields."""
        return _deciding(self.model_dump(mode="json", exclude_defaults=True))

    def differing_fields(self, identity: dict[str, Any]) -> list[str]:
        """The fields in which another recipe's `identity` differs, each as `field (there, here)`.

        A field that it does not know, for it was written before there was one, had what is the default now.
        """
        mine = self.identity()
        later = mine.keys() - identity.keys() - self.choices().keys()
        return [
            f"{name} ({identity.get(name)!r} there, {mine.get(name)!r} here)"
            for name in sorted((mine.keys() | identity.keys()) - later)
            if mine.get(name) != identity.get(name)
        ]


def _deciding(values: dict[str, Any]) -> dict[str, Any]:
    free = (*FREE_FIELDS, "about")
    return {key: value for key, value in flatten(values).items() if not any(_within(key, prefix) for prefix in free)}


def apply_overrides(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of `values` with each `dotted.field=value` set; values are TOML, and anything else is a string."""
    result = _copy(values)
    for override in overrides:
        name, equals, text = override.partition("=")
        parts = name.strip().split(".")
        if not equals or not all(parts):
            raise RecipeError(f"override '{override}': write it as field=value, for instance train.steps=100.")
        table = result
        for part in parts[:-1]:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise RecipeError(f"override '{override}': '{part}' is a value, not a table with fields.")
        if parts[:-1] == ["train"] and parts[-1] in LENGTHS:
            for length in LENGTHS:
                table.pop(length, None)
        if parts[:-1] == ["model"] and parts[-1] in MODEL_SOURCES:
            for origin in MODEL_SOURCES:
                table.pop(origin, None)
        table[parts[-1]] = _parsed(text.strip())
    return result


def read_toml(path: Path) -> dict[str, Any]:
    """The values of a recipe file; `RecipeError` if it is none."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such recipe; check the path.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read as a recipe ({error}).") from None
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path}: not valid TOML: {error}.") from None


def _parsed(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _model(values: dict[str, Any], corpus: CorpusConfig, where: str) -> ModelConfig:
    """The network `values` describe: a preset or a published folder with changes, or all of it."""
    values = dict(values)
    origins = [name for name in MODEL_SOURCES if name in values]
    if len(origins) > 1:
        raise RecipeError(f"{where}: preset and folder are both given; keep one.")
    if corpus.tokenizer == "train" and "folder" not in values:
        values.setdefault("vocab_size", corpus.vocab_size)
    if not origins:
        return ModelConfig.validated(values, where)
    origin = values.pop(origins[0])
    base = ModelConfig.preset(str(origin)) if origins == ["preset"] else ModelConfig.from_hf(str(origin))
    kept = base.model_dump()
    if "num_attention_heads" in values:
        kept.pop("num_key_value_heads")
    return ModelConfig.validated(kept | values, where)


def _refuse_unknown(section: type[Section], values: dict[str, Any], source: str) -> None:
    complaint = unknown_field(section, values)
    if complaint:
        raise RecipeError(f"{source}: {complaint}")


def _within(field: str, prefix: str) -> bool:
    return field == prefix or field.startswith(f"{prefix}.")


def _copy(values: dict[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, dict) else value for key, value in values.items()}
