"""The problems of reasoning-gym, an extra: more than a hundred kinds, made and judged by the package itself."""

import random
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from fathom.errors import RecipeError, UsageError
from fathom.reason.response import prompt_of, read_response
from fathom.reason.task import Problem, Score


@dataclass(frozen=True)
class Gym:
    """One data set of the package, by its name there, such as `mini_sudoku` or `family_relationships`."""

    dataset: str
    settings: dict[str, Any] = field(default_factory=dict)
    """Of the data set, such as its difficulty."""
    problems: int = 100_000
    """How many problems there are to draw from."""
    seed: int = 0
    name: str = "gym"
    source: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if find_spec("reasoning_gym") is None:
            raise UsageError("The task 'gym' needs the package reasoning-gym: pip install 'fathom-lm[gym]'.")
        import reasoning_gym

        # The package refuses what it does not know with all kinds of exceptions, assertions among them.
        try:
            made = reasoning_gym.create_dataset(self.dataset, size=self.problems, seed=self.seed, **self.settings)
        except Exception as error:
            raise RecipeError(
                f"reasoning-gym makes no data set '{self.dataset}' of {self.problems} problems with {self.settings}: "
                f"{error}."
            ) from None
        object.__setattr__(self, "source", made)

    def sample(self, rng: random.Random) -> Problem:
        """One of the data set's problems."""
        entry = self.source[rng.randrange(self.problems)]
        question = entry["question"].strip()
        return Problem(
            prompt=prompt_of(question),
            answer=entry["answer"] or "",
            key=f"{self.name} {self.dataset} {question}",
            data={"entry": entry},
        )

    def score(self, problem: Problem, text: str, finished: bool = True) -> Score:
        """Right if the package gives all its points: what it gives for trying counts for nothing."""
        response = read_response(text)
        given = response.answer if finished else None
        right = bool(given) and self.source.score_answer(given, problem.data["entry"]) >= 1
        return Score(float(right), float(response.has_form and finished))
