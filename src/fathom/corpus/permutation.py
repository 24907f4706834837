"""A seeded permutation of any size that needs no memory: the place of one element is computed, not looked up."""

import numpy as np
from numpy.typing import NDArray

ROUNDS = 6


def permuted(indices: NDArray[np.int64], size: int, *seeds: int) -> NDArray[np.int64]:
    """Where a pseudo-random permutation of range(size), chosen by `seeds`, sends each of `indices`.

    A Feistel network permutes the smallest square of a power of two that holds `size`; whatever lands outside is sent
    through again until it lands inside (cycle walking), which keeps the map a permutation of range(size).
    """
    half = np.uint64(max(1, ((max(size, 2) - 1).bit_length() + 1) // 2))
    mask = np.uint64((1 << int(half)) - 1)
    keys = _round_keys(seeds)
    result = indices.astype(np.uint64)
    outside = np.arange(len(result))
    while len(outside):
        values = result[outside]
        left, right = values >> half, values & mask
        for key in keys:
            left, right = right, left ^ (_mix(right ^ key) & mask)
        result[outside] = (left << half) | right
        outside = outside[result[outside] >= np.uint64(size)]
    return result.astype(np.int64)


def _round_keys(seeds: tuple[int, ...]) -> list[np.uint64]:
    state = np.zeros(1, dtype=np.uint64)
    for seed in seeds:
        state = _mix(state ^ np.uint64(seed % 2**64))
    keys = []
    for _ in range(ROUNDS):
        state = _mix(state)
        keys.append(state[0])
    return keys


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
