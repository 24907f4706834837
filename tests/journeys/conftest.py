import os
import random
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from fathom.cli.app import app

PROSE = "the sea captain looked at deep water and said that every line was long enough to measure"
CHARACTERS = "春风秋月何时了往事知多少小楼昨夜又东风故国不堪回首中雕栏玉砌应犹在"
RECIPE = """
about = "A tiny run"

[model]
preset = "laptop-1"
num_hidden_layers = 2
first_k_dense_replace = 1
n_routed_experts = 8
num_experts_per_tok = 2
max_position_embeddings = 128

[corpus]
vocab_size = 600
validation_bytes = 3000
validation_share = 0.2
sources = [{kind = "folder", path = "texts"}]

[train]
steps = 8
sequence_length = 64
batch_sequences = 4
micro_batch_sequences = 4
evaluate_every = 4
evaluate_tokens = 256
checkpoint_every = 2
expert_load_every = 1

[train.optimizer]
learning_rate = 3e-3

[train.schedule]
warmup_steps = 2

[train.samples]
every = 4
tokens = 8
prompts = ["The sea", "春风"]
"""
QUICKSTART = [
    f"--set={override}"
    for override in (
        "model.preset=laptop-1",
        "model.n_routed_experts=8",
        "model.num_experts_per_tok=2",
        "corpus.vocab_size=600",
        'corpus.sources=[{kind="folder",path="texts"}]',
        "corpus.validation_bytes=3000",
        "corpus.validation_share=0.2",
        "train.sequence_length=64",
        "train.batch_sequences=4",
        "train.micro_batch_sequences=4",
        "train.checkpoint_every=2",
        "train.samples.every=0",
    )
]
"""The quickstart on a text and a network small enough for a test."""


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
