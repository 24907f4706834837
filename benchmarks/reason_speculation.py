"""Texts of a reinforcement step with and without guesses of the policy's own MTP module.

    python benchmarks/reason_speculation.py --policy runs/quickstart --texts CORPUS/validation-english.txt

Groups of texts go on from prompts that are cut from a file, at temperature 1, each up to a length of its own, so that
some end long before the others, as in reinforcement. `mtp` makes as many guesses as pay, `mtp 1` one in every step of
every text. That the texts and their log-probabilities are the same is checked, and so is the gap to a training pass.
All kinds take turns in one process; the fastest round of each counts.
"""

import argparse
import json
import random
import time
from pathlib import Path
from typing import Any

import common

KINDS: dict[str, dict[str, Any]] = {
    "off": {},
    "mtp": {"speculation": "mtp"},
    "mtp 1": {"speculation": "mtp", "num_speculative_tokens": 1, "adaptive_speculation": False},
}


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--policy", required=True, help="a run or a model folder, with an MTP module")
    parser.add_argument("--texts", type=Path, required=True, help="a text file to cut prompts from")
    parser.add_argument("--sizes", nargs="+", default=["1x2", "1x8", "8x8"], help="problems x texts on each")
    parser.add_argument("--tokens", type=int, default=160, help="of the longest text")
    parser.add_argument("--dtype", choices=["bf16", "fp32"], default="bf16")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()

    import torch

    from fathom.cli.find import model_folder
    from fathom.corpus.tokenizer import Tokenizer
    from fathom.weights.folder import load

    torch.set_num_threads(asked.threads)
    folder = model_folder(asked.policy)
    model, tokenizer = load(folder, dtype=torch.float32), Tokenizer(folder)
    model.compute_dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[asked.dtype]
    rows, found = [], []
    for size in asked.sizes:
        problems, group = map(int, size.split("x"))
        prompts = cut(asked.texts, tokenizer, problems)
        measured = turns(model, tokenizer, prompts, group, asked)
        plain = measured["off"]
        for kind, one in measured.items():
            same = one["tokens"] == plain["tokens"]
            apart = max(abs(a - b) for a, b in zip(one["logprobs"], plain["logprobs"], strict=True)) if same else None
            speed = f"{one['rate']:,.0f} ({one['rate'] / plain['rate']:.2f}x)"
            right = f"{one['accepted']:.0%}" if one["accepted"] is not None else "-"
            gap = "texts differ" if apart is None else f"{apart:.1g}"
            rows.append([size, kind, speed, f"{one['tokens_a_step']:.2f}", right, gap, f"{one['gap']:.1g}"])
            facts = {name: one[name] for name in ("rate", "tokens_a_step", "accepted", "gap")}
            found.append(facts | {"size": size, "kind": kind, "same": same, "apart": apart})
    columns = ["texts", "guesses", "tokens/s", "tokens a step and text", "right", "from off", "from training"]
    machine = common.machine(asked.threads)
    common.show(f"{asked.policy}, {asked.dtype}; {json.dumps(machine)}", columns, rows)
    arguments = {name: str(value) for name, value in vars(asked).items()}
    print(common.write("reason_speculation", {"machine": machine, "arguments": arguments, "found": found}))


def cut(texts: Path, tokenizer: Any, count: int) -> list[list[int]]:
    """So many prompts of 32 tokens, evenly from a file."""
    text = texts.read_text(encoding="utf-8", errors="replace")
    step = len(text) // count
    return [tokenizer.encode(text[i * step : i * step + 1000])[:32] for i in range(count)]


def turns(model: Any, tokenizer: Any, prompts: list[list[int]], group: int, asked: argparse.Namespace) -> Any:
    """What each kind of guessing took and wrote."""
    from fathom.engine.engine import Engine, EngineConfig
    from fathom.engine.sampling import SamplingParams

    lengths = random.Random(1)
    params = [
        SamplingParams(max_tokens=lengths.randint(asked.tokens // 8, asked.tokens), seed=seed, ignore_eos=True)
        for seed in range(len(prompts) * group)
    ]
    repeated = [prompt for prompt in prompts for _ in range(group)]
    engines = {kind: Engine(model, tokenizer, EngineConfig(max_batch_size=256, **how)) for kind, how in KINDS.items()}
    found: dict[str, dict[str, Any]] = {}
    for turn in range(asked.rounds + 1):
        for kind, engine in engines.items():
            engine.forget()
            before, begin, clock = engine.metrics(), time.process_time(), time.perf_counter()
            written = engine.generate(repeated, params)
            # Processor time is what one thread took; of several the clock counts.
            seconds = (time.process_time() - begin) if asked.threads == 1 else time.perf_counter() - clock
            if turn == 0:
                found[kind] = outcome(model, repeated, written, before, engine.metrics()) | {"seconds": seconds}
            elif turn == 1 or seconds < found[kind]["seconds"]:
                found[kind]["seconds"] = seconds
    for one in found.values():
        one["rate"] = sum(map(len, one["tokens"])) / one["seconds"]
    return found


def outcome(model: Any, prompts: list[list[int]], written: Any, before: Any, after: Any) -> dict[str, Any]:
    """What was written, how many tokens a text got in a step, which share of guesses was right, the gap to training."""
    from fathom.reason.scoring import logprobs_of, side_by_side

    texts = side_by_side(
        [(prompt, one.tokens) for prompt, one in zip(prompts, written, strict=True)],
        [one.logprobs for one in written],
    )
    gap = ((logprobs_of(model, texts) - texts.old).abs() * texts.mask).sum() / texts.mask.sum()
    drafted = sum(after.drafted) - sum(before.drafted)
    accepted = sum(after.accepted) - sum(before.accepted)
    tokens = sum(len(one.tokens) for one in written)
    return {
        "tokens": [one.tokens for one in written],
        "logprobs": [value for one in written for value in one.logprobs],
        "tokens_a_step": tokens / (tokens - accepted),
        "accepted": accepted / drafted if drafted else None,
        "gap": float(gap),
    }


if __name__ == "__main__":
    main()
