"""The examples of the README and of docs/api.md, run as they are printed, but for the port."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from served import server

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
ADDRESS = "http://127.0.0.1:8000"


def printed(page, beginning):
    """The examples on a page that begin with a word, as a reader copies them."""
    indented = re.findall(r"(?:^    .*\n)+", (ROOT / page).read_text(), re.MULTILINE)
    blocks = [re.sub("^    ", "", block, flags=re.MULTILINE) for block in indented]
    found = [block for block in blocks if block.startswith(beginning) and ADDRESS in block]
    assert found, f"{page} has no example that begins with {beginning}"
    return found


@pytest.fixture(scope="module")
def address(served_model):
    with server(served_model, "--no-page", "--embeddings", "smollm2-135m-instruct") as (_, address):
        yield address


@pytest.mark.parametrize("page", ["README.md", "docs/api.md"])
def test_the_shell_examples_answer(address, page):
    for example in printed(page, "curl"):
        command = example.replace(ADDRESS, address)
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["choices"][0]["message"]["role"] == "assistant"


@pytest.mark.parametrize("client", ["from openai", "from anthropic"])
def test_the_client_examples_run(address, client):
    for example in printed("docs/api.md", client):
        program = example.replace(ADDRESS, address)
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()
