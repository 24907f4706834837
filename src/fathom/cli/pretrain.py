"""`fathom pretrain`: train a recipe, from its text to a Hugging Face folder."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from fathom.cli import asked
from fathom.cli.console import answer, answer_json, program, say
from fathom.cli.find import recipe_file, set_aside


def pretrain(
    recipe: asked.RecipeName,
    overrides: asked.Overrides = None,
    changes: asked.Set = None,
    run: Annotated[Path | None, typer.Option("--run", help="The run folder; runs/ and the recipe's name.")] = None,
    corpus: Annotated[
        Path | None, typer.Option("--corpus", help="A finished corpus to use as it is, instead of the recipe's.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew; the run that is there is set aside.")] = False,
    plain: asked.Plain = False,
    json: asked.Json = False,
) -> None:
    """Train a recipe, going on where an earlier call with the same recipe stopped or was killed.

    Example: `fathom pretrain recipes/quickstart.toml train.minutes=20 --run runs/longer`

    Several processes: `torchrun --nproc-per-node 2 -m -- fathom pretrain recipes/quickstart.toml`
    """
    from fathom.cli.running import conduct, is_main_process, prepare_corpus
    from fathom.config.recipe import Recipe

    path = recipe_file(recipe)
    loaded = Recipe.load(path, [*(overrides or []), *(changes or [])])
    folder = run or Path("runs") / (path.resolve().parent.name if path.stem == "recipe" else path.stem)
    if fresh and is_main_process():
        set_aside(folder)
    text = corpus or prepare_corpus(loaded.corpus)
    kept = [argument for argument in sys.argv[1:] if argument != "--fresh"]
    result = conduct(loaded, folder, text, plain=plain, again=f"{program()} {shlex.join(kept)}")
    if not is_main_process():
        return
    if json:
        answer_json(
            {
                "run": str(folder),
                "model": str(result.model),
                "report": str(folder / "report.html"),
                "steps": result.steps,
                "tokens": result.tokens,
                "seconds": result.seconds,
                "bits_per_byte": result.bits_per_byte,
            }
        )
        return
    for group, bits in result.bits_per_byte.items():
        answer(f"{group}: {bits:.3f} bits per byte of held-out text")
    answer(f"model: {result.model}")
    answer(f"report: {folder / 'report.html'}")
    say(f'Try it: {program()} generate "Once upon a time" --model {folder}')
