"""Everything that a run must remember to go on exactly: what a checkpoint holds."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fathom.config.train import TrainConfig
from fathom.model.transformer import Transformer
from fathom.parallel.fsdp import local
from fathom.train.ema import ParameterAverage
from fathom.train.guard import Guard
from fathom.train.optimizer import Optimizer


@dataclass
class Counters:
    """Where a run stands."""

    step: int = 0
    """Optimiser steps done."""
    sequences: int = 0
    """Place in the order of the data: sequences served, skipped ones included."""
    tokens: int = 0
    """Tokens trained on."""
    elapsed: float = 0.0
    """Seconds of training, over all restarts."""


@dataclass
class TrainingState:
    """Model, optimiser, average, guard and counters, changed in place as the run goes."""

    model: Transformer
    optimizer: Optimizer
    average: ParameterAverage | None
    guard: Guard
    counters: Counters = field(default_factory=Counters)

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor by a name that is unique in a checkpoint."""
        tensors = {f"model.{name}": tensor for name, tensor in persistent_tensors(self.model).items()}
        tensors |= {f"optimizer.{name}": tensor for name, tensor in self.optimizer.state_tensors().items()}
        if self.average is not None:
            tensors |= {f"average.{name}": tensor for name, tensor in self.average.average.items()}
        tensors["random.cpu"] = torch.get_rng_state()
        return tensors

    def facts(self) -> dict[str, Any]:
        """Every number beside the tensors."""
        return {"counters": vars(self.counters).copy(), "guard": self.guard.facts()}

    def load(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Take over a checkpoint whose tensors were read into what `tensors` gave."""
        torch.set_rng_state(tensors["random.cpu"])
        self.counters = Counters(**facts["counters"])
        self.guard.restore(facts["guard"])

    def begin_again(self, fresh: Transformer) -> None:
        """Set everything to the state before the first step; `fresh` has the first weights, laid out alike."""
        with torch.no_grad():
            first = persistent_tensors(fresh)
            for name, tensor in persistent_tensors(self.model).items():
                local(tensor).copy_(local(first[name]))
        self.optimizer.reset()
        if self.average is not None:
            self.average.restart()
        self.counters = Counters()
        self.guard.restore({"recent": [], "high": []})


def build_state(model: Transformer, train: TrainConfig) -> TrainingState:
    """The state of a run over `model`, whose weights are already there."""
    named = dict(model.named_parameters())
    ema = train.ema
    return TrainingState(
        model,
        Optimizer(train.optimizer, named.items(), fp32=train.precision == "fp32"),
        ParameterAverage(named, ema.decay, ema.every) if ema.every else None,
        Guard(train.guard),
    )


def persistent_tensors(model: Transformer) -> dict[str, Tensor]:
    """Parameters and persistent buffers by name."""
    return {name: tensor.detach() for name, tensor in model.state_dict().items()}
