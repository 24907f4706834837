"""What `fathom zero`, `sft` and `distill` share: the model they begin with, sampled texts, the end of a run."""

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from fathom.cli.console import answer, answer_json, program, say
from fathom.cli.find import model_folder

if TYPE_CHECKING:
    from fathom.cli.interrupt import Interruption
    from fathom.config.reason import BaseConfig
    from fathom.config.tuning import SampledConfig
    from fathom.reason.judging import Judgement
    from fathom.reason.task import Task
    from fathom.reason.trainer import RunResult


def base_of(config: "BaseConfig", task: "Task | None", run: Path, stop: "Interruption") -> Path:
    """The model to begin with: found by its name, or pre-trained in the run folder."""
    from fathom.cli.lines import Lines
    from fathom.reason.base import build_base

    if config.folder is not None or task is None:
        return model_folder(str(config.folder))
    base = build_base(config, task, run / "base", observer=Lines(), stop=stop)
    return base if base is not None else stopped("Stopped", stop)


def sampled(config: "SampledConfig", task: "Task", run: Path, stop: "Interruption") -> Path:
    """The file of texts that the policy writes, sampled now or found ready."""
    from fathom.cli.loading import load_engine
    from fathom.engine.config import EngineConfig
    from fathom.reason.rejection import sample_texts

    with load_engine(model_folder(config.policy), EngineConfig(max_batch_size=256)) as engine:
        tokenizer = engine.tokenizer
        assert tokenizer is not None
        found = sample_texts(engine, tokenizer, task, config, run / "texts.jsonl", stop=stop)
    if not found.finished:
        stopped("Stopped while sampling texts", stop)
    say("texts: " + ", ".join(f"{count:,} {name}" for name, count in found.counts.items() if count))
    return found.path


def stopped(where: str, stop: "Interruption") -> NoReturn:
    """Say which command goes on, and end with the signal's status."""
    kept = [argument for argument in sys.argv[1:] if argument != "--fresh"]
    say(f"{where}; nothing is lost. Go on with: {program()} {shlex.join(kept)}")
    raise typer.Exit(stop.exit_status)


def told(
    result: "RunResult", run: Path, report: Path, controls: "Mapping[str, RunResult] | None" = None, *, json: bool
) -> None:
    """The answer of a finished run, and of its controls by their names."""
    beside = {name: trained.judgements[max(trained.judgements)] for name, trained in (controls or {}).items()}
    if json:
        facts = {"run": str(run), "model": str(result.model), "report": str(report), "steps": result.steps}
        facts |= {"seconds": result.seconds, "judgements": result.judgements}
        answer_json(facts | ({"controls": beside} if beside else {}))
        return
    if result.judgements:
        first, last = result.judgements[min(result.judgements)], result.judgements[max(result.judgements)]
        for name in ("accuracy", "length", "attempts", "checked", "steps_right", "checks_right"):
            if name in first:
                answer(f"{name}: {first[name]:.3f} -> {last[name]:.3f}")
        if "forced" in first:
            reached = first["forced"]["accuracy"]
            answer(f"the base, made to begin with a checked attempt that failed: accuracy {reached:.3f}")
    for name, found in beside.items():
        answer(f"control {name}: accuracy {found['accuracy']:.3f}")
    answer(f"model: {result.model}")
    answer(f"report: {report}")


class LossLines:
    """A run told in plain lines."""

    def on_step(self, record: dict[str, object]) -> None:
        """Print what a step saw."""
        names = ("loss", "cross_entropy", "reverse_kl", "accuracy", "length", "grad_norm", "learning_rate")
        words = "  ".join(f"{name.replace('_', ' ')} {record[name]:.3g}" for name in names if name in record)
        say(f"{record['step']}/{record['steps']}  {words}")

    def on_judgement(self, step: int, judgement: "Judgement") -> None:
        """Print how held-out problems went."""
        passes = "  ".join(f"pass@{k} {value:.3f}" for k, value in judgement.pass_at.items())
        say(f"held out, step {step}: {passes}  length {judgement.values['length']:.1f}")
