"""Does the MoE pay per second? The quickstart's recipe against dense models, at equal wall clock, on the same text.

    python benchmarks/moe_against_dense.py [--minutes 8] [--seeds 3] [--corpus FOLDER] [--variants moe twin wide]
    python benchmarks/moe_against_dense.py --by-steps ...

- moe:   the recipe as shipped.
- twin:  every layer dense, of the width that a token activates in the MoE: equal active parameters, faster steps.
- wide:  every layer dense, as wide as makes a step take as long as the MoE's: equal training cost a token.

Variants take turns, a seed at a time, each in a fresh run folder, so that a drifting machine meets all of them alike.
With `--by-steps` the clock is read once: the variants' steps are timed in turns, side by side, and each then trains as
many steps as fit the minutes at that speed. What a run learns depends on its steps alone, so the training itself may
share the machine with other work; the speeds stay in the runs' folder (`speeds.json`) and serve every seed.
The learning rates are the recipe's for all. Other variants change one thing: `no-mtp`, `no-shared`, and `adamw`, which
has a rate of its own for what Muon trains.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common

PLANNED = 0.95
"""Share of the minutes that is steps; evaluations and checkpoints take the rest, as in a run by the clock."""

OF_MATRICES = {"embedding": 20 / 3, "head": 20 / 3, "router": 1, "norm": 1}
VARIANTS: dict[str, list[str]] = {
    "moe": [],
    "twin": ["model.first_k_dense_replace={layers}"],
    "wide": ["model.first_k_dense_replace={layers}", "model.intermediate_size={wide}"],
    "no-mtp": ["model.num_nextn_predict_layers=0"],
    "no-shared": ["model.n_shared_experts=0", "model.num_experts_per_tok={more}"],
    # Hidden matrices at a rate of AdamW's own; embedding and head keep the recipe's 0.02, routers and norms its 0.003.
    "adamw": ["train.optimizer.kind=adamw", "train.optimizer.learning_rate=0.003"]
    + [f"train.optimizer.{name}_scale={scale}" for name, scale in OF_MATRICES.items()],
    "no-balance": ["train.balance.method=none"],
    "auxiliary": ["train.balance.method=auxiliary", "train.balance.auxiliary_alpha=0.01"],
}


def main() -> None:
    """Run every variant with every seed and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="recipes/quickstart.toml")
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--corpus", type=Path, help="a finished corpus; the recipe's is built otherwise")
    parser.add_argument("--runs", type=Path, default=Path("runs/moe-against-dense"))
    parser.add_argument("--wide", type=int, help="inner width of `wide`; measured otherwise")
    parser.add_argument("--by-steps", action="store_true", help="time the variants side by side once, then count steps")
    parser.add_argument("--only-speeds", action="store_true", help="with --by-steps: time the variants and end")
    parser.add_argument("--variants", nargs="+", default=["moe", "twin", "wide"], choices=list(VARIANTS))
    asked = parser.parse_args()

    from fathom.launch import prepare_process

    prepare_process()
    from fathom.cli.running import prepare_corpus
    from fathom.config.recipe import Recipe

    base = Recipe.load(Path(asked.recipe), [f"train.minutes={asked.minutes}"])
    corpus = asked.corpus or prepare_corpus(base.corpus)
    wide = asked.wide or (equal_cost_width(asked.recipe) if "wide" in asked.variants else 0)
    names = {"layers": base.model.num_hidden_layers, "wide": wide}
    names["more"] = base.model.num_experts_per_tok + base.model.n_shared_experts
    every = {variant: [change.format(**names) for change in VARIANTS[variant]] for variant in asked.variants}
    speeds = kept_speeds(asked, every) if asked.by_steps else {}
    if asked.only_speeds:
        return
    results: list[dict[str, Any]] = []
    for seed in range(asked.first_seed, asked.first_seed + asked.seeds):
        for variant in asked.variants:
            changes = [*every[variant], f"train.seed={seed}", f"train.minutes={asked.minutes}"]
            if asked.by_steps:
                changes[-1] = f"train.steps={int(PLANNED * 60 * asked.minutes / speeds[variant])}"
            results.append(one_run(asked, variant, seed, changes, corpus))
            print(json.dumps(results[-1]), file=sys.stderr, flush=True)
    report(asked, results)


def one_run(asked: argparse.Namespace, variant: str, seed: int, changes: list[str], corpus: Path) -> dict[str, Any]:
    """Train one variant, or go on with it, and say how it ended."""
    from fathom.config.recipe import Recipe
    from fathom.model.count import count
    from fathom.train.loop import train

    run = asked.runs / f"{variant}-{asked.minutes:g}min-seed{seed}"
    recipe = Recipe.load(Path(asked.recipe), changes)
    result = train(recipe, run, corpus=corpus)
    size = count(recipe.model, recipe.train.sequence_length)
    last = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {
        "variant": variant,
        "seed": seed,
        "bits_per_byte": result.bits_per_byte,
        "tokens": result.tokens,
        "seconds": result.seconds,
        "steps": result.steps,
        "total": size.total,
        "active": size.active,
        "inner": recipe.model.intermediate_size,
        "max_vio": last[-1].get("max_vio_global") if size.routed_experts else None,
    }


