"""`fathom bench`: how fast this machine decodes, reads prompts and serves with a model."""

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fathom.cli import asked
from fathom.cli.console import answer, answer_json, say, table
from fathom.cli.find import model_folder
from fathom.errors import UsageError

if TYPE_CHECKING:
    from fathom.model.transformer import Transformer

bench = typer.Typer(
    no_args_is_help=True,
    help="Measure how fast a model decodes, reads prompts and serves on this machine.\n\n"
    "Example: `fathom bench decode --model runs/quickstart --batch 1 --batch 16 --json`",
)

Model = Annotated[str | None, typer.Option("--model", "-m", help="A model folder or a run; the newest run.")]
Preset = Annotated[
    str | None,
    typer.Option(help="Random weights in a shape in its place: a configuration's name, such as laptop-8, or its file."),
]
Weights = Annotated[
    str | None, typer.Option(help="Hold the weights in fp32, bf16, int8 or int4; as they are stored if not given.")
]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads; one for each physical core if not given.")]
Batch = Annotated[list[int] | None, typer.Option(min=1, help="Sequences at once; may be given several times.")]
Context = Annotated[list[int] | None, typer.Option(min=1, help="Tokens before; may be given several times.")]


@bench.command()
def decode(
    model: Model = None,
    preset: Preset = None,
    batch: Batch = None,
    context: Context = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps to time for each figure.")] = 48,
    weights: Weights = None,
    threads: Threads = None,
    json: asked.Json = False,
) -> None:
    """Time decoding: one token for each sequence of a batch, at some length of context.

    Example: `fathom bench decode --preset laptop-8 --weights bf16 --batch 1 --batch 16 --context 64 --context 1024`
    """
    from fathom.engine.engine import Engine
    from fathom.engine.measuring import measure_decode, measuring_config

    loaded, facts = _load(model, preset, weights, threads)
    bandwidth = _bandwidth(facts)
    speeds = []
    for tokens in context or [64]:
        for sequences in batch or [1, 16]:
            engine = Engine(loaded, config=measuring_config(sequences, tokens + steps))
            speeds.append(measure_decode(engine, sequences, tokens, steps, bandwidth))
    if json:
        results = [asdict(speed) | {"share_of_floor": speed.share_of_floor} for speed in speeds]
        answer_json(facts | {"bandwidth": bandwidth, "decode": results})
        return
    say(f"{_described(facts)}; memory is read at {bandwidth / 1e9:.1f} GB/s")
    rows = [("batch", "context", "tokens/s", "ms a step", "MB a step", "share of bandwidth floor")]
    rows += [
        (
            str(speed.batch),
            str(speed.context),
            f"{speed.tokens_per_second:,.0f}",
            f"{speed.step_seconds * 1e3:.3f}",
            f"{speed.step_bytes / 1e6:,.1f}",
            f"{speed.share_of_floor:.0%}",
        )
        for speed in speeds
    ]
    answer(table(rows, right=frozenset(range(6))))


@bench.command()
def prefill(
    model: Model = None,
    preset: Preset = None,
    tokens: Annotated[list[int] | None, typer.Option(min=1, help="Prompt lengths; may be given several times.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Prompts to time for each figure.")] = 5,
    weights: Weights = None,
    threads: Threads = None,
    json: asked.Json = False,
) -> None:
    """Time reading a prompt, up to its first token.

    Example: `fathom bench prefill --preset laptop-8 --weights bf16 --tokens 512`
    """
    from fathom.engine.engine import Engine
    from fathom.engine.measuring import measure_prefill, measuring_config

    loaded, facts = _load(model, preset, weights, threads)
    lengths = tokens or [512]
    engine = Engine(loaded, config=measuring_config(1, max(lengths) + 1))
    speeds = [measure_prefill(engine, length, rounds) for length in lengths]
    if json:
        answer_json(facts | {"prefill": [asdict(speed) for speed in speeds]})
        return
    say(_described(facts))
    rows = [("prompt tokens", "tokens/s", "ms to the first token")]
    rows += [(str(s.tokens), f"{s.tokens_per_second:,.0f}", f"{s.seconds * 1e3:.1f}") for s in speeds]
    answer(table(rows, right=frozenset(range(3))))


