"""What attention alone costs SmolLM2-135M-Instruct when it becomes DeepSeek-V3's, at smaller and smaller caches.

    fathom corpus --into corpus
    python benchmarks/upcycling.py corpus/validation-english.txt

Several widths of the rotary key and ranks of the latents, without any training: KL divergence of the next-token
distribution from the original's, share of places with the same likeliest token, and perplexity, on the last tenth of
the text. The rest is what the model is adapted to. Needs a package index for the model. `fathom convert upcycle`
measures experts in the same way.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from common import machine, show, write

from fathom.cli.passages import spread, tokens_of
from fathom.corpus.tokenizer import Tokenizer
from fathom.weights.folder import load
from fathom.weights.shipped import SMOLLM2, shipped_folder
from fathom.weights.upcycle.config import UpcycleConfig
from fathom.weights.upcycle.distance import Distance, Reference
from fathom.weights.upcycle.upcycle import Upcycling

SEQUENCE, ADAPTED, HELD_OUT = 512, 4096, 1024
DENSE_CACHE = 384
"""Numbers a token in each layer: keys and values of 3 heads of 64."""
ATTENTION = ((192, 193, 1), (128, 193, 1), (192, 97, 1), (64, 193, 1), (64, 193, 4), (64, 129, 1), (64, 97, 1))
"""Widths of the rotary key, ranks of the latents, and frequencies that are folded together."""


def main() -> None:
    """Measure, print the table, write results/upcycling.json."""
    torch.set_num_threads(1)
    folder = shipped_folder(SMOLLM2)
    ids = tokens_of([Path(sys.argv[1])], Tokenizer(folder))
    border = len(ids) * 9 // 10
    model = load(folder)
    model.compute_dtype = torch.float32
    reference = Reference.of(model, spread(ids[border:], SEQUENCE, HELD_OUT, "the held-out text"))
    upcycling = Upcycling(model, spread(ids[:border], SEQUENCE, ADAPTED, "the text"), quiet=True)
    rows = [_row("-", "-", 1, DENSE_CACHE, reference.distance(quiet=True))]
    for rope, rank, fold in ATTENTION:
        made, _ = upcycling.make(UpcycleConfig(qk_rope_head_dim=rope, kv_lora_rank=rank, fold=fold))
        rows.append(_row(rope, rank, fold, rope + rank, reference.distance(made, quiet=True)))
        print(rows[-1], file=sys.stderr, flush=True)
    columns = ["rotary key", "latents", "folded by", "cache", "KL, nats", "same top token", "perplexity"]
    cells = [[str(cell) for cell in row.values()] for row in rows]
    show(f"Adapted to {ADAPTED:,} tokens, measured on {HELD_OUT:,} others; first the dense model", columns, cells)
    print(write("upcycling", {"machine": machine(1), "rows": rows}))


def _row(rope: int | str, rank: int | str, fold: int, cache: int, found: Distance) -> dict[str, Any]:
    """One line of the table, in the order of its columns."""
    figures = {"kl": round(found.kl, 4), "top1": f"{found.top1:.1%}", "perplexity": round(found.perplexity, 2)}
    return {"rope": rope, "rank": rank, "fold": fold, "cache": cache} | figures


if __name__ == "__main__":
    main()