def equal_cost_width(recipe: str) -> int:
    """Inner width at which a dense step takes as long as the MoE's, interpolated between two measured widths."""
    from fathom.config.recipe import Recipe

    base = Recipe.load(Path(recipe), []).model
    target = step_seconds(recipe, [])
    dense = f"model.first_k_dense_replace={base.num_hidden_layers}"
    narrow, broad = base.intermediate_size, 3 * base.intermediate_size
    fast, slow = (step_seconds(recipe, [dense, f"model.intermediate_size={width}"]) for width in (narrow, broad))
    width = narrow + (broad - narrow) * (target - fast) / (slow - fast)
    print(f"step: MoE {target:.3f} s, dense {narrow}: {fast:.3f} s, {broad}: {slow:.3f} s", file=sys.stderr)
    return max(narrow, round(width / 32) * 32)


def kept_speeds(asked: argparse.Namespace, every: dict[str, list[str]]) -> dict[str, float]:
    """Seconds a step of each variant, timed side by side unless an earlier call did."""
    kept = asked.runs / "speeds.json"
    speeds: dict[str, float] = json.loads(kept.read_text()) if kept.exists() else {}
    if missing := [variant for variant in every if variant not in speeds]:
        # The shipped recipe is timed again beside new ones: a speed alone says nothing on a machine that drifts.
        moe, *others = side_by_side([one_step(asked.recipe, changes) for changes in [[], *(every[v] for v in missing)]])
        drift = speeds.get("moe", moe) / moe
        speeds |= {variant: seconds * drift for variant, seconds in zip(missing, others, strict=True)}
        asked.runs.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(speeds))
    print("seconds a step:", json.dumps(speeds), file=sys.stderr)
    return speeds


def side_by_side(steps: list[Callable[[], None]], rounds: int = 12) -> list[float]:
    """Median seconds of each, in turns, of three steps a turn."""
    taken: list[list[float]] = [[] for _ in steps]
    for _ in range(rounds):
        for step, mine in zip(steps, taken, strict=True):
            step()
            mine += common.seconds(step, rounds=3)
    return [statistics.median(mine) for mine in taken]


def step_seconds(recipe: str, changes: list[str]) -> float:
    """Median seconds of a whole training step on random tokens."""
    return statistics.median(common.seconds(one_step(recipe, changes), rounds=7))


def one_step(recipe: str, changes: list[str]) -> Callable[[], None]:
    """A whole training step on random tokens, to be called again and again."""
    import torch

    from fathom.config.recipe import Recipe
    from fathom.model.transformer import Transformer
    from fathom.parallel.mesh import World
    from fathom.train.optimizer import Optimizer
    from fathom.train.step import apply_update, compute_gradients

    loaded = Recipe.load(Path(recipe), changes)
    model = Transformer(loaded.model)
    model.init_weights(torch.Generator().manual_seed(0))
    model.compute_dtype = torch.bfloat16
    train = loaded.train
    optimizer = Optimizer(train.optimizer, model.named_parameters(), fp32=False)
    width = train.sequence_length + 1 + loaded.model.num_nextn_predict_layers
    tokens = torch.randint(0, loaded.model.vocab_size, (train.batch_sequences, width))

    def step() -> None:
        gradients = compute_gradients(model, tokens, train, World(torch.device("cpu")), 100, 1000)
        apply_update(model, optimizer, gradients, train, 100, 1000)

    return step


def report(asked: argparse.Namespace, results: list[dict[str, Any]]) -> None:
    """Mean and range over seeds of every variant."""
    import torch

    rows = []
    for variant in asked.variants:
        mine = [result for result in results if result["variant"] == variant]
        groups = list(mine[0]["bits_per_byte"])
        means = [statistics.mean(r["bits_per_byte"].values()) for r in mine]
        violations = [r["max_vio"] for r in mine if r["max_vio"] is not None]
        rows.append(
            [
                variant,
                f"{mine[0]['total'] / 1e6:.2f}M / {mine[0]['active'] / 1e6:.2f}M",
                f"{statistics.mean(r['tokens'] for r in mine) / 1e6:.2f}M",
                *(f"{statistics.mean(r['bits_per_byte'][g] for r in mine):.3f}" for g in groups),
                f"{statistics.mean(means):.4f}",
                f"{min(means):.4f} - {max(means):.4f}",
                f"{statistics.mean(violations):.2f}" if violations else "-",
            ]
        )
    columns = [
        "variant",
        "parameters total / active",
        "tokens seen",
        *groups,
        "mean",
        "range of seeds",
        "MaxVio at end",
    ]
    machine = common.machine(torch.get_num_threads())
    common.show(
        f"Held-out bits per byte after {asked.minutes:g} minutes, {asked.seeds} seeds; {machine}", columns, rows
    )
    facts = {"arguments": {k: str(v) for k, v in vars(asked).items()}, "machine": machine, "results": results}
    print(common.write(f"moe_against_dense_{asked.minutes:g}min", facts))


if __name__ == "__main__":
    begin = time.monotonic()
    main()
    print(f"({time.monotonic() - begin:.0f} s)", file=sys.stderr)
