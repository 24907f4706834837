"""The device that one process computes on."""

import os

from fathom.errors import UsageError


def best_device() -> str:
    """The device that FATHOM_DEVICE names; without it the GPU if there is one, else the CPU."""
    import torch

    named = os.environ.get("FATHOM_DEVICE", "auto")
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if named == "auto":
        return "cuda" if there else "cpu"
    kind, _, number = named.partition(":")
    if kind not in ("cpu", "cuda") or (number and not (kind == "cuda" and number.isdecimal())):
        raise UsageError(f"FATHOM_DEVICE is {named!r}: it is auto, cpu, cuda, or cuda and a number such as cuda:1.")
    if kind == "cuda" and int(number or 0) >= there:
        raise UsageError(
            f"FATHOM_DEVICE is {named!r}, and {there or 'no'} CUDA devices are here: set it to auto or cpu."
        )
    return named
