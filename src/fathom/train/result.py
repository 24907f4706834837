"""How a training run ends, and what may ask it to."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TrainResult:
    """How a run ended."""

    finished: bool
    """False if it was asked to stop; the same call goes on from there."""
    steps: int
    """Steps done."""
    tokens: int
    """Tokens trained on."""
    seconds: float
    """Training time, over all restarts."""
    bits_per_byte: dict[str, float]
    """Of all held-out text, by group; empty if the run is not finished."""
    model: Path | None
    """The finished Hugging Face folder."""


def never() -> bool:
    """A `stop` that lets a run go on to its end."""
    return False
