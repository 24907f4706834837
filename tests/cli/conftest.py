import pytest
from typer.testing import CliRunner

from fathom.cli.app import app
from fathom.corpus.bpe import save_tokenizer, train_bpe


@pytest.fixture
def fathom(monkeypatch, tmp_path):
    """Run a command in an empty folder, in this process, as if there were no terminal."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments, **more: CliRunner().invoke(app, list(arguments), **more)


@pytest.fixture
def sea(monkeypatch, tmp_path):
    """A folder to work in, with a small tokenizer in `words` and a text in its words in `text.txt`."""
    monkeypatch.chdir(tmp_path)
    words = tmp_path / "words"
    words.mkdir()
    save_tokenizer(train_bpe(["the sea is deep and cold"] * 50, 420), words)
    (tmp_path / "text.txt").write_text("the deep sea is cold and the cold sea is deep. " * 150)
    return tmp_path
