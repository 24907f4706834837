"""The recipe of DeepSeek-R1's four stages: one table a stage, after the base and R1-Zero."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from fathom.config.base import Section
from fathom.config.kinds import of_kind
from fathom.config.reason import BaseConfig, RLConfig, TaskConfig
from fathom.config.recipe import apply_overrides, read_toml
from fathom.config.tuning import SampledConfig, SFTConfig

WRITERS = {"dev1": "zero", "dev3": "dev2"}
"""The stage whose model writes what a fine-tuning stage learns; `[dev1.texts]` and `[dev3.texts]` do not name it."""


class ColdStartConfig(Section):
    """Dev1: right texts of R1-Zero, put into readable form by the task's rule, are learned by the base."""

    texts: SampledConfig
    """What Zero writes. R1: at temperature 1, right and readable ones kept, thousands in all."""
    sft: SFTConfig = Field(default_factory=lambda: SFTConfig.validated({}, "[dev1.sft]"))
    """How it is learned."""


class RejectionConfig(Section):
    """Dev3: right texts of Dev2, and replies that need no thinking, are learned by the base (not by Dev2)."""

    texts: SampledConfig
    """What Dev2 writes. R1: about 600,000 kept texts."""
    least_language: float = Field(default=1.0, ge=0, le=1)
    """Texts with a smaller share of thinking in the problem's language are left out, as R1 leaves out mixed ones."""
    general_texts: int = Field(default=200, gt=0)
    """Replies to the general task. R1: about 200,000, a quarter of all."""
    sft: SFTConfig = Field(default_factory=lambda: SFTConfig.validated({}, "[dev3.sft]"))
    """How they are learned."""


class ComparisonConfig(Section):
    """How every stage's model is judged for the table: the same held-out problems for all."""

    problems: int = Field(default=48, gt=0)
    """Held-out problems of each task and language."""
    texts: int = Field(default=8, gt=0)
    """Texts on each."""
    max_tokens: int = Field(default=200, gt=0)
    """Longest text; one that is cut off is wrong."""
    temperature: float = Field(default=1.0, gt=0)
    """Of sampling. R1's evaluations: 0.6."""


class R1Recipe(Section):
    """From a base to R1: Zero, then Dev1, Dev2, Dev3 and R1 (arXiv:2501.12948 v2, figure 2)."""

    about: str = ""
    """One line on what this is for."""
    task: TaskConfig
    """What is reasoned about; it writes its readable form, in two languages."""
    general: TaskConfig
    """What needs no thinking."""
    general_share: float = Field(default=0.25, gt=0, lt=1)
    """Share of general problems in what the base reads."""
    last_general_share: float = Field(default=0.45, gt=0, lt=1)
    """Share of general problems in the last stage. R1: 66 of 146 thousand prompts."""
    base: BaseConfig
    """The base, of whose documents `general_share` are of the general task."""
    zero: RLConfig
    """R1-Zero: reinforcement straight on the base."""
    dev1: ColdStartConfig
    """Cold start."""
    dev2: RLConfig
    """Reinforcement on reasoning, with the reward for the right language."""
    dev3: RejectionConfig
    """Rejection sampling and fine-tuning of the base."""
    r1: RLConfig
    """Reinforcement for all scenarios: reasoning and general problems. R1: temperature 0.7."""
    comparison: ComparisonConfig = ComparisonConfig()
    """The table."""

    @classmethod
    def load(cls, path: Path, overrides: Sequence[str] = ()) -> Self:
        """Read a TOML file and change fields as on the command line; `RecipeError` names what is wrong."""
        return cls.validated(of_kind(cls, apply_overrides(read_toml(path), overrides), str(path)), str(path))

    @model_validator(mode="before")
    @classmethod
    def _writers(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        values = dict(values)
        for stage, writer in WRITERS.items():
            table = values.get(stage)
            if isinstance(table, dict) and isinstance(table.get("texts", {}), dict):
                values[stage] = table | {"texts": {"policy": writer} | table.get("texts", {})}
        return values

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        for stage, writer in WRITERS.items():
            policy = getattr(self, stage).texts.policy
            if policy != writer:
                raise ValueError(
                    f"{stage}.texts.policy is {policy!r}: texts of this stage are {writer}'s; leave it out"
                )
        return self
