"""Where a model is, by what a user calls it: a folder, a shipped name, or a repository of the Hugging Face hub."""

import importlib
import re
from pathlib import Path

from fathom.errors import WeightsError
from fathom.weights.pickles import is_pickle, refusal
from fathom.weights.shipped import SHIPPED, Say, shipped_folder, tell

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
WANTED = ["*.json", "*.safetensors", "*.jinja", "LICENSE*", "README.md"]
"""Of a repository: what a model folder is made of. Pickles and programs stay where they are."""


def located(name: str | Path, say: Say = tell) -> Path:
    """The folder that `name` stands for, fetched where it is not here yet.

    Anything that exists is taken as a path. `WeightsError` if there is nothing of that name, or it cannot be had.
    """
    path = Path(name)
    if path.is_dir():
        return path
    if path.is_file():
        if is_pickle(path):
            raise WeightsError(refusal(path))
        way = "convert it first, `fathom convert FILE.gguf FOLDER`" if path.suffix == ".gguf" else "name its folder"
        raise WeightsError(f"{path} is a file, where a model is a folder: {way}.")
    if str(name) in SHIPPED:
        return shipped_folder(SHIPPED[str(name)], say)
    if is_repository(str(name)):
        return _from_hub(str(name), say)
    raise WeightsError(
        f"{name}: there is no such folder, and no model of that name comes with Fathom ({', '.join(SHIPPED)}). Name a "
        "folder with config.json and safetensors files, or a repository of the Hugging Face hub, organisation/model."
    )


def is_repository(name: str) -> bool:
    """Whether `name` can be a repository's: two words with a slash between, the first of which is no folder here."""
    return REPOSITORY.fullmatch(name) is not None and not Path(name).parts[0].startswith(".") and not _is_near(name)


def _is_near(name: str) -> bool:
    return Path(Path(name).parts[0]).exists()


def _from_hub(name: str, say: Say) -> Path:
    try:
        hub = importlib.import_module("huggingface_hub")
    except ImportError:
        raise WeightsError(
            f"There is no folder {name}; to fetch a repository of that name from the Hugging Face hub, install "
            "`pip install 'fathom-lm[hub]'`."
        ) from None
    say(f"Looking for {name} on the Hugging Face hub ...")
    try:
        folder = Path(hub.snapshot_download(name, allow_patterns=WANTED))
    except Exception as error:  # the library raises many kinds, all of them about the name or the network
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsError(
            f"There is no folder {name}, and it cannot be fetched from the Hugging Face hub ({reason[:300]}). Check "
            "the name and the network, or name a folder."
        ) from None
    if not (folder / "config.json").is_file():
        raise WeightsError(f"{name} on the Hugging Face hub holds no config.json: it is not a model folder.")
    return folder
