"""A folder of documents, indexed by SQLite's FTS5, and by vectors if one likes, and kept in step with the files."""

import sqlite3
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from fathom.errors import FileError, StoreError, UsageError
from fathom.serve.embedder import Embedder
from fathom.serve.files.limits import MOST_BYTES
from fathom.serve.files.read import read
from fathom.serve.full_text import any_of, segment
from fathom.serve.knowledge import vectors
from fathom.serve.knowledge.fusion import fused
from fathom.serve.knowledge.passages import Passage, passages
from fathom.serve.knowledge.scan import Mark, scan
from fathom.serve.store.database import Database

FILE = "knowledge.sqlite"
VERSION = 2

TOGETHER = 300
"""Passages that are written in one transaction."""
MOST_OF_ONE = 3
"""Passages of one document among the results, so that others are heard too."""

_CREATE = (
    """
CREATE TABLE documents (
  path TEXT PRIMARY KEY,
  size INTEGER NOT NULL,
  modified INTEGER NOT NULL,
  problem TEXT NOT NULL
) STRICT;
CREATE TABLE passages (
  id INTEGER PRIMARY KEY,
  document TEXT NOT NULL REFERENCES documents (path) ON DELETE CASCADE,
  place TEXT NOT NULL,
  heading TEXT NOT NULL,
  text TEXT NOT NULL,
  digest BLOB NOT NULL
) STRICT;
CREATE INDEX passages_by_document ON passages (document);
CREATE TABLE folder (path TEXT NOT NULL) STRICT;
CREATE VIRTUAL TABLE found USING fts5 (title, heading, body, tokenize = "porter unicode61 remove_diacritics 2");
CREATE TRIGGER forget_found AFTER DELETE ON passages BEGIN
  DELETE FROM found WHERE rowid = old.id;
END;
"""
    + vectors.CREATE
)
# Files are the truth: what an older Fathom read of them is read again.
_MIGRATIONS = {1: "DROP TABLE found; DROP TABLE passages; DROP TABLE documents; DROP TABLE folder;" + _CREATE}

_KNOWN = "SELECT path, size, modified FROM documents"


@dataclass(frozen=True)
class Standing:
    """How far the index has come."""

    documents: int
    passages: int
    waiting: int
    """Files that have changed and are not yet read again."""
    problems: tuple[tuple[str, str], ...]
    """Files that cannot be read, and why; without a name, why some passages have no vector."""
    without_vector: int = 0
    """Passages that wait for a vector; 0 where none are made."""


