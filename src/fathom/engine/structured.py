"""Structured output: text that must obey a JSON schema, a regular expression or a grammar."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fathom.errors import GenerationError


@dataclass(frozen=True)
class StructuredOutput:
    """What the text must look like; exactly one of these is given."""

    json_schema: Mapping[str, Any] | bool | str | None = None
    """A JSON value of this schema, an object or its JSON text."""
    regex: str | None = None
    """A text that this regular expression (Rust's syntax, without look-around) matches from end to end."""
    lark: str | None = None
    """A text of this grammar in Lark's notation, whose first rule is `start`."""
    json_object: bool = False
    """Any JSON object."""

    def __post_init__(self) -> None:
        given = self._given
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise GenerationError(f"structured has {found}: give one of json_schema, regex, lark and json_object.")
        for name in ("regex", "lark"):
            if not isinstance(getattr(self, name), str | None):
                raise GenerationError(f"structured.{name} is {getattr(self, name)!r}: it must be a string.")
        if self.json_schema is not None:
            object.__setattr__(self, "json_schema", _schema(self.json_schema))

    @property
    def kind(self) -> str:
        """Which of them it is."""
        return self._given[0]

    @property
    def is_json(self) -> bool:
        """Whether there is JSON in the text."""
        return self.json_object or self.json_schema is not None or "%json" in (self.lark or "")

    @property
    def _given(self) -> list[str]:
        given = [name for name in ("json_schema", "regex", "lark") if getattr(self, name) is not None]
        return given + (["json_object"] if self.json_object else [])


def _schema(given: Mapping[str, Any] | bool | str) -> Mapping[str, Any] | bool:
    """The schema as Python values, whatever it came as; refused if it is not JSON."""
    try:
        schema = json.loads(given) if isinstance(given, str) else json.loads(json.dumps(given, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise GenerationError(f"structured.json_schema is not JSON ({error}): give an object, or its text.") from None
    if not isinstance(schema, dict | bool):
        raise GenerationError(f"structured.json_schema is {schema!r}: a schema is an object, true or false.")
    return schema
