"""What else could have made the difference: the same base, trained without what a reinforcement is praised for.

| control | what it takes away |
|---|---|
| `random` | the meaning of the reward: 0 or 1 by lot |
| `format` | the answer: the form alone is rewarded |
| `sft-own` | writing anew with each better policy: the base writes as many texts, once, and learns the right ones |
| `sft-written` | trial: the base learns replies by a writer who can do the task |

Both fine-tunings are by cross-entropy, with the reinforcement's optimiser, rate and texts a step, and train on as many
tokens as it did: `sft-own` to the nearest epoch, `sft-written` in one epoch of as many replies as that is. `sft-own` is
one round of rejection sampling (arXiv:2203.14465).
"""

import sys
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import torch

from fathom.config.reason import GIVEN, ReasonRecipe, RewardConfig, RLConfig
from fathom.config.tuning import SampledConfig, SFTConfig, SFTRecipe
from fathom.corpus.tokenizer import Tokenizer
from fathom.engine.engine import Engine, EngineConfig
from fathom.errors import UsageError
from fathom.reason.documents import Teachable
from fathom.reason.pairs import Pair, read_pairs
from fathom.reason.rejection import sample_texts
from fathom.reason.rollouts import Sampling
from fathom.reason.sft import fine_tune
from fathom.reason.stage_texts import write_solved
from fathom.reason.task import Task
from fathom.reason.trainer import RunResult, Surroundings
from fathom.reason.zero import reinforce
from fathom.train.run import read_lines
from fathom.weights.folder import load

CONTROLS = {
    "random": "reinforced by lot",
    "format": "reinforced for the form alone",
    "sft-own": "fine-tuned on its own right texts",
    "sft-written": "fine-tuned on written replies",
}
"""Their names, and what was done to the base."""
ENDING = "\n"
"""Of a document, as a corpus has it and a base therefore knows it: without it, base and texts end in other tokens."""
FOLDER = "controls"
"""Where a run keeps them, each in a folder of its name."""
REWARDS = {"random": RewardConfig(control="random"), "format": RewardConfig(accuracy=0.0, format=1.0)}
"""Those that are reinforcements, by another reward."""


@dataclass(frozen=True)
class Spent:
    """What a reinforcement took."""

    texts: int
    """Written."""
    tokens: int
    """Trained on, prompts included."""


def controls_named(names: str, task: Task) -> tuple[str, ...]:
    """`all` that the task knows how to do, or those of a list with commas; `UsageError` for another name."""
    possible = tuple(name for name in CONTROLS if name != "sft-written" or isinstance(task, Teachable))
    if names == "all":
        return possible
    chosen = tuple(name.strip() for name in names.split(","))
    for name in chosen:
        if name not in CONTROLS:
            raise UsageError(f"--controls: there is no '{name}'; take 'all' or some of {', '.join(CONTROLS)}.")
        if name not in possible:
            raise UsageError(
                f"--controls: task '{task.name}' writes no replies of its own, so that {name} has no texts."
            )
    return chosen


def run_control(
    control: str, recipe: ReasonRecipe, task: Task, base: Path, run: Path, around: Surroundings
) -> RunResult:
    """Train `control` beside the finished reinforcement in folder `run`; killed or stopped, the same call goes on.

    `sft-*` are asked for as many texts and tokens as `run` took.
    """
    folder, rl = run / FOLDER / control, recipe.rl
    if control in REWARDS:
        changed = rl.model_copy(update={"reward": REWARDS[control], "evaluate_every": 0})
        return reinforce(
            recipe.model_copy(update={"rl": changed}),
            task,
            base,
            folder,
            watcher=around.watcher,
            stop=around.stop,
            precision=around.precision,
            world=around.world,
        )
    spent = spent_by(run, rl)
    texts = _texts_for(control, rl, task, base, folder / "texts.jsonl", spent, around)
    if texts is None:
        return RunResult(False, 0, 0.0, None)
    # Whether a text fits into the context is judged by who learns it; here they are only counted.
    pairs = read_pairs([texts], Tokenizer(base), sys.maxsize)
    tuning = SFTRecipe(task=recipe.task, base=GIVEN, files=(texts,), sft=_sft(rl, epochs_for(spent.tokens, pairs)))
    how = Sampling(rl.group_size, rl.max_tokens, rl.temperature, rl.top_p)
    return fine_tune(tuning, [texts], base, folder, task=task, around=around, judged_by=how)


def spent_by(run: Path, rl: RLConfig) -> Spent:
    """What the reinforcement in folder `run` took, by its log."""
    steps = read_lines(run / "metrics.jsonl")
    return Spent(len(steps) * rl.problems * rl.group_size, sum(step["trained_tokens"] for step in steps))


def epochs_for(tokens: int, pairs: Sequence[Pair]) -> int:
    """How often to go through the pairs to train on so many tokens, prompts included; once at least."""
    return max(1, round(tokens / sum(len(pair.prompt) + len(pair.reply) for pair in pairs)))


def _sft(rl: RLConfig, epochs: int) -> SFTConfig:
    """Fine-tuning with the optimiser, the constant rate and the texts a step of a reinforcement."""
    return SFTConfig(
        optimizer=rl.optimizer,
        decay_to=1.0,
        batch_texts=rl.problems * rl.group_size,
        micro_batch_texts=rl.micro_batch_texts,
        evaluate_problems=rl.evaluate_problems,
        evaluate_texts=rl.group_size,
        max_tokens=rl.max_tokens,
        checkpoint_every=rl.checkpoint_every,
        seed=rl.seed,
        epochs=epochs,
    )


def _texts_for(
    control: str, rl: RLConfig, task: Task, base: Path, path: Path, spent: Spent, around: Surroundings
) -> Path | None:
    """The file that a fine-tuning control learns from, written now or found ready; None if stopped on the way."""
    finished = True
    if around.world.is_main and control == "sft-own":
        finished = _sample(rl, task, base, path, spent, around)
    elif around.world.is_main and not path.exists():
        _write(rl, task, base, path, spent)
    return path if around.world.from_main(finished) else None


def _write(rl: RLConfig, task: Task, base: Path, path: Path, spent: Spent) -> None:
    """Write right replies, as many as the reinforcement wrote texts, or fewer where they would be more tokens."""
    assert isinstance(task, Teachable)
    all_of_them = path.with_name("all.jsonl")
    write_solved(task, spent.texts, rl.seed, all_of_them, ENDING)
    pairs = read_pairs([all_of_them], Tokenizer(base), sys.maxsize)
    read = list(accumulate(len(pair.prompt) + len(pair.reply) for pair in pairs))
    write_solved(task, max(1, bisect_right(read, spent.tokens)), rl.seed, path, ENDING)
    all_of_them.unlink()


def _sample(rl: RLConfig, task: Task, base: Path, path: Path, spent: Spent, around: Surroundings) -> bool:
    """Let the base write as many texts as the reinforcement did, and keep the right ones as they came."""
    config = SampledConfig(
        policy="base",
        problems=max(1, spent.texts // rl.group_size),
        texts=rl.group_size,
        max_tokens=rl.max_tokens,
        temperature=rl.temperature,
        line_repeats=rl.max_tokens,
        duplicates=True,
        seed=rl.seed,
    )
    model, tokenizer = load(base, dtype=torch.float32).to(around.world.device), Tokenizer(base)
    model.compute_dtype = around.precision
    with Engine(model, tokenizer, EngineConfig(max_batch_size=256)) as engine:
        return sample_texts(engine, tokenizer, task, config, path, stop=around.stop).finished
