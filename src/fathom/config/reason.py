"""The recipe of a reasoning run: the task, the base it starts from, and how the policy is trained."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from fathom.config.base import Section
from fathom.config.kinds import of_kind
from fathom.config.recipe import Recipe, apply_overrides, read_toml
from fathom.config.train import OptimizerConfig


class TaskConfig(Section):
    """What the policy is trained on."""

    name: str
    """One of the tasks of `fathom.reason.registry`."""
    options: dict[str, Any] = Field(default_factory=dict)
    """How hard it is, in which languages: the task's own dials."""


class DocumentsConfig(Section):
    """What a base reads of its task. Nothing is filtered for being right."""

    searching: float = Field(default=0.1, ge=0, le=1)
    """Share of the answered problems that are tried and checked until one attempt is right; the others make one attempt
    and keep it, as most text does."""
    facts: float = Field(default=0.0, ge=0, lt=1)
    """Share of the documents that are the single facts which checks are made of."""
    megabytes: float = Field(default=10.0, gt=0)
    """Text in all; a longer run reads it more than once."""


class PhaseConfig(Section):
    """One stretch of a base's training: its text, and what differs in `[base.train]`."""

    task: TaskConfig | None = None
    """What its documents are of; left out, what the run is about. A plainer task first is a curriculum."""
    documents: DocumentsConfig = DocumentsConfig()
    """The mix."""
    train: dict[str, Any] = Field(default_factory=dict)
    """Fields of `[train]` for this phase alone."""


class BaseConfig(Section):
    """The model that reinforcement learning starts from: a finished one, or one that is pre-trained here first."""

    folder: Path | None = None
    """A model folder to start from; then nothing is pre-trained."""
    model: dict[str, Any] = Field(default_factory=dict)
    """The network, as a pre-training recipe's `[model]`."""
    train: dict[str, Any] = Field(default_factory=dict)
    """As a pre-training recipe's `[train]`, for all phases."""
    vocab_size: int = 512
    """Tokens of the vocabulary that is learned from the first phase's text."""
    phases: tuple[PhaseConfig, ...] = ()
    """In their order; each begins with the weights of the one before."""
    seed: int = Field(default=1, ge=0)
    """Of the problems in the text; weights and order have `train.seed`."""

    @model_validator(mode="after")
    def _one_origin(self) -> "BaseConfig":
        if (self.folder is None) == (not self.phases):
            raise ValueError(
                "give either a folder with a finished model or phases to pre-train one, not both; base.phases=[] drops "
                "a recipe's phases"
            )
        return self

    def recipe(self, phase: int, corpus: dict[str, Any], initialise_from: Path | None) -> Recipe:
        """The pre-training recipe of a phase, numbered from 0."""
        train = _merged(self.train, self.phases[phase].train)
        if initialise_from is not None:
            train["initialise_from"] = str(initialise_from)
        about = f"Base for reasoning, phase {phase + 1} of {len(self.phases)}"
        return Recipe.from_values({"about": about, "model": self.model, "corpus": corpus, "train": train})


GIVEN = BaseConfig(folder=Path("base"))
"""What the recipe of a stage or a control says of its base: the weights decide which it is, not where they lie."""


class RewardConfig(Section):
    """What each part of a score counts. R1-Zero: accuracy and format alike; R1 adds language."""

    accuracy: float = 1.0
    """Of the right final answer."""
    format: float = 0.0
    """Of thinking and answer standing where they belong."""
    language: float = 0.0
    """Of thinking in the problem's language."""
    control: Literal["none", "random"] = "none"
    """`random` gives 0 or 1 by lot instead: what then improves owes nothing to the reward."""


