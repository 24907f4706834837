"""Which command a recipe is for: each kind is known by a table that the others do not have."""

from typing import Any

from fathom.config.base import Section
from fathom.errors import RecipeError

COMMANDS = {"train": "pretrain", "rl": "zero", "zero": "r1", "dev1": "r1", "sft": "sft", "distill": "distill"}
"""Commands by the table that marks their recipes."""


def of_kind(section: type[Section], values: dict[str, Any], source: str) -> dict[str, Any]:
    """`values`, read at `source`, if they may be meant as a `section`; `RecipeError` if another command's they are."""
    for table, command in COMMANDS.items():
        if table in values and table not in section.model_fields:
            raise RecipeError(
                f"{source} is a recipe for `fathom {command}`, as its table [{table}] shows: call that, or name a "
                "recipe for this command."
            )
    return values
