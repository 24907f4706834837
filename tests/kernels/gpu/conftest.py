"""Triton's kernels on the GPU where there is one; elsewhere through Triton's interpreter, on CPU tensors.

A process does one or the other, for a kernel is interpreted or compiled as its module is imported.
"""

import importlib.util
from collections.abc import Iterator

import pytest
import torch

from interpreted import interpret


@pytest.fixture
def form() -> None:
    """In the place of the fixture that repeats the tests of the CPU's kernels."""


@pytest.fixture(scope="module", params=["interpreter", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    if importlib.util.find_spec("triton") is None:
        pytest.skip("Triton is not installed: pip install 'fathom-lm[gpu]'")
    there = torch.cuda.is_available()
    if (request.param == "cuda") != there:
        pytest.skip("the kernels run on the GPU of this machine" if there else "no CUDA device")
    with pytest.MonkeyPatch.context() as patch:
        if not there:
            interpret(patch)
        yield "cuda" if there else "cpu"
