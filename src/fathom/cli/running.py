"""A training run as the command line conducts it: its text, its watchers, its interruption, its report."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fathom.cli.console import say
from fathom.cli.interrupt import interruptible
from fathom.errors import CorpusError

if TYPE_CHECKING:
    from fathom.config.corpus import CorpusConfig
    from fathom.config.recipe import Recipe
    from fathom.train.observer import Observer
    from fathom.train.result import TrainResult

CORPORA = Path("data")
POLL_SECONDS = 0.5


def corpus_folder(config: "CorpusConfig") -> Path:
    """Where the text of a configuration lives: another configuration has another folder, so none is overwritten."""
    return CORPORA / f"corpus-{sha256(config.model_dump_json().encode()).hexdigest()[:8]}"


def is_main_process() -> bool:
    """Whether this is the only process, or the first of those that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


def prepare_corpus(config: "CorpusConfig") -> Path:
    """Build the text, or find it ready; under torchrun the first process builds and the others wait."""
    from fathom.corpus.build import build_corpus
    from fathom.corpus.manifest import Manifest

    folder = corpus_folder(config)
    if is_main_process():
        try:
            build_corpus(config, folder)
        except KeyboardInterrupt:
            say("\nStopped while preparing the text. The same command goes on from there.")
            raise
        return folder
    while True:
        try:
            Manifest.load(folder)
        except CorpusError:
            time.sleep(POLL_SECONDS)
        else:
            return folder


def conduct(recipe: "Recipe", run: Path, corpus: Path, *, plain: bool, again: str) -> "TrainResult":
    """Train, watched; write the report; on Ctrl-C, say `again`, the command that goes on, and end with its status."""
    from fathom.reports.energy import EnergyWatch
    from fathom.reports.report import write_report
    from fathom.train.loop import train
    from fathom.train.observer import Everyone

    with watching(recipe, corpus, plain=plain) as view, interruptible(view.on_event) as stop:
        result = train(recipe, run, corpus=corpus, observer=Everyone([view, EnergyWatch(run)]), stop=stop)
    if not is_main_process():
        raise typer.Exit(0 if result.finished else stop.exit_status)
    report = write_report(run)
    if not result.finished:
        say(f"Stopped after step {result.steps:,}; nothing is lost. Go on with: {again}")
        say(f"The report so far: {report}")
        raise typer.Exit(stop.exit_status)
    return result


@contextmanager
def watching(recipe: "Recipe", corpus: Path, *, plain: bool) -> Iterator["Observer"]:
    """A live view where standard error is a terminal, plain lines elsewhere or on wish."""
    from fathom.cli.lines import Lines

    if plain or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield Lines()
        return
    from rich.console import Console

    from fathom.cli.live import LiveView
    from fathom.evaluate.compressors import xz_of_file
    from fathom.reports.loads import layer_names

    texts = {path.stem.removeprefix("validation-"): path for path in corpus.glob("validation-*.txt")}
    small = {group: path for group, path in texts.items() if 0 < path.stat().st_size < 2**20}
    xz = {group: xz_of_file(path).bits_per_byte for group, path in small.items()}
    with LiveView(Console(stderr=True), layer_names(recipe.model), xz) as view:
        yield view
