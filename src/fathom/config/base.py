"""What every part of a recipe shares: immutable, strict, documented, and refused with a readable error."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from fathom.errors import RecipeError

LONGEST_VALUE = 80
"""Characters of a value that an error shows."""


class Section(BaseModel):
    """A documented group of settings. Unknown fields are refused; values never change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=())

    @classmethod
    def validated(cls, values: dict[str, Any], where: str) -> Self:
        """Build from plain values read at `where` (a file name), or raise `RecipeError` naming every bad field."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise RecipeError(f"{where}: {describe(error)}") from None


def describe(error: ValidationError) -> str:
    """Say in one paragraph which fields are wrong, what they hold and what is expected."""
    complaints = []
    for item in error.errors():
        field = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            complaints.append(
                f"unknown field '{field}' (value {shortened(item['input'])}): remove it or mend its spelling"
            )
        elif item["type"] == "missing":
            complaints.append(f"field '{field}' is missing")
        else:
            message = item["msg"].removeprefix("Value error, ")
            value = "" if isinstance(item["input"], dict) else f" is {shortened(item['input'])}"
            # Without a field it is several that do not go together, and the message names them.
            complaints.append(f"field '{field}'{value}: {message}" if field else message)
    return "; ".join(complaints)


def shortened(value: Any) -> str:
    """How `value` is written, but no more of it than a reader needs to find it."""
    written = repr(value)
    return written if len(written) <= LONGEST_VALUE else f"{written[: LONGEST_VALUE - 4]} ..."
