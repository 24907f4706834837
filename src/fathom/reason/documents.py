"""What a base reads before any reinforcement: problems of its task with replies, right and wrong alike."""

import json
import os
import random
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Protocol, runtime_checkable

from fathom.config.reason import DocumentsConfig
from fathom.errors import CheckpointError
from fathom.progress import track
from fathom.reason.task import Problem, Task, draw
from fathom.train.run import read_json, write_json


@runtime_checkable
class Teachable(Task, Protocol):
    """A task that can write what a base reads of it."""

    def direct(self, problem: Problem, rng: random.Random) -> str:
        """A reply that makes one attempt and keeps it."""
        ...

    def searching(self, problem: Problem, rng: random.Random) -> str:
        """A reply that tries and checks until an attempt is right."""
        ...

    def facts(self, rng: random.Random) -> str:
        """Single facts that checks are made of."""
        ...


def documents(task: Teachable, mix: DocumentsConfig, seed: int) -> Iterator[str]:
    """Texts of the mix without end, of training problems alone. The same seed gives the same texts."""
    rng = random.Random(f"{seed} {mix.searching} {mix.facts}")
    while True:
        if rng.random() < mix.facts:
            yield task.facts(rng)
            continue
        problem = draw(task, rng, held_out=False)
        reply = task.searching if rng.random() < mix.searching else task.direct
        yield problem.prompt + reply(problem, rng)


def write_documents(task: Teachable, mix: DocumentsConfig, seed: int, path: Path) -> Path:
    """Write the mix as JSON lines at `path`, whole or not at all, with a fingerprint of all it depends on beside it.

    What stands there is found ready if it was written of the same task, mix and seed; else `CheckpointError`.
    """
    beside = path.with_suffix(".of.json")
    mark = sha256(f"{task!r} {mix.model_dump_json()} {seed}".encode()).hexdigest()
    if path.exists():
        if read_json(beside, {}).get("of") != mark:
            raise CheckpointError(
                f"{path} was written for another task, mix or seed: go on with the recipe it was written for, begin "
                "anew with --fresh, or use another folder."
            )
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    wanted, written = int(mix.megabytes * 1e6), 0
    with partial.open("w", encoding="utf-8") as file, track("writing problems", total=wanted) as progress:
        for text in documents(task, mix, seed):
            size = len(text.encode("utf-8"))
            file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
            written += size
            progress.advance(size)
            if written >= wanted:
                break
        file.flush()
        os.fsync(file.fileno())
    write_json(beside, {"of": mark})
    os.replace(partial, path)
    return path
