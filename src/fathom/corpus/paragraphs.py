"""Dropping paragraphs that an earlier document already holds: licences, prefaces, quotations."""

import re

from fathom.corpus.duplicates import fingerprint, letters

BLANK_LINES = re.compile(r"(\n{2,})")
SHORTEST = 150
"""Shorter paragraphs (headings, refrains, "He said.") may repeat."""


class ParagraphFilter:
    """Remembers the paragraphs of all documents shown to it, 8 bytes each."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()
        self.dropped = 0

    def __call__(self, text: str) -> str:
        """`text` without the paragraphs that were in earlier documents."""
        parts = BLANK_LINES.split(text)
        kept: list[str] = []
        own = []
        for place in range(0, len(parts), 2):
            paragraph = parts[place]
            if len(letters(paragraph)) >= SHORTEST:
                key = fingerprint(paragraph)[:8]
                if key in self._seen:
                    self.dropped += 1
                    continue
                own.append(key)
            kept += parts[place : place + 2]
        self._seen.update(own)
        return "".join(kept) if len(kept) < len(parts) else text
