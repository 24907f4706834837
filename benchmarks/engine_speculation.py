"""Guessing ahead: speed with and without, guesses that come true, and that the texts stay the same.

    python benchmarks/engine_speculation.py --model runs/quickstart --texts CORPUS/validation-english.txt
    python benchmarks/engine_speculation.py --shapes laptop-8 benchmarks/shapes/v3-27m.json --acceptance 0.63

Prompts are cut from the texts. All ways of guessing take turns in one process, several rounds; the fastest round of
each counts, as neighbours on the same machine only ever slow one down. `mtp 1` and the like make so many guesses in
every step; `mtp` and `lookup` make as many as pay.

With --shapes, what a verified step costs: random weights cannot show which guesses come true, but they show what a step
of one, two and more tokens and a pass of the module take, and so what any acceptance would gain. Each shape is measured
with experts and, where it has them, with dense layers in their place.
"""

import argparse
import os
import random
import statistics
import time
from array import array
from pathlib import Path
from typing import Any

import common


def main() -> None:
    """Measure and print the table."""
    asked = parse()
    os.environ["OMP_NUM_THREADS"] = str(asked.threads)
    import torch

    import fathom
    from fathom.cli.find import model_folder

    torch.set_num_threads(asked.threads)
    if asked.shapes:
        costs(asked)
        return
    folder = model_folder(asked.model)
    model, tokenizer = fathom.load(folder), fathom.Tokenizer(folder)
    held(model, asked.weights)
    text = Path(asked.texts).read_text(encoding="utf-8", errors="replace")
    most = max(asked.batches) * asked.turns
    step = len(text) // most
    prompts = [tokenizer.encode(text[i * step : i * step + 2000])[: asked.prompt] for i in range(most)]
    kinds = ["off", "lookup"]
    if model.config.num_nextn_predict_layers:
        kinds += ["mtp", *(f"mtp {guesses}" for guesses in asked.fixed)]
    rows: list[list[str]] = []
    found: list[dict[str, Any]] = []
    for temperature in asked.temperatures:
        for batch in asked.batches:
            measured = measure(model, tokenizer, kinds, batch, prompts, temperature, asked)
            plain = measured["off"]
            for kind, one in measured.items():
                found.append({"temperature": temperature, "batch": batch, "kind": kind} | one)
                right = " ".join(f"{share:.0%}" for share in one["accepted"]) or "-"
                speed = f"{one['tokens_per_second']:,.0f} ({plain['seconds'] / one['seconds']:.2f}x)"
                same = "yes" if one["tokens"] == plain["tokens"] else "NO"
                cells = [f"{temperature:g}", str(batch), kind, speed, f"{one['tokens_per_step']:.2f}", right, same]
                rows.append(cells)
    title = f"{asked.model}, {asked.weights}, {asked.threads} threads"
    columns = ["temperature", "batch", "speculation", "tokens/s", "tokens a step", "right by place", "same text"]
    common.show(title, columns, rows)
    for one in found:
        del one["tokens"]
    facts = {"arguments": vars(asked), "machine": common.machine(asked.threads), "found": found}
    print(common.write("engine_speculation", facts))


