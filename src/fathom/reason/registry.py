"""Tasks by the names that recipes use."""

from collections.abc import Callable
from typing import Any

from fathom.errors import RecipeError
from fathom.reason.task import Task
from fathom.reason.tasks.code import Code
from fathom.reason.tasks.countdown import Countdown
from fathom.reason.tasks.file import File
from fathom.reason.tasks.grid import Grid
from fathom.reason.tasks.gym import Gym
from fathom.reason.tasks.instructions import Instructions
from fathom.reason.tasks.inverse import Inverse
from fathom.reason.tasks.inverse_in_words import InverseInWords
from fathom.reason.tasks.multiplication import Multiplication
from fathom.reason.tasks.parity import Parity
from fathom.reason.tasks.sorting import Sorting
from fathom.reason.tasks.sums import Sums
from fathom.reason.tasks.words import Words

TASKS: dict[str, Callable[..., Task]] = {
    "code": Code,
    "countdown": Countdown,
    "file": File,
    "grid": Grid,
    "gym": Gym,
    "instructions": Instructions,
    "inverse": Inverse,
    "inverse_in_words": InverseInWords,
    "multiplication": Multiplication,
    "parity": Parity,
    "sorting": Sorting,
    "sums": Sums,
    "words": Words,
}


def make_task(name: str, **options: Any) -> Task:
    """The task of this name; `RecipeError` for an unknown name or option."""
    if name not in TASKS:
        raise RecipeError(f"There is no task '{name}': the tasks are {', '.join(sorted(TASKS))}.")
    try:
        return TASKS[name](**options)
    except TypeError as error:
        raise RecipeError(f"Task '{name}' cannot be made with {options}: {error}.") from None
