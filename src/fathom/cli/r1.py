"""`fathom r1`: DeepSeek-R1's four stages, from a base to R1."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fathom.cli import asked
from fathom.cli.console import answer, answer_json, program, say
from fathom.cli.find import recipe_file, set_aside

if TYPE_CHECKING:
    from fathom.reason.judging import Judgement

WORDS = {
    "base": "the base, pre-trained",
    "zero": "R1-Zero: reinforcement straight on the base",
    "dev1": "Dev1: Zero's right texts in readable form, learned by the base",
    "dev2": "Dev2: reinforcement on reasoning, with the language reward",
    "dev3": "Dev3: Dev2's right texts and general ones, learned by the base",
    "r1": "R1: reinforcement for all scenarios",
}


def r1(
    recipe: asked.RecipeName,
    overrides: asked.Overrides = None,
    changes: asked.Set = None,
    run: Annotated[Path | None, typer.Option("--run", help="The run folder; runs/ and the recipe's name.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew; the run that is there is set aside.")] = False,
    again: Annotated[
        str | None, typer.Option("--again", help="Do this stage and those after it anew; what is there is set aside.")
    ] = None,
    anyway: Annotated[bool, typer.Option("--anyway", help="Reinforce even a base that is not ready for it.")] = False,
    json: asked.Json = False,
) -> None:
    """Make R1 as DeepSeek did: Zero, cold start, reasoning RL, rejection sampling with SFT, RL for all scenarios.

    At its end stands a table of all stages on the same held-out problems. Interrupted at any point, the same command
    goes on from there.

    Example: `fathom r1 recipes/r1-laptop.toml`
    """
    from fathom.cli.interrupt import interruptible
    from fathom.cli.lines import Lines
    from fathom.config.stages import R1Recipe
    from fathom.parallel.mesh import one_process
    from fathom.reason.stages import run_stages
    from fathom.reason.stages_again import set_stages_aside
    from fathom.reports.stages import table_rows, write_stages_report

    path, world = recipe_file(recipe), one_process()
    loaded = R1Recipe.load(path, [*(overrides or []), *(changes or [])])
    folder = run or Path("runs") / path.stem
    if fresh:
        set_aside(folder)
    if again is not None:
        set_stages_aside(folder, again)
    kept = [word for word in _without_again(sys.argv[1:]) if word != "--fresh"]
    with interruptible() as stop:
        result = run_stages(
            loaded, folder, watcher=StageLines(), observer=Lines(), stop=stop, gated=not anyway, world=world
        )
    page = write_stages_report(folder, loaded, result.table)
    if not result.finished:
        say(f"Stopped in stage {result.stage}; nothing is lost. Go on with: {program()} {shlex.join(kept)}")
        raise typer.Exit(stop.exit_status)
    if json:
        answer_json({"run": str(folder), "model": str(result.model), "report": str(page), "table": result.table})
        return
    rows = table_rows(result.table)
    width = max(len(row[0]) for row in rows)
    for row in rows:
        answer(f"{row[0]:<{width}}" + "".join(f"{value:>8}" for value in row[1:]))
    answer(f"model: {result.model}")
    answer(f"report: {page}")


def _without_again(words: list[str]) -> list[str]:
    """The command that goes on must not begin a stage anew once more."""
    kept, skip = [], False
    for word in words:
        if not skip and word != "--again" and not word.startswith("--again="):
            kept.append(word)
        skip = word == "--again"
    return kept


class StageLines:
    """The stages told in plain lines."""

    def on_stage(self, stage: str) -> None:
        """Name the stage."""
        say(f"-- {WORDS[stage]}")

    def on_texts(self, stage: str, counts: dict[str, int]) -> None:
        """Say how many texts there are, and why others were left out."""
        say("texts: " + ", ".join(f"{count:,} {name}" for name, count in counts.items() if count))

    def on_step(self, record: dict[str, Any]) -> None:
        """Print what a step saw."""
        from fathom.cli.tuning import LossLines
        from fathom.cli.zero import RewardLines

        (RewardLines() if "reward" in record else LossLines()).on_step(record)

    def on_judgement(self, step: int, judgement: "Judgement") -> None:
        """Print how held-out problems went."""
        passes = "  ".join(f"pass@{k} {value:.3f}" for k, value in judgement.pass_at.items())
        language = f"language {judgement.values['language']:.3f}"
        say(f"held out, step {step}: {passes}  {language}  length {judgement.values['length']:.1f}")
