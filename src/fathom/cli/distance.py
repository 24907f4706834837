"""`fathom convert distance`: how far one model's predictions are from another's."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fathom.cli import asked
from fathom.cli.console import answer, answer_json, table
from fathom.cli.passages import spread, tokens_of
from fathom.errors import UsageError

if TYPE_CHECKING:
    from fathom.weights.upcycle.distance import Distance


def distance(
    original: Annotated[str, typer.Argument(help="The model to compare with: a folder, a run or a shipped name.")],
    others: Annotated[list[str], typer.Argument(help="Models of the same tokenizer.")],
    text: Annotated[list[Path], typer.Option("--text", help="Text to measure on; may be given several times.")],
    sequence: Annotated[int, typer.Option(min=16, help="Tokens read together.")] = 512,
    tokens: Annotated[int, typer.Option(min=16, help="Tokens to measure on, at most.")] = 4_096,
    json: asked.Json = False,
) -> None:
    """Measure how far models are from an original: an upcycled one, a healed one, one in fewer bits.

    Example: `fathom convert distance smollm2-135m-instruct upcycled runs/healed --text held-out.txt`
    """
    import torch

    from fathom.cli.find import model_folder
    from fathom.corpus.tokenizer import Tokenizer
    from fathom.weights.folder import load
    from fathom.weights.upcycle.distance import Reference

    folder = model_folder(original)
    folders = [model_folder(other) for other in others]
    tokenizer = Tokenizer(folder)
    ids = tokens_of(text, tokenizer)
    for place in folders:
        if tokens_of(text, Tokenizer(place)) != ids:
            raise UsageError(
                f"{place}: its tokenizer splits the text otherwise than that of {folder}, so that their predictions "
                "cannot be compared."
            )
    windows = spread(ids, sequence, tokens, "the text")
    size = sum(len(tokenizer.decode(row[1:]).encode()) for row in windows.tolist())
    model = load(folder, mtp=False)
    model.compute_dtype = torch.float32
    reference = Reference.of(model, windows)
    found = [(original, reference.distance(title=original))]
    for name, place in zip(others, folders, strict=True):
        other = load(place, mtp=False)
        other.compute_dtype = torch.float32
        found.append((name, reference.distance(other, name)))
    rows = [_row(name, each, windows.numel() - len(windows), size) for name, each in found]
    if json:
        answer_json({"tokens": windows.numel(), "bytes": size, "rows": rows})
        return
    heads = ("model", "KL, nats", "same top token", "perplexity", "bits per byte")
    forms = {"kl": ".4f", "top1": ".1%", "perplexity": ".2f", "bits_per_byte": ".4f"}
    shown = [(str(row["model"]), *(format(row[key], form) for key, form in forms.items())) for row in rows]
    answer(table([heads, *shown], right=frozenset(range(1, 5))))
    answer(f"measured on {windows.numel():,} tokens")


def _row(name: str, found: "Distance", predicted: int, size: int) -> dict[str, float | str]:
    from math import log2

    bits = log2(found.perplexity) * predicted / size
    return {"model": name, "kl": found.kl, "top1": found.top1, "perplexity": found.perplexity, "bits_per_byte": bits}
