"""What a corpus holds, for people and for programs."""

from collections.abc import Sequence
from typing import Any

from fathom.corpus.manifest import Manifest
from fathom.corpus.packages.mix import MIX


def summary(manifest: Manifest) -> dict[str, Any]:
    """Sizes and sources as plain values."""
    splits = {
        name: {
            "documents": split.documents,
            "text_bytes": split.text_bytes,
            "tokens": split.tokens,
            "bytes_per_token": round(split.text_bytes / split.tokens, 3) if split.tokens else None,
        }
        for name, split in manifest.splits.items()
    }
    return {
        "vocab_size": manifest.vocab_size,
        "splits": splits,
        "training_groups": manifest.groups,
        "sources": [source.model_dump() for source in manifest.sources],
        "dropped": manifest.dropped,
        "reports": list(manifest.reports),
    }


def describe(manifest: Manifest) -> str:
    """The same as text: a line a source, a line a split, then what was left out."""
    rows = [("source", "group", "documents", "MB", "licence")]
    rows += [
        (source.name, source.group, f"{source.documents:,}", f"{source.text_bytes / 1e6:.2f}", source.licence)
        for source in manifest.sources
    ]
    sizes = [("split", "documents", "MB", "tokens", "bytes/token")]
    sizes += [
        (f"  {name}", f"{part['documents']:,}", f"{part['text_bytes'] / 1e6:.2f}", f"{part['tokens']:,}", _ratio(part))
        for name, part in _splits(manifest)
    ]
    dropped = ", ".join(f"{count:,} {what}" for what, count in manifest.dropped.items())
    lines = [*_table(rows), "", *_table(sizes), "", f"vocabulary {manifest.vocab_size:,}; dropped: {dropped}"]
    return "\n".join([*lines, *manifest.reports])


def list_packages() -> list[dict[str, Any]]:
    """The packages of the default mix: name, title, group, licence, where it comes from, its share in bytes."""
    return [
        {
            "name": package.name,
            "title": package.title,
            "group": package.group,
            "licence": package.licence,
            "attribution": package.attribution,
            "origin": package.origin,
            "extra": package.is_extra,
            "max_bytes": package.max_bytes,
        }
        for package in MIX
    ]


def _splits(manifest: Manifest) -> list[tuple[str, dict[str, int]]]:
    train = manifest.splits["train"]
    parts = [("train", {"documents": train.documents, "text_bytes": train.text_bytes, "tokens": train.tokens})]
    parts += [(f"train, {group}", counts) for group, counts in manifest.groups.items()]
    for group in manifest.validation_groups:
        held = manifest.splits[f"validation-{group}"]
        parts.append((f"validation-{group}", held.model_dump(include={"documents", "text_bytes", "tokens"})))
    return parts


def _ratio(part: dict[str, int]) -> str:
    return f"{part['text_bytes'] / part['tokens']:.2f}" if part["tokens"] else "-"


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Columns as wide as their widest cell; numbers to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if any(character.isdigit() for character in row[column][:1]) else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
