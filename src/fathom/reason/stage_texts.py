"""What R1's two fine-tuning stages learn: right texts of another stage, chosen and put into form by rules."""

import json
import os
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from fathom.errors import TrainingError
from fathom.reason.documents import Teachable
from fathom.reason.task import Language, Problem, Score, Task, draw
from fathom.train.run import read_lines


@runtime_checkable
class Readable(Task, Protocol):
    """A task whose replies have a form for people."""

    def readable(self, text: str, language: Language) -> str | None:
        """The reply in that form and language, by rule; None if it cannot be put so."""
        ...


@dataclass(frozen=True)
class Choosy:
    """A task that takes fewer texts for right: every written step must be, and the thinking in the wanted language."""

    task: Task
    least_language: float = 0.0
    form: Readable | None = None
    """Take only what this task can put into readable form."""

    @property
    def name(self) -> str:
        """The task's own."""
        return self.task.name

    def sample(self, rng: random.Random) -> Problem:
        """The task's own."""
        return self.task.sample(rng)

    def score(self, problem: Problem, text: str, finished: bool = True) -> Score:
        """The task's, with accuracy 0 for what is not to be learned."""
        score = self.task.score(problem, text, finished)
        truthful = score.counts.get("steps_right", 0) == score.counts.get("steps", 0)
        clear = self.form is None or self.form.readable(text, problem.language) is not None
        kept = truthful and clear and score.language >= self.least_language
        return replace(score, accuracy=score.accuracy if kept else 0.0)


def write_readable(task: Readable, sampled: Path, path: Path) -> Counter[str]:
    """Write the sampled texts in readable form to `path`; how many there are of each language."""
    records, counts = [], Counter[str]()
    for record in read_lines(sampled):
        reply = task.readable(record["reply"], record["language"])
        if reply is not None:
            records.append({**record, "reply": reply})
            counts[record["language"]] += 1
    if not records:
        raise TrainingError(f"none of the texts in {sampled} has a readable form: sample more, or train Zero longer.")
    _write(path, records)
    return counts


def write_solved(task: Teachable, texts: int, seed: int, path: Path, ending: str = "") -> None:
    """Write so many training problems of a task with its own right replies, each with `ending` at its end."""
    rng = random.Random(f"{seed} general")
    records = []
    for _ in range(texts):
        problem = draw(task, rng, held_out=False)
        records.append(
            {"prompt": problem.prompt, "reply": task.searching(problem, rng) + ending, "language": problem.language}
        )
    _write(path, records)


def _write(path: Path, records: Iterable[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records), encoding="utf-8")
    os.replace(partial, path)
