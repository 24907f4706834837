import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import CHARACTERS, PROSE, RECIPE
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "serve"))

from test_real_engine import tiny_model

from fathom.cli.app import app
from fathom.corpus.bpe import save_tokenizer, train_bpe
from fathom.corpus.tokenizer import Tokenizer
from fathom.weights.folder import save


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a few texts in English, Chinese and code, and a recipe."""
    words = PROSE.split()
    folder, chance = tmp_path_factory.mktemp("journey"), random.Random(1)
    texts = folder / "texts"
    texts.mkdir()
    for number in range(40):
        (texts / f"{number}.txt").write_text(" ".join(chance.choice(words) for _ in range(200)) + ".\n")
        poem = "。".join("".join(chance.choice(CHARACTERS) for _ in range(12)) for _ in range(20))
        (texts / f"poem-{number}.txt").write_text(poem, encoding="utf-8")
        code = [f"def {chance.choice(words)}_{number}(x):\n    return x + {chance.randint(0, 99)}\n" for _ in range(15)]
        (texts / f"{number}.py").write_text("\n".join(code))
    (folder / "tiny.toml").write_text(RECIPE, encoding="utf-8")
    return folder


@pytest.fixture
def here(place, monkeypatch):
    """Run a command in this process, which spares each the time to load."""
    monkeypatch.chdir(place)

    def run(*arguments, status=0, stdin=""):
        done = CliRunner().invoke(app, list(arguments), input=stdin)
        assert done.exit_code == status, done.stderr
        return done

    return run


@pytest.fixture(scope="module")
def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1", "TERM": "xterm", "COLUMNS": "100"}


@pytest.fixture(scope="module")
def fathom(place, environment):
    """Run a command as a user does, in a process of its own without a terminal."""

    def run(*arguments: str, status: int = 0, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "fathom", *arguments]
        done = subprocess.run(
            command, cwd=place, env=environment, input=stdin, capture_output=True, text=True, check=False
        )
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def served_model(tmp_path_factory):
    """A tiny model of random weights, which says anything at all."""
    base = tmp_path_factory.mktemp("serving")
    (base / "tokenizer").mkdir()
    save_tokenizer(train_bpe(["the sea is deep and the line is long"] * 20, 400), base / "tokenizer")
    return save(tiny_model(Tokenizer(base / "tokenizer")), base / "tiny", tokenizer_from=base / "tokenizer")
