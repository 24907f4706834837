"""How a model is fine-tuned on texts: on given ones (`[sft]`), and by a teacher (`[distill]`)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from fathom.config.base import Section
from fathom.config.kinds import of_kind
from fathom.config.reason import BaseConfig, TaskConfig
from fathom.config.recipe import apply_overrides, read_toml
from fathom.config.train import OptimizerConfig


class SampledConfig(Section):
    """Texts a model writes to be learned from: which problems, how they are drawn, and which of them are kept."""

    policy: str
    """The model that writes: a folder, a run or a model's name."""
    problems: int = Field(default=512, gt=0)
    """Training problems it is asked."""
    texts: int = Field(default=4, gt=0)
    """Texts on each. R1 (section B.3.3): several a prompt."""
    max_tokens: int = Field(default=200, gt=0)
    """Longest text; one that is cut off is not kept."""
    temperature: float = Field(default=1.0, gt=0)
    """Of sampling. R1's cold start: 1.0."""
    only_right: bool = True
    """Keep only texts whose answer is right (rejection sampling); off, wrong ones too, as the model writes them."""
    keep: int | None = Field(default=None, gt=0)
    """Texts kept of one problem at most; left out, all that may be."""
    duplicates: bool = False
    """Keep a text that is equal to another on its problem."""
    line_repeats: int = Field(default=2, gt=0)
    """Texts in which one line stands more often than this go round in circles, and are left out."""
    seed: int = Field(default=1, ge=0)
    """Of the problems and of sampling."""


class TuningConfig(Section):
    """What all fine-tuning on texts shares. Rates are those of DeepSeek-R1's SFT (section B.3.3)."""

    optimizer: OptimizerConfig
    """Updates and peak learning rate. R1: 5e-5."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps of linear warm-up from zero. R1 names none."""
    decay_to: float = Field(default=0.1, ge=0, le=1)
    """Share of the peak rate at the end, reached along a cosine. R1: 0.1 (5e-6)."""
    batch_texts: int = Field(default=128, gt=0)
    """Given texts a step. R1: 128."""
    micro_batch_texts: int = Field(default=64, gt=0)
    """Texts in one forward pass."""
    evaluate_every: int = Field(default=0, ge=0)
    """Steps between judgements on held-out problems of the task; 0 judges before and after alone."""
    evaluate_problems: int = Field(default=64, gt=0)
    """Held-out problems of a judgement."""
    evaluate_texts: int = Field(default=16, gt=0)
    """Texts on each."""
    max_tokens: int = Field(default=200, gt=0)
    """Longest text the trained model writes."""
    checkpoint_every: int = Field(default=10, gt=0)
    """Steps between checkpoints."""
    seed: int = Field(default=1, ge=0)
    """Of the order of the texts, and of what the model writes."""

    @model_validator(mode="before")
    @classmethod
    def _published_rate(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("optimizer", {}), dict):
            return values | {"optimizer": {"learning_rate": 5e-5} | values.get("optimizer", {})}
        return values


class SFTConfig(TuningConfig):
    """Supervised fine-tuning: the reply's tokens are made likelier, the prompt's are only read."""

    epochs: int = Field(default=2, gt=0)
    """Times every text is used. R1: 2 to 3."""


class DistillConfig(TuningConfig):
    """A student learns from a teacher: from texts the teacher wrote, from its judgement of the student's own, or both.

    The loss is the sum of both parts by their weights, each a mean over its own tokens.
    """

    steps: int = Field(default=100, gt=0)
    """Optimiser steps."""
    cross_entropy: float = Field(default=1.0, ge=0)
    """Weight of the cross-entropy on the teacher's texts: what R1's distilled models had, and nothing else."""
    reverse_kl: float = Field(default=0.0, ge=0)
    """Weight of KL(student, teacher) on texts the student writes at each step: on-policy distillation
    (arXiv:2306.13649)."""
    vocabulary: Literal["sampled", "full"] = "sampled"
    """How that KL is taken: at the token the student drew, an unbiased estimate that needs only the teacher's
    log-probabilities, or over the whole vocabulary, exact and dearer."""
    problems: int = Field(default=16, gt=0)
    """Problems a step on which the student writes."""
    group_size: int = Field(default=4, gt=0)
    """Texts on each."""

    @model_validator(mode="after")
    def _something_to_learn(self) -> Self:
        if not self.cross_entropy and not self.reverse_kl:
            raise ValueError("cross_entropy and reverse_kl are both 0: give one of them a weight")
        return self


class SFTRecipe(Section):
    """Supervised fine-tuning: the model, its texts, and how they are learned."""

    about: str = ""
    """One line on what this is for."""
    task: TaskConfig | None = None
    """What the model is judged on, and what `[texts]` are sampled on."""
    base: BaseConfig
    """The model that is tuned."""
    files: tuple[Path, ...] = ()
    """JSON lines with `prompt` and `reply`, or with `messages`."""
    texts: SampledConfig | None = None
    """Texts to sample first (rejection sampling), in the place of files."""
    sft: SFTConfig = Field(default_factory=lambda: SFTConfig.validated({}, "[sft]"))
    """How they are learned."""

    @classmethod
    def load(cls, path: Path, overrides: Sequence[str] = ()) -> Self:
        """Read a TOML file and change fields as on the command line; `RecipeError` names what is wrong."""
        return cls.validated(of_kind(cls, apply_overrides(read_toml(path), overrides), str(path)), str(path))

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if bool(self.files) == (self.texts is not None):
            raise ValueError("give either `files` to learn from or `[texts]` to sample, not both")
        if self.task is None and (self.texts is not None or self.base.folder is None):
            raise ValueError("`[task]` is missing: texts are sampled, or a base is made, for a task")
        return self


class DistillRecipe(Section):
    """Distillation: a student, its teacher, and how it learns."""

    about: str = ""
    """One line on what this is for."""
    task: TaskConfig
    """What both are asked."""
    base: BaseConfig
    """The student."""
    texts: SampledConfig
    """The teacher (`policy`), and the texts it writes where `distill.cross_entropy` has a weight."""
    distill: DistillConfig = Field(default_factory=lambda: DistillConfig.validated({}, "[distill]"))
    """How the student learns."""

    @classmethod
    def load(cls, path: Path, overrides: Sequence[str] = ()) -> Self:
        """Read a TOML file and change fields as on the command line; `RecipeError` names what is wrong."""
        return cls.validated(of_kind(cls, apply_overrides(read_toml(path), overrides), str(path)), str(path))
