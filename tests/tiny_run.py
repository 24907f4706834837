"""A corpus and a recipe small enough to train in a second, for tests of whole runs."""

import hashlib
import json
import os
import random
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from fathom.config.recipe import Recipe
from fathom.corpus.bpe import save_tokenizer, train_bpe
from fathom.corpus.manifest import FileEntry, Manifest, SourceEntry, SplitEntry, describe_file
from fathom.corpus.tokenizer import Tokenizer

VOCABULARY = 512
GROUPS = ("english", "code")


def write_text(documents: int, seed: int) -> list[str]:
    """Sentences from a small grammar: predictable enough to be learned."""
    draw = random.Random(seed)
    subjects, verbs = ("the cat", "a dog", "my friend", "her house"), ("sees", "likes", "finds", "builds")
    objects = ("a tree", "the river", "an old book", "their garden")

    def sentence() -> str:
        return f"{draw.choice(subjects)} {draw.choice(verbs)} {draw.choice(objects)}."

    return [" ".join(sentence() for _ in range(20)) + "\n" for _ in range(documents)]


def make_corpus(folder: Path) -> Path:
    """Write a finished corpus as `fathom corpus` does."""
    folder.mkdir(parents=True)
    training = write_text(120, seed=1)
    save_tokenizer(train_bpe(training, VOCABULARY), folder)
    tokenizer = Tokenizer(folder)
    splits = {"train": _write_split(folder, "train", training, tokenizer)}
    for seed, group in enumerate(GROUPS, start=2):
        splits[f"validation-{group}"] = _write_split(folder, f"validation-{group}", write_text(6, seed), tokenizer)
    Manifest(
        vocab_size=tokenizer.vocab_size,
        dtype="<u2",
        eos_id=tokenizer.eos_id,
        tokenizer=tuple(describe_file(folder / name) for name in ("tokenizer.json", "tokenizer_config.json")),
        splits=splits,
        groups={},
        sources=(
            SourceEntry(
                name="grammar",
                title="A small grammar",
                licence="MIT",
                attribution="",
                origin="generated",
                sha256="",
                group="english",
                documents=120,
                text_bytes=splits["train"].text_bytes,
            ),
        ),
        dropped={},
        config={},
    ).save(folder)
    return folder


def _write_split(folder: Path, name: str, texts: list[str], tokenizer: Tokenizer) -> SplitEntry:
    validation = name != "train"
    ids = [tokenizer.eos_id] if validation else []
    for text in texts:
        ids += [*tokenizer.encode(text), tokenizer.eos_id]
    shard = folder / f"{name}{'' if validation else '-00000'}.bin"
    np.array(ids, dtype="<u2").tofile(shard)
    raw = "".join(texts).encode()
    written = None
    if validation:
        (folder / f"{name}.txt").write_bytes(raw)
        written = FileEntry(name=f"{name}.txt", size=len(raw), sha256=hashlib.sha256(raw).hexdigest())
    return SplitEntry(
        files=(describe_file(shard),), documents=len(texts), text_bytes=len(raw), tokens=len(ids), text=written
    )


TINY: dict[str, Any] = {
    "model": {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 64,
        "moe_intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "kv_lora_rank": 16,
        "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 4,
        "v_head_dim": 8,
        "n_routed_experts": 8,
        "n_shared_experts": 1,
        "num_experts_per_tok": 2,
        "first_k_dense_replace": 1,
        "num_nextn_predict_layers": 1,
        "initializer_range": 0.05,
        "max_position_embeddings": 64,
    },
    "train": {
        "steps": 12,
        "sequence_length": 32,
        "batch_sequences": 4,
        "micro_batch_sequences": 2,
        "precision": "fp32",
        "checkpoint_every": 4,
        "evaluate_tokens": 100,
        "optimizer": {"learning_rate": 0.003},
        "schedule": {"warmup_steps": 3},
        "ema": {"every": 2},
    },
    "parallel": {"device": "cpu"},
}


def tiny_recipe(*overrides: str) -> Recipe:
    """The tiny recipe with fields changed as on the command line."""
    return Recipe.from_values(TINY, overrides)


def losses(run: Path) -> list[float]:
    """The loss of every step in a run's log."""
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def weights(run: Path) -> dict[str, torch.Tensor]:
    """The tensors of a run's finished model."""
    return load_file(run / "model" / "model.safetensors")


def start(corpus: Path, run: Path, *overrides: str, processes: int = 1) -> list["subprocess.Popen[bytes]"]:
    """Train the tiny recipe in new processes, as torchrun would start them."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [sys.executable, str(Path(__file__)), str(corpus), str(run), *overrides]
    common = os.environ | {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [subprocess.Popen(command, env=common | {"RANK": str(rank)}) for rank in range(processes)]


if __name__ == "__main__":
    from fathom.train.loop import train

    train(tiny_recipe(*sys.argv[3:]), Path(sys.argv[2]), corpus=Path(sys.argv[1]))