def parse() -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a model folder or a run")
    parser.add_argument("--texts", help="a text file to cut prompts from")
    parser.add_argument("--shapes", nargs="+", default=[], help="configurations, by name or file")
    parser.add_argument("--draft-vocabulary", type=int, help="tokens that a module may guess; all, without")
    parser.add_argument("--layers", type=int, help="with --shapes, so many layers in place of the shape's own")
    parser.add_argument("--acceptance", type=float, default=0.85, help="with --shapes, of the first guess")
    parser.add_argument("--fixed", nargs="+", type=int, default=[1, 2], help="guesses of the fixed kinds")
    parser.add_argument("--weights", default="fp32", choices=["fp32", "bf16", "int8", "int4"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--turns", type=int, default=1, help="batches of other prompts, one after the other")
    parser.add_argument("--temperatures", nargs="+", type=float, default=[0.0, 0.8])
    parser.add_argument("--prompt", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--guesses", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=200, help="with --shapes, steps of each size")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    if not asked.shapes and not (asked.model and asked.texts):
        parser.error("give --model and --texts, or --shapes")
    return asked


def held(model: Any, weights: str) -> None:
    """Bring the model to this format."""
    import torch

    from fathom.model.quantised import quantise_model

    model.compute_dtype = torch.float32 if weights == "fp32" else torch.bfloat16
    if weights.startswith("int"):
        quantise_model(model, weights)


def costs(asked: argparse.Namespace) -> None:
    """What a verified step costs in each shape, and what guesses would gain."""
    rows, found = [], []
    for shape in asked.shapes:
        for dense in (False, True):
            one = cost_of_shape(shape, dense, asked)
            if one is None:
                continue
            found.append(one)
            steps, module = one["step_seconds"], one["module_seconds"]
            double = (steps[1] + module) / steps[0]
            gain = (1 + asked.acceptance) / double
            times = [f"{seconds * 1e6:,.0f}" for seconds in (*steps, module)]
            rows.append([one["name"], *times, f"{double:.2f}", f"{max(double - 1, 0):.0%}", f"{gain:.2f}"])
    columns = ["shape", "1 token, us", "2", "3", "4", "module, us", "(2 + module) / 1", "pays above", "gain"]
    common.show(f"{asked.weights}, {asked.threads} threads; gain at {asked.acceptance:.0%} right", columns, rows)
    facts = {"arguments": vars(asked), "machine": common.machine(asked.threads), "costs": found}
    print(common.write("engine_speculation_cost", facts))


def cost_of_shape(shape: str, dense: bool, asked: argparse.Namespace) -> dict[str, Any] | None:
    """Median seconds of steps of 1 to 4 tokens and of a pass of the module; None where there is nothing to replace."""
    import torch

    from fathom.cli.params import configuration
    from fathom.engine.plan import make_mtp_plan, make_plan
    from fathom.kernels.decode.program import Packed
    from fathom.model.paged import PagedStores
    from fathom.model.transformer import Transformer

    config = configuration(shape)
    layers = asked.layers or config.num_hidden_layers
    changes: dict[str, Any] = {"num_nextn_predict_layers": 1, "num_hidden_layers": layers}
    if dense:
        if config.first_k_dense_replace >= layers:
            return None
        # As wide as what a token activates, in the MTP module too.
        width = config.moe_intermediate_size * (config.num_experts_per_tok + (config.n_shared_experts or 0))
        changes |= {"first_k_dense_replace": layers + 1, "intermediate_size": width}
    config = config.model_copy(update=changes)
    model = Transformer(config)
    model.init_weights(torch.Generator().manual_seed(0))
    held(model, asked.weights)
    memory = PagedStores(config, 32, 16, model.compute_dtype, "cpu", layers + 1)
    plan, module = make_plan(model.eval(), asked.threads), make_mtp_plan(model, asked.threads, asked.draft_vocabulary)
    if plan is None or module is None:
        raise SystemExit("This measures the native plan: a C++ compiler is needed.")
    times: dict[str, list[float]] = {name: [] for name in ("1", "2", "3", "4", "module")}
    draw, context = random.Random(0), 256
    for _ in range(asked.repeats):
        for name, seconds in times.items():
            n = 2 if name == "module" else int(name)  # the module reads the tokens that a step has settled
            tokens = [draw.randrange(config.vocab_size) for _ in range(n)]
            places = list(range(context, context + n))
            wanted = [n - 1] if name == "module" else list(range(n))
            packed = Packed(tokens, places, wanted, [0, n], [context + n], [array("i", range(1, 18))])
            states = torch.randn(n, config.hidden_size) if name == "module" else None
            begun = time.perf_counter()
            (module if name == "module" else plan).read(packed, memory, with_hidden=True, inputs=states)
            seconds.append(time.perf_counter() - begun)
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    name = f"{Path(shape).stem}, {layers} layers{', dense' if dense else ''}"
    steps = [medians[str(n)] for n in (1, 2, 3, 4)]
    return {"name": name, "step_seconds": steps, "module_seconds": medians["module"], "layers": layers}


def measure(
    model: Any,
    tokenizer: Any,
    kinds: list[Any],
    batch: int,
    prompts: list[list[int]],
    temperature: float,
    asked: argparse.Namespace,
) -> dict[str, dict[str, Any]]:
    """Every way of guessing, for batches of so many prompts one after the other, at one temperature."""
    from fathom.engine.engine import Engine, EngineConfig
    from fathom.engine.sampling import SamplingParams

    params = [
        SamplingParams(max_tokens=asked.tokens, temperature=temperature, seed=i, ignore_eos=True) for i in range(batch)
    ]
    turns = [prompts[i * batch : (i + 1) * batch] for i in range(asked.turns)]
    engines = {
        kind: Engine(
            model,
            tokenizer,
            EngineConfig(
                speculation=kind.split()[0],
                draft_vocabulary=asked.draft_vocabulary,
                num_speculative_tokens=int(kind.split()[1]) if " " in kind else asked.guesses,
                adaptive_speculation=" " not in kind,
                prefix_caching=False,
                # All engines stand side by side, where each would take a quarter of the memory.
                cache_tokens=batch * (asked.prompt + asked.tokens + 64),
            ),
        )
        for kind in kinds
    }
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    tokens: dict[str, Any] = {}
    for _ in range(asked.rounds):
        for kind, engine in engines.items():
            begun = time.perf_counter()
            completions = [completion for turn in turns for completion in engine.generate(turn, params)]
            times[kind].append(time.perf_counter() - begun)
            tokens[kind] = [completion.tokens for completion in completions]
    found = {}
    for kind, engine in engines.items():
        metrics = engine.metrics()
        drawn = sum(map(len, tokens[kind]))
        found[kind] = {
            "seconds": min(times[kind]),
            "tokens_per_second": drawn / min(times[kind]),
            "tokens_per_step": metrics.generated_tokens / metrics.steps / batch,
            "drafted": metrics.drafted,
            "accepted": [a / d for a, d in zip(metrics.accepted, metrics.drafted, strict=True)],
            "tokens": tokens[kind],
        }
    return found


if __name__ == "__main__":
    main()
