"""DeepSeek-R1's four stages, end to end (arXiv:2501.12948 v2, sections 2 and 3, figure 2).

    base --RL--> Zero --right texts, rewritten--> SFT of the base = Dev1 --RL--> Dev2
    Dev2 --right texts, and general ones--> SFT of the base = Dev3 --RL for all scenarios--> R1

Each stage is a run folder of its own, made from the weights and texts before it: one that was begun with others refuses
to go on (`CheckpointError`), and one that is finished is found ready.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from fathom.config.reason import GIVEN, ReasonRecipe, RLConfig, TaskConfig
from fathom.config.stages import R1Recipe
from fathom.config.tuning import SampledConfig, SFTConfig, SFTRecipe
from fathom.corpus.tokenizer import Tokenizer
from fathom.engine.engine import Engine, EngineConfig
from fathom.errors import RecipeError
from fathom.parallel.mesh import ALONE, World
from fathom.reason.base import build_base
from fathom.reason.comparing import compare
from fathom.reason.documents import Teachable
from fathom.reason.registry import make_task
from fathom.reason.rejection import sample_texts
from fathom.reason.sft import fine_tune
from fathom.reason.stage_texts import Choosy, Readable, write_readable, write_solved
from fathom.reason.task import Task
from fathom.reason.tasks.mixed import Mixed
from fathom.reason.trainer import RunResult, Surroundings, Unwatched, Watcher
from fathom.reason.zero import reinforce
from fathom.train.observer import Observer
from fathom.train.result import never
from fathom.train.run import write_json
from fathom.weights.folder import load

STAGES = ("base", "zero", "dev1", "dev2", "dev3", "r1")
TABLE = "stages.json"


class StageWatcher(Watcher, Protocol):
    """Who is told how the stages go."""

    def on_stage(self, stage: str) -> None:
        """A stage begins, or is found ready."""
        ...

    def on_texts(self, stage: str, counts: dict[str, int]) -> None:
        """A stage's texts are ready."""
        ...


class UnwatchedStages(Unwatched):
    """A watcher that looks away."""

    def on_stage(self, stage: str) -> None:
        """Ignore it."""

    def on_texts(self, stage: str, counts: dict[str, int]) -> None:
        """Ignore it."""


@dataclass(frozen=True)
class StagesResult:
    """How far the stages came."""

    finished: bool
    stage: str
    """The last one that was worked on."""
    table: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    """By stage, then by task and language: what it does on held-out problems."""
    model: Path | None = None
    """R1's model folder."""


class _StoppedError(Exception):
    """A stage was asked to stop; its state is saved."""


def run_stages(
    recipe: R1Recipe,
    folder: Path,
    *,
    watcher: StageWatcher | None = None,
    observer: Observer | None = None,
    stop: Callable[[], bool] = never,
    precision: torch.dtype = torch.bfloat16,
    gated: bool = False,
    world: World = ALONE,
) -> StagesResult:
    """All stages of `recipe` in `folder`; killed or stopped anywhere, the same call goes on to the same models."""
    folder.mkdir(parents=True, exist_ok=True)
    stages = _Stages(recipe, folder, watcher or UnwatchedStages(), stop, precision, world)
    try:
        stages.to_the_end(observer, gated)
    except _StoppedError:
        return StagesResult(False, stages.at, stages.table)
    return StagesResult(True, "r1", stages.table, stages.models["r1"])


