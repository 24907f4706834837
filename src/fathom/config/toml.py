"""Plain values written as TOML, which the standard library only reads."""

import json
from typing import Any


def to_toml(values: dict[str, Any]) -> str:
    """A TOML document of nested dictionaries, lists and scalars; entries that are None are left out."""
    return "\n".join(_table(values, ())).strip() + "\n"


def _table(values: dict[str, Any], path: tuple[str, ...]) -> list[str]:
    present = {key: value for key, value in values.items() if value is not None}
    lines = [f"{_key(key)} = {_value(value)}" for key, value in present.items() if not isinstance(value, dict)]
    if path and (lines or not present):
        lines = ["", f"[{'.'.join(map(_key, path))}]", *lines]
    for key, value in present.items():
        if isinstance(value, dict):
            lines += _table(value, (*path, key))
    return lines


def _key(key: str) -> str:
    return key if key and all(c.isascii() and (c.isalnum() or c in "_-") for c in key) else _string(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, dict):
        inner = ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items() if item is not None)
        return f"{{{inner}}}"
    return f"[{', '.join(_value(item) for item in value)}]"


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
