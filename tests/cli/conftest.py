import pytest
from typer.testing import CliRunner

from fathom.cli.app import app


@pytest.fixture
def fathom(monkeypatch, tmp_path):
    """Run a command in an empty folder, in this process, as if there were no terminal."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments, **more: CliRunner().invoke(app, list(arguments), **more)
