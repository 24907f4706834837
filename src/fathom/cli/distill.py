"""`fathom distill`: a student learns from a teacher."""

from pathlib import Path
from typing import Annotated

import typer

from fathom.cli import asked
from fathom.cli.find import model_folder, recipe_file, set_aside


def distill(
    recipe: asked.RecipeName,
    overrides: asked.Overrides = None,
    changes: asked.Set = None,
    run: Annotated[Path | None, typer.Option("--run", help="The run folder; runs/ and the recipe's name.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew; the run that is there is set aside.")] = False,
    json: asked.Json = False,
) -> None:
    """Teach a student: by texts a teacher writes, by its judgement of the student's own texts, or by both.

    Both need the same tokenizer. Interrupted at any point, the same command goes on from there.

    Example: `fathom distill recipes/distill-laptop.toml`
    """
    from fathom.cli.interrupt import interruptible
    from fathom.cli.tuning import LossLines, base_of, sampled, stopped, told
    from fathom.config.tuning import DistillRecipe
    from fathom.parallel.mesh import one_process
    from fathom.reason.distill import distill as learn
    from fathom.reason.distill import refuse_other_tokenizers
    from fathom.reason.registry import make_task
    from fathom.reason.trainer import Surroundings
    from fathom.reports.tuning import write_tuning_report

    path, world = recipe_file(recipe), one_process()
    loaded = DistillRecipe.load(path, [*(overrides or []), *(changes or [])])
    folder = run or Path("runs") / path.stem
    if fresh:
        set_aside(folder)
    task = make_task(loaded.task.name, **loaded.task.options)
    teacher = model_folder(loaded.texts.policy)
    with interruptible() as stop:
        base = base_of(loaded.base, task, folder, stop)
        refuse_other_tokenizers(teacher, base)
        files = [sampled(loaded.texts, task, folder, stop)] if loaded.distill.cross_entropy else []
        result = learn(loaded, task, teacher, files, base, folder, around=Surroundings(LossLines(), stop, world=world))
    page = write_tuning_report(folder, loaded.about, "distill")
    if not result.finished:
        stopped(f"Stopped after step {result.steps}", stop)
    told(result, folder, page, json=json)
