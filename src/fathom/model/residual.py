"""How a layer's parts read from and write to what flows past them."""

from typing import Protocol

from torch import Tensor, nn

from fathom.config.model import ModelConfig


class Residual(Protocol):
    """A residual rule. One stands before each attention and each feed-forward, and may have weights of its own.

    `State` is whatever flows from layer to layer; for the plain rule it is x itself, for hyper-connections n streams.
    """

    def enter(self, x: Tensor) -> Tensor:
        """The state that begins with embeddings x (B, S, D)."""

    def read(self, state: Tensor) -> Tensor:
        """What a part works on, (B, S, D)."""

    def write(self, state: Tensor, y: Tensor) -> Tensor:
        """The state after a part has made y (B, S, D)."""

    def leave(self, state: Tensor) -> Tensor:
        """What the final norm sees, (B, S, D)."""


class Add(nn.Module):
    """The plain rule: x + f(x)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()

    def enter(self, x: Tensor) -> Tensor:
        """Return x."""
        return x

    def read(self, state: Tensor) -> Tensor:
        """Return x."""
        return state

    def write(self, state: Tensor, y: Tensor) -> Tensor:
        """Return x + y."""
        return state + y

    def leave(self, state: Tensor) -> Tensor:
        """Return x."""
        return state
