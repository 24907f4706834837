"""How commands speak: answers on standard output, everything else on standard error."""

import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer


def answer(text: str = "") -> None:
    """Print a line of the command's answer."""
    typer.echo(text)


def answer_json(value: Any) -> None:
    """Print the command's whole answer as JSON."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2))


def say(text: str = "") -> None:
    """Tell the person at the screen something that is not the answer."""
    typer.echo(text, err=True)


def program() -> str:
    """What to type for Fathom here: its name if the shell finds it, else the path it was started by."""
    if shutil.which("fathom"):
        return "fathom"
    started = Path(sys.argv[0])
    if started.name == "__main__.py":
        return "python -m fathom"
    return os.path.relpath(started) if started.is_relative_to(Path.cwd()) else str(started)


def someone_is_there() -> bool:
    """Whether a person can be asked: input and output are a terminal."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def table(rows: Sequence[tuple[str, ...]], right: frozenset[int] = frozenset()) -> str:
    """Lay rows out in columns, the first row being the heads; columns in `right` are set to the right."""
    widths = [max(_width(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [_padded(cell, widths[column], column in right) for column, cell in enumerate(row)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _width(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)


def _padded(text: str, width: int, right: bool) -> str:
    space = " " * (width - _width(text))
    return space + text if right else text + space
