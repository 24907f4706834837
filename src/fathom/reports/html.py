"""The few pieces of HTML a report is made of. Whatever comes from a run is escaped here."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources


@dataclass(frozen=True)
class Cell:
    """A table cell: plain text, a number set to the right, or a verdict in colour."""

    text: str
    style: str = ""


@dataclass(frozen=True)
class Tile:
    """One figure and what it is."""

    figure: str
    meaning: str


def section(title: str, body: str, note: str = "") -> str:
    """A titled card."""
    return f"<section><h2>{escape(title)}</h2>{paragraph(note)}{body}</section>"


def paragraph(text: str) -> str:
    """A paragraph of explanation, or nothing."""
    return f"<p>{escape(text)}</p>" if text else ""


def pair(*sections: str) -> str:
    """Cards side by side where there is room."""
    return f'<div class="pair">{"".join(sections)}</div>'


def tiles(entries: Sequence[Tile]) -> str:
    """Figures in a row."""
    inside = "".join(
        f'<div class="tile"><b>{escape(tile.figure)}</b><span>{escape(tile.meaning)}</span></div>' for tile in entries
    )
    return f'<div class="tiles">{inside}</div>'


def table(heads: Sequence[str], rows: Sequence[Sequence[str | Cell]]) -> str:
    """A table; a column is set to the right where its first cell is a number."""
    if not rows:
        return '<p class="none">Nothing was recorded.</p>'
    cells = [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in rows]
    right = ["n" if "n" in cell.style.split() else "" for cell in cells[0]]
    head = "".join(f"<th{_style(style)}>{escape(text)}</th>" for text, style in zip(heads, right, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{_style(cell.style)}>{escape(cell.text)}</td>" for cell in row) + "</tr>" for row in cells
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def number(text: str) -> Cell:
    """A cell set to the right."""
    return Cell(text, "n")


def details(summary: str, text: str) -> str:
    """Text that opens on a click."""
    return f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>"


def page(title: str, lead: str, body: str, foot: str) -> str:
    """The whole document: nothing in it is fetched from anywhere."""
    style = resources.files("fathom.reports").joinpath("style.css").read_text(encoding="utf-8")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body><main>"
        f"<header><h1>{escape(title)}</h1>{paragraph(lead)}</header>{body}<footer>{escape(foot)}</footer>"
        "</main></body></html>\n"
    )


def _style(style: str) -> str:
    return f' class="{style}"' if style else ""
