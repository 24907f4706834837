"""The most memory a process has held so far."""

import sys

import torch


def memory_bytes(device: torch.device) -> int:
    """Allocated on a CUDA device, or resident in main memory; 0 where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # not on Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
