"""Supervised fine-tuning: the replies of given pairs are made likelier, and nothing else of them is learned."""

import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from fathom.config.train import ScheduleConfig
from fathom.config.tuning import SFTRecipe, TuningConfig
from fathom.reason.objective import Component, accumulate, cross_entropy
from fathom.reason.pairs import Pair, batch_at, digest_of, read_pairs, steps_of_epoch
from fathom.reason.rollouts import Sampling
from fathom.reason.scoring import Texts, side_by_side
from fathom.reason.task import Task
from fathom.reason.trainer import Judging, RunResult, Surroundings, Trainer
from fathom.train.run import claimed
from fathom.train.schedule import learning_rate_factor


def fine_tune(
    recipe: SFTRecipe,
    files: Sequence[Path],
    base: Path,
    run: Path,
    *,
    task: Task | None = None,
    around: Surroundings | None = None,
    judged_by: Sampling | None = None,
) -> RunResult:
    """Tune the model in folder `base` on the pairs of `files` in the folder `run`; the same call goes on exactly.

    With a `task` the model is judged on its held-out problems, before and after; `judged_by`, drawn as another run's.
    """
    around, config = around or Surroundings(), recipe.sft
    with claimed(run) if around.world.is_main else nullcontext():
        identity = recipe.model_dump(mode="json", exclude={"about", "files"})
        trainer = tuned(config, base, run, identity, task, around, judged_by)
        pairs = read_pairs(files, trainer.tokenizer, trainer.model.config.max_position_embeddings)
        trainer.belongs_to(digest_of(pairs))
        steps = config.epochs * steps_of_epoch(len(pairs), config.batch_texts)

        def advance() -> None:
            begin = time.perf_counter()
            texts = texts_at(pairs, trainer.step, config).to(trainer.world.device)
            components = [Component("loss", 1.0, texts, cross_entropy)]
            losses = accumulate(trainer.model, components, config.micro_batch_texts, world=trainer.world)
            trainer.done(losses | updated(trainer, config, texts) | {"update_seconds": time.perf_counter() - begin})

        return trainer.to_the_end(steps, advance)


def tuned(
    config: TuningConfig,
    base: Path,
    run: Path,
    identity: dict[str, Any],
    task: Task | None,
    around: Surroundings,
    judged_by: Sampling | None = None,
) -> Trainer:
    """The model of folder `base` in a run that goes by `config`."""
    how = judged_by or Sampling(config.evaluate_texts, config.max_tokens)
    return Trainer(
        base,
        run,
        optimizer=config.optimizer,
        identity=[identity],
        checkpoint_every=config.checkpoint_every,
        judging=Judging(task, how, config.evaluate_problems, config.evaluate_every) if task else None,
        around=around,
    )


def texts_at(pairs: Sequence[Pair], step: int, config: TuningConfig) -> Texts:
    """The pairs of a step, side by side."""
    chosen = [pairs[i] for i in batch_at(step, len(pairs), config.batch_texts, config.seed).tolist()]
    return side_by_side([(pair.prompt, pair.reply) for pair in chosen])


def updated(trainer: Trainer, config: TuningConfig, *texts: Texts) -> dict[str, float]:
    """Take the step at its rate: warm-up, then a cosine down to the end; the gradients' norm, the rate, the tokens."""
    factor = learning_rate_factor(schedule_of(config), trainer.step, trainer.steps)
    return {
        "grad_norm": trainer.update(factor),
        "learning_rate": factor * config.optimizer.learning_rate,
        "tokens": int(sum(torch.count_nonzero(each.mask) for each in texts)),
        "trained_tokens": int(sum(each.read.sum() for each in texts)),
    }


def schedule_of(config: TuningConfig) -> ScheduleConfig:
    """One cosine over the whole run."""
    return ScheduleConfig(
        warmup_steps=config.warmup_steps,
        constant_until=0.0,
        decay_until=1.0,
        decay_to=config.decay_to,
        final_from=1.0,
        final_factor=config.decay_to,
    )
