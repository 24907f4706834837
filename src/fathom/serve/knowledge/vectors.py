"""Vectors of a folder's passages, beside their texts in one SQLite file."""

import logging
from collections.abc import Callable
from hashlib import blake2b

import numpy as np

from fathom.errors import WeightsError
from fathom.serve.embedder import BATCH, Embedder
from fathom.serve.embedder import Vectors as Matrix
from fathom.serve.knowledge.passages import Passage
from fathom.serve.store.database import Database

log = logging.getLogger("fathom.serve")

# A vector belongs to a text and to the model that made it: a file that moves keeps its vectors, and another model's
# are never met.
CREATE = """
CREATE TABLE vectors (
  digest BLOB NOT NULL,
  maker BLOB NOT NULL,
  vector BLOB NOT NULL,
  PRIMARY KEY (digest, maker)
) STRICT;
CREATE INDEX passages_by_digest ON passages (digest);
"""
FORGET = "DELETE FROM vectors WHERE digest NOT IN (SELECT digest FROM passages)"
"""What no passage says any more is forgotten."""

_HAS_NONE = (
    "FROM passages WHERE NOT EXISTS (SELECT 1 FROM vectors WHERE vectors.digest = passages.digest"
    " AND maker = ? AND length(vector) = ?)"
)


def digest(part: Passage) -> bytes:
    """What a passage's vector is found by."""
    return blake2b(said(part.heading, part.text).encode(), digest_size=16).digest()


def said(heading: str, text: str) -> str:
    """What is read of a passage: its text under its heading, which may stand in the text already."""
    return text if heading in text[: len(heading) + 8] else f"{heading}\n\n{text}"


class PassageVectors:
    """The vectors that one model makes of a folder's passages. The folder's lock says who may call `fill`."""

    def __init__(self, database: Database, embedder: Embedder) -> None:
        self._database, self._embedder = database, embedder
        self._key = (embedder.maker, 4 * embedder.dimension)
        self._held: tuple[list[int], Matrix] | None = None
        self._refused: set[bytes] = set()
        self._alone = False
        self.problem = ""
        """Why some passages have no vector, and cannot have one."""

    def missing(self) -> int:
        """Passages that wait for a vector."""
        with self._database.read() as rows:
            digests = rows.execute(f"SELECT digest {_HAS_NONE}", self._key).fetchall()
        return sum(row["digest"] not in self._refused for row in digests)

    def forget(self) -> None:
        """Look at the file again: passages have changed."""
        self._held = None

    def fill(self, stopped: Callable[[], bool]) -> None:
        """Make what vectors are missing, until `stopped`; each batch is kept as soon as it is made.

        When none is missing, other models' are forgotten.
        """
        while not stopped():
            with self._database.read() as rows:
                most = 2 * BATCH + len(self._refused)
                found = rows.execute(f"SELECT digest, heading, text {_HAS_NONE} LIMIT {most}", self._key)
                waiting = [row for row in found if row["digest"] not in self._refused]
            if not waiting:
                self._forget_others()
                return
            made = self._made({row["digest"]: said(row["heading"], row["text"]) for row in waiting})
            with self._database.write() as rows:
                values = [(text, self._embedder.maker, vector.tobytes()) for text, vector in made.items()]
                rows.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", values)
            self._held = None

    def nearest(self, question: str, limit: int) -> list[int]:
        """Ids of the passages whose vectors are most like the question's, the nearest first; none if it has none."""
        import torch

        ids, matrix = self._held or self._load()
        asked = self._made({b"": question}).get(b"") if ids else None
        if asked is None:
            return []
        # By PyTorch's threads: NumPy's own would then keep the cores from them for a tenth of a second.
        likeness = (torch.from_numpy(matrix) @ torch.from_numpy(asked)).numpy()
        best = np.argpartition(-likeness, min(limit, len(ids)) - 1)[:limit]
        return [ids[place] for place in best[np.argsort(-likeness[best], kind="stable")]]

    def _forget_others(self) -> None:
        if not self._alone:
            with self._database.write() as rows:
                rows.execute("DELETE FROM vectors WHERE maker != ?", (self._embedder.maker,))
            self._alone = True

    def _load(self) -> tuple[list[int], Matrix]:
        with self._database.read() as rows:
            found = rows.execute(
                "SELECT id, vector FROM passages JOIN vectors USING (digest) WHERE maker = ? AND length(vector) = ?",
                self._key,
            ).fetchall()
            matrix = np.frombuffer(bytearray().join(row["vector"] for row in found), np.float32)
            self._held = [row["id"] for row in found], matrix.reshape(len(found), self._embedder.dimension)
            return self._held

    def _made(self, texts: dict[bytes, str]) -> dict[bytes, Matrix]:
        """A vector for each text; of those that have none, the others are none the worse."""
        try:
            return dict(zip(texts, self._embedder.embed(list(texts.values())), strict=True))
        except WeightsError as error:
            if len(texts) == 1:
                log.warning("%s", error)
                self.problem = str(error)
                self._refused |= set(texts)  # a question has no digest, and so is asked again
                return {}
            return {one: vector for text in texts.items() for one, vector in self._made(dict([text])).items()}
