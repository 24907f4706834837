"""`fathom corpus`: text in, token shards out."""

from pathlib import Path
from typing import Annotated, Any

import typer

from fathom.cli import asked
from fathom.cli.console import answer, answer_json, table
from fathom.cli.find import recipe_file
from fathom.reports.words import big


def corpus(
    source: Annotated[
        str | None,
        typer.Argument(metavar="[SOURCE]", help="A recipe, a folder of text or a text file; the default text."),
    ] = None,
    changes: asked.Set = None,
    into: Annotated[Path | None, typer.Option("--into", help="The corpus folder; one below data/.")] = None,
    known: Annotated[bool, typer.Option("--list", help="List the packages that carry text, and stop.")] = False,
    json: asked.Json = False,
) -> None:
    """Build a corpus: collect text, clean it, drop duplicates, hold some out, and pack the rest as tokens.

    Interrupt it, run it again: it goes on. Example: `fathom corpus my-texts/ --set vocab_size=4096 --into data/mine`
    """
    if known:
        _list_packages(json)
        return
    from fathom.cli.running import corpus_folder
    from fathom.config.corpus import CorpusConfig
    from fathom.config.recipe import Recipe, apply_overrides
    from fathom.corpus.build import build_corpus

    wanted = changes or []
    path = Path(source) if source else None
    if source is None or (path and path.exists() and path.suffix != ".toml"):
        values: dict[str, Any] = {"sources": [{"kind": "folder", "path": source}]} if source else {}
        config = CorpusConfig.validated(
            apply_overrides(values, [item.removeprefix("corpus.") for item in wanted]), source or "the default text"
        )
    else:
        config = Recipe.load(recipe_file(source), wanted).corpus
    folder = into or corpus_folder(config)
    manifest = build_corpus(config, folder)
    if json:
        answer_json({"folder": str(folder)} | manifest.model_dump(mode="json"))
        return
    rows = [("split", "documents", "MB", "tokens")]
    rows += [
        (name, f"{split.documents:,}", f"{split.text_bytes / 1e6:,.2f}", big(split.tokens))
        for name, split in manifest.splits.items()
    ]
    answer(table(rows, right=frozenset({1, 2, 3})))
    answer()
    rows = [("source", "group", "MB", "licence")]
    rows += [(s.title, s.group, f"{s.text_bytes / 1e6:,.2f}", s.licence) for s in manifest.sources]
    answer(table(rows, right=frozenset({2})))
    answer()
    answer(f"{folder}: a vocabulary of {manifest.vocab_size:,} tokens")
    for line in manifest.reports:
        answer(f"note: {line}")


def _list_packages(json: bool) -> None:
    from fathom.corpus.packages.mix import MIX

    if json:
        answer_json(
            [{"name": p.name, "title": p.title, "licence": p.licence, "client": p.client} for p in MIX],
        )
        return
    rows = [("name", "what", "licence", "comes by")]
    rows += [(p.name, p.title, p.licence, p.client) for p in MIX]
    answer(table(rows))
