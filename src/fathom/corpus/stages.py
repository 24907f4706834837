"""Work in stages, each a folder that appears whole or not at all, and is used again while its inputs are the same."""

import contextlib
import errno
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from fathom.corpus.manifest import FileEntry, check_size, describe_file
from fathom.errors import CorpusError

RECORD = "stage.json"
INPUTS = "inputs.json"
FORMAT = 1
"""Raised when a stage's code gives another result for the same inputs."""

Values = dict[str, Any]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Stage:
    """A finished stage."""

    folder: Path
    summary: Values
    files: tuple[FileEntry, ...]
    digest: str
    """Of everything that later stages depend on."""

    def path(self, name: str) -> Path:
        """One of its files."""
        return self.folder / name


class Stages:
    """The stages of one corpus, kept below `folder`."""

    def __init__(self, folder: Path, say: Say) -> None:
        self._folder, self._say = folder, say

    def run(
        self, name: str, inputs: Values, make: Callable[[Path], Values], *, check: Callable[..., None] = check_size
    ) -> Stage:
        """The stage `name`, made by `make` unless it is there from the same `inputs`.

        `make` writes files into the folder it is given and returns a summary in plain values. It may find there what
        an interrupted run with the same inputs has left. `check` is how finished files are examined before reuse.
        """
        inputs = json.loads(json.dumps({**inputs, "format": FORMAT}))
        finished = self._finished(name, inputs, check)
        if finished is not None:
            return finished
        partial = self._partial(name, inputs)
        started = time.monotonic()
        with disk_errors(partial):
            summary = make(partial)
            record = self._record(partial, inputs, summary)
            write_synced(partial / RECORD, json.dumps(record, ensure_ascii=False, indent=1))
            shutil.rmtree(self._folder / name, ignore_errors=True)
            partial.rename(self._folder / name)
            sync_folder(self._folder)
        self._say(f"corpus: {name} done in {time.monotonic() - started:.1f} s")
        return _stage(self._folder / name, record)

    def keep_only(self, names: set[str]) -> None:
        """Remove the stages of sources that are no longer asked for."""
        for path in self._folder.iterdir():
            if path.is_dir() and path.name.removesuffix(".partial") not in names:
                shutil.rmtree(path, ignore_errors=True)

    def is_ready(self, name: str, inputs: Values) -> bool:
        """Whether `run` would use what is there."""
        inputs = json.loads(json.dumps({**inputs, "format": FORMAT}))
        record = _read_json(self._folder / name / RECORD)
        return record is not None and record.get("inputs") == inputs

    def _finished(self, name: str, inputs: Values, check: Callable[..., None]) -> Stage | None:
        folder = self._folder / name
        record = _read_json(folder / RECORD)
        if record is None:
            return None
        if record["inputs"] != inputs:
            self._say(f"corpus: {name} is made again ({_difference(record['inputs'], inputs)})")
            return None
        stage = _stage(folder, record)
        try:
            for entry in stage.files:
                check(folder, entry)
        except CorpusError as error:
            self._say(f"corpus: {name} is made again ({error})")
            return None
        return stage

    def _partial(self, name: str, inputs: Values) -> Path:
        """The folder to work in, with what an interrupted run left there if it had the same inputs."""
        partial = self._folder / f"{name}.partial"
        if partial.exists() and _read_json(partial / INPUTS) != inputs:
            shutil.rmtree(partial)
        with disk_errors(partial):
            partial.mkdir(parents=True, exist_ok=True)
            write_synced(partial / INPUTS, json.dumps(inputs, ensure_ascii=False))
        return partial

    def _record(self, folder: Path, inputs: Values, summary: Values) -> Values:
        files = []
        for path in sorted(folder.iterdir()):
            if path.name not in (INPUTS, RECORD):
                sync_file(path)
                files.append(describe_file(path).model_dump())
        return {"inputs": inputs, "summary": summary, "files": files}


def sync_file(path: Path) -> None:
    """Wait until a file's content is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until a folder's entries are on the disk, where the system can do that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def disk_errors(place: Path) -> Iterator[None]:
    """Turn a failing disk into an error that says what to do; what was finished before stays."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = "the disk is full"
            way_out = "free some space"
        else:
            reason = f"{error.filename or place} cannot be written or read ({error.strerror or error})"
            way_out = "mend that"
        raise CorpusError(
            f"building the corpus stopped at {place}: {reason}. What was finished before is untouched; "
            f"{way_out} and run the same command again, it goes on from here."
        ) from None


def _stage(folder: Path, record: Values) -> Stage:
    essential = json.dumps([record["summary"], record["files"]], sort_keys=True, ensure_ascii=False)
    return Stage(
        folder=folder,
        summary=record["summary"],
        files=tuple(FileEntry.model_validate(entry) for entry in record["files"]),
        digest=sha256(essential.encode("utf-8")).hexdigest(),
    )


def _difference(old: Values, new: Values) -> str:
    """Which inputs changed, in words."""
    changes = []
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if before == after:
            continue
        short = all(len(str(value)) <= 40 for value in (before, after)) and key != "earlier"
        changes.append(f"{key} is now {after!r}, was {before!r}" if short else f"{_WORDS.get(key, key)} changed")
    return "; ".join(changes)


_WORDS = {"earlier": "the text before it"}


def _read_json(path: Path) -> Values | None:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None


def write_synced(path: Path, text: str) -> None:
    """Replace a small file whole."""
    new = path.with_name(f"{path.name}.new")
    with new.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
