"""How well a model does on held-out problems: at once, with many tries, and what it writes on the way."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import comb
from typing import Any, Protocol, runtime_checkable

from fathom.corpus.tokenizer import Tokenizer
from fathom.engine.engine import Engine
from fathom.reason.rollouts import Group, Sampling, roll_out, summary
from fathom.reason.task import Problem, Score, Task, draw

JUDGED_SEED = 20_250_120
"""Of the held-out problems, so that every model is asked the same."""


@dataclass(frozen=True)
class Judgement:
    """What a model did on held-out problems."""

    problems: int
    pass_at: dict[int, float]
    """pass@k by k: the chance that one of k texts is right (unbiased, arXiv:2107.03374 eq. 1)."""
    values: dict[str, float]
    """`rollouts.summary` of all texts."""
    zero_variance: float
    """Share of groups whose texts are all right or all wrong: they teach nothing."""
    groups: tuple[Group, ...]

    @property
    def told(self) -> dict[str, Any]:
        """All but the texts, as it is kept beside a run."""
        return {"pass_at": self.pass_at, "zero_variance": self.zero_variance, **self.values}


def judge(engine: Engine, tokenizer: Tokenizer, task: Task, how: Sampling, problems: int, seed: int = 0) -> Judgement:
    """Ask `problems` held-out problems, each `how.group_size` times."""
    return _judged(engine, tokenizer, task, how, asked_of_all(task, problems), seed)


def asked_of_all(task: Task, problems: int) -> list[Problem]:
    """The first so many held-out problems, the same for every model."""
    rng = random.Random(JUDGED_SEED)
    return [draw(task, rng, held_out=True) for _ in range(problems)]


@runtime_checkable
class Forcing(Task, Protocol):
    """A task that knows how a reply of the long kind begins."""

    def forced(self, problem: Problem, rng: random.Random) -> str:
        """The beginning of a reply that tries and checks, an attempt that failed; nothing of the answer but that."""
        ...


def judge_forced(
    engine: Engine, tokenizer: Tokenizer, task: Forcing, how: Sampling, problems: int, seed: int = 0
) -> Judgement:
    """Ask the problems of `judge`, each reply begun for the model in the long mode.

    What a base reaches so is what choosing the mode alone is worth: reinforcement that ends there has chosen, not
    learned. Scores are those of whole replies, `max_tokens` counts what the model adds.
    """
    rng = random.Random(f"{JUDGED_SEED} forced")
    begun = []
    for problem in asked_of_all(task, problems):
        beginning = task.forced(problem, rng)
        data = {**problem.data, BEGUN: beginning}
        begun.append(replace(problem, prompt=problem.prompt + beginning, data=data))
    return _judged(engine, tokenizer, _Begun(task), how, begun, seed)


BEGUN = "begun"
"""Where a problem's data hold the beginning that its prompt ends with."""


@dataclass(frozen=True)
class _Begun:
    """A task whose replies are begun in the prompt."""

    task: Task

    @property
    def name(self) -> str:
        return self.task.name

    def sample(self, rng: random.Random) -> Problem:
        return self.task.sample(rng)

    def score(self, problem: Problem, text: str, finished: bool = True) -> Score:
        return self.task.score(problem, problem.data[BEGUN] + text, finished)


def _judged(
    engine: Engine, tokenizer: Tokenizer, task: Task, how: Sampling, asked: Sequence[Problem], seed: int
) -> Judgement:
    groups = roll_out(engine, tokenizer, task, asked, how, seed)
    problems = len(asked)
    right = [sum(text.score.accuracy == 1 for text in group.rollouts) for group in groups]
    ks = [k for k in (1, 2, 4, 8, 16, 32, 64) if k <= how.group_size]
    return Judgement(
        problems=problems,
        pass_at={k: sum(pass_at(k, how.group_size, c) for c in right) / problems for k in ks},
        values=summary(groups),
        zero_variance=sum(c in (0, how.group_size) for c in right) / problems,
        groups=tuple(groups),
    )


def pass_at(k: int, samples: int, right: int) -> float:
    """The chance that k of so many samples, `right` of them right, hold a right one."""
    return 1.0 - comb(samples - right, k) / comb(samples, k)


@dataclass(frozen=True)
class Condition:
    """One thing a base must show before reinforcement can work."""

    name: str
    value: float
    least: float
    most: float
    advice: str

    @property
    def holds(self) -> bool:
        """Whether the value lies where it should."""
        return self.least <= self.value <= self.most

    def __str__(self) -> str:
        said = f"{self.name}: {self.value:.3f} (wanted {self.least:g} to {self.most:g})"
        return said if self.holds else f"{said}: {self.advice}"


def ready_for_rl(judgement: Judgement) -> list[Condition]:
    """The conditions of `conditions_of`, of a judgement just made."""
    return conditions_of(judgement.told)


def conditions_of(told: Mapping[str, Any]) -> list[Condition]:
    """Whether reinforcement can work on this base, and what to change where it cannot.

    Thresholds come from the trials in docs/reasoning.md: a reward that is nearly always or nearly never given teaches
    nothing, and trying again pays only for a model whose steps and checks are right.
    """
    values = told
    pass_at = {int(k): value for k, value in told["pass_at"].items()}
    most = max(pass_at)
    conditions = [
        Condition("pass@1", pass_at[1], 0.02, 0.6, "choose an easier or a harder task"),
        Condition(f"pass@{most}", pass_at[most], 0.5, 1.0, "nothing right to reinforce: train the base longer"),
        Condition(
            "groups without a difference", values["zero_variance"], 0.0, 0.7, "take larger groups or another task"
        ),
        Condition("truncated", values["truncated"], 0.0, 0.1, "raise max_tokens: unfinished texts count as wrong"),
    ]
    if "attempts" in values:
        conditions += [
            Condition("written steps right", values["steps_right"], 0.95, 1.0, "train the single steps longer"),
            Condition(
                "checks right", values["checks_right"], 0.95, 1.0, "add fact documents: the base cannot check a result"
            ),
            Condition(
                "answers with a check", values["checked"], 0.02, 0.5, "make searching more, or less, common in its text"
            ),
        ]
    return conditions


def lines(conditions: Sequence[Condition]) -> list[str]:
    """The conditions as lines of a table, with advice where one does not hold."""
    return [f"{'ok ' if condition.holds else 'NO '} {condition}" for condition in conditions]
