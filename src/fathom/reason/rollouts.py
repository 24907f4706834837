"""Texts the policy writes on problems, by the engine, with the training weights themselves."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fathom.corpus.tokenizer import Tokenizer
from fathom.engine.engine import Engine
from fathom.engine.prompt import encode_text
from fathom.engine.request import Completion, FinishReason
from fathom.engine.sampling import SamplingParams
from fathom.errors import TrainingError
from fathom.parallel.mesh import ALONE, World
from fathom.reason.routing import RoutingRecorder
from fathom.reason.task import Problem, Score, Task
from fathom.serve.encoding import Message, encode, template_of


@dataclass(frozen=True)
class Rollout:
    """One text on a problem, and what it is worth."""

    tokens: tuple[int, ...]
    """What was written, the end token included."""
    logprobs: tuple[float, ...]
    """Of each token in the distribution it was drawn from."""
    text: str
    finished: bool
    """Whether it ended by itself, not by its length."""
    score: Score
    experts: Tensor | None = None
    """(tokens read, L, K) int16: what each token of prompt and text was routed to, where that is recorded."""
    kept: tuple[Any, ...] | None = None
    """For each token the ids it was drawn among, None for all, where that is recorded."""


@dataclass(frozen=True)
class Group:
    """The texts on one problem."""

    problem: Problem
    prompt: tuple[int, ...]
    rollouts: tuple[Rollout, ...]


@dataclass(frozen=True)
class Sampling:
    """How texts are drawn."""

    group_size: int
    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    """Draw among the fewest likeliest tokens that hold this much of the probability."""
    record_kept: bool = False
    """Whether to keep which tokens that left."""


def roll_out(
    engine: Engine,
    tokenizer: Tokenizer,
    task: Task,
    problems: Sequence[Problem],
    how: Sampling,
    seed: int,
    world: World = ALONE,
) -> list[Group]:
    """`how.group_size` texts on each problem; the same seed, weights and problems give the same texts.

    The processes of `world` divide the problems among them, and each is given all texts.
    """
    seeds = random.Random(seed)
    prompts = [prompt_tokens(tokenizer, problem) for problem in problems]
    params = [
        SamplingParams(
            max_tokens=how.max_tokens,
            temperature=how.temperature,
            top_p=how.top_p,
            n=how.group_size,
            seed=seeds.randrange(2**62),
            record_kept=how.record_kept,
        )
        for _ in problems
    ]
    share = range(len(problems))[world.rank :: world.size]
    completions = engine.generate([prompts[i] for i in share], [params[i] for i in share]) if share else []
    runner = engine.core.runner
    experts = runner.taken() if isinstance(runner, RoutingRecorder) else {}
    groups = {}
    for place, i in enumerate(share):
        mine = completions[place * how.group_size : (place + 1) * how.group_size]
        rollouts = tuple(
            _judged(task, problems[i], completion, experts.get((*prompts[i], *completion.tokens)))
            for completion in mine
        )
        groups[i] = Group(problems[i], prompts[i], rollouts)
    everyone = {i: group for part in world.from_all(groups) for i, group in part.items()}
    return [everyone[i] for i in range(len(problems))]


def prompt_tokens(tokenizer: Tokenizer, problem: Problem) -> tuple[int, ...]:
    """What the model reads of a problem; `UsageError` where a chat model's template cannot answer without thinking."""
    if not problem.chat:
        return tuple(encode_text(tokenizer, problem.prompt))
    template = template_of(tokenizer)
    return encode([Message("user", problem.prompt)], tokenizer=tokenizer, template=template).tokens


def _judged(task: Task, problem: Problem, completion: Completion, experts: Tensor | None) -> Rollout:
    finished = completion.finish_reason is FinishReason.STOP
    try:
        score = task.score(problem, completion.text, finished)
    except Exception as error:
        raise TrainingError(
            f"task '{task.name}' could not score a text on {problem.key!r} ({type(error).__name__}: {error}); the text "
            f"was {completion.text[:200]!r}. Mend the task's scorer: a text, however odd, is worth a number."
        ) from error
    for part in ("accuracy", "format", "language"):
        value = getattr(score, part)
        if not 0.0 <= value <= 1.0:
            raise TrainingError(
                f"task '{task.name}' gave {part} = {value!r} for a text on {problem.key!r}: it must lie from 0 to 1."
            )
    return Rollout(completion.tokens, completion.logprobs, completion.text, finished, score, experts, completion.kept)


def summary(groups: Sequence[Group]) -> dict[str, float]:
    """What is worth watching in a set of texts; shares and means over all of them."""
    texts = [text for group in groups for text in group.rollouts]
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text.score.counts)
    n = len(texts)
    found = {
        "accuracy": sum(text.score.accuracy for text in texts) / n,
        "format": sum(text.score.format for text in texts) / n,
        "language": sum(text.score.language for text in texts) / n,
        "length": sum(len(text.tokens) for text in texts) / n,
        "truncated": sum(not text.finished for text in texts) / n,
        "solved_by_one": sum(any(text.score.accuracy == 1 for text in group.rollouts) for group in groups)
        / len(groups),
    }
    if "attempts" in counts:
        found["attempts"] = counts["attempts"] / n
        found["checked"] = sum(text.score.counts.get("checks", 0) > 0 for text in texts) / n
        found["checks"] = counts["checks"] / n
        found["steps_right"] = counts["steps_right"] / max(counts["steps"], 1)
        found["checks_right"] = counts["checks_right"] / max(counts["checks"], 1)
    return found
