"""A data set from the Hugging Face hub, streamed row by row."""

import importlib
from collections.abc import Iterator

from fathom.config.corpus import HuggingFaceSource
from fathom.errors import CorpusError


def read_hugging_face(source: HuggingFaceSource) -> Iterator[tuple[str, str]]:
    """Name and raw text of each row."""
    try:
        datasets = importlib.import_module("datasets")
    except ImportError:
        raise CorpusError(
            f"data set '{source.name}' needs the library datasets: install it with `pip install 'fathom-lm[data]'`."
        ) from None
    try:
        rows = datasets.load_dataset(
            source.name, source.subset, split=source.split, revision=source.revision, streaming=True
        )
        for number, row in enumerate(rows):
            text = row.get(source.text_field)
            if not isinstance(text, str):
                raise CorpusError(
                    f"data set '{source.name}' has no text under '{source.text_field}' "
                    f"(found: {', '.join(sorted(row))}); set the source's text_field."
                )
            yield f"{source.name}:{number}", text
    except CorpusError:
        raise
    except Exception as error:  # the library raises many kinds, all of them about the network or the name
        raise CorpusError(
            f"data set '{source.name}' cannot be read ({type(error).__name__}: {error}): check its name, subset and "
            "split, and the network; or use a folder or the packages as the source."
        ) from None
