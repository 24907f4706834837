"""Whether Triton's kernels take a tensor, and whether one of them does here what its reference does.

Triton comes with PyTorch's CUDA builds. Where it is missing, or with FATHOM_TRITON=0, every operation has its PyTorch
form: the same results to rounding, more slowly. With FATHOM_TRITON=interpret, Triton's interpreter runs the kernels on
the CPU, which proves them equal to their references on a machine without a GPU, and is of no other use.
"""

import functools
import importlib.util
import logging
import os
from collections.abc import Callable

import torch
from torch import Tensor

log = logging.getLogger("fathom.kernels")

OLDEST = (8, 0)
"""The least compute capability: that of bfloat16 products."""
TYPES = (torch.float32, torch.float16, torch.bfloat16)
TOLERANCES = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 4e-2}
"""How far a kernel's result may be from its reference's, as a share of that one's size."""


def usable(*tensors: Tensor) -> bool:
    """Whether Triton kernels take these tensors: all on one device that Triton compiles for, the first of a type above.

    None of them may be asked for a gradient: the kernels have none. Asked in every layer, so what is cheap and usually
    false comes first.
    """
    first = tensors[0]
    if first.device.type == "cpu":
        stands = os.environ.get("FATHOM_TRITON") == "interpret"
    else:
        stands = first.device.type == "cuda" and os.environ.get("FATHOM_TRITON") != "0"
    return (
        stands
        and first.dtype in TYPES
        and all(tensor.device == first.device for tensor in tensors)
        and not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors))
        and importable()
        and (first.device.type == "cpu" or _new_enough(first.device.index))
    )


@functools.cache
def importable() -> bool:
    """Whether there is a Triton to import."""
    return importlib.util.find_spec("triton") is not None


@functools.cache
def _new_enough(index: int) -> bool:
    return torch.version.hip is not None or torch.cuda.get_device_capability(index) >= OLDEST


@functools.cache
def processors(device: torch.device) -> int:
    """Multiprocessors of a device; a few where the interpreter stands for it."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 4


def agrees(name: str, kernel: Callable[[], Tensor], reference: Callable[[], Tensor]) -> bool:
    """Whether a kernel runs on this machine and gives what its reference gives; says so in the log where it does not.

    Callers keep the answer: a kernel is tried on a small problem before its first use, for a process, device, type and
    shape. Where it does not stand, the plain form is used, so that a fault of a compiler or driver costs speed alone.
    """
    try:
        made, expected = kernel(), reference()
        tolerance = TOLERANCES[expected.dtype] * max(float(expected.abs().max()), 1e-6)
        worst = float((made.float() - expected.float()).abs().max())
    except Exception as error:
        log.warning("The Triton kernel %s fails here (%s); the plain form is used instead.", name, error)
        return False
    # Written so that NaN is a failure too.
    if not worst <= tolerance:
        log.warning("The Triton kernel %s is off by %.2g here; the plain form is used instead.", name, worst)
        return False
    return True
