"""A document: the unit that is cleaned, compared, held out, rearranged and packed."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from fathom.config.corpus import Group


@dataclass(frozen=True, slots=True)
class Document:
    """A text with its place of origin, for instance a chapter of a book or a source file."""

    name: str
    text: str
    group: Group

    @property
    def text_bytes(self) -> int:
        """Length in UTF-8."""
        return len(self.text.encode("utf-8"))

    @property
    def digest(self) -> bytes:
        """Identifies the text: what the split and the order of documents depend on."""
        return sha256(self.text.encode("utf-8")).digest()

    def to_line(self) -> bytes:
        """One line of JSON."""
        values = {"name": self.name, "group": self.group, "text": self.text}
        return json.dumps(values, ensure_ascii=False).encode("utf-8") + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> "Document":
        """Read what `to_line` wrote."""
        return cls(**json.loads(line))


def read_documents(path: Path) -> Iterator[Document]:
    """The documents of a file with one line of JSON each."""
    with path.open("rb") as file:
        for line in file:
            yield Document.from_line(line)
