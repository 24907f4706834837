"""Undoing the line breaks of a printed page."""

import re

BLANK_LINES = re.compile(r"(\n{2,})")
FULL_LINE = 55
"""A paragraph with a line as long as this was broken by the printer; verse and headings keep their lines."""


def unwrapped(text: str) -> str:
    """Prose with one line a paragraph."""
    parts = BLANK_LINES.split(text)
    parts[::2] = [_joined(paragraph) for paragraph in parts[::2]]
    return "".join(parts)


def _joined(paragraph: str) -> str:
    lines = paragraph.split("\n")
    if max(map(len, lines)) < FULL_LINE:
        return paragraph
    return " ".join(line.strip() for line in lines).strip()
