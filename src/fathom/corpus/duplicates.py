"""Finding documents that say the same: exactly, or nearly by MinHash and locality-sensitive hashing.

One-permutation hashing (Li, Owen, Zhang 2012) with rotation (Shrivastava and Li 2014): every window of 24 letters is
hashed once, the hash names one of 256 bins and competes there for the smallest value, and an empty bin borrows from the
next full one. The share of equal bins estimates the Jaccard similarity of two documents' windows.
"""

from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

WINDOW = 24
BINS = 256
BANDS = 32
ROWS = BINS // BANDS
BATCH_BYTES = 4_000_000
EMPTY = np.uint32(0xFFFFFFFF)
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)

NOT_LETTERS = bytes(range(33)) + b"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~\x7f"


def letters(text: str) -> bytes:
    """What is compared: lower case, without white space and ASCII punctuation."""
    return text.lower().encode("utf-8").translate(None, NOT_LETTERS)


def fingerprint(text: str) -> bytes:
    """Equal for texts with the same letters and digits in the same order."""
    return sha256(letters(text)).digest()[:16]


def signatures(texts: Iterable[str]) -> NDArray[np.uint32]:
    """MinHash signatures, one row of `BINS` values a text."""
    parts = [_batch_signatures(batch) for batch in _batches(texts)]
    return np.concatenate(parts) if parts else np.empty((0, BINS), dtype=np.uint32)


def near_duplicates(signature: NDArray[np.uint32], threshold: float) -> NDArray[np.int64]:
    """For each row the first row that it nearly repeats, directly or through others; itself if it repeats none.

    Rows are compared when one of `BANDS` bands of their signatures is equal throughout, and count as near-duplicates
    when at least `threshold` of all bins are equal.
    """
    first = np.arange(len(signature), dtype=np.int64)
    for band in range(BANDS):
        keys = _band_keys(signature[:, band * ROWS : (band + 1) * ROWS])
        order = np.argsort(keys, kind="stable")
        run_starts = np.flatnonzero(np.concatenate([[True], keys[order][1:] != keys[order][:-1]]))
        heads = order[np.repeat(run_starts, np.diff(np.append(run_starts, len(order))))] if len(order) else order
        candidates = np.flatnonzero(heads != order)
        for start in range(0, len(candidates), 4096):
            chosen = candidates[start : start + 4096]
            left, right = heads[chosen], order[chosen]
            alike = (signature[left] == signature[right]).mean(axis=1) >= threshold
            for one, other in zip(left[alike], right[alike], strict=True):
                _join(first, int(one), int(other))
    for row in range(len(first)):
        first[row] = first[first[row]]
    return first


def _batches(texts: Iterable[str]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for text in texts:
        batch.append(letters(text))
        size += len(batch[-1])
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _batch_signatures(batch: Sequence[bytes]) -> NDArray[np.uint32]:
    """A text shorter than a window is padded with zeros, so that it has exactly one."""
    padded = [text.ljust(WINDOW, b"\0") for text in batch]
    lengths = np.array([len(text) for text in padded])
    hashes = _window_hashes(np.frombuffer(b"".join(padded), dtype=np.uint8))
    owners = np.repeat(np.arange(len(batch)), lengths)
    within = np.arange(len(owners)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    whole = within[: len(hashes)] <= (lengths - WINDOW)[owners[: len(hashes)]]
    bins = owners[: len(hashes)][whole] * BINS + (hashes[whole] >> np.uint64(56)).astype(np.int64)
    smallest = np.full(len(batch) * BINS, EMPTY, dtype=np.uint32)
    np.minimum.at(smallest, bins, (hashes[whole] & np.uint64(0xFFFFFFFF)).astype(np.uint32))
    return _without_empty_bins(smallest.reshape(len(batch), BINS))


def _window_hashes(text: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The hash of each window of 24 = 8 + 16 bytes, from hashes of 1, 2, 4, 8 and 16 bytes."""
    hashes = _mix(text.astype(np.uint64) + np.uint64(1))
    span = 1
    eight = hashes
    while span < WINDOW - 8:
        hashes = _mix(hashes[:-span] * MULTIPLIER + hashes[span:])
        span *= 2
        if span == 8:
            eight = hashes
    return _mix(hashes[: len(text) - WINDOW + 1] * MULTIPLIER + eight[16 : 16 + len(text) - WINDOW + 1])


def _without_empty_bins(smallest: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """An empty bin takes the value of the next full one, around the end, shifted by the distance."""
    places = np.where(np.tile(smallest, 2) != EMPTY, np.arange(2 * BINS), 4 * BINS)
    nearest = np.minimum.accumulate(places[:, ::-1], axis=1)[:, ::-1][:, :BINS]
    distance = (nearest - np.arange(BINS)).astype(np.uint32)
    return np.take_along_axis(smallest, nearest % BINS, axis=1) + distance * np.uint32(0x85EBCA6B)


def _band_keys(rows: NDArray[np.uint32]) -> NDArray[np.uint64]:
    keys = np.zeros(len(rows), dtype=np.uint64)
    for column in rows.T:
        keys = _mix(keys * MULTIPLIER + column.astype(np.uint64))
    return keys


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = x ^ (x >> np.uint64(29))
    x = x * np.uint64(0xBF58476D1CE4E5B9)
    return x ^ (x >> np.uint64(32))


def _join(first: NDArray[np.int64], one: int, other: int) -> None:
    """Union-find: the earlier root wins."""
    one, other = _root(first, one), _root(first, other)
    first[max(one, other)] = min(one, other)


def _root(first: NDArray[np.int64], row: int) -> int:
    while first[row] != row:
        first[row] = first[first[row]]
        row = int(first[row])
    return row
