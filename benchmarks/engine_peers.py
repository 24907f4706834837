"""The contenders of `engine_decode.py`, each measured in a process of its own: Fathom, transformers and llama.cpp.

Every function returns tokens/s: {"decode": {"BATCH CONTEXT": ...}, "prefill": {"TOKENS": ...}}.
"""

import argparse
import json
import statistics
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

WARM_UP = 3


def fathom(asked: argparse.Namespace, weights: str) -> dict[str, Any]:
    """The engine, as a user's program calls it."""
    import common
    import torch

    from fathom.engine.engine import Engine
    from fathom.engine.measuring import measure_decode, measure_prefill, measuring_config
    from fathom.kernels.decode.bandwidth import read_bandwidth
    from fathom.weights.formats import in_format, load_in_format

    if asked.shape:
        model = in_format(random_model(asked.shape), weights)
    else:
        model = load_in_format(Path(asked.model), weights)
    bandwidth = read_bandwidth(asked.threads)
    decode, floors = {}, {}
    for batch, context in asked.shapes:
        engine = Engine(model, config=measuring_config(batch, context + asked.steps))
        speed = measure_decode(engine, batch, context, asked.steps, bandwidth)
        decode[f"{batch} {context}"] = speed.tokens_per_second
        floors[f"{batch} {context}"] = {"bytes": speed.step_bytes, "share": speed.share_of_floor}
    engine = Engine(model, config=measuring_config(1, asked.prompt + 1))
    prefill = {str(asked.prompt): measure_prefill(engine, asked.prompt, 3).tokens_per_second}
    machine = common.machine(torch.get_num_threads())
    return {"decode": decode, "prefill": prefill, "floors": floors, "bandwidth": bandwidth, "machine": machine}


def transformers(asked: argparse.Namespace, weights: str, experts: str) -> dict[str, Any]:
    """transformers' own class with its cache: one forward pass and a greedy choice a step, nothing of `generate`."""
    import torch
    from transformers import AutoModelForCausalLM, DynamicCache

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[weights]
    if asked.shape:
        model = _theirs(asked.shape, experts).to(dtype)
    else:
        model = AutoModelForCausalLM.from_pretrained(asked.model, dtype=dtype)
        model.config._experts_implementation = experts
    model.eval()
    vocabulary = model.config.vocab_size
    decode = {}
    with torch.inference_mode():
        for batch, context in asked.shapes:
            cache = DynamicCache()
            tokens = torch.randint(0, vocabulary, (batch, context))
            logits = model(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
            times = []
            for _ in range(WARM_UP + asked.steps):
                begin = time.perf_counter()
                following = logits[:, -1].argmax(-1, keepdim=True)
                logits = model(input_ids=following, past_key_values=cache, use_cache=True).logits
                times.append(time.perf_counter() - begin)
            decode[f"{batch} {context}"] = batch / statistics.median(times[WARM_UP:])
        times = []
        for _ in range(4):
            tokens = torch.randint(0, vocabulary, (1, asked.prompt))
            begin = time.perf_counter()
            model(input_ids=tokens, past_key_values=DynamicCache(), use_cache=True, logits_to_keep=1).logits.argmax(-1)
            times.append(time.perf_counter() - begin)
    return {"decode": decode, "prefill": {str(asked.prompt): asked.prompt / statistics.median(times[1:])}}


def llama_cpp(asked: argparse.Namespace, kind: str) -> dict[str, Any]:
    """llama.cpp's server on the same weights, exported as GGUF; its own timings, without the network between."""
    from fathom.weights.gguf.export import export_gguf

    decode, prefill = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{kind}.gguf"
        export_gguf(Path(asked.model), path, kind, quiet=True)
        for batch, context in asked.shapes:
            server = _llama_server(path, asked.threads, batch, context + asked.steps + 64)
            answers = _ask_all(server, batch, context, asked.steps)
            decode[f"{batch} {context}"] = sum(answer["predicted_per_second"] for answer in answers)
        server = _llama_server(path, asked.threads, 1, asked.prompt + 64)
        rates = [_ask_all(server, 1, asked.prompt, 1)[0]["prompt_per_second"] for _ in range(4)]
        prefill[str(asked.prompt)] = statistics.median(rates[1:])
    import xllamacpp

    return {"decode": decode, "prefill": prefill, "features": xllamacpp.get_system_info().strip()}


def _llama_server(path: Path, threads: int, slots: int, tokens: int) -> Any:
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = str(path)
    settings.n_ctx, settings.n_parallel = slots * ((tokens + 255) // 256 * 256), slots
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads
    settings.port, settings.verbosity = 0, -1
    return xllamacpp.Server(settings)


def _ask_all(server: Any, requests: int, context: int, tokens: int) -> list[dict[str, float]]:
    """The server's timings of so many requests sent together, each with a prompt of its own."""
    timings: list[dict[str, float]] = []

    def ask(seed: int) -> None:
        prompt = [(seed * 7919 + i * 104729) % 900 + 3 for i in range(context)]
        body = {"prompt": prompt, "n_predict": tokens, "ignore_eos": True, "temperature": 0.0, "cache_prompt": False}
        request = urllib.request.Request(
            server.listening_address + "/completion",
            json.dumps(body | {"samplers": ["temperature"]}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=600) as answer:
            timings.append(json.load(answer)["timings"])

    senders = [threading.Thread(target=ask, args=(seed,)) for seed in range(requests)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    if len(timings) != requests:
        raise RuntimeError(f"llama.cpp answered {len(timings)} of {requests} requests")
    return timings


def random_model(shape: str) -> Any:
    """Seeded random weights in a shape, without MTP modules and with room for long contexts."""
    import torch

    from fathom.cli.params import configuration
    from fathom.model.transformer import Transformer

    config = configuration(shape).model_copy(update={"num_nextn_predict_layers": 0})
    model = Transformer(config.model_copy(update={"max_position_embeddings": 16384}))
    model.init_weights(torch.Generator().manual_seed(0))
    return model.eval()


def _theirs(shape: str, experts: str) -> Any:
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

    values = random_model(shape).config.to_hf()
    config = DeepseekV3Config(**{k: v for k, v in values.items() if k not in ("architectures", "rope_scaling")})
    config._experts_implementation, config._attn_implementation = experts, "sdpa"
    return DeepseekV3ForCausalLM(config)
