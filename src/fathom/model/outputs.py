"""The nouns of the network: what its parts hand to each other and to the caller."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Rotation:
    """Cosines and sines of every position's rotary angles, each (B or 1, S, qk_rope_head_dim / 2) in FP32."""

    cos: Tensor
    sin: Tensor

    def first(self, length: int) -> "Rotation":
        """The tables of the first `length` positions."""
        return self if length == self.cos.shape[1] else Rotation(self.cos[:, :length], self.sin[:, :length])

    def sequences(self, number: int | None) -> "Rotation":
        """The tables of the first `number` sequences; tables that all sequences share stay as they are."""
        return self if self.cos.shape[0] == 1 else Rotation(self.cos[:number], self.sin[:number])


@dataclass(frozen=True)
class Choice:
    """A router's decision for T tokens."""

    ids: Tensor
    """Chosen experts (T, K) int64."""
    weights: Tensor
    """What each chosen expert's output is multiplied by (T, K), FP32 (FP64 for FP64 input)."""
    scores: Tensor
    """Scores of all experts (T, E), without the balancing bias."""


@dataclass(frozen=True)
class Routing:
    """What one expert layer tells of one call. Returned, never stored: evaluation leaves no trace in the balance."""

    loads: Tensor
    """Tokens that chose each expert (E,) int64."""
    balance_loss: Tensor | None
    """Sequence-wise balance loss without its coefficient, a scalar; None unless asked for."""


@dataclass(frozen=True)
class Trunk:
    """The network without its output head."""

    hidden: Tensor
    """(B, S, D) after the final norm, ready for the head."""
    mtp_hidden: tuple[Tensor, ...]
    """For each MTP module that ran, its output after its norm, ready for the head."""
    loads: Tensor
    """(expert layers, E) int64: tokens that chose each expert in this call; MTP modules' rows last."""
    balance_loss: Tensor | None
    """Sum over expert layers of the sequence-wise balance loss (V3 eq. 17, without alpha); None unless asked for."""


@dataclass(frozen=True)
class ModelOutput:
    """Predictions for every position."""

    logits: Tensor
    """(B, S, V): scores of the next token."""
    mtp_logits: tuple[Tensor, ...] = ()
    """For each MTP module that ran, the scores of the token after those before it."""
