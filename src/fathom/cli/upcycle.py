"""`fathom convert upcycle`: a dense model becomes one of DeepSeek-V3's architecture, and how far it is from it."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fathom.cli import asked
from fathom.cli.console import answer, answer_json, say, table
from fathom.cli.passages import spread, tokens_of
from fathom.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from fathom.model.transformer import Transformer
    from fathom.weights.upcycle.config import UpcycleConfig
    from fathom.weights.upcycle.distance import Distance, Reference
    from fathom.weights.upcycle.upcycle import Upcycling


@dataclass(frozen=True)
class Row:
    """One model that was made, and how far it is from the dense one."""

    what: str
    kv_lora_rank: int | None
    qk_rope_head_dim: int | None
    experts_per_token: int | None
    cache: int
    """Numbers kept of a token in each layer."""
    kl: float
    top1: float
    perplexity: float


def upcycle(
    source: Annotated[str, typer.Argument(help="A llama or qwen2 model folder, or the name of a shipped model.")],
    target: Annotated[Path, typer.Argument(help="The folder to write.")],
    text: Annotated[list[Path], typer.Option("--text", help="Text to adapt to; may be given several times.")],
    held_out: Annotated[
        Path | None, typer.Option("--held-out", help="Text to measure on; the last tenth of the other, without.")
    ] = None,
    kv_lora_rank: Annotated[
        list[int] | None,
        typer.Option(
            min=2, help="Places of the latents; all that lose nothing, without. More are measured, not saved."
        ),
    ] = None,
    qk_rope_head_dim: Annotated[
        int | None, typer.Option(min=2, help="Width of the shared rotary key; a head's, without.")
    ] = None,
    q_lora_rank: Annotated[int | None, typer.Option(min=2, help="Places of compressed queries.")] = None,
    biases: Annotated[bool, typer.Option(help="Biases that make the latents' norms exactly neutral.")] = True,
    fold: Annotated[int, typer.Option(min=1, help="Rotary frequencies mixed with each other.")] = 1,
    experts: Annotated[int, typer.Option(min=0, help="Routed experts of a layer; 0 leaves layers dense.")] = 0,
    shared_experts: Annotated[int, typer.Option(min=0, help="Experts' worth of neurons for every token.")] = 1,
    experts_per_token: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Routed experts that see a token; all, without. More are measured, not saved."),
    ] = None,
    dense_layers: Annotated[int, typer.Option(min=0, help="Leading layers that stay dense.")] = 0,
    sequence: Annotated[int, typer.Option(min=16, help="Tokens read together.")] = 512,
    tokens: Annotated[int, typer.Option(min=512, help="Tokens of text to adapt to, at most.")] = 16_384,
    held_out_tokens: Annotated[int, typer.Option(min=512, help="Tokens to measure on, at most.")] = 4_096,
    force: Annotated[bool, typer.Option("--force", help="Replace what stands at the target.")] = False,
    json: asked.Json = False,
) -> None:
    """Make a dense model over into DeepSeek-V3's architecture, without training, and measure how far it is from it.

    Example: `fathom convert upcycle smollm2-135m-instruct upcycled --text book.txt --kv-lora-rank 193`
    """
    import torch

    from fathom.cli.find import check_free, model_folder
    from fathom.weights.atomic import check_replaceable
    from fathom.weights.folder import load, read_config, save
    from fathom.weights.upcycle.config import UpcycleConfig
    from fathom.weights.upcycle.distance import Reference
    from fathom.weights.upcycle.upcycle import Upcycling

    check_free(target, force)
    check_replaceable(target)
    folder = model_folder(source)
    ranks: list[int | None] = [*kv_lora_rank] if kv_lora_rank else [None]
    chosen = experts_per_token or [0]
    if experts_per_token and (not experts or max(experts_per_token) > experts):
        raise UsageError(f"--experts-per-token {max(experts_per_token)}: there are {experts} routed experts.")
    wanted = UpcycleConfig(
        kv_lora_rank=ranks[0],
        qk_rope_head_dim=qk_rope_head_dim,
        q_lora_rank=q_lora_rank,
        biases=biases,
        fold=fold,
        experts=experts,
        shared_experts=shared_experts,
        experts_per_token=chosen[0],
        dense_layers=dense_layers,
    )
    wanted.target(read_config(folder))
    adapting, measuring = _windows(folder, text, held_out, sequence, tokens, held_out_tokens)
    model = load(folder)
    # Sums over many tokens and differences of close predictions want more than bf16.
    model.compute_dtype = torch.float32
    reference = Reference.of(model, measuring)
    upcycling = Upcycling(model, adapting)
    rows = [_row("dense model", reference.distance(), model.config.cached_shapes)]
    rows += _sweep(upcycling, reference, wanted, ranks, chosen if experts else [])
    new, measures = upcycling.make(wanted)
    rows.append(_measured("saved", new, reference))
    save(new, target, tokenizer_from=folder)
    if json:
        found = {"source": str(folder), "target": str(target), "tokens": measuring.numel()}
        answer_json(found | asdict(measures) | {"rows": [asdict(row) for row in rows]})
        return
    answer(table(_shown(rows), right=frozenset(range(1, 8))))
    answer(
        f"{target}: {measures.rotation_lost:.1%} of the rotation's worth lost; measured on {measuring.numel():,} tokens"
    )


def _sweep(
    upcycling: "Upcycling", reference: "Reference", wanted: "UpcycleConfig", ranks: list[int | None], chosen: list[int]
) -> list[Row]:
    """Each half alone: attention at every rank, feed-forward layers at every number of experts."""
    rows = []
    # Without experts, the first rank's model is the one that is saved.
    for rank in ranks[0 if wanted.experts else 1 :]:
        changed = wanted.model_copy(update={"kv_lora_rank": rank, "experts": 0, "experts_per_token": 0})
        rows.append(_measured("attention", upcycling.make(changed)[0], reference))
    for count in chosen:
        changed = wanted.model_copy(update={"experts_per_token": count})
        new, _ = upcycling.make(changed, attention=False)
        found = reference.distance(new, "experts")
        shapes = new.config.cached_shapes
        row = _row("feed-forward", found, shapes)
        rows.append(Row(**asdict(row) | {"experts_per_token": count or wanted.experts}))
    return rows


def _measured(what: str, model: "Transformer", reference: "Reference") -> Row:
    config = model.config
    row = _row(what, reference.distance(model, what), config.cached_shapes)
    routed = config.is_moe_layer(config.num_hidden_layers)
    sizes = {
        "kv_lora_rank": config.kv_lora_rank,
        "qk_rope_head_dim": config.qk_rope_head_dim,
        "experts_per_token": config.num_experts_per_tok if routed else None,
    }
    return Row(**asdict(row) | sizes)


def _row(what: str, found: "Distance", shapes: tuple[tuple[int, ...], ...]) -> Row:
    from math import prod

    cache = sum(prod(shape) for shape in shapes)
    # A sweep is long: what it has found is not lost with it.
    say(f"{what}, {cache} numbers a token: KL {found.kl:.4f}, same top token {found.top1:.1%}")
    return Row(what, None, None, None, cache, found.kl, found.top1, found.perplexity)


def _shown(rows: list[Row]) -> list[tuple[str, ...]]:
    heads = ("", "latents", "rotary key", "cache", "experts a token", "KL, nats", "same top token", "perplexity")
    shown: list[tuple[str, ...]] = [
        (
            row.what,
            "-" if row.kv_lora_rank is None else str(row.kv_lora_rank),
            "-" if row.qk_rope_head_dim is None else str(row.qk_rope_head_dim),
            str(row.cache),
            "-" if row.experts_per_token is None else str(row.experts_per_token),
            f"{row.kl:.4f}",
            f"{row.top1:.1%}",
            f"{row.perplexity:.2f}",
        )
        for row in rows
    ]
    return [heads, *shown]


def _windows(
    folder: Path, texts: list[Path], held_out: Path | None, sequence: int, tokens: int, held_out_tokens: int
) -> tuple["Tensor", "Tensor"]:
    """Windows (B, S) to adapt to and to measure on, spread evenly over the texts."""
    from fathom.corpus.tokenizer import Tokenizer

    tokenizer = Tokenizer(folder)
    own = tokens_of(texts, tokenizer)
    if held_out is None:
        border = len(own) * 9 // 10
        own, other = own[:border], own[border:]
    else:
        other = tokens_of([held_out], tokenizer)
    return spread(own, sequence, tokens, "--text"), spread(other, sequence, held_out_tokens, "the held-out text")