class KnowledgeFolder:
    """Documents of a folder and the folders in it; hidden files and links that lead out of it are left alone."""

    def __init__(self, folder: Path, index: Path, embedder: Embedder | None = None) -> None:
        """Look into `folder`, with the index in the folder `index`; UsageError if `folder` is not there.

        With an `embedder`, passages are found by what they mean, too, as soon as `fill` has made their vectors.
        """
        if not folder.is_dir():
            raise UsageError(f"There is no folder {folder}: make it and put documents there, or name another.")
        self.folder = folder.resolve()
        self._database = _open(index / FILE, self.folder)
        self._vectors = vectors.PassageVectors(self._database, embedder) if embedder else None
        self._syncing = threading.Lock()
        self._waiting = 0
        self._stopped = False

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.folder.name

    def stop(self) -> None:
        """Let a `sync` or `fill` under way end after the document or the passages it is at."""
        self._stopped = True

    def close(self) -> None:
        """Close the index."""
        self._database.close()

    def sync(self) -> Standing:
        """Bring the index in step with the files. A file is indexed whole or not at all; interrupting loses nothing."""
        with self._syncing:
            there = dict(scan(self.folder))
            with self._database.read() as rows:
                known = {row["path"]: Mark(row["size"], row["modified"]) for row in rows.execute(_KNOWN)}
            changed = [path for path, found in there.items() if known.get(path) != found]
            gone = [path for path in known if path not in there]
            with self._database.write() as rows:
                rows.executemany("DELETE FROM documents WHERE path = ?", [(path,) for path in gone])
            read: list[_Read] = []
            for at, path in enumerate(changed):
                if self._stopped:
                    break
                self._waiting = len(changed) - at
                read.append(self._read(path, there[path]))
                if sum(len(document.parts) for document in read) >= TOGETHER:
                    self._index(read)
                    read = []
            self._index(read)
            self._waiting = 0
            if changed or gone:
                self._forget()
        return self.standing()

    def fill(self, seconds: float) -> None:
        """Make the vectors that are missing, for so long at most. Each is kept at once; interrupting loses nothing."""
        end = time.monotonic() + seconds
        if self._vectors is not None:
            with self._syncing:
                self._vectors.fill(lambda: self._stopped or time.monotonic() > end)

    def standing(self) -> Standing:
        """What is indexed, and what could not be."""
        with self._database.read() as rows:
            documents = rows.execute("SELECT count(*) FROM documents WHERE problem = ''").fetchone()[0]
            count = rows.execute("SELECT count(*) FROM passages").fetchone()[0]
            found = rows.execute("SELECT path, problem FROM documents WHERE problem != '' ORDER BY path LIMIT 100")
            problems = [(row[0], row[1]) for row in found]
        if self._vectors is None:
            return Standing(documents, count, self._waiting, tuple(problems))
        problems += [("", self._vectors.problem)] if self._vectors.problem else []
        return Standing(documents, count, self._waiting, tuple(problems), self._vectors.missing())

    def search(self, question: str, limit: int = 8) -> list[Passage]:
        """The passages that fit `question` best, the best first: by BM25, and by their vectors where there are any.

        With vectors something is always found, for no distance means that a passage has nothing to say.
        """
        wanted = any_of(question)
        if not wanted:
            return []
        most = limit * MOST_OF_ONE * 2
        with self._database.read() as rows:
            score = "bm25(found, 2.0, 1.5, 1.0)"
            query = f"SELECT rowid FROM found WHERE found MATCH ? ORDER BY {score}, rowid LIMIT ?"
            ranked = [row["rowid"] for row in rows.execute(query, (wanted, most))]
        if self._vectors is not None:
            ranked = fused(ranked, self._vectors.nearest(question, most))
        chosen: list[Passage] = []
        for one in self._passages(ranked):
            if sum(other.title == one.title for other in chosen) < MOST_OF_ONE and len(chosen) < limit:
                chosen.append(one)
        return chosen

    def _passages(self, ids: list[int]) -> list[Passage]:
        """The passages of `ids`, in their order, without those that are no longer there."""
        with self._database.read() as rows:
            places = ",".join("?" * len(ids))
            found = rows.execute(
                f"SELECT id, document, place, heading, text FROM passages WHERE id IN ({places})", ids
            ).fetchall()
        known = {row["id"]: Passage(row["document"], row["place"], row["heading"], row["text"]) for row in found}
        return [known[one] for one in ids if one in known]

    def _forget(self) -> None:
        """Drop the vectors of what is gone."""
        with self._database.write() as rows:
            rows.execute(vectors.FORGET)
        if self._vectors is not None:
            self._vectors.forget()

    def _read(self, path: str, mark: Mark) -> "_Read":
        try:
            if mark.size > MOST_BYTES:
                raise FileError(f"{path} has {mark.size / 2**20:.1f} MiB; {MOST_BYTES // 2**20} are read.")
            return _Read(path, mark, "", list(passages(path, read(path, (self.folder / path).read_bytes()))))
        except FileError as error:
            return _Read(path, mark, str(error), [])
        except OSError as error:
            return _Read(path, mark, f"{path} cannot be read: {error.strerror}.", [])

    def _index(self, read: list["_Read"]) -> None:
        with self._database.write() as rows:
            for document in read:
                rows.execute("DELETE FROM documents WHERE path = ?", (document.path,))
                values = (document.path, *document.mark, document.problem)
                rows.execute("INSERT INTO documents VALUES (?, ?, ?, ?)", values)
                for part in document.parts:
                    _add(rows, document.path, part)


@dataclass(frozen=True)
class _Read:
    """A document that has been read, or why it could not be."""

    path: str
    mark: Mark
    problem: str
    parts: list[Passage]


def _add(rows: sqlite3.Connection, path: str, part: Passage) -> None:
    made = rows.execute(
        "INSERT INTO passages (document, place, heading, text, digest) VALUES (?, ?, ?, ?, ?)",
        (path, part.place, part.heading, part.text, vectors.digest(part)),
    ).lastrowid
    words = (segment(path.replace("/", " ")), segment(part.heading), segment(part.text))
    rows.execute("INSERT INTO found (rowid, title, heading, body) VALUES (?, ?, ?, ?)", (made, *words))


def _open(path: Path, folder: Path) -> Database:
    """The index, made anew where it is of another folder, another version or damaged: files are the truth."""
    for attempt in range(2):
        try:
            database = Database(path, _CREATE, VERSION, _MIGRATIONS, synchronous="NORMAL")
            with database.write() as rows:
                row = rows.execute("SELECT path FROM folder").fetchone()
                if row is None:
                    rows.execute("INSERT INTO folder VALUES (?)", (str(folder),))
                if row is None or row["path"] == str(folder):
                    return database
            database.close()
        except (StoreError, sqlite3.DatabaseError) as error:
            if attempt or "in use" in str(error):
                raise
        for end in ("", "-wal", "-shm"):
            path.with_name(path.name + end).unlink(missing_ok=True)
    raise StoreError(f"{path} cannot be made: look at the folder it lies in.")
