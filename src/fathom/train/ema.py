"""An exponential moving average of the parameters in CPU memory (V3 section 3.2.3)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fathom.parallel.fsdp import local


class ParameterAverage:
    """The running average of named parameters, updated every few steps."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float, every: int) -> None:
        self._parameters = dict(parameters)
        self._decay, self._every = decay**every, every
        self.average: dict[str, Tensor] = {
            name: parameter.detach().to("cpu", copy=True) for name, parameter in self._parameters.items()
        }

    @torch.no_grad()
    def update(self, steps_done: int) -> None:
        """Take the parameters into the average, if `steps_done` is a multiple of the interval."""
        if steps_done % self._every:
            return
        latest = [local(parameter.detach()).to("cpu") for parameter in self._parameters.values()]
        torch._foreach_lerp_([local(tensor) for tensor in self.average.values()], latest, 1.0 - self._decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the average in the place of the parameters, and the parameters back at the end."""
        with torch.no_grad():
            kept = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
            self._write(self.average)
            try:
                yield
            finally:
                self._write(kept)

    def restart(self) -> None:
        """Begin again from the parameters as they are."""
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                local(self.average[name]).copy_(local(parameter))

    def _write(self, values: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                local(parameter).copy_(local(values[name]))
