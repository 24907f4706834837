"""What it costs SmolLM2-135M-Instruct to become a model of DeepSeek-V3's architecture, before any training.

    fathom corpus --into corpus
    python benchmarks/upcycling.py corpus/validation-english.txt

Attention alone at several widths of the rotary key and ranks of the latents, then feed-forward layers alone at several
numbers of experts a token, then both: KL divergence of the next-token distribution from the original's, share of
places with the same likeliest token, and perplexity, on the last tenth of the text. The rest is what the model is
adapted to. Needs a package index for the model.
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
ATTENTION = ((192, 193), (64, 257), (64, 193), (192, 97))
"""Widths of the rotary key and ranks of the latents."""
EXPERTS = {"experts": 15, "shared_experts": 1}
PER_TOKEN = (15, 12, 8)


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
    rows = [_row("dense model", {}, 384, reference.distance(quiet=True))]

    def measure(what: str, attention: bool = True, **wanted: Any) -> None:
        made, _ = upcycling.make(UpcycleConfig(**wanted), attention=attention)
        cache = sum(sum(shape) for shape in made.config.cached_shapes) if attention else 384
        rows.append(_row(what, wanted, cache, reference.distance(made, quiet=True)))
        print(rows[-1], file=sys.stderr, flush=True)

    for rope, rank in ATTENTION:
        measure("attention", qk_rope_head_dim=rope, kv_lora_rank=rank)
    measure("attention, frequencies folded by 4", qk_rope_head_dim=64, kv_lora_rank=193, fold=4)
    for count in PER_TOKEN:
        measure("feed-forward", attention=False, experts_per_token=count, **EXPERTS)
    measure("both", qk_rope_head_dim=192, kv_lora_rank=193, experts_per_token=8, **EXPERTS)
    columns = ["", "rotary key", "latents", "cache", "experts a token", "KL, nats", "same top token", "perplexity"]
    cells = [[str(cell) for cell in row.values()] for row in rows]
    show(f"Adapted to {ADAPTED:,} tokens, measured on {HELD_OUT:,} others", columns, cells)
    print(write("upcycling", {"machine": machine(1), "rows": rows}))


def _row(what: str, wanted: dict[str, Any], cache: int, found: Distance) -> dict[str, Any]:
    """One line of the table, in the order of its columns."""
    names = ("qk_rope_head_dim", "kv_lora_rank", "experts_per_token")
    rope, rank, count = (wanted.get(name, "-") for name in names)
    figures = {"kl": round(found.kl, 4), "top1": f"{found.top1:.1%}", "perplexity": round(found.perplexity, 2)}
    return {"what": what, "rope": rope, "rank": rank, "cache": cache, "experts": count} | figures


if __name__ == "__main__":
    main()
