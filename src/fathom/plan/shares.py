"""What one of several processes holds and sends when FSDP2 cuts a model over them, counted from shapes."""

from dataclasses import dataclass
from math import prod

from torch import nn

from fathom.config.recipe import Recipe
from fathom.model.router import Router
from fathom.model.transformer import Transformer
from fathom.plan.rehearsal import build
from fathom.train.optimizer import Optimizer

FP32 = 4


@dataclass(frozen=True)
class Shares:
    """Bytes of the process that holds most: tensors are cut along their first dimension, whole rows each."""

    parameters: int
    """Its share of the FP32 masters."""
    gradients: int
    """Its share of the FP32 gradients; all of them where a batch is several passes and they are summed after the last
    alone."""
    moments: int
    """Its share of the optimiser's moments."""
    gathered: int
    """At the fullest moment: the ends of the model, two layers (one computes, one is fetched), and one layer's
    gradients on the way to their owners."""
    received: int
    """What it receives from the others in a step."""


def shares(recipe: Recipe, processes: int, passes: int) -> Shares:
    """The shares of `recipe` among `processes`, `passes` passes a step."""
    model = build(recipe)
    optimizer = Optimizer(recipe.train.optimizer, model.named_parameters(), fp32=recipe.train.precision == "fp32")
    travelling = FP32 if recipe.train.precision == "fp32" else 2
    layers = [_travelling(layer, travelling) for layer in model.model.layers]
    ends = _travelling(model, travelling) - sum(layers)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    keeps_layers = not recipe.parallel.reshard_after_forward
    standing = sum(layers) if keeps_layers else 2 * max(layers)
    # A layer's gradients, as they were made and in FP32 for the sum.
    leaving = max(layers) + max(layers) // travelling * FP32
    whole = sum(parameter.numel() for parameter in trained) * FP32
    gathers = passes > 1 and not recipe.parallel.sum_every_pass
    sums = 1 if gathers else passes
    fetched = passes * (1 if keeps_layers else 2) * (ends + sum(layers))
    return Shares(
        parameters=sum(_share(parameter.shape, processes) for parameter in model.parameters()),
        gradients=whole if gathers else sum(_share(parameter.shape, processes) for parameter in trained),
        moments=sum(_share(tensor.shape, processes) for tensor in optimizer.state_tensors().values()),
        gathered=ends + standing + leaving,
        received=(fetched + sums * whole) * (processes - 1) // processes,
    )


def _share(shape: tuple[int, ...], processes: int) -> int:
    rows = -(-shape[0] // processes) if shape else 1
    return rows * prod(shape[1:]) * FP32


def _travelling(module: nn.Module | Transformer, size: int) -> int:
    return sum(
        parameter.numel() * (FP32 if isinstance(part, Router) else size)
        for part in module.modules()
        for parameter in part.parameters(recurse=False)
    )
