"""The last stage: documents in a seeded order become rows of tokens, with an end-of-sentence token after each."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fathom.config.corpus import CorpusConfig
from fathom.corpus.documents import Document
from fathom.corpus.fim import joined, rearranged
from fathom.corpus.manifest import describe_file
from fathom.corpus.selecting import GROUPS, Selection
from fathom.corpus.shards import token_dtype
from fathom.corpus.stages import sync_file, write_synced
from fathom.corpus.tokenizer import Tokenizer
from fathom.progress import Tracker

PROGRESS = "progress.json"
BATCH = 128
"""Documents encoded together."""

Entry = tuple[int, int]
"""A document's number and which repetition of it this is."""


@dataclass
class Counts:
    """What has been packed so far, by language group."""

    documents: dict[str, int]
    text_bytes: dict[str, int]
    tokens: dict[str, int]

    @classmethod
    def none(cls) -> "Counts":
        """Nothing yet."""
        return cls({}, {}, {})

    def add(self, group: str, text_bytes: int, tokens: int) -> None:
        """Count one document."""
        self.documents[group] = self.documents.get(group, 0) + 1
        self.text_bytes[group] = self.text_bytes.get(group, 0) + text_bytes
        self.tokens[group] = self.tokens.get(group, 0) + tokens


def pack(
    config: CorpusConfig,
    epochs: Sequence[float],
    selection: Selection,
    tokenizer: Tokenizer,
    folder: Path,
    tracker: Tracker,
) -> dict[str, Any]:
    """Write the shards of every split to `folder`; what an interrupted run finished there is taken over."""
    splits = {"train": _pack_training(config, epochs, selection, tokenizer, folder, tracker)}
    for number, group in enumerate(GROUPS):
        held = np.flatnonzero(selection.held & (selection.group == number))
        if len(held):
            splits[f"validation-{group}"] = _pack_validation(group, held, selection, tokenizer, folder)
            tracker.advance(int(selection.text_bytes[held].sum()))
    (folder / PROGRESS).unlink(missing_ok=True)
    return {"dtype": token_dtype(tokenizer.vocab_size).str, "splits": splits}


def training_order(selection: Selection, epochs: Sequence[float], seed: int) -> list[Entry]:
    """Every training document as often as its source asks, in an order that depends on the texts and `seed` alone."""
    keyed = []
    for index in np.flatnonzero(~selection.held):
        digest = selection.digest[index].tobytes()
        for repetition in range(_repetitions(epochs[int(selection.source[index])], digest)):
            key = _keyed(seed, digest, repetition)
            keyed.append((key, int(index), repetition))
    return [(index, repetition) for _, index, repetition in sorted(keyed)]


def _pack_training(
    config: CorpusConfig,
    epochs: Sequence[float],
    selection: Selection,
    tokenizer: Tokenizer,
    folder: Path,
    tracker: Tracker,
) -> dict[str, Any]:
    order = training_order(selection, epochs, config.seed)
    done = _progress(folder)
    counts = Counts(**done["counts"])
    tracker.advance(sum(counts.text_bytes.values()))
    rest = _encoded(config, order[done["next"] :], selection, tokenizer)
    while done["next"] < len(order):
        tokens = 0
        name = f"train-{len(done['shards']):05d}.bin"
        with (folder / name).open("wb") as file:
            for document, ids in rest:
                file.write(np.array(ids, dtype=token_dtype(tokenizer.vocab_size)).tobytes())
                tokens += len(ids)
                counts.add(document.group, document.text_bytes, len(ids))
                done["next"] += 1
                tracker.advance(document.text_bytes)
                if tokens >= config.shard_tokens:
                    break
        sync_file(folder / name)
        done["shards"].append(describe_file(folder / name).model_dump())
        done["counts"] = vars(counts)
        write_synced(folder / PROGRESS, json.dumps(done))
    groups = {
        group: {
            "documents": counts.documents[group],
            "text_bytes": counts.text_bytes[group],
            "tokens": counts.tokens[group],
        }
        for group in GROUPS
        if group in counts.documents
    }
    return {
        "files": done["shards"],
        "documents": sum(counts.documents.values()),
        "text_bytes": sum(counts.text_bytes.values()),
        "tokens": sum(counts.tokens.values()),
        "groups": groups,
    }


def _progress(folder: Path) -> dict[str, Any]:
    """What an interrupted run noted, or a fresh start; a shard it had not finished is written anew."""
    path = folder / PROGRESS
    if path.is_file():
        done: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if all(describe_file(folder / shard["name"]).model_dump() == shard for shard in done["shards"]):
            return done
    return {"next": 0, "shards": [], "counts": vars(Counts.none())}


def _encoded(
    config: CorpusConfig, order: Sequence[Entry], selection: Selection, tokenizer: Tokenizer
) -> Iterator[tuple[Document, list[int]]]:
    """Documents with their tokens, the separator included, rearranged ones as prefix, suffix, middle."""
    marks = (tokenizer.fim_begin_id, tokenizer.fim_hole_id, tokenizer.fim_end_id) if config.fim_rate else ()
    entries = iter(order)
    while batch := list(islice(entries, BATCH)):
        documents = list(selection.documents([index for index, _ in batch]))
        plans = [
            rearranged(document.text, config.fim_rate, _keyed(config.seed, document.digest, repetition, "fim"))
            for document, (_, repetition) in zip(documents, batch, strict=True)
        ]
        texts = [plan.parts if plan else (document.text,) for document, plan in zip(documents, plans, strict=True)]
        ids = iter(tokenizer.encode_batch([part for parts in texts for part in parts]))
        for document, parts in zip(documents, texts, strict=True):
            encoded = [next(ids) for _ in parts]
            tokens = joined(encoded[0], encoded[1], encoded[2], *marks) if len(parts) == 3 else encoded[0]
            yield document, [*tokens, tokenizer.eos_id]


def _pack_validation(
    group: str, held: NDArray[np.int64], selection: Selection, tokenizer: Tokenizer, folder: Path
) -> dict[str, Any]:
    """The held-out text of a group as it is, and its tokens, led by a separator so that the first is predicted too."""
    split = f"validation-{group}"
    tokens, text_bytes = [tokenizer.eos_id], 0
    with (folder / f"{split}.txt").open("wb") as file:
        for document in selection.documents(held):
            tokens += [*tokenizer.encode(document.text), tokenizer.eos_id]
            text_bytes += file.write(document.text.encode("utf-8"))
    (folder / f"{split}.bin").write_bytes(np.array(tokens, dtype=token_dtype(tokenizer.vocab_size)).tobytes())
    return {
        "files": [describe_file(folder / f"{split}.bin").model_dump()],
        "text": describe_file(folder / f"{split}.txt").model_dump(),
        "documents": len(held),
        "text_bytes": text_bytes,
        "tokens": len(tokens),
    }


def _repetitions(epochs: float, digest: bytes) -> int:
    """Whole epochs, and one more for the share of documents that the fraction asks for."""
    whole = int(epochs)
    return whole + (int.from_bytes(digest[:4], "big") < (epochs - whole) * 2**32)


def _keyed(seed: int, digest: bytes, repetition: int, purpose: str = "order") -> bytes:
    return blake2b(digest, digest_size=16, key=f"{purpose} {seed} {repetition}".encode()).digest()
