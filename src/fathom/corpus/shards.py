"""Token shards: the tokens of a split as one long row, memory mapped from as many files as it has."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fathom.corpus.manifest import Manifest, check_sha256
from fathom.errors import CorpusError

LARGEST_UINT16_VOCABULARY = 65_536


def token_dtype(vocab_size: int) -> np.dtype:
    """The smallest of the two storage types that holds every id."""
    return np.dtype("<u2") if vocab_size <= LARGEST_UINT16_VOCABULARY else np.dtype("<u4")


class TokenShards:
    """The tokens of one split of a corpus folder. Slices copy, so that nobody can write to the files."""

    def __init__(self, folder: str | Path, split: str, *, verify: bool = True) -> None:
        """Open `split` ("train", "validation-english", ...); `verify` compares every byte with its checksum first."""
        self.folder = Path(folder)
        self.manifest = Manifest.load(self.folder)
        self.split = split
        entry = self.manifest.split(split)
        dtype = np.dtype(self.manifest.dtype)
        self._files: list[NDArray] = []
        for file in entry.files:
            if verify:
                check_sha256(self.folder, file)
            self._files.append(np.memmap(self.folder / file.name, dtype=dtype, mode="r"))
        self._starts = np.concatenate([[0], np.cumsum([len(file) for file in self._files], dtype=np.int64)])
        if len(self) != entry.tokens:
            raise CorpusError(
                f"{self.folder}: split '{split}' holds {len(self):,} tokens and its manifest says {entry.tokens:,}: "
                "the manifest belongs to other shards; build the corpus again with `fathom corpus`."
            )

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def vocab_size(self) -> int:
        """Every token is below this."""
        return self.manifest.vocab_size

    @property
    def text_bytes(self) -> int:
        """UTF-8 bytes of the text behind the tokens, for bits per byte."""
        return self.manifest.split(self.split).text_bytes

    def __getitem__(self, place: slice) -> NDArray[np.int64]:
        """Tokens start to stop, across files, as int64."""
        start, stop, step = place.indices(len(self))
        if step != 1:
            raise IndexError("token shards are read in order: use [start:stop] without a step")
        pieces = []
        file = int(np.searchsorted(self._starts, start, side="right")) - 1
        while start < stop:
            end = min(stop, int(self._starts[file + 1]))
            offset = int(self._starts[file])
            pieces.append(self._files[file][start - offset : end - offset])
            start, file = end, file + 1
        return np.concatenate(pieces).astype(np.int64) if pieces else np.empty(0, dtype=np.int64)
