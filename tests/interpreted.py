"""Triton's interpreter in the place of a GPU, for the tests that run kernels on a CPU."""

import sys

import pytest


def interpret(patch: pytest.MonkeyPatch) -> None:
    """Have Triton's kernels interpreted from now on, and used for tensors on the CPU.

    Triton decides as it is imported; where something else has imported it, it is imported anew.
    """
    if "fathom.kernels.gpu.paged_attention" not in sys.modules:
        for name in [name for name in sys.modules if name.split(".")[0] == "triton"]:
            if not name.startswith("triton._C"):
                del sys.modules[name]
    patch.setenv("TRITON_INTERPRET", "1")
    patch.setenv("FATHOM_TRITON", "interpret")
