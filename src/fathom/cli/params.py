"""`fathom params`: what a model is, in numbers, without building it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fathom.cli import asked
from fathom.cli.console import answer, answer_json, table
from fathom.errors import RecipeError

if TYPE_CHECKING:
    from fathom.config.model import ModelConfig


def params(
    name: Annotated[str, typer.Argument(help="A configuration's name, a config.json, a model folder or a recipe.")],
    context: Annotated[int, typer.Option(min=1, help="Tokens a sequence, for the training work of a token.")] = 4096,
    json: asked.Json = False,
) -> None:
    """Count a model's parameters, its cache and its training work, without building it.

    Example: `fathom params deepseek-v3 --json`
    """
    from fathom.model.count import count

    config = configuration(name)
    report = count(config, context)
    if json:
        answer_json({"name": name} | report.model_dump())
        return
    answer(name)
    rows = [
        ("parameters", f"{report.total:,}"),
        ("  used for one token", f"{report.active:,}"),
        ("  in routed experts", f"{report.routed_experts:,}"),
        ("  in attention", f"{report.attention:,}"),
        ("  in the input embedding", f"{report.embedding:,}"),
        ("MTP modules, besides", f"{report.mtp:,}"),
        ("balancing biases, besides", f"{report.routing_biases:,}"),
        ("cache for one token, bf16", f"{report.kv_cache_bytes_per_token:,} bytes"),
        (f"training work for one token at {context:,}", f"{report.training_flop_per_token / 1e9:,.4g} GFLOP"),
        ("  MTP modules, besides", f"{report.mtp_flop_per_token / 1e9:,.4g} GFLOP"),
    ]
    answer(table(rows, right=frozenset({1})))
    depth = name.removeprefix("laptop-")
    if depth != name and depth.isdecimal():
        _show_rules(config)


def configuration(name: str) -> "ModelConfig":
    """The configuration that a name, a file or a folder stands for."""
    from fathom.config.model import ModelConfig

    path = Path(name)
    if path.suffix == ".toml":
        from fathom.config.recipe import Recipe

        return Recipe.load(path).model
    if path.exists():
        return ModelConfig.from_hf(path)
    if path.suffix == ".json" or "/" in name:
        raise RecipeError(f"{name}: no such file or folder.")
    return ModelConfig.preset(name)


def _show_rules(config: "ModelConfig") -> None:
    from fathom.config.presets import laptop_rules

    answer()
    answer("derived from the depth:")
    rules = laptop_rules(config.num_hidden_layers, config.vocab_size)
    answer(table([(f"  {field}", "-" if value is None else str(value), rule) for field, value, rule in rules]))
