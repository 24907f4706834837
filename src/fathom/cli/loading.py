"""A model folder made ready to speak."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from fathom.parallel.device import best_device

if TYPE_CHECKING:
    from fathom.engine.config import EngineConfig
    from fathom.engine.engine import Engine


def load_engine(folder: Path, config: "EngineConfig | None" = None, weights: str | None = None) -> "Engine":
    """Load a model and its tokenizer, onto a GPU where there is one, with its weights in a format or as stored."""
    from fathom.corpus.tokenizer import Tokenizer
    from fathom.engine.engine import Engine
    from fathom.weights.formats import check_format, load_in_format

    check_format(weights)
    tokenizer = Tokenizer(folder)
    return Engine(load_in_format(folder, weights, best_device()), tokenizer, config)


def is_chat_model(folder: Path) -> bool:
    """Whether a model takes turns: it has a chat template, and is not what a pre-training run has just left."""
    try:
        configuration = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    trained_here = (folder.parent / "recipe.toml").is_file()
    has_template = bool(configuration.get("chat_template")) or (folder / "chat_template.jinja").is_file()
    return has_template and not trained_here
