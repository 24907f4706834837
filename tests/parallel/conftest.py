"""One tiny corpus for every test here."""

from pathlib import Path

import pytest

from tiny_run import make_corpus


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("tiny") / "corpus")