@bench.command("serve-load")
def serve_load(
    model: Model = None,
    preset: Preset = None,
    concurrency: Annotated[list[int] | None, typer.Option(min=1, help="Senders; may be given several times.")] = None,
    requests: Annotated[int, typer.Option(min=1, help="Requests of each sender.")] = 2,
    prompt_tokens: Annotated[int, typer.Option(min=1, help="Tokens of a prompt.")] = 64,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens asked for by a request.")] = 64,
    weights: Weights = None,
    threads: Threads = None,
    url: Annotated[
        str | None,
        typer.Option(help="Measure a running server that speaks OpenAI's completions, Fathom's or another."),
    ] = None,
    model_name: Annotated[str, typer.Option(help="What the server at --url calls its model.")] = "model",
    vocabulary: Annotated[int, typer.Option(min=1, help="With --url, ids of prompts are below this.")] = 1000,
    json: asked.Json = False,
) -> None:
    """Send many requests at once, and time their first and their following tokens.

    Example: `fathom bench serve-load --preset laptop-8 --concurrency 1 --concurrency 16`
    """
    from fathom.engine.engine import Engine
    from fathom.engine.load import LoadReport, measure_load
    from fathom.engine.measuring import measuring_config
    from fathom.engine.service import AsyncEngine

    senders = concurrency or [1, 4, 16]
    if url is not None and (model or preset or weights or threads):
        raise UsageError("--url measures a server as it runs: leave --model, --preset, --weights and --threads out.")
    loaded, facts = _load(model, preset, weights, threads) if url is None else (None, {"url": url})

    async def run() -> list[LoadReport]:
        reports = []
        for count in senders:
            sizes = (count, count * requests, prompt_tokens, max_tokens)
            if loaded is None:
                assert url is not None
                reports.append(await measure_load(url, *sizes, vocabulary, model_name))
                continue
            service = AsyncEngine(Engine(loaded, config=measuring_config(count, prompt_tokens + max_tokens)))
            reports.append(await measure_load(service, *sizes, loaded.config.vocab_size))
            await service.drain()
        return reports

    reports = asyncio.run(run())
    if json:
        answer_json(facts | {"load": [asdict(report) for report in reports]})
        return
    rows = [("senders", "tokens/s", "first token, ms", "95 %", "between tokens, ms", "95 %")]
    rows += [
        (
            str(r.concurrency),
            f"{r.tokens_per_second:,.0f}",
            f"{r.first_token_median * 1e3:.1f}",
            f"{r.first_token_p95 * 1e3:.1f}",
            f"{r.token_median * 1e3:.2f}",
            f"{r.token_p95 * 1e3:.2f}",
        )
        for r in reports
    ]
    answer(table(rows, right=frozenset(range(6))))


def _described(facts: dict[str, Any]) -> str:
    where = f"{facts['threads']} threads" if facts["device"] == "cpu" else facts["device"]
    return f"{facts['model']}, weights in {facts['weights']}, {where}"


def _bandwidth(facts: dict[str, Any]) -> float:
    """Bytes a second that the device reads from its memory."""
    import torch

    from fathom.kernels.decode import bandwidth as cpu
    from fathom.kernels.gpu import bandwidth as gpu

    device = torch.device(facts["device"])
    return cpu.read_bandwidth(facts["threads"]) if device.type == "cpu" else gpu.read_bandwidth(device)


def _load(
    name: str | None, preset: str | None, weights: str | None, threads: int | None
) -> "tuple[Transformer, dict[str, Any]]":
    """The model to measure, and what it is."""
    import torch

    from fathom.parallel.device import best_device
    from fathom.weights.formats import check_format, in_format, load_in_format

    check_format(weights)
    device = best_device()
    if name is not None and preset is not None:
        raise UsageError("--model and --preset are two models: give one of them.")
    if threads is not None:
        torch.set_num_threads(threads)
    if preset is None:
        folder = model_folder(name)
        made, called = load_in_format(folder, weights, device), str(folder)
    else:
        made, called = _random_model(preset), f"{preset} with random weights"
        made = in_format(made.to(device), weights or "bf16")
    held = weights or {torch.float32: "fp32", torch.bfloat16: "bf16"}.get(made.compute_dtype, str(made.compute_dtype))
    return made, {"model": called, "weights": held, "device": device, "threads": torch.get_num_threads()}


def _random_model(preset: str) -> "Transformer":
    import torch

    from fathom.cli.params import configuration
    from fathom.model.transformer import Transformer

    made = Transformer(configuration(preset).model_copy(update={"num_nextn_predict_layers": 0}))
    made.init_weights(torch.Generator().manual_seed(0))
    return made.eval()
