"""Sums asked of a chat model in its own format: the smallest task on which a real model is seen to be moved."""

import random
import re
from dataclasses import dataclass

from fathom.errors import RecipeError
from fathom.reason.task import Problem, Score

NUMBER = re.compile(r"(?<![0-9.,])[0-9]{1,12}(?![0-9]|[.,][0-9])")

LEAST = 20
"""Of the sums of numbers up to here some twenty are held out; of those up to 10 it is one."""


@dataclass(frozen=True)
class Sums:
    """Two numbers from 1 to `largest`."""

    largest: int = 20
    name: str = "sums"

    def __post_init__(self) -> None:
        if not LEAST <= self.largest <= 10**6:
            raise RecipeError(
                f"sums with largest = {self.largest} cannot be asked: take {LEAST} to 1000000. Of smaller ones hardly "
                "any is held out, and what is judged would be one sum."
            )

    def sample(self, rng: random.Random) -> Problem:
        """A sum; the split goes by its numbers, whatever their order."""
        a, b = rng.randint(1, self.largest), rng.randint(1, self.largest)
        return Problem(
            prompt=f"What is {a} + {b}? Reply with one number.",
            answer=str(a + b),
            key=f"{self.name} {min(a, b)} {max(a, b)}",
            chat=True,
        )

    def score(self, problem: Problem, text: str, finished: bool = True) -> Score:
        """Right if the reply ended and its last number is the sum; the form is that number alone."""
        numbers = NUMBER.findall(text)
        right = finished and bool(numbers) and numbers[-1] == problem.answer
        alone = finished and NUMBER.fullmatch(text.strip().removesuffix(".")) is not None
        return Score(float(right), float(alone))
