"""Why Fathom and llama.cpp differ on files that are not FP32: what llama.cpp rounds, tried here as well.

    python benchmarks/llama_cpp_rounding.py             # of 1, 2, 4, 8 and all 30 layers
    python benchmarks/llama_cpp_rounding.py --layers 30

The first layers of SmolLM2-135M-Instruct as a network of their own, so that what rounding does can be seen before it
has gone through thirty layers. For each file, log-probabilities of llama.cpp's ten likeliest tokens at every place of
its texts are compared with Fathom's given the same texts: as Fathom computes, in FP32, and with the inputs of every
product rounded as llama.cpp rounds them, to bf16 or to blocks of 32 eight-bit numbers. The last table compares
llama.cpp with itself: its cache in FP32 and plain attention, and both as it chooses by itself. Needs the package
xllamacpp, and a package index for the model.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from against_llama_cpp import PROMPTS, TOKENS, exported
from common import machine, show, write
from torch import Tensor

from fathom.corpus.tokenizer import Tokenizer
from fathom.model.feed_forward import FeedForward
from fathom.model.linear import Linear
from fathom.model.transformer import Transformer
from fathom.weights.convert import convert
from fathom.weights.folder import load, save
from fathom.weights.shipped import SMOLLM2, shipped_folder

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "parity"))
from llama_cpp import Answer, ask

LAYERS = (1, 2, 4, 8, 30)
LIKELIEST = 10
Rounding = Callable[[Tensor], Tensor]


def to_bf16(x: Tensor) -> Tensor:
    """FP32 numbers that bf16 can hold."""
    return x.bfloat16().float()


def to_eight_bits(x: Tensor) -> Tensor:
    """Blocks of 32 numbers as whole multiples, up to 127, of an FP16 scale: ggml's q8_0."""
    blocks = x.unflatten(-1, (-1, 32))
    largest = blocks.abs().amax(-1, keepdim=True)
    whole = (blocks * (127 / largest.clamp_min(1e-30))).round()
    return (whole * (largest / 127).half().float()).flatten(-2)


ROUNDINGS: dict[str, Rounding] = {"bf16": to_bf16, "q8_0": to_eight_bits}


def main() -> None:
    """Compare, print both tables, write results/llama_cpp_rounding.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, nargs="+", default=LAYERS, metavar="N")
    chosen = parser.parse_args().layers
    torch.set_num_threads(1)
    rows, itself = [], []
    whole = shipped_folder(SMOLLM2)
    prompts = [Tokenizer(whole).encode(prompt) for prompt in PROMPTS]
    with tempfile.TemporaryDirectory() as name:
        for layers in chosen:
            folder = first_layers(whole, layers, Path(name) / f"{layers}-layers")
            for kind in ("f32", "bf16", "q8_0"):
                path = exported(folder, Path(name), kind)
                answer = ask(path, prompts, TOKENS, timeout=3600, likeliest=LIKELIEST)
                rows.append({"layers": layers, "file": kind} | compare(path, prompts, answer, ROUNDINGS.get(kind)))
                print(rows[-1], file=sys.stderr, flush=True)
                if layers == max(chosen):
                    itself.append(
                        {"file": kind} | with_itself(answer, ask(path, prompts, TOKENS, timeout=3600, precise=False))
                    )
    columns = ["layers", "file", "difference, FP32", "and rounded", "equal, FP32", "and rounded"]
    cells = [[str(row["layers"]), row["file"], *_figures(row)] for row in rows]
    show("Root mean square difference of log-probabilities, and equal choices, given llama.cpp's text", columns, cells)
    show("llama.cpp beside itself", ["file", "equal"], [[row["file"], f"{row['equal']:.1%}"] for row in itself])
    print(write("llama_cpp_rounding", {"machine": machine(1), "rows": rows, "itself": itself}))


def first_layers(whole: Path, layers: int, folder: Path) -> Path:
    """The model in `whole` without its later layers."""
    model = load(whole)
    config = model.config.model_copy(update={"num_hidden_layers": layers})
    with torch.device("meta"):
        short = Transformer(config)
    own = model.state_dict()
    short.load_state_dict({name: own[name] for name in short.state_dict()}, assign=True)
    return save(short, folder, tokenizer_from=whole)


def compare(path: Path, prompts: list[list[int]], answer: Answer, rounding: Rounding | None) -> dict[str, Any]:
    """Differences to `answer`, llama.cpp's, as Fathom computes and with `rounding`."""
    with tempfile.TemporaryDirectory() as scratch:
        convert(path, Path(scratch) / "read", "f32")
        model = load(Path(scratch) / "read")
    found = {"plain": _difference(model, prompts, answer, None)}
    if rounding is not None:
        _round_products(model, rounding)
        found["rounded"] = _difference(model, prompts, answer, rounding)
    return found


def with_itself(one: Answer, other: Answer) -> dict[str, float]:
    """Share of equal tokens of two answers, each written alone."""
    pairs = list(zip(one.continuations, other.continuations, strict=True))
    same = sum(a == b for first, second in pairs for a, b in zip(first, second, strict=False))
    return {"equal": same / sum(len(first) for first, _ in pairs)}


@torch.inference_mode()
def _difference(
    model: Transformer, prompts: list[list[int]], answer: Answer, rounding: Rounding | None
) -> dict[str, float]:
    squares, same, places = [], 0, 0
    for prompt, text, likeliest in zip(prompts, answer.continuations, answer.likeliest, strict=True):
        hidden = model.trunk(torch.tensor([prompt + text[:-1]])).hidden[0, len(prompt) - 1 :]
        found = model.head(hidden if rounding is None else rounding(hidden)).log_softmax(-1)
        same += int((found.argmax(-1) == torch.tensor(text)).sum())
        places += len(text)
        for place, theirs in zip(found, likeliest, strict=True):
            ids, chances = zip(*theirs, strict=True)
            squares.append((place[list(ids)] - torch.tensor(chances)).square())
    return {"rms": float(torch.cat(squares).mean().sqrt()), "equal": same / places}


def _round_products(model: Transformer, rounding: Rounding) -> None:
    """Round the inputs of every linear map but the head's."""
    for module in model.modules():
        if isinstance(module, Linear):
            module.register_forward_pre_hook(lambda _, given: (rounding(given[0]),))
        if isinstance(module, FeedForward):
            module.forward = _apart(module)  # type: ignore[method-assign]


def _apart(layer: FeedForward) -> Any:
    """The feed-forward layer as three maps, for its own forward is one fused product."""
    return lambda x, balance_loss=False: (layer.down_proj(F.silu(layer.gate_proj(x)) * layer.up_proj(x)), None)


def _figures(row: dict[str, Any]) -> list[str]:
    pairs = [row["plain"], row.get("rounded")]
    return [
        *("-" if pair is None else f"{pair['rms']:.5f}" for pair in pairs),
        *("-" if pair is None else f"{pair['equal']:.1%}" for pair in pairs),
    ]


if __name__ == "__main__":
    main()
