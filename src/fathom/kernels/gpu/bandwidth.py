"""How fast a GPU reads its memory: the least time that a decoding step can take."""

import time

import torch

BYTES = 1 << 30


def read_bandwidth(device: torch.device) -> float:
    """Bytes a second that a sum over a GiB of `device` reads."""
    numbers = torch.zeros(BYTES // 4, device=device)
    best = float("inf")
    for _ in range(6):
        torch.cuda.synchronize(device)
        begin = time.perf_counter()
        numbers.sum()
        torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - begin)
    return BYTES / best
