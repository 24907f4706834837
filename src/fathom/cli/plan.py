"""`fathom plan`: what a training run will take, before it starts."""

from typing import TYPE_CHECKING, Annotated

import typer

from fathom.cli import asked
from fathom.cli.console import answer, answer_json, say, table
from fathom.cli.find import recipe_file
from fathom.errors import UsageError

if TYPE_CHECKING:
    from fathom.config.recipe import Recipe
    from fathom.plan.plan import Plan

ELSEWHERE = "Machines that are not here"


def plan(
    recipe: asked.RecipeName,
    overrides: asked.Overrides = None,
    changes: asked.Set = None,
    gpus: Annotated[
        int | None, typer.Option("--gpus", min=1, help="Plan for so many GPUs.", rich_help_panel=ELSEWHERE)
    ] = None,
    peak: Annotated[
        float | None,
        typer.Option("--peak", min=1e-6, help="What one does in bf16 at most, in TFLOP/s.", rich_help_panel=ELSEWHERE),
    ] = None,
    share: Annotated[
        float,
        typer.Option(
            "--share", min=0.01, max=1.0, help="What training reaches of that peak.", rich_help_panel=ELSEWHERE
        ),
    ] = 0.4,
    memory: Annotated[
        float | None, typer.Option("--memory", min=1e-6, help="Memory of one, in GB.", rich_help_panel=ELSEWHERE)
    ] = None,
    network: Annotated[
        float | None,
        typer.Option("--network", min=1e-6, help="What one receives, in GB/s.", rich_help_panel=ELSEWHERE),
    ] = None,
    price: Annotated[
        float | None,
        typer.Option("--price", min=0, help="Dollars for one for an hour.", rich_help_panel=ELSEWHERE),
    ] = None,
    json: asked.Json = False,
) -> None:
    """Say what training a recipe takes: memory, disk, traffic, time and money. Nothing is written.

    Without `--gpus` a few steps are tried on this machine, and measured.

    Example: `fathom plan quickstart`

    Example: `fathom plan v2-lite --gpus 64 --peak 989 --memory 80 --network 50 --price 2`
    """
    from fathom.config.recipe import Recipe
    from fathom.plan.plan import GPUs, plan_for, plan_here

    loaded = Recipe.load(recipe_file(recipe), [*(overrides or []), *(changes or [])])
    if gpus is None:
        if any(value is not None for value in (peak, memory, network, price)):
            raise UsageError(
                "--peak, --memory, --network and --price describe machines elsewhere: say how many with --gpus."
            )
        say("Trying a few steps on this machine ...")
        made = plan_here(loaded)
    else:
        if peak is None:
            raise UsageError(
                "--gpus needs --peak, the TFLOP/s in bf16 that one of them does at most (989 for an H100, 312 for an "
                "A100): the time follows from it."
            )
        made = plan_for(
            loaded,
            GPUs(
                count=gpus,
                peak_flops=peak * 1e12,
                share=share,
                memory_bytes=None if memory is None else round(memory * 1e9),
                network=None if network is None else network * 1e9,
                dollars_per_hour=price,
            ),
        )
    if json:
        answer_json(made.model_dump() | {"most_bytes": made.most_bytes, "fits": made.fits})
        return
    answer(table(rows_of(made, loaded)))
    for line in remarks(made, loaded, share):
        answer()
        answer(line)


def rows_of(plan: "Plan", recipe: "Recipe") -> list[tuple[str, str]]:
    """The figures that a person wants to see, by name."""
    from fathom.reports.words import big, duration

    train = recipe.train
    each = "" if plan.processes == 1 else " a GPU"
    rows = [
        ("parameters", f"{big(plan.parameters)}, of which a token uses {big(plan.active_parameters)}"),
        ("run", f"{plan.steps:,} steps, {big(plan.tokens)} tokens, {plan.flop:.3g} FLOP"),
        ("step", f"{big(plan.batch_tokens)} tokens, in {plan.passes} pass{'es' if plan.passes > 1 else ''}{each}"),
        (f"memory{each}", size(plan.most_bytes)),
        ("  parameters, gradients, moments", size(plan.states_bytes)),
    ]
    if plan.processes > 1:
        rows.append(("  layers gathered to compute", size(plan.gathered_bytes)))
    rows.append(("  activations and the rest", size(plan.working_bytes)))
    if plan.memory_bytes is not None:
        rows.append(("  there is" if plan.device == "GPUs" else "  free here now", size(plan.memory_bytes)))
    if plan.average_bytes:
        rows.append((f"main memory{each}, for the average", size(plan.average_bytes)))
    if plan.processes > 1:
        takes = "" if plan.received_seconds is None else f", {plan.received_seconds:.3g} s"
        rows.append(("received in a step, a GPU", size(plan.received_bytes) + takes))
        rows.append(("computing in a step", f"{plan.computing_seconds:.3g} s"))
    rows += [
        ("disk", f"{size(plan.disk_bytes)}: {train.keep_last + 1} checkpoints of {size(plan.checkpoint_bytes)}"),
        ("speed", f"{big(plan.tokens_per_second)} tokens a second"),
        ("time", duration(plan.seconds) if plan.seconds < 172_800 else f"{plan.seconds / 86_400:,.1f} days"),
    ]
    if plan.device == "GPUs":
        rows.append(("GPU hours", f"{plan.processes * plan.seconds / 3600:,.4g}"))
    if plan.dollars is not None:
        rows.append(("price", f"${plan.dollars:,.0f}"))
    return rows


def remarks(plan: "Plan", recipe: "Recipe", share: float) -> list[str]:
    """What the figures rest on, and what to change where they do not fit."""
    train, lines = recipe.train, []
    if plan.fits is False:
        ways = []
        if train.micro_batch_sequences > 1:
            ways.append(f"train.micro_batch_sequences below {train.micro_batch_sequences}")
        if train.recompute != "layer":
            ways.append('train.recompute = "layer"')
        if plan.processes > 1 and plan.passes > 1 and not recipe.parallel.sum_every_pass:
            ways.append("parallel.sum_every_pass = true")
        ways.append("more GPUs" if plan.device == "GPUs" else "a smaller model")
        lines.append(f"This does not fit. What helps: {'; '.join(ways)}.")
    if plan.received_seconds is not None and plan.received_seconds > plan.computing_seconds:
        more = "larger passes (train.micro_batch_sequences)" if plan.passes > 1 else "a larger batch"
        lines.append(f"The network is what this waits for: {more} would send less.")
    if plan.device == "GPUs":
        traffic = ", traffic behind computing" if plan.processes > 1 else ""
        lines.append(f"On paper: {share:.0%} of the peak{traffic}, and an allocator that loses nothing.")
    if train.teacher is not None:
        lines.append("The teacher's weights and passes are not counted.")
    return lines


def size(count: float) -> str:
    """Bytes in three digits."""
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count / 1e3:.3g} kB"
