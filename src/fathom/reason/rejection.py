"""Rejection sampling: a policy writes several texts on a problem, and the good ones are kept to be learned from."""

import hashlib
import json
import os
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fathom.config.tuning import SampledConfig
from fathom.corpus.tokenizer import Tokenizer
from fathom.engine.engine import Engine
from fathom.errors import CheckpointError, TrainingError
from fathom.progress import track
from fathom.reason.rollouts import Group, Rollout, Sampling, roll_out
from fathom.reason.task import Problem, Task, draw
from fathom.train.result import never
from fathom.train.run import read_json, write_json

AT_ONCE = 64
"""Problems between two points from which an interrupted run goes on."""
COUNTS = ("problems", "solved", "texts", "kept", "unfinished", "wrong", "repeating", "duplicate", "surplus")


@dataclass(frozen=True)
class Sampled:
    """A file of texts, and how many were kept or left out for what reason."""

    path: Path
    finished: bool
    counts: dict[str, int]
    """`problems` asked and those `solved` by at least one text; `texts` written, those `kept`, and the others by the
    first reason to leave them out."""


def sample_texts(
    engine: Engine,
    tokenizer: Tokenizer,
    task: Task,
    config: SampledConfig,
    path: Path,
    *,
    stop: Callable[[], bool] = never,
) -> Sampled:
    """Write kept texts on training problems to `path` as JSON lines that `fathom sft` reads, counts beside them.

    The texts depend on the configuration and the weights alone. Interrupted, the same call goes on to the same file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside, partial = path.with_suffix(".counts.json"), path.with_name(f"{path.name}.partial")
    mark = _mark(engine, task, config)
    state: dict[str, Any] = read_json(beside, {"of": mark, "done": 0, "bytes": 0, "counts": dict.fromkeys(COUNTS, 0)})
    if state["of"] != mark:
        raise CheckpointError(
            f"{path} was sampled with other settings or another policy: go on with those, or use another folder."
        )
    counts: Counter[str] = Counter(state["counts"])
    if not path.exists():
        with partial.open("ab") as file, track("sampling texts", total=config.problems) as progress:
            file.truncate(state["bytes"])
            progress.advance(state["done"])
            while state["done"] < config.problems:
                if stop():
                    return Sampled(path, False, dict(counts))
                count = min(AT_ONCE, config.problems - state["done"])
                lines = _sampled(engine, tokenizer, task, config, state["done"], count, counts)
                file.write("".join(lines).encode("utf-8"))
                file.flush()
                os.fsync(file.fileno())
                state = {"of": mark, "done": state["done"] + count, "bytes": file.tell(), "counts": dict(counts)}
                write_json(beside, state)
                progress.advance(count)
        if not counts["kept"]:
            raise TrainingError(
                f"none of {counts['texts']:,} texts of '{config.policy}' could be kept ({_told(counts)}): sample more, "
                "or from a better policy."
            )
        os.replace(partial, path)
    return Sampled(path, True, dict(counts))


def _sampled(
    engine: Engine,
    tokenizer: Tokenizer,
    task: Task,
    config: SampledConfig,
    begin: int,
    count: int,
    counts: Counter[str],
) -> list[str]:
    """Kept texts on the next `count` problems, as lines; adds to `counts`."""
    rng = random.Random(f"{config.seed} texts {begin}")
    problems = [draw(task, rng, held_out=False) for _ in range(count)]
    how = Sampling(config.texts, config.max_tokens, config.temperature)
    lines = []
    for group in roll_out(engine, tokenizer, task, problems, how, rng.randrange(2**62)):
        kept = kept_texts(group, config, counts)
        counts["problems"] += 1
        counts["solved"] += any(text.score.accuracy == 1 for text in group.rollouts)
        for text in kept:
            lines.append(json.dumps(kept_line(group.problem, text.text), ensure_ascii=False) + "\n")
    return lines


def kept_line(problem: Problem, reply: str) -> dict[str, Any]:
    """What `fathom sft` reads: a text and what follows it, or a conversation."""
    if not problem.chat:
        return {"prompt": problem.prompt, "reply": reply, "problem": problem.key, "language": problem.language}
    turns = [{"role": "user", "content": problem.prompt}, {"role": "assistant", "content": reply}]
    return {"messages": turns, "problem": problem.key, "language": problem.language}


def kept_texts(group: Group, config: SampledConfig, counts: Counter[str]) -> list[Rollout]:
    """The texts of a problem that are right, finished and no repetitions, as `config` has it; adds to `counts`."""
    kept: list[Rollout] = []
    for text in group.rollouts:
        fault = _fault(text, kept, config)
        counts["texts"] += 1
        counts[fault or "kept"] += 1
        if fault is None:
            kept.append(text)
    return kept


def _fault(text: Rollout, kept: list[Rollout], config: SampledConfig) -> str | None:
    """Why a text is left out, as one of `COUNTS`."""
    if not text.finished:
        return "unfinished"
    if not text.text or (config.only_right and text.score.accuracy < 1):
        return "wrong"
    lines = Counter(line for line in text.text.split("\n") if line.strip())
    if lines and max(lines.values()) > config.line_repeats:
        return "repeating"
    if not config.duplicates and any(other.text == text.text for other in kept):
        return "duplicate"
    return "surplus" if config.keep is not None and len(kept) >= config.keep else None


def _told(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[name]:,} {name}" for name in COUNTS[4:] if counts[name])


def _mark(engine: Engine, task: Task, config: SampledConfig) -> str:
    """What the texts depend on: settings, task and weights."""
    found = hashlib.sha256(f"{config.model_dump_json()} {task!r}".encode())
    for name, tensor in sorted(engine.model.state_dict().items()):
        found.update(name.encode())
        found.update(tensor.detach().float().contiguous().cpu().numpy().tobytes())
    return found.hexdigest()