class _Stages:
    def __init__(
        self,
        recipe: R1Recipe,
        folder: Path,
        watcher: StageWatcher,
        stop: Callable[[], bool],
        precision: torch.dtype,
        world: World,
    ) -> None:
        self._recipe, self._folder, self._watcher = recipe, folder, watcher
        self._stop, self._precision, self._world = stop, precision, world
        self._reasoning, self._general = _made(recipe.task, Readable), _made(recipe.general, Teachable)
        self._read, self._last = (
            Mixed((self._reasoning, self._general), (1 - share, share))
            for share in (recipe.general_share, recipe.last_general_share)
        )
        self._cells = {
            f"{task.name} {language}": make_task(task.name, **task.options | {"languages": (language,)})
            for task in (recipe.task, recipe.general)
            for language in ("en", "zh")
        }
        self.at = STAGES[0]
        self.models: dict[str, Path] = {}
        self.table: dict[str, dict[str, dict[str, Any]]] = {}

    def to_the_end(self, observer: Observer | None, gated: bool) -> None:
        """Work on one stage after the other."""
        recipe = self._recipe
        self._begin("base")
        base = build_base(recipe.base, self._read, self._folder / "base", observer=observer, stop=self._stop)
        if base is None:
            raise _StoppedError
        self._end(base)
        self._begin("zero")
        self._reinforce(recipe.zero, base, self._reasoning, recipe.task, gated)
        self._begin("dev1")
        choosy = Choosy(self._reasoning, form=self._reasoning)
        sampled = self._sampled(self.models["zero"], recipe.dev1.texts, choosy)
        readable = self._place / "readable.jsonl"
        self._watcher.on_texts("dev1", dict(write_readable(self._reasoning, sampled, readable)))
        self._tune(recipe.dev1.sft, base, [readable])
        self._begin("dev2")
        self._reinforce(recipe.dev2, self.models["dev1"], self._reasoning, recipe.task)
        self._begin("dev3")
        sampled = self._sampled(
            self.models["dev2"], recipe.dev3.texts, Choosy(self._reasoning, recipe.dev3.least_language)
        )
        general = self._place / "general.jsonl"
        write_solved(self._general, recipe.dev3.general_texts, recipe.dev3.texts.seed, general)
        self._tune(recipe.dev3.sft, base, [sampled, general])
        self._begin("r1")
        both = TaskConfig(name="mixed", options={"general_share": recipe.last_general_share, **self._names()})
        self._reinforce(recipe.r1, self.models["dev3"], self._last, both)

    @property
    def _place(self) -> Path:
        return self._folder / self.at

    def _names(self) -> dict[str, Any]:
        return {"task": self._recipe.task.model_dump(), "general": self._recipe.general.model_dump()}

    def _begin(self, stage: str) -> None:
        self.at = stage
        self._watcher.on_stage(stage)

    def _end(self, model: Path) -> None:
        """A stage's model is there: judge it for the table."""
        self.models[self.at] = model
        kept = self._folder / f"{self.at}.table.json"
        self.table[self.at] = compare(
            model, self._cells, self._recipe.comparison, kept, self._precision, self._world.device
        )
        write_json(self._folder / TABLE, self.table)
        if self._stop() and self.at != STAGES[-1]:
            raise _StoppedError

    def _reinforce(self, rl: RLConfig, start: Path, task: Task, named: TaskConfig, gated: bool = False) -> None:
        recipe = ReasonRecipe(task=named, base=GIVEN, rl=rl)
        self._finish(
            reinforce(
                recipe,
                task,
                start,
                self._place,
                watcher=self._watcher,
                stop=self._stop,
                precision=self._precision,
                gated=gated,
                world=self._world,
            )
        )

    def _tune(self, sft: SFTConfig, start: Path, files: list[Path]) -> None:
        recipe = SFTRecipe(task=self._recipe.task, base=GIVEN, files=tuple(files), sft=sft)
        around = Surroundings(self._watcher, self._stop, self._precision, self._world)
        self._finish(fine_tune(recipe, files, start, self._place, task=self._reasoning, around=around))

    def _finish(self, result: RunResult) -> None:
        if not result.finished or result.model is None:
            raise _StoppedError
        self._end(result.model)

    def _sampled(self, model: Path, config: SampledConfig, task: Task) -> Path:
        """What the model writes, kept by `task`; sampled now or found ready."""
        network, tokenizer = load(model, dtype=torch.float32).to(self._world.device), Tokenizer(model)
        network.compute_dtype = self._precision
        with Engine(network, tokenizer, EngineConfig(max_batch_size=256)) as engine:
            found = sample_texts(engine, tokenizer, task, config, self._place / "texts.jsonl", stop=self._stop)
        if not found.finished:
            raise _StoppedError
        self._watcher.on_texts(self.at, found.counts)
        return found.path


def _made(config: TaskConfig, needed: Any) -> Any:
    task = make_task(config.name, **config.options)
    if not (isinstance(task, needed) and isinstance(task, Teachable)):
        raise RecipeError(
            f"task '{config.name}' cannot take part in R1's stages: it writes no documents of its own, or knows no "
            "readable form; take 'inverse_in_words' to reason about and 'instructions' as the general one."
        )
    return task
