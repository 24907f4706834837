"""Training speed: a whole step (forward, backward, optimiser) here, in transformers, and the machine's matmul peak.

    python benchmarks/training_speed.py [--preset laptop-4] [--batch 32] [--sequence 256] [--rounds 3]

Each contender is a process of its own, in turn, several rounds; a round reports the median step. transformers runs its
own DeepseekV3ForCausalLM on the same configuration without MTP, with each experts backend, attention and precision
named; its best is the peer. It is also shown with glibc told to keep freed memory, as Fathom's launcher does.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from typing import Any

import common

PEERS = [
    ("autocast", "grouped_mm", "eager"),
    ("autocast", "grouped_mm", "sdpa"),
    ("bf16", "grouped_mm", "sdpa"),
    ("autocast", "eager", "sdpa"),
    ("fp32", "grouped_mm", "sdpa"),
]
"""transformers' precision, experts backend and attention. batched_mm copies each token's experts: minutes a step."""


def main() -> None:
    """Run every contender in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="laptop-4")
    parser.add_argument("--vocabulary", type=int, default=8192)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--sequence", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.contender:
        print(json.dumps(run(asked)))
        return
    names = ["fathom"] + ["transformers " + " ".join(peer) for peer in PEERS]
    names.append(names[1] + " kept")
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for _ in range(asked.rounds):
        for name in names:
            command = [sys.executable, __file__, *sys.argv[1:], "--contender", name]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
            print(f"{name}: {found[name][-1]['tokens_per_second']:.0f} tokens/s", file=sys.stderr, flush=True)
    report(asked, found)


def report(asked: argparse.Namespace, found: dict[str, list[dict[str, Any]]]) -> None:
    """Medians over rounds, ratios, shares of the peak."""
    speed = {name: common.spread([r["tokens_per_second"] for r in rounds]) for name, rounds in found.items()}
    peak = common.spread([r["peak"] for r in found["fathom"]])["median"]
    flop = found["fathom"][0]["flop_per_token"]
    ours = speed["fathom"]["median"]
    rows = [
        [
            name,
            f"{s['median']:.0f}",
            f"{s['min']:.0f} - {s['max']:.0f}",
            f"{ours / s['median']:.2f}",
            f"{s['median'] * flop / peak:.0%}",
        ]
        for name, s in speed.items()
    ]
    facts = found["fathom"][0]["machine"]
    title = (
        f"{asked.preset}, vocabulary {asked.vocabulary}, {asked.batch} x {asked.sequence} tokens a step, no MTP; "
        f"{facts}; "
        f"bf16 matmul peak (2048 cubed) {peak / 1e9:.0f} GFLOP/s; {flop / 1e6:.1f} MFLOP a token"
    )
    common.show(title, ["contender", "tokens/s", "range of rounds", "Fathom is x faster", "share of matmul peak"], rows)
    peers = [name for name in speed if name.startswith("transformers") and not name.endswith("kept")]
    best = max(peers, key=lambda name: speed[name]["median"])
    print(f"\nbest peer: {best}; Fathom / best peer: {ours / speed[best]['median']:.2f}")
    print(common.write("training_speed", {"arguments": vars(asked), "machine": facts, "speed": speed, "peak": peak}))


def run(asked: argparse.Namespace) -> dict[str, Any]:
    """Measure one contender in this process."""
    if not asked.contender.endswith("kept") and asked.contender != "fathom":
        os.environ["OMP_NUM_THREADS"] = str(len(os.sched_getaffinity(0)))
    from fathom.launch import prepare_process

    prepare_process(keep_memory=asked.contender == "fathom" or asked.contender.endswith("kept"))
    import torch

    from fathom.config.presets import laptop, preset

    config = preset(asked.preset)
    if asked.preset.startswith("laptop-"):
        config = laptop(int(asked.preset.removeprefix("laptop-")), asked.vocabulary)
    config = config.model_copy(update={"num_nextn_predict_layers": 0})
    torch.manual_seed(0)
    tokens = torch.randint(0, config.vocab_size, (asked.batch, asked.sequence + 1))
    step = fathom_step(config, tokens) if asked.contender == "fathom" else peer_step(config, tokens, asked.contender)
    times = common.seconds(step, rounds=asked.steps)
    facts = {"tokens_per_second": asked.batch * asked.sequence / common.spread(times)["median"]}
    if asked.contender == "fathom":
        from fathom.model.count import count

        a, b = torch.randn(2048, 2048, dtype=torch.bfloat16), torch.randn(2048, 2048, dtype=torch.bfloat16)
        facts["peak"] = 2 * 2048**3 / common.spread(common.seconds(lambda: a @ b, rounds=15))["median"]
        facts["flop_per_token"] = count(config, context=asked.sequence).training_flop_per_token
        facts["machine"] = common.machine(torch.get_num_threads())
    return facts


def fathom_step(config: Any, tokens: Any) -> Any:
    """One of Fathom's steps, as `fathom pretrain` does it."""
    import torch

    from fathom.config.train import TrainConfig
    from fathom.model.transformer import Transformer
    from fathom.parallel.mesh import World
    from fathom.train.optimizer import Optimizer
    from fathom.train.step import apply_update, compute_gradients

    train = TrainConfig(
        steps=1000,
        sequence_length=tokens.shape[1] - 1,
        batch_sequences=tokens.shape[0],
        micro_batch_sequences=tokens.shape[0],
    )
    model = Transformer(config)
    model.init_weights(torch.Generator().manual_seed(0))
    model.compute_dtype = torch.bfloat16
    optimizer = Optimizer(train.optimizer, model.named_parameters(), fp32=False)
    world = World(torch.device("cpu"))
    step = iter(range(10**9))

    def run_step() -> None:
        now = next(step)
        gradients = compute_gradients(model, tokens, train, world, now, 1000)
        apply_update(model, optimizer, gradients, train, now, 1000)

    return run_step


def peer_step(config: Any, tokens: Any, name: str) -> Any:
    """The same model, batch and optimiser in transformers."""
    import contextlib

    import torch
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

    _, precision, experts, attention, *_ = name.split()
    values = {key: value for key, value in config.to_hf().items() if key not in ("architectures", "rope_scaling")}
    theirs = DeepseekV3Config(**values, use_cache=False)
    theirs._experts_implementation, theirs._attn_implementation = experts, attention
    model = DeepseekV3ForCausalLM(theirs)
    if precision == "bf16":
        model = model.to(torch.bfloat16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2.2e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    cast = torch.autocast("cpu", dtype=torch.bfloat16) if precision == "autocast" else contextlib.nullcontext()

    def run_step() -> None:
        with cast:
            loss = model(input_ids=tokens[:, :-1], labels=tokens[:, :-1]).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return run_step


if __name__ == "__main__":
    begin = time.monotonic()
    main()
    if "--contender" not in sys.argv:
        print(f"({time.monotonic() - begin:.0f} s)", file=sys.stderr)
