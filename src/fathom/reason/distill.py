"""Distillation: a student learns a teacher's texts, and the teacher's judgement of the student's own."""

import json
import random
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import torch

from fathom.config.tuning import DistillConfig, DistillRecipe
from fathom.errors import UsageError
from fathom.model.transformer import Transformer
from fathom.reason.objective import Component, accumulate, cross_entropy, full_reverse_kl, sampled_reverse_kl
from fathom.reason.pairs import Pair, digest_of, read_pairs
from fathom.reason.rollouts import Sampling, roll_out, summary
from fathom.reason.scoring import logprobs_of, texts_of
from fathom.reason.sft import texts_at, tuned, updated
from fathom.reason.task import Task, draw
from fathom.reason.trainer import RunResult, Surroundings, Trainer, digest_of_weights
from fathom.train.run import claimed
from fathom.weights.folder import load


def distill(
    recipe: DistillRecipe,
    task: Task,
    teacher: Path,
    files: Sequence[Path],
    base: Path,
    run: Path,
    *,
    around: Surroundings | None = None,
) -> RunResult:
    """Train the student in folder `base` by the model in folder `teacher`; the same call goes on exactly.

    `files` hold the teacher's texts; they are not read where `cross_entropy` has no weight.
    """
    around, config = around or Surroundings(), recipe.distill
    refuse_other_tokenizers(teacher, base)
    with claimed(run) if around.world.is_main else nullcontext():
        identity = recipe.model_dump(mode="json", exclude={"about"})
        trainer = tuned(config, base, run, identity, task, around)
        context = trainer.model.config.max_position_embeddings
        pairs = read_pairs(files, trainer.tokenizer, context) if config.cross_entropy else []
        trainer.belongs_to(digest_of(pairs), digest_of_weights(teacher))
        judge = _teacher(teacher, trainer, config, around) if config.reverse_kl else None
        distillation = _Distillation(trainer, config, task, pairs, judge)
        return trainer.to_the_end(config.steps, distillation.advance)


def refuse_other_tokenizers(teacher: Path, student: Path) -> None:
    """Raise `UsageError` unless both models read and write the same tokens."""
    first, second = (
        json.loads((folder / "tokenizer.json").read_text(encoding="utf-8")) for folder in (teacher, student)
    )
    if first != second:
        raise UsageError(
            f"teacher {teacher} and student {student} have different tokenizers, so a token of one means nothing to "
            "the other: take models with the same tokenizer.json, or learn from texts alone with `fathom sft`."
        )


class _Distillation:
    def __init__(
        self, trainer: Trainer, config: DistillConfig, task: Task, pairs: Sequence[Pair], teacher: Transformer | None
    ) -> None:
        self._trainer, self._config, self._task = trainer, config, task
        self._pairs, self._teacher = pairs, teacher

    def advance(self) -> None:
        """Do a step on the components that have a weight."""
        trainer, config, begin = self._trainer, self._config, time.perf_counter()
        components: list[Component] = []
        seen: dict[str, float] = {}
        if self._pairs:
            texts = texts_at(self._pairs, trainer.step, config).to(trainer.world.device)
            components.append(Component("cross_entropy", config.cross_entropy, texts, cross_entropy))
        if self._teacher is not None:
            component, seen = self._on_policy(self._teacher)
            components.append(component)
        written = time.perf_counter() - begin
        losses = accumulate(trainer.model, components, config.micro_batch_texts, world=trainer.world)
        whole = {"loss": sum(component.weight * losses[component.name] for component in components)}
        seconds = {"rollout_seconds": written, "update_seconds": time.perf_counter() - begin - written}
        told = updated(trainer, config, *(component.texts for component in components))
        trainer.done(losses | whole | seen | told | seconds)

    def _on_policy(self, teacher: Transformer) -> tuple[Component, dict[str, float]]:
        """The student's own texts of this step, for the teacher to judge; what they look like."""
        trainer, config = self._trainer, self._config
        rng = random.Random(f"{config.seed} {trainer.step}")
        problems = [draw(self._task, rng, held_out=False) for _ in range(config.problems)]
        how = Sampling(config.group_size, config.max_tokens)
        seed = rng.randrange(2**62)
        groups = roll_out(trainer.engine, trainer.tokenizer, self._task, problems, how, seed, trainer.world)
        texts = texts_of(groups).to(trainer.world.device)
        if config.vocabulary == "full":
            judged = full_reverse_kl(teacher)
        else:
            parts = torch.arange(len(texts), device=texts.mask.device).split(config.micro_batch_texts)
            theirs = torch.zeros_like(texts.mask)
            for index in parts:
                part = texts.part(index)
                theirs[index, : part.mask.shape[1]] = logprobs_of(teacher, part)
            judged = sampled_reverse_kl(theirs)
        seen = summary(groups) | {"written_tokens": int(texts.mask.sum())}
        return Component("reverse_kl", config.reverse_kl, texts, judged), seen


def _teacher(folder: Path, trainer: Trainer, config: DistillConfig, around: Surroundings) -> Transformer:
    teacher = load(folder, dtype=torch.float32).to(around.world.device)
    teacher.compute_dtype = around.precision
    mine, theirs = len(trainer.model.head_weight), len(teacher.head_weight)
    if config.vocabulary == "full" and mine != theirs:
        raise UsageError(
            f"the student's head has {mine:,} rows and the teacher's {theirs:,}: set distill.vocabulary to 'sampled'."
        )
    return teacher.eval()
