"""Every kernel test runs twice: with the compiled library, and with PyTorch alone, as without a compiler."""

from collections.abc import Iterator

import pytest

from fathom.kernels import native


@pytest.fixture(params=["native", "pytorch"], autouse=True)
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    native.library.cache_clear()
    if request.param == "pytorch":
        monkeypatch.setenv("FATHOM_NATIVE", "0")
    elif native.library() is None:
        pytest.skip("no C++ compiler with OpenMP on this machine")
    yield request.param
    native.library.cache_clear()
