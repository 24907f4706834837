"""`fathom quickstart`: from nothing to a small DeepSeek-V3 that one can talk to, in one command."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fathom.cli import asked
from fathom.cli.console import answer, answer_json, program, say, someone_is_there, table
from fathom.cli.find import is_model, recipe_file, set_aside
from fathom.errors import UsageError

if TYPE_CHECKING:
    from fathom.config.recipe import Recipe
    from fathom.engine.engine import Engine
    from fathom.reports.run import RunRecord

PROMPTS = {"english": "The captain looked at the sea and", "chinese": "春风", "code": "def read_lines(path):\n"}
TOKENS = 48


def quickstart(
    minutes: Annotated[
        float | None, typer.Option("--minutes", min=0.05, help="Wall-clock budget of the training; the recipe says 8.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew; the run that is there is set aside.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: go on with the run that is there.")] = False,
    run: Annotated[Path, typer.Option("--run", help="The run folder.")] = Path("runs/quickstart"),
    changes: asked.Set = None,
    plain: asked.Plain = False,
    json: asked.Json = False,
) -> None:
    """Train a small DeepSeek-V3 on real English, Chinese and code, then complete texts with it.

    Stop it with Ctrl-C and run it again: it goes on. Example: `fathom quickstart --minutes 8`
    """
    from fathom.cli.running import conduct, prepare_corpus
    from fathom.reports.run import RunRecord

    person = someone_is_there() and not json
    if not fresh and (run / "recipe.toml").is_file() and person and not yes:
        fresh = not _go_on(run)
    if fresh and (aside := set_aside(run)):
        say(f"The run that was there is now {aside}.")
    recipe = _recipe(run, minutes, changes or [])
    if not is_model(run / "model"):
        _announce(recipe, run)
        conduct(recipe, run, prepare_corpus(recipe.corpus), plain=plain, again=_again(run))
    record = RunRecord.load(run)
    if json:
        answer_json(_as_json(record))
        return
    _show(record)
    if person:
        _talk(run)
    else:
        for prompt, text in _completions(run):
            answer(f"\n{prompt}{text}")


def _go_on(run: Path) -> bool:
    finished = is_model(run / "model")
    state = "is finished; going on leads straight to its model" if finished else "was begun and is not finished"
    say(f"{run} {state}.")
    reply = typer.prompt("Go on, or start anew? [go/new]", default="go", show_default=False, err=True)
    return not reply.strip().lower().startswith("n")


def _recipe(run: Path, minutes: float | None, changes: list[str]) -> "Recipe":
    """The run's own recipe if there is one, so that it goes on as it began; else the shipped one."""
    from fathom.config.recipe import Recipe

    own = run / "recipe.toml"
    if not own.is_file():
        wanted = changes if minutes is None else [*changes, f"train.minutes={minutes}"]
        return Recipe.load(recipe_file("quickstart"), wanted)
    recipe = Recipe.load(own, changes)
    if minutes is not None and minutes != recipe.train.minutes:
        raise UsageError(
            f"{run} was begun with a budget of {recipe.train.minutes or 0:g} minutes, which its learning rate follows: "
            "go on without --minutes, start anew with --fresh, or name another folder with --run."
        )
    return recipe


def _announce(recipe: "Recipe", run: Path) -> None:
    from fathom.model.count import count
    from fathom.reports.words import big, duration

    model, report = recipe.model, count(recipe.model, recipe.train.sequence_length)
    length = duration(60 * recipe.train.minutes) if recipe.train.minutes else "as long as the recipe says"
    say("Fathom trains a small DeepSeek-V3 on this machine, and then lets you talk to it:")
    say("  1. Text: English, Chinese and code, fetched and prepared once; a few minutes the first time.")
    say(
        f"  2. Training for {length}: {big(report.total)} parameters, {big(report.active)} used for a token, "
        f"{model.num_experts_per_tok} of {model.n_routed_experts} experts in a layer."
    )
    say(f"  3. A report, {run / 'report.html'}, and a prompt to complete texts at.")
    say("Ctrl-C stops it at any time; the same command goes on.\n")


def _again(run: Path) -> str:
    return f"{program()} quickstart" + ("" if run == Path("runs/quickstart") else f" --run {run}")


def _show(record: "RunRecord") -> None:
    from fathom.reports.words import big, duration

    answer(f"\nTrained on {big(record.steps[-1].tokens)} tokens in {duration(record.seconds)}. On text it never saw:")
    rows = [("", "bits per byte", "xz -9e")]
    for evaluation in map(record.last, record.groups):
        if evaluation:
            xz = record.xz.get(evaluation.group)
            rows.append(
                (evaluation.group, f"{evaluation.bits_per_byte:.3f}", f"{xz.bits_per_byte:.3f}" if xz else "unknown")
            )
    answer(table(rows, right=frozenset({1, 2})))
    answer(f"Model:  {record.folder / 'model'} (a Hugging Face folder)")
    answer(f"Report: {record.folder / 'report.html'}")
    answer(f"Next:   {program()} zero recipes/r1-zero-laptop.toml (a model that learns to reason by trial)")


def _as_json(record: "RunRecord") -> dict[str, object]:
    judged = [evaluation for evaluation in map(record.last, record.groups) if evaluation]
    return {
        "run": str(record.folder),
        "model": str(record.folder / "model"),
        "report": str(record.folder / "report.html"),
        "steps": record.steps[-1].step,
        "tokens": record.steps[-1].tokens,
        "seconds": record.seconds,
        "bits_per_byte": {evaluation.group: evaluation.bits_per_byte for evaluation in judged},
        "xz": {group: compressed.bits_per_byte for group, compressed in record.xz.items()},
        "completions": [{"prompt": prompt, "text": text} for prompt, text in _completions(record.folder)],
    }


def _engine(run: Path) -> "Engine":
    from fathom.cli.loading import load_engine

    return load_engine(run / "model")


def _completions(run: Path) -> list[tuple[str, str]]:
    from fathom.engine.sampling import SamplingParams

    params = SamplingParams(max_tokens=TOKENS, temperature=0.7, top_p=0.95, seed=1)
    engine = _engine(run)
    return [(prompt, engine.generate([prompt], params)[0].text) for prompt in PROMPTS.values()]


def _talk(run: Path) -> None:
    from fathom.cli.talk import Completer, talk
    from fathom.engine.sampling import SamplingParams

    params = SamplingParams(max_tokens=2 * TOKENS, temperature=0.7, top_p=0.95)
    answer("\nNow begin a text, in English, in Chinese or in code. For instance:")
    for prompt in PROMPTS.values():
        answer(f"  {prompt.strip()}")
    talk(Completer(_engine(run), params), person=True)
    answer(f"Come back to it with: {program()} chat {run}")
