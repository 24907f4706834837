"""Resumable states on disk: written beside the training, complete or not there at all, the last few kept.

A checkpoint is a torch.distributed.checkpoint folder `step-00000100` with `state.json` beside the tensors. It is
written as `step-00000100.partial`, flushed to the disk and renamed: a name without a suffix is a whole checkpoint.
"""

import json
import os
import re
import shutil
import warnings
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn, cast

from torch import Tensor

from fathom.errors import CheckpointError, TrainingError
from fathom.parallel.mesh import World

_COMPLETE = re.compile(r"step-(\d{8})")
_FACTS = "state.json"
_ALONE = "torch.distributed is disabled, unavailable or uninitialized"


def _distributed_checkpoint() -> ModuleType:
    """torch.distributed.checkpoint, imported when first needed: that takes longer than a run's first steps."""
    import torch.distributed.checkpoint as dcp

    return dcp


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint."""

    step: int
    folder: Path

    def facts(self) -> dict[str, Any]:
        """The numbers saved beside the tensors."""
        try:
            return cast(dict[str, Any], json.loads((self.folder / _FACTS).read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise CheckpointError(self._damaged(error)) from None

    def load_into(self, tensors: dict[str, Tensor]) -> None:
        """Fill `tensors` in place; under several processes each reads its own shards, however many wrote them."""
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=_ALONE)
                dcp = _distributed_checkpoint()
                dcp.load(cast(dict[str, Any], tensors), storage_reader=dcp.FileSystemReader(self.folder))
        except (Exception, _distributed_checkpoint().CheckpointException) as error:
            raise CheckpointError(self._damaged(error)) from error

    def _damaged(self, error: BaseException) -> str:
        return (
            f"{self.folder} is damaged ({_reason(error)}): remove this folder, and the run goes on from the checkpoint "
            "before it, or from the beginning."
        )


@dataclass(frozen=True)
class _Pending:
    step: int
    folder: Path
    done: "Future[Any]"


class CheckpointStore:
    """The checkpoints of one run folder."""

    def __init__(self, folder: Path, world: World, keep_last: int) -> None:
        self._folder, self._world, self._keep_last = folder, world, keep_last
        self._pending: _Pending | None = None
        # torch warns, from its own thread, of what is meant here: a save by a single process.
        warnings.filterwarnings("ignore", message=_ALONE)
        if world.is_main:
            folder.mkdir(parents=True, exist_ok=True)
            for leftover in [*folder.glob("*.partial"), *folder.glob("*.removed")]:
                shutil.rmtree(leftover, ignore_errors=True)
        world.barrier()

    def complete(self) -> list[Checkpoint]:
        """All complete checkpoints, oldest first, as the main process sees them."""
        names = self._world.from_main(self._names() if self._world.is_main else None)
        return [Checkpoint(int(name[5:]), self._folder / name) for name in names]

    def save(self, step: int, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Begin to save in the background: `tensors` are copied first, so that training may change them at once."""
        self.wait()
        partial = self._folder / f"step-{step:08d}.partial"
        if self._world.is_main:
            shutil.rmtree(partial, ignore_errors=True)
        self._world.barrier()
        try:
            if self._world.is_main:
                partial.mkdir()
                _write_flushed(partial / _FACTS, json.dumps(facts))
            dcp = _distributed_checkpoint()
            response = dcp.async_save(
                cast(dict[str, Any], tensors),
                storage_writer=dcp.FileSystemWriter(partial, sync_files=True),
                process_group=self._world.checkpoint_group,
            )
        except (Exception, _distributed_checkpoint().CheckpointException) as error:
            self._give_up(partial, error)
        done = response if isinstance(response, Future) else response.upload_completion
        self._pending = _Pending(step, partial, done)

    def poll(self) -> None:
        """Finish a save whose background part is done."""
        # The main process is done only when every process has written its part.
        if self._pending is not None and self._pending.done.done():
            self.wait()

    def wait(self) -> None:
        """Finish the save that is under way: flush, rename, and remove what is too old."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        try:
            pending.done.result()
            if self._world.is_main:
                self._complete(pending.folder)
        except (Exception, _distributed_checkpoint().CheckpointException) as error:
            self._give_up(pending.folder, error)

    def keep_what_is_written(self) -> None:
        """As the run ends with an error: finish a save under way if this process can do so alone, and say no more."""
        if self._world.size == 1:
            with suppress(TrainingError):
                self.wait()

    def _complete(self, partial: Path) -> None:
        final = partial.with_suffix("")
        _flush(partial)
        _remove(final)
        partial.rename(final)
        _flush(self._folder)
        for old in self._names()[: -self._keep_last]:
            _remove(self._folder / old)

    def remove_after(self, step: int) -> None:
        """Remove checkpoints of later steps, whose weights are not wanted any more."""
        self.wait()
        for checkpoint in self.complete():
            if checkpoint.step > step and self._world.is_main:
                _remove(checkpoint.folder)
        self._world.barrier()

    def _names(self) -> list[str]:
        return sorted(path.name for path in self._folder.iterdir() if _COMPLETE.fullmatch(path.name))

    def _give_up(self, partial: Path, error: BaseException) -> NoReturn:
        shutil.rmtree(partial, ignore_errors=True)
        free = shutil.disk_usage(self._folder).free
        raise TrainingError(
            f"checkpoint {partial.with_suffix('')} could not be written ({_reason(error)}); the disk has "
            f"{free / 1e9:.2f} GB free. Earlier checkpoints are intact: make room, or lower train.keep_last, and run "
            "the same command again."
        ) from error


def _reason(error: BaseException) -> str:
    """What went wrong, in a line: the system's own word where there is one under torch's."""
    if isinstance(error, _distributed_checkpoint().CheckpointException):
        error = next(iter(error.failures.values()))[0]
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    return (str(cause or error).strip().splitlines() or [type(error).__name__])[-1][:200]


def _remove(folder: Path) -> None:
    """Remove a checkpoint so that a kill half-way leaves no damaged one under a complete name."""
    if folder.exists():
        removed = folder.with_name(folder.name + ".removed")
        shutil.rmtree(removed, ignore_errors=True)
        folder.rename(removed)
        shutil.rmtree(removed, ignore_errors=True)


def _write_flushed(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _flush(folder: Path) -> None:
    """Make the names in `folder` durable, where the system allows a folder to be flushed."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
