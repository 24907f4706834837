"""The second stage: duplicates out, then some documents of each language group held out."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fathom.config.corpus import CorpusConfig
from fathom.corpus.cleaning import clean
from fathom.corpus.documents import Document, read_documents
from fathom.corpus.duplicates import fingerprint, near_duplicates, signatures
from fathom.corpus.holding_out import Weighed, held_out
from fathom.corpus.paragraphs import ParagraphFilter
from fathom.errors import CorpusError
from fathom.progress import Tracker

DOCUMENTS = "documents.jsonl"
INDEX = "index.npz"
GROUPS = ("english", "chinese", "code", "other")


@dataclass(frozen=True)
class Selection:
    """The kept documents and where they stand in their file; arrays of one entry a document."""

    path: Path
    offset: NDArray[np.int64]
    length: NDArray[np.int64]
    source: NDArray[np.int64]
    group: NDArray[np.int64]
    text_bytes: NDArray[np.int64]
    held: NDArray[np.bool_]
    digest: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.offset)

    @classmethod
    def load(cls, folder: Path) -> "Selection":
        """Read the index written by `select`."""
        with np.load(folder / INDEX) as arrays:
            return cls(path=folder / DOCUMENTS, **{name: arrays[name] for name in arrays.files})

    def documents(self, indices: Sequence[int] | NDArray[np.int64]) -> Iterator[Document]:
        """Read documents by their numbers, in the order asked for."""
        with self.path.open("rb") as file:
            for index in indices:
                file.seek(int(self.offset[index]))
                yield Document.from_line(file.read(int(self.length[index])))


def select(config: CorpusConfig, sources: list[Path], folder: Path, tracker: Tracker) -> dict[str, Any]:
    """Write the documents of all `sources` that stay, and the index of them; the summary counts what went."""
    dropped: Counter[str] = Counter()
    kept = _without_duplicates(config, sources, dropped, tracker)
    weighed = []
    columns: dict[str, list[int]] = {name: [] for name in ("offset", "length", "source", "group", "text_bytes")}
    offset = 0
    with (folder / DOCUMENTS).open("wb") as file:
        for source, document in _without_repeated_paragraphs(config, sources, kept, dropped):
            line = document.to_line()
            file.write(line)
            text_bytes = document.text_bytes
            row = (offset, len(line), source, GROUPS.index(document.group), text_bytes)
            for column, value in zip(columns.values(), row, strict=True):
                column.append(value)
            weighed.append(Weighed(source, document.group, document.digest, text_bytes))
            offset += len(line)
            tracker.advance(text_bytes)
    if not weighed:
        raise CorpusError(
            "the corpus is empty: no source gave a document with text in it; name a folder with text files in the "
            "corpus's sources, or take the default ones."
        )
    held = held_out(weighed, config.validation_bytes, config.validation_share)
    if len(held) == len(weighed):
        raise CorpusError("all documents would be held out: lower validation_share.")
    index: dict[str, Any] = {name: np.array(values, dtype=np.int64) for name, values in columns.items()}
    index["held"] = np.isin(np.arange(len(weighed)), sorted(held))
    index["digest"] = np.frombuffer(b"".join(item.digest for item in weighed), dtype=np.uint8).reshape(-1, 32)
    np.savez(folder / INDEX, **index)
    return {"documents": len(weighed), "dropped": dict(sorted(dropped.items()))}


def _without_duplicates(
    config: CorpusConfig, sources: list[Path], dropped: Counter[str], tracker: Tracker
) -> NDArray[np.bool_]:
    """Which of all documents, counted through the sources, stay."""
    seen: set[bytes] = set()
    keep: list[bool] = []

    def unique_texts() -> Iterator[str]:
        for path in sources:
            for document in read_documents(path):
                key = fingerprint(document.text) if config.exact_duplicates else b""
                repeated = config.exact_duplicates and key in seen
                seen.add(key)
                keep.append(not repeated)
                tracker.advance(document.text_bytes)
                if not repeated:
                    yield document.text

    if config.near_duplicates:
        nearest = near_duplicates(signatures(unique_texts()), config.near_duplicates)
        stays = nearest == np.arange(len(nearest))
        dropped["near-duplicate documents"] = int((~stays).sum())
    else:
        stays = np.ones(sum(1 for _ in unique_texts()), dtype=np.bool_)
    kept = np.array(keep, dtype=np.bool_)
    dropped["duplicate documents"] = int((~kept).sum())
    kept[kept] = stays
    return kept


def _without_repeated_paragraphs(
    config: CorpusConfig, sources: list[Path], kept: NDArray[np.bool_], dropped: Counter[str]
) -> Iterator[tuple[int, Document]]:
    """The kept documents with the number of their source. Code keeps its paragraphs: a gap would break it."""
    paragraphs = ParagraphFilter()
    digests: set[bytes] = set()
    place = 0
    for source, path in enumerate(sources):
        for document in read_documents(path):
            place += 1
            if not kept[place - 1]:
                continue
            if config.repeated_paragraphs and document.group != "code":
                document = Document(document.name, clean(paragraphs(document.text)), document.group)
            if config.exact_duplicates and document.digest in digests:
                dropped["duplicate documents"] += 1
            elif document.text:
                digests.add(document.digest)
                yield source, document
    dropped["repeated paragraphs"] = paragraphs.dropped
