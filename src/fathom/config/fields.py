"""What fields a section has: to refuse an unknown one with the nearest spelling, and to name each by its path."""

import difflib
from collections.abc import Iterator
from typing import Any, get_args

from fathom.config.base import Section


def unknown_field(section: type[Section], values: dict[str, Any], path: str = "") -> str | None:
    """A complaint about the first field of `values`, at any depth, that `section` does not have."""
    for name, value in values.items():
        if name not in section.model_fields:
            return f"unknown field '{path}{name}'{_nearest(name, list(section.model_fields))}"
        for inner, where in _inner_values(value, f"{path}{name}"):
            kinds = _sections_of(section.model_fields[name].annotation, inner)
            complaint = unknown_field(kinds[0], inner, f"{where}.") if len(kinds) == 1 else None
            if complaint:
                return complaint
    return None


def inner_sections(annotation: Any) -> list[type[Section]]:
    """The sections an annotation is made of: itself, or those in its unions and containers."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [section for part in get_args(annotation) for section in inner_sections(part)]


def flatten(values: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, keyed by dotted path."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{path}{name}.")
        else:
            flat[f"{path}{name}"] = value
    return flat


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else f"; known here: {', '.join(sorted(known))}."


def _inner_values(value: Any, where: str) -> Iterator[tuple[dict[str, Any], str]]:
    if isinstance(value, dict):
        yield value, where
    elif isinstance(value, list):
        for index, item in enumerate(value):
            if isinstance(item, dict):
                yield item, f"{where}.{index}"


def _sections_of(annotation: Any, value: dict[str, Any]) -> list[type[Section]]:
    """The sections `value` may be meant as: where they carry a `kind`, the one it names."""
    sections = inner_sections(annotation)
    if "kind" in value:
        named = [s for s in sections if "kind" in s.model_fields and s.model_fields["kind"].default == value["kind"]]
        return named or sections
    return sections
