"""`fathom sft`: supervised fine-tuning on prompts and replies."""

from pathlib import Path
from typing import Annotated

import typer

from fathom.cli import asked
from fathom.cli.find import recipe_file, set_aside


def sft(
    recipe: asked.RecipeName,
    overrides: asked.Overrides = None,
    changes: asked.Set = None,
    run: Annotated[Path | None, typer.Option("--run", help="The run folder; runs/ and the recipe's name.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew; the run that is there is set aside.")] = False,
    json: asked.Json = False,
) -> None:
    """Fine-tune a model on prompts and replies: given ones, or the right ones of those a policy writes first.

    Only replies are learned. Interrupted at any point, the same command goes on from there.

    Example: `fathom sft recipes/sft-laptop.toml`
    """
    from fathom.cli.interrupt import interruptible
    from fathom.cli.tuning import LossLines, base_of, sampled, stopped, told
    from fathom.config.tuning import SFTRecipe
    from fathom.parallel.mesh import one_process
    from fathom.reason.registry import make_task
    from fathom.reason.sft import fine_tune
    from fathom.reason.trainer import Surroundings
    from fathom.reports.tuning import write_tuning_report

    path, world = recipe_file(recipe), one_process()
    loaded = SFTRecipe.load(path, [*(overrides or []), *(changes or [])])
    folder = run or Path("runs") / path.stem
    if fresh:
        set_aside(folder)
    task = make_task(loaded.task.name, **loaded.task.options) if loaded.task else None
    with interruptible() as stop:
        base = base_of(loaded.base, task, folder, stop)
        files = list(loaded.files)
        if loaded.texts is not None and task is not None:
            files = [sampled(loaded.texts, task, folder, stop)]
        result = fine_tune(loaded, files, base, folder, task=task, around=Surroundings(LossLines(), stop, world=world))
    page = write_tuning_report(folder, loaded.about, "sft")
    if not result.finished:
        stopped(f"Stopped after step {result.steps}", stop)
    told(result, folder, page, json=json)
