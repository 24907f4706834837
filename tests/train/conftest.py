"""One tiny corpus for every test here."""

from pathlib import Path

import pytest

from tiny_run import make_corpus


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("tiny") / "corpus")


@pytest.fixture(autouse=True)
def unmeasured_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    """No run here is judged by its speed, so none waits for the machine's peak."""
    monkeypatch.setattr("fathom.train.loop.matmul_peak", lambda dtype, device: 1e12)
