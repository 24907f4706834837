"""Several tasks as one: each problem is drawn from one of them, and scored by it."""

import random
from dataclasses import dataclass, replace

from fathom.errors import RecipeError
from fathom.reason.documents import Teachable
from fathom.reason.task import Problem, Score, Task

PART = "part"
"""Where a problem's data hold the number of the task it is from."""


@dataclass(frozen=True)
class Mixed:
    """Problems of `parts`, drawn in the proportion of `weights`."""

    parts: tuple[Task, ...]
    weights: tuple[float, ...]
    name: str = "mixed"

    def sample(self, rng: random.Random) -> Problem:
        """A problem of one of the parts."""
        number = self._drawn(rng)
        problem = self.parts[number].sample(rng)
        return replace(problem, data={**problem.data, PART: number})

    def score(self, problem: Problem, text: str, finished: bool = True) -> Score:
        """What the problem's own task says."""
        return self.part(problem).score(problem, text, finished)

    def part(self, problem: Problem) -> Task:
        """The task that a problem is from."""
        number: int = problem.data[PART]
        return self.parts[number]

    # -- what a base reads

    def direct(self, problem: Problem, rng: random.Random) -> str:
        """As the problem's own task writes it."""
        return _teachable(self.part(problem)).direct(problem, rng)

    def searching(self, problem: Problem, rng: random.Random) -> str:
        """As the problem's own task writes it."""
        return _teachable(self.part(problem)).searching(problem, rng)

    def facts(self, rng: random.Random) -> str:
        """Facts of one of the parts."""
        return _teachable(self.parts[self._drawn(rng)]).facts(rng)

    def _drawn(self, rng: random.Random) -> int:
        return rng.choices(range(len(self.parts)), self.weights)[0]


def _teachable(task: Task) -> Teachable:
    if not isinstance(task, Teachable):
        raise RecipeError(f"task '{task.name}' writes no documents of its own, so no base can be made of it.")
    return task
