"""`fathom quickstart`: from nothing to a small DeepSeek-V3 that one can talk to, in one command."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fathom.cli import asked
from fathom.cli.console import answer, answer_json, say, someone_is_there, table
from fathom.cli.find import recipe_file, set_aside
from fathom.errors import UsageError

if TYPE_CHECKING:
    from fathom.config.recipe import Recipe
    from fathom.engine.engine import Engine
    from fathom.train.loop import TrainResult

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

    person = someone_is_there() and not json
    ask = person and not yes
    if not fresh and (run / "recipe.toml").is_file() and ask:
        fresh = not _go_on(run)
    if fresh and (aside := set_aside(run)):
        say(f"The run that was there is now {aside}.")
    recipe = _recipe(run, minutes, changes or [])
    _announce(recipe, run)
    corpus = prepare_corpus(recipe.corpus)
    result = conduct(recipe, run, corpus, plain=plain, again=_again(run))
    if json:
        answer_json(_as_json(run, result))
        return
    _show_result(run, corpus, result)
    if person:
        _talk(run)
    else:
        for prompt, text in _completions(run / "model"):
            answer(f"\n{prompt}{text}")


def _go_on(run: Path) -> bool:
    finished = (run / "model" / "config.json").is_file()
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
        f"{model.n_routed_experts} experts in each of {model.num_hidden_layers - model.first_k_dense_replace} layers."
    )
    say(f"  3. A report, {run / 'report.html'}, and a prompt to complete texts at.")
    say("Ctrl-C stops it at any time; the same command goes on.\n")


def _again(run: Path) -> str:
    return "fathom quickstart" if run == Path("runs/quickstart") else f"fathom quickstart --run {run}"


def _show_result(run: Path, corpus: Path, result: "TrainResult") -> None:
    from fathom.evaluate.compressors import xz_of_file
    from fathom.reports.words import big, duration

    answer(f"\nTrained on {big(result.tokens)} tokens in {duration(result.seconds)}. On text it never saw:")
    rows = [("", "bits per byte", "xz -9e")]
    for group, bits in result.bits_per_byte.items():
        xz = xz_of_file(corpus / f"validation-{group}.txt").bits_per_byte
        rows.append((group, f"{bits:.3f}", f"{xz:.3f}"))
    answer(table(rows, right=frozenset({1, 2})))
    answer(f"Model:  {result.model} (a Hugging Face folder)")
    answer(f"Report: {run / 'report.html'}")


def _as_json(run: Path, result: "TrainResult") -> dict[str, object]:
    return {
        "run": str(run),
        "model": str(result.model),
        "report": str(run / "report.html"),
        "steps": result.steps,
        "tokens": result.tokens,
        "seconds": result.seconds,
        "bits_per_byte": result.bits_per_byte,
        "completions": [{"prompt": prompt, "text": text} for prompt, text in _completions(run / "model")],
    }


def _engine(model: Path) -> "Engine":
    from fathom.cli.loading import load_engine

    return load_engine(model)


def _completions(model: Path) -> list[tuple[str, str]]:
    from fathom.engine.sampling import SamplingParams

    params = SamplingParams(max_tokens=TOKENS, temperature=0.7, top_p=0.95, seed=1)
    engine = _engine(model)
    return [(prompt, engine.generate([prompt], params)[0].text) for prompt in PROMPTS.values()]


def _talk(run: Path) -> None:
    from fathom.cli.talk import Completer, talk
    from fathom.engine.sampling import SamplingParams

    params = SamplingParams(max_tokens=2 * TOKENS, temperature=0.7, top_p=0.95)
    answer("\nNow begin a text, in English, in Chinese or in code. For instance:")
    for prompt in PROMPTS.values():
        answer(f"  {prompt.strip()}")
    talk(Completer(_engine(run / "model"), params), person=True)
    answer(f"Come back to it with: fathom chat {run}")
