import contextlib
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from running import running
from scripted import Scripted

from fathom.serve.app import create_app
from fathom.serve.encoding import TEMPLATES
from fathom.serve.settings import ServeSettings
from talkative import few_words

TEXT = [
    "the sea is deep and the line is long",
    "测量大海的深浅，北京的天气",
    "def depth(line):\n    return len(line)\n",
]


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory):
    return few_words(tmp_path_factory.mktemp("tokenizer"), TEXT)


@pytest.fixture
def serve(tokenizer):
    """Start a server around a scripted engine; returns its address and the engine."""
    stack = contextlib.ExitStack()

    def start(text="Hello.", *, template="deepseek-v3.1", settings=None, context_length=4096, embedder=None, **script):
        service = Scripted(tokenizer, text, **script)
        app = create_app(
            ServeSettings.model_validate(settings or {}),
            service,
            tokenizer,
            template=TEMPLATES[template],
            model="tiny",
            context_length=context_length,
            vocab_size=tokenizer.vocab_size,
            embedder=embedder,
        )
        service.app = app
        return stack.enter_context(running(app)), service

    with stack:
        yield start
