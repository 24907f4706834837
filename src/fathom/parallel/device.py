"""The device that one process computes on."""

import os

from fathom.errors import UsageError


def best_device() -> str:
    """`cpu` or `cuda`, as FATHOM_DEVICE says; without it the GPU if there is one, else the CPU.

    Which of several GPUs is CUDA_VISIBLE_DEVICES' to say: a number here would hold for one thread of a process alone,
    and an engine has a thread of its own.
    """
    import torch

    named = os.environ.get("FATHOM_DEVICE", "auto")
    if named == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if named not in ("cpu", "cuda"):
        raise UsageError(
            f"FATHOM_DEVICE is {named!r}: it is auto, cpu or cuda; CUDA_VISIBLE_DEVICES says which of several GPUs."
        )
    if named == "cuda" and not torch.cuda.is_available():
        raise UsageError("FATHOM_DEVICE is 'cuda', and no CUDA device is here: set it to auto or cpu.")
    return named
