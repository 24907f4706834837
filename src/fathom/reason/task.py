"""A task makes problems and scores texts that answer them. Both are pure: the same number gives the same problem."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Literal, Protocol

Language = Literal["en", "zh"]

HELD_OUT_SHARE = 0.1
"""Share of all problems that no training ever sees, chosen by a hash of what makes a problem itself."""


@dataclass(frozen=True)
class Problem:
    """One question with all that its scorer needs."""

    prompt: str
    """What the model reads, up to where it begins to think."""
    answer: str
    """A right answer; others may be right too."""
    key: str
    """Equal for problems that are the same but for their wording: what the split depends on."""
    language: Language = "en"
    data: Mapping[str, Any] = field(default_factory=dict)
    """What the task knows about it."""
    chat: bool = False
    """Whether the prompt is a user's message in the model's own chat format, rather than a text to continue."""


@dataclass(frozen=True)
class Score:
    """What a text is worth, part by part; each from 0 to 1."""

    accuracy: float
    """1 if the final answer is right, else 0: there is no credit for nearly."""
    format: float
    """1 if thinking and answer stand where they belong."""
    language: float = 1.0
    """Share of the words of the thinking that are in the problem's language."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """What is worth watching beside the reward: attempts, checks, written steps and how many of them are right."""


class Task(Protocol):
    """What a policy can be trained on."""

    @property
    def name(self) -> str:
        """What it is called in recipes and on the command line."""
        ...

    def sample(self, rng: random.Random) -> Problem:
        """A problem drawn with `rng`, from the training or the held-out part alike."""
        ...

    def score(self, problem: Problem, text: str, finished: bool = True) -> Score:
        """What `text`, written after the problem's prompt, is worth; `finished` if it ended by itself."""
        ...


def is_held_out(problem: Problem) -> bool:
    """Whether this problem is kept for judging."""
    return sha256(problem.key.encode("utf-8")).digest()[0] < 256 * HELD_OUT_SHARE


def draw(task: Task, rng: random.Random, held_out: bool) -> Problem:
    """The next problem of the wanted part."""
    while True:
        problem = task.sample(rng)
        if is_held_out(problem) == held_out:
            return problem
