"""The machine's measured matrix-product peak: what a run's speed is compared with."""

import time

import torch


def matmul_peak(dtype: torch.dtype, device: torch.device, seconds: float = 0.4) -> float:
    """FLOP/s of the fastest of a few square products of `dtype` on `device`, measured in about `seconds`."""
    size = 8192 if device.type == "cuda" else 2048
    left = torch.randn(size, size, device=device).to(dtype)
    right, out = left.t().contiguous(), torch.empty_like(left)
    torch.mm(left[:64], right, out=out[:64])
    best, begin = float("inf"), time.perf_counter()
    while time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        torch.mm(left, right, out=out)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2.0 * size**3 / best
