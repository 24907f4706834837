"""A run as its folder tells it: the nouns a report is written from."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from fathom.config.recipe import Recipe
from fathom.corpus.manifest import Manifest
from fathom.errors import FathomError, UsageError
from fathom.evaluate.compressors import Compressed, xz_of_file
from fathom.model.count import ParameterReport, count
from fathom.reports.energy import Energy
from fathom.train.observer import Evaluation, Event, Sample, StepMetrics
from fathom.train.run import RunFolder, read_json

Record = TypeVar("Record", StepMetrics, Evaluation, Sample, Event)


@dataclass(frozen=True)
class RunRecord:
    """Everything a finished or unfinished run has written down."""

    folder: Path
    recipe: Recipe
    steps: list[StepMetrics]
    evaluations: list[Evaluation]
    samples: list[Sample]
    events: list[Event]
    provenance: list[dict[str, Any]]
    """How and where the run was started, once for each start."""
    finished: bool
    energy: Energy

    @classmethod
    def load(cls, folder: Path) -> "RunRecord":
        """Read a run folder; lines that a kill cut short are left out."""
        files = RunFolder(folder)
        if not files.recipe.is_file():
            raise UsageError(
                f"{folder} is not a run: it holds no recipe.toml. Name a folder that `fathom pretrain` made."
            )
        return cls(
            folder=folder,
            recipe=Recipe.load(files.recipe),
            steps=_records(files.metrics, StepMetrics),
            evaluations=_records(files.evaluations, Evaluation),
            samples=_records(files.samples, Sample),
            events=_records(files.events, Event),
            provenance=read_json(files.provenance, []),
            finished=(files.model / "config.json").is_file(),
            energy=Energy.load(folder),
        )

    @cached_property
    def parameters(self) -> ParameterReport:
        """The model in numbers."""
        return count(self.recipe.model, self.recipe.train.sequence_length)

    @cached_property
    def corpus(self) -> Path | None:
        """The folder of the text, if it is still there and whole."""
        folder = Path(self.provenance[-1]["corpus"]) if self.provenance else self.folder / "corpus"
        try:
            Manifest.load(folder)
        except FathomError:
            return None
        return folder

    @cached_property
    def manifest(self) -> Manifest | None:
        """What the corpus holds."""
        return Manifest.load(self.corpus) if self.corpus else None

    @cached_property
    def xz(self) -> dict[str, Compressed]:
        """What xz -9e makes of each group's held-out text."""
        groups = self.manifest.validation_groups if self.manifest else []
        texts = {group: self.corpus / f"validation-{group}.txt" for group in groups if self.corpus}
        return {group: xz_of_file(path) for group, path in texts.items() if path.is_file() and path.stat().st_size}

    @property
    def groups(self) -> list[str]:
        """Groups of held-out text, in the order they were judged."""
        return list(dict.fromkeys(evaluation.group for evaluation in self.evaluations))

    def last(self, group: str) -> Evaluation | None:
        """The latest judgement of a group."""
        found = [evaluation for evaluation in self.evaluations if evaluation.group == group]
        return found[-1] if found else None

    @property
    def seconds(self) -> float:
        """Training time over all restarts."""
        return self.steps[-1].elapsed if self.steps else 0.0

    @property
    def usual_steps(self) -> list[StepMetrics]:
        """Steps without the first tenth, at most ten, in which memory is still being found."""
        return self.steps[min(len(self.steps) // 10, 10) :]


def _records(path: Path, kind: type[Record]) -> list[Record]:
    if not path.is_file():
        return []
    records = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            records.append(kind(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return records