class RLConfig(Section):
    """Reinforcement learning by groups (GRPO and what came of it). The defaults are a laptop's."""

    preset: Literal["laptop", "r1_zero"] = "laptop"
    """Which published or tried set of values the fields left out take; see `PRESETS`."""
    steps: int = Field(default=60, gt=0)
    """Optimiser steps."""
    problems: int = Field(default=16, gt=0)
    """Problems a step."""
    group_size: int = Field(default=16, ge=2)
    """Texts on each."""
    updates_a_rollout: int = Field(default=1, gt=0)
    """Steps' worth of texts that are written at once and then used one step after the other. R1-Zero: 16."""
    max_tokens: int = Field(default=200, gt=0)
    """Longest text; one that is cut off is wrong."""
    temperature: float = Field(default=1.0, gt=0)
    """Of sampling, and of the log-probabilities that are trained."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Texts are drawn among the fewest likeliest tokens that hold this much of the probability. Below 1, training knows
    of it by `keep_sampling_mask` alone."""
    keep_sampling_mask: bool = False
    """Take training's log-probabilities among the tokens that `top_p` had left, as the texts were drawn (V3.2)."""
    routing_replay: bool = False
    """Route every token in training to the experts it took when it was written (V3.2). Writing is slower then."""
    speculation: Literal["off", "auto", "mtp", "lookup"] = "off"
    """Guess tokens ahead while texts are written, by the policy's MTP module or from what followed the same words
    before. Guesses that come true save time; which texts are written, and their log-probabilities, stay the same."""
    loss: Literal["grpo", "dr_grpo", "dapo", "gspo", "cispo"] = "dapo"
    """The policy loss; see `fathom.reason.losses`."""
    clip_low: float = Field(default=0.2, gt=0)
    """How far the ratio to the writing policy may fall before its gradient ends."""
    clip_high: float = Field(default=0.28, gt=0)
    """How far it may rise."""
    normalise_advantages: bool = True
    """Divide by a group's spread; Dr. GRPO does not."""
    kl_coefficient: float = Field(default=0.0, ge=0)
    """Weight of the KL to the reference policy. R1-Zero: 0.001."""
    kl_unbiased: bool = False
    """DeepSeek-V3.2's estimate of it."""
    reference_every: int = Field(default=0, ge=0)
    """Steps after which the reference becomes the policy of then; 0 keeps the base. R1-Zero: 400."""
    off_policy_bound: float | None = Field(default=None, gt=0)
    """Leave out bad texts the policy has moved away from by more nats a token than this (V3.2)."""
    reward: RewardConfig = RewardConfig()
    """What a text is worth."""
    optimizer: OptimizerConfig
    """Updates and learning rate."""
    micro_batch_texts: int = Field(default=64, gt=0)
    """Texts in one forward pass."""
    evaluate_every: int = Field(default=10, ge=0)
    """Steps between judgements on held-out problems; 0 judges before and after alone."""
    evaluate_problems: int = Field(default=64, gt=0)
    """Held-out problems of a judgement, `group_size` texts each."""
    checkpoint_every: int = Field(default=10, gt=0)
    """Steps between checkpoints; a multiple of `updates_a_rollout`, so that no texts are half used."""
    seed: int = Field(default=1, ge=0)
    """Of the problems and of sampling."""

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, values: Any) -> Any:
        if isinstance(values, dict):
            return _merged(PRESETS.get(values.get("preset", "laptop"), {}), values)
        return values

    @model_validator(mode="after")
    def _whole_rollouts(self) -> "RLConfig":
        for field in ("checkpoint_every", "evaluate_every"):
            if getattr(self, field) % self.updates_a_rollout:
                raise ValueError(f"{field} must be a multiple of updates_a_rollout = {self.updates_a_rollout}")
        if self.routing_replay and self.speculation != "off":
            raise ValueError('routing_replay and speculation do not go together: set speculation = "off"')
        return self


PRESETS: dict[str, dict[str, Any]] = {
    "laptop": {"optimizer": {"learning_rate": 3e-4, "betas": (0.9, 0.99), "weight_decay": 0.0}},
    # arXiv:2501.12948 v2, section B.3.2 and the supplement to Nature 645, 633: 32 questions of 16 texts a step, 8,192
    # texts written at once and cut into 16 steps, reference replaced every 400 steps, 10,400 steps in all.
    "r1_zero": {
        "steps": 10_400,
        "problems": 32,
        "group_size": 16,
        "updates_a_rollout": 16,
        "max_tokens": 32_768,
        "temperature": 1.0,
        "loss": "grpo",
        "clip_low": 10.0,
        "clip_high": 10.0,
        "kl_coefficient": 0.001,
        "reference_every": 400,
        "reward": {"accuracy": 1.0, "format": 1.0},
        "optimizer": {"learning_rate": 3e-6},
        "evaluate_every": 400,
        "checkpoint_every": 400,
    },
}


class ReasonRecipe(Section):
    """A reasoning run: task, base and reinforcement."""

    about: str = ""
    """One line on what this is for."""
    task: TaskConfig
    """What is learned."""
    base: BaseConfig
    """What it starts from."""
    rl: RLConfig = Field(default_factory=lambda: RLConfig.validated({}, "[rl]"))
    """How it is reinforced."""

    @classmethod
    def load(cls, path: Path, overrides: Sequence[str] = ()) -> "ReasonRecipe":
        """Read a TOML file and change fields as on the command line; `RecipeError` names what is wrong."""
        return cls.validated(of_kind(cls, apply_overrides(read_toml(path), overrides), str(path)), str(path))


def _merged(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    result = dict(values)
    for name, change in changes.items():
        inner = result.get(name)
        result[name] = _merged(inner, change) if isinstance(change, dict) and isinstance(inner, dict) else change
    return result
