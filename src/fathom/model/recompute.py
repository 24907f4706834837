"""Selective recomputation: norms and attention's up-projections are made again in the backward pass, not kept.

This is DeepSeek-V3's choice (section 3.2.3): they are cheap to make and large to keep. Nothing that multiplies
experts or mixes positions runs twice.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

Recompute = Literal["none", "norms_and_up_projections", "layer"]
Made = TypeVar("Made", bound=Tensor | tuple[Tensor, ...])


class Runner(Protocol):
    """Calls a function that may be called again in the backward pass."""

    def __call__(self, function: Callable[..., Made], *inputs: Any) -> Made:
        """Return what `function` makes of `inputs`."""


def run_plainly(function: Callable[..., Made], *inputs: Any) -> Made:
    """Call `function`; what later operations need of its outputs is kept."""
    return function(*inputs)


class _Recipe:
    """How to make the outputs of one call again."""

    def __init__(self, function: Callable[..., Any], inputs: list[Any]) -> None:
        self._function, self._inputs = function, inputs
        self._waiting = 0
        self._made: tuple[Tensor, ...] | None = None

    def promise(self) -> None:
        """Count one more operation that will ask for an output."""
        self._waiting += 1

    def make(self, output: int) -> Tensor:
        """The output of that number; the outputs are held until everyone who was promised one has asked."""
        made = self._made
        if made is None:
            with torch.no_grad():
                made = _all(self._function(*(_unpack(packed) for packed in self._inputs)))
        self._waiting -= 1
        self._made = made if self._waiting > 0 else None
        return made[output]


class _View(NamedTuple):
    """A saved tensor that is (a view of) a recipe's output."""

    recipe: _Recipe
    output: int
    size: torch.Size
    stride: tuple[int, ...]
    offset: int | torch.SymInt


class Forgetting:
    """Runs functions whose outputs the backward pass makes again. Each layer has its own."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[_Recipe, int, Tensor]] = {}

    def run(self, function: Callable[..., Made], *inputs: Any) -> Made:
        """Call `function`, and remember within `forgetting` how its outputs came about."""
        outputs = function(*inputs)
        recipe = _Recipe(function, [self._pack(x.detach()) if isinstance(x, Tensor) else x for x in inputs])
        for number, tensor in enumerate(_all(outputs)):
            # The tensor is held while the layer runs, so that its address cannot come to mean another one.
            self._known[tensor.untyped_storage()._cdata] = (recipe, number, tensor)
        return outputs

    @contextmanager
    def forgetting(self) -> Iterator[None]:
        """Keep for the backward pass, in the place of the outputs of `run`, how to make them."""
        with saved_tensors_hooks(self._pack, _unpack):
            try:
                yield
            finally:
                self._known.clear()

    def _pack(self, tensor: Tensor) -> Tensor | _View:
        recipe, number, original = self._known.get(tensor.untyped_storage()._cdata, (None, 0, tensor))
        if recipe is None or tensor.dtype != original.dtype:
            return tensor
        recipe.promise()
        return _View(
            recipe, number, tensor.size(), tensor.stride(), tensor.storage_offset() - original.storage_offset()
        )


def _unpack(packed: Any) -> Any:
    if not isinstance(packed, _View):
        return packed
    made = packed.recipe.make(packed.output)
    return made.as_strided(packed.size, packed.stride, made.storage_offset() + packed.offset)


def _all(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def set_runner(layer: nn.Module, run: Callable[..., Any]) -> None:
    """Make every norm and attention of `layer` call its recomputable parts through `run`."""
    for module in layer.modules():
        if hasattr(module, "run"):
            setattr(module, "run", run)  # noqa: B010 - nn.Module's own typing knows tensors and modules only
