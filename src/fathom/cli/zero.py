"""`fathom zero`: R1-Zero, from a base to a policy that reasons."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fathom.cli import asked
from fathom.cli.console import say
from fathom.cli.find import recipe_file, set_aside

if TYPE_CHECKING:
    from fathom.reason.judging import Judgement


def zero(
    recipe: asked.RecipeName,
    overrides: asked.Overrides = None,
    changes: asked.Set = None,
    run: Annotated[Path | None, typer.Option("--run", help="The run folder; runs/ and the recipe's name.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew; the run that is there is set aside.")] = False,
    anyway: Annotated[bool, typer.Option("--anyway", help="Reinforce even a base that is not ready for it.")] = False,
    controls: Annotated[
        str | None,
        typer.Option(
            "--controls",
            metavar="NAMES",
            help="Train these beside it, for the report: all, or some of random,format,sft-own,sft-written.",
        ),
    ] = None,
    json: asked.Json = False,
) -> None:
    """Reinforce a base straight away, with no fine-tuning before it, as DeepSeek-R1-Zero was made.

    The base is pre-trained first where the recipe says so, then judged: reinforcement strengthens what a base can
    already do. Interrupted at any point, the same command goes on from there. Under torchrun the processes share
    every step. Controls are the same base trained by a random reward, by one for the form alone, on its own right
    texts, and on written ones.

    Example: `fathom zero recipes/r1-zero-laptop.toml --controls all`
    """
    from fathom.cli.interrupt import interruptible
    from fathom.cli.tuning import LossLines, base_of, stopped, told
    from fathom.config.parallel import ParallelConfig
    from fathom.config.reason import ReasonRecipe
    from fathom.errors import UsageError
    from fathom.parallel.mesh import processes
    from fathom.reason.controls import CONTROLS, REWARDS, controls_named, run_control
    from fathom.reason.registry import make_task
    from fathom.reason.trainer import Surroundings
    from fathom.reason.zero import reinforce
    from fathom.reports.reasoning import write_reasoning_report

    path = recipe_file(recipe)
    loaded = ReasonRecipe.load(path, [*(overrides or []), *(changes or [])])
    folder = run or Path("runs") / path.stem
    if fresh:
        set_aside(folder)
    task = make_task(loaded.task.name, **loaded.task.options)
    wanted = controls_named(controls, task) if controls is not None else ()
    with interruptible() as stop, processes(ParallelConfig()) as world:
        if world.size > 1 and loaded.base.folder is None:
            raise UsageError(
                "Several processes reinforce a finished base and do not make one together: run the command once "
                "without torchrun, or give base.folder."
            )
        base = base_of(loaded.base, task, folder, stop)
        watcher = RewardLines()
        result = reinforce(loaded, task, base, folder, watcher=watcher, stop=stop, gated=not anyway, world=world)
        beside = {}
        for control in wanted if result.finished else ():
            say(f"-- {control}: {CONTROLS[control]}")
            around = Surroundings(RewardLines() if control in REWARDS else LossLines(), stop, world=world)
            beside[control] = run_control(control, loaded, task, base, folder, around)
            if not beside[control].finished:
                break
    if not world.is_main:
        return
    page = write_reasoning_report(folder, loaded)
    if not result.finished:
        stopped(f"Stopped after step {result.steps}", stop)
    for control, trained in beside.items():
        if not trained.finished:
            stopped(f"Stopped in the control {control}", stop)
    told(result, folder, page, beside, json=json)


class RewardLines:
    """A run told in plain lines."""

    def on_step(self, record: dict[str, Any]) -> None:
        """Print what a step saw."""
        shown = {
            "reward": record["reward"],
            "length": record["length"],
            "attempts": record.get("attempts"),
            "checked": record.get("checked"),
            "steps right": record.get("steps_right"),
            "truncated": record["truncated"],
            "without a difference": record["zero_variance"],
            "entropy": record["entropy"],
            "gap": record["rollout_gap"],
        }
        words = "  ".join(f"{name} {value:.3g}" for name, value in shown.items() if value is not None)
        speed = record["tokens"] / (record["rollout_seconds"] + record["update_seconds"])
        say(f"{record['step']}/{record['steps']}  {words}  {speed:,.0f} tokens/s")
        if record["zero_variance"] == 1:
            say("  No group's rewards differ: this step taught nothing.")

    def on_judgement(self, step: int, judgement: "Judgement") -> None:
        """Print how held-out problems went."""
        passes = "  ".join(f"pass@{k} {value:.3f}" for k, value in judgement.pass_at.items())
        say(f"held out, step {step}: {passes}  length {judgement.values['length']:.1f}")
        if step == 0:
            from fathom.reason.judging import lines, ready_for_rl

            say("Is the base ready for reinforcement?")
            for line in lines(ready_for_rl(judgement)):
                say(f"  {line}")
