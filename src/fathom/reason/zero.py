"""Reinforcement learning straight on a base, as R1-Zero: write, score, make the better texts of a group likelier."""

import random
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from fathom.config.reason import ReasonRecipe, RewardConfig
from fathom.errors import TrainingError
from fathom.parallel.mesh import ALONE, World
from fathom.reason.advantages import group_advantages, telling
from fathom.reason.judging import Forcing, conditions_of, judge_forced
from fathom.reason.objective import Component, accumulate, gap, policy, to_reference
from fathom.reason.rollouts import Group, Rollout, Sampling, roll_out, summary
from fathom.reason.scoring import texts_of
from fathom.reason.task import Task, draw
from fathom.reason.trainer import Judging, RunResult, Surroundings, Trainer, Unwatched, Watcher
from fathom.train.result import never
from fathom.train.run import claimed


def reinforce(
    recipe: ReasonRecipe,
    task: Task,
    base: Path,
    run: Path,
    *,
    watcher: Watcher | None = None,
    stop: Callable[[], bool] = never,
    precision: torch.dtype = torch.bfloat16,
    gated: bool = False,
    world: World = ALONE,
) -> RunResult:
    """Train the model in folder `base` on `task` in the folder `run`; killed or stopped, the same call goes on exactly.

    `gated` refuses, before the first step, a base on which reinforcement cannot work (`TrainingError`). Every rollout
    depends on the recipe's seed, the step and the weights alone, so a run that goes on writes the texts it would have
    written.
    """
    with claimed(run) if world.is_main else nullcontext():
        around = Surroundings(watcher or Unwatched(), stop, precision, world)
        reinforcement = _Reinforcement(recipe, task, base, run, around)
        admit = reinforcement.admit_if_ready if gated else reinforcement.admit
        return reinforcement.trainer.to_the_end(recipe.rl.steps, reinforcement.rollout_and_updates, admit)


class _Reinforcement:
    def __init__(self, recipe: ReasonRecipe, task: Task, base: Path, run: Path, around: Surroundings) -> None:
        self._rl, self._task = recipe.rl, task
        rl = self._rl
        self._how = Sampling(rl.group_size, rl.max_tokens, rl.temperature, rl.top_p, rl.keep_sampling_mask)
        self.trainer = Trainer(
            base,
            run,
            optimizer=self._rl.optimizer,
            # How texts are guessed ahead changes none of them.
            identity=[recipe.model_dump(mode="json", exclude={"about": True, "rl": {"speculation"}})],
            checkpoint_every=self._rl.checkpoint_every,
            judging=Judging(task, self._how, self._rl.evaluate_problems, self._rl.evaluate_every),
            around=around,
            with_reference=self._rl.kl_coefficient > 0,
            with_routing=self._rl.routing_replay,
            speculation=self._rl.speculation,
        )

    def admit_if_ready(self, judged: dict[str, Any]) -> None:
        """Stop where the base is not ready, else as `admit`."""
        failing = [str(condition) for condition in conditions_of(judged) if not condition.holds]
        if failing:
            raise TrainingError(
                f"Reinforcement would not work on this base as it is. {'; '.join(failing)}. --anyway tries it still."
            )
        self.admit(judged)

    def admit(self, judged: dict[str, Any]) -> None:
        """Add what the base reaches when its replies are begun in the long mode, where the task knows how."""
        trainer, task = self.trainer, self._task
        if "forced" in judged or not isinstance(task, Forcing):
            return
        found = judge_forced(trainer.engine, trainer.tokenizer, task, self._how, self._rl.evaluate_problems)
        judged["forced"] = found.told

    def rollout_and_updates(self) -> None:
        """Write a set of texts and do the steps it serves."""
        rl, trainer = self._rl, self.trainer
        begin = time.perf_counter()
        rng = random.Random(f"{rl.seed} {trainer.step}")
        count = rl.problems * rl.updates_a_rollout
        problems = [draw(self._task, rng, held_out=False) for _ in range(count)]
        seed = rng.randrange(2**62)
        groups = roll_out(trainer.engine, trainer.tokenizer, self._task, problems, self._how, seed, trainer.world)
        written = time.perf_counter() - begin
        for i in range(rl.updates_a_rollout):
            begin = time.perf_counter()
            mine = groups[i * rl.problems : (i + 1) * rl.problems]
            record = self._update(mine, rng)
            seconds = time.perf_counter() - begin
            trainer.done(record | {"rollout_seconds": written / rl.updates_a_rollout, "update_seconds": seconds})

    def _update(self, groups: Sequence[Group], rng: random.Random) -> dict[str, Any]:
        """One optimiser step on these groups; what it saw."""
        rl, trainer = self._rl, self.trainer
        device = trainer.world.device
        scores = [[reward(text, rl.reward, rng) for text in group.rollouts] for group in groups]
        rewards = torch.tensor(scores, device=device)
        telling_groups = telling(rewards)
        advantages = group_advantages(rewards, rl.normalise_advantages).flatten()
        texts = texts_of(groups).to(device)
        useful = telling_groups.repeat_interleave(rl.group_size).nonzero()[:, 0]
        losses: dict[str, float] = {}
        if len(useful):
            chosen, clips = texts.part(useful), (rl.clip_low, rl.clip_high)
            loss, over = policy(rl.loss, advantages[useful], clips, rl.max_tokens, rl.off_policy_bound)
            components = [Component("policy", 1.0, chosen, loss, over), Component("rollout_gap", 0.0, chosen, gap)]
            if trainer.reference is not None:
                apart = to_reference(trainer.reference, rl.kl_unbiased, rl.temperature)
                components.append(Component("kl", rl.kl_coefficient, chosen, apart))
            losses = accumulate(trainer.model, components, rl.micro_batch_texts, rl.temperature, trainer.world)
        norm = trainer.update() if len(useful) else 0.0
        if trainer.reference is not None and rl.reference_every and (trainer.step + 1) % rl.reference_every == 0:
            trainer.reference.load_state_dict(trainer.model.state_dict())
        return {
            "reward": float(rewards.mean()),
            "loss": losses.get("policy", 0.0) + rl.kl_coefficient * losses.get("kl", 0.0),
            "kl": losses.get("kl", 0.0),
            "grad_norm": norm,
            "zero_variance": 1.0 - float(telling_groups.float().mean()),
            "entropy": -float((texts.old * texts.mask).sum() / texts.mask.sum()),
            "rollout_gap": losses.get("rollout_gap", 0.0),
            "tokens": int(texts.mask.sum()),
            "trained_tokens": int(texts.read[useful].sum()),
            **summary(groups),
        }


def reward(text: Rollout, parts: RewardConfig, rng: random.Random) -> float:
    """What a text is worth in training."""
    if parts.control == "random":
        return float(rng.random() < 0.5)
    score = text.score
    return parts.accuracy * score.accuracy + parts.format * score.format + parts.language * score.language
