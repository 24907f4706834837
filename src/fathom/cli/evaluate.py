"""`fathom evaluate`: bits per byte of held-out text, beside xz."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fathom.cli import asked
from fathom.cli.console import answer, answer_json, table
from fathom.cli.find import model_folder
from fathom.errors import UsageError
from fathom.parallel.device import best_device

if TYPE_CHECKING:
    from fathom.corpus.batches import Tokens
    from fathom.corpus.tokenizer import Tokenizer

LONGEST_CONTEXT = 4096
"""Without a wish or a recipe, no more: attention over a longer one takes long and gains little."""


@dataclass(frozen=True)
class HeldOut:
    """A text to judge a model on."""

    name: str
    tokens: "Tokens"
    """The first one is given, the others are predicted."""
    text: Path


@dataclass(frozen=True)
class Result:
    """What became of one text."""

    text: str
    bytes: int
    bits_per_byte: float
    xz: float


def evaluate(
    model: asked.ModelName = None,
    corpus: Annotated[
        Path | None, typer.Option("--corpus", help="A corpus, whose held-out text is judged; the run's own.")
    ] = None,
    text: Annotated[list[Path] | None, typer.Option("--text", help="A text file; may be given several times.")] = None,
    context: Annotated[
        int | None, typer.Option("--context", min=2, help="Tokens a prediction sees at most; the training's.")
    ] = None,
    json: asked.Json = False,
) -> None:
    """Judge a model by the bits it needs for a byte of text it never saw, beside xz -9e on the same text.

    Example: `fathom evaluate runs/quickstart --json`
    """
    from fathom.corpus.tokenizer import Tokenizer
    from fathom.evaluate.bits_per_byte import bits_per_byte
    from fathom.evaluate.compressors import xz_of_file
    from fathom.parallel.mesh import World
    from fathom.progress import track
    from fathom.weights.folder import load

    folder = model_folder(model)
    tokenizer = Tokenizer(folder)
    texts = _files(tokenizer, text) if text else _of_corpus(tokenizer, corpus or _corpus_of(folder))
    network = load(folder, device=best_device())
    window = context or _trained_context(folder) or min(network.config.max_position_embeddings, LONGEST_CONTEXT)
    world = World(next(network.parameters()).device)
    results = []
    for held_out in texts:
        size = held_out.text.stat().st_size
        with track(f"Reading {held_out.name}", 1.0) as progress:
            bits = bits_per_byte(
                network,
                held_out.tokens,
                size,
                world,
                context=window,
                stride=max(window // 2, 1),
                advance=progress.advance,
            )
        results.append(Result(held_out.name, size, bits.value, xz_of_file(held_out.text).bits_per_byte))
    if json:
        answer_json({"model": str(folder), "context": window, "results": [asdict(result) for result in results]})
        return
    rows = [("text", "bytes", "bits per byte", "xz -9e", "of xz")]
    rows += [
        (r.text, f"{r.bytes:,}", f"{r.bits_per_byte:.3f}", f"{r.xz:.3f}", f"{r.bits_per_byte / r.xz:.2f}")
        for r in results
    ]
    answer(table(rows, right=frozenset({1, 2, 3, 4})))


def _of_corpus(tokenizer: "Tokenizer", folder: Path) -> list[HeldOut]:
    """The corpus's held-out shards, or its text encoded anew where the model has another tokenizer."""
    from fathom.corpus.manifest import Manifest
    from fathom.corpus.shards import TokenShards

    manifest = Manifest.load(folder)
    same = (folder / "tokenizer.json").read_bytes() == tokenizer.path.read_bytes()
    found = []
    for group in manifest.validation_groups:
        path = folder / f"validation-{group}.txt"
        tokens: Tokens = TokenShards(folder, f"validation-{group}") if same else _encoded(tokenizer, path)
        if len(tokens) > 1:
            found.append(HeldOut(group, tokens, path))
    if not found:
        raise UsageError(f"{folder} holds no held-out text: build it with corpus.validation_bytes above 0.")
    return found


def _files(tokenizer: "Tokenizer", paths: list[Path]) -> list[HeldOut]:
    return [HeldOut(path.name, _encoded(tokenizer, path), path) for path in paths]


def _encoded(tokenizer: "Tokenizer", path: Path) -> "Tokens":
    import numpy as np

    from fathom.engine.prompt import encode_text

    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file.") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start}).") from None
    if not text:
        raise UsageError(f"{path} is empty: there is nothing to judge.")
    return np.array(encode_text(tokenizer, text), dtype=np.int64)


def _corpus_of(folder: Path) -> Path:
    """The corpus of the run that the model came from."""
    from fathom.train.run import RunFolder, read_json

    starts = read_json(RunFolder(folder.parent).provenance, [])
    if not starts:
        raise UsageError(
            f"{folder} is not in a run folder, so its held-out text is unknown: name it with --corpus or --text."
        )
    return Path(starts[-1]["corpus"])


def _trained_context(folder: Path) -> int | None:
    from fathom.config.recipe import Recipe

    path = folder.parent / "recipe.toml"
    return Recipe.load(path).train.sequence_length if path.is_file() else None
