"""The folder of one run: its recipe, its logs, its checkpoints and the finished model."""

import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

import torch

from fathom.config.recipe import Recipe
from fathom.errors import TrainingError
from fathom.parallel.mesh import World


class RunFolder:
    """Names and small files of a run. Logs are one JSON object a line; other files are replaced whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recipe = folder / "recipe.toml"
        self.provenance = folder / "provenance.json"
        self.length = folder / "length.json"
        self.incidents = folder / "incidents.json"
        self.result = folder / "result.json"
        self.metrics = folder / "metrics.jsonl"
        self.evaluations = folder / "evaluations.jsonl"
        self.samples = folder / "samples.jsonl"
        self.events = folder / "events.jsonl"
        self.checkpoints = folder / "checkpoints"
        self.model = folder / "model"
        self.tensorboard = folder / "tensorboard"

    @property
    def logs(self) -> tuple[Path, ...]:
        """The files that grow by lines, each with its step."""
        return (self.metrics, self.evaluations, self.samples, self.events)

    def describe(self, recipe: Recipe, corpus: Path) -> None:
        """Write the recipe and where it ran; the first description stays, later ones are added."""
        recipe.save(self.recipe)
        entries = read_json(self.provenance, [])
        entries.append(_provenance(recipe, corpus))
        write_json(self.provenance, entries)

    def forget_after(self, step: int) -> None:
        """Cut logs back to `step`, so that steps done again are not there twice; drops a half-written line."""
        for log in self.logs:
            if log.exists():
                kept = [line for line in _whole_lines(log) if json.loads(line)["step"] <= step]
                _replace(log, "".join(line + "\n" for line in kept))


class RunMemory:
    """Small facts that one very run keeps beside its checkpoints; those of another recipe or text are not recalled."""

    def __init__(self, identity: Any, world: World) -> None:
        self._mark = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
        self._world = world

    def recall(self, path: Path) -> dict[str, Any]:
        """What this run wrote to `path`; nothing if it wrote none."""
        values: dict[str, Any] = self._world.from_main(read_json(path, {}) if self._world.is_main else None)
        return values if values.pop("run", None) == self._mark else {}

    def remember(self, path: Path, values: dict[str, Any]) -> None:
        """Replace what `path` holds."""
        if self._world.is_main:
            write_json(path, {"run": self._mark} | values)


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process alone, so that two runs never write to one place."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as lock:
        if not _lock(lock):
            raise TrainingError(
                f"{folder} is in use by another training run: wait for it, stop it, or name another folder."
            )
        yield


def append_line(path: Path, record: dict[str, Any]) -> None:
    """Add `record` to a log as one line."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record, ensure_ascii=False) + "\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Every whole line of a log; none if it is not there."""
    return [json.loads(line) for line in _whole_lines(path)] if path.exists() else []


def read_json(path: Path, otherwise: Any) -> Any:
    """The contents of a small file, or `otherwise` if it is not there."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else otherwise


def write_json(path: Path, value: Any) -> None:
    """Replace a small file, whole and flushed to the disk."""
    _replace(path, json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def _whole_lines(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8", errors="replace")
    return text.split("\n")[:-1]


def _provenance(recipe: Recipe, corpus: Path) -> dict[str, Any]:
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "recipe": recipe.source,
        "overrides": list(recipe.overrides),
        "corpus": str(corpus),
        "command": sys.argv,
        "fathom": _version("fathom-lm"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.platform(),
        "processor": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
    }


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "unknown"


def _lock(file: IO[str]) -> bool:
    """Take a lock that the system lets go of when the process ends, however it ends."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        return True
    lock: Callable[[IO[str], int], None] = fcntl.flock
    try:
        lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
