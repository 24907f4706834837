"""Texts as windows of tokens, for commands that measure models on them."""

from pathlib import Path
from typing import TYPE_CHECKING

from fathom.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from fathom.corpus.tokenizer import Tokenizer


def tokens_of(paths: list[Path], tokenizer: "Tokenizer") -> list[int]:
    """The tokens of several texts, one after the other."""
    return [token for path in paths for token in tokenizer.encode(_read(path))]


def spread(ids: list[int], sequence: int, tokens: int, what: str) -> "Tensor":
    """Windows (B, S) of `ids`, at most so many `tokens`, spread evenly; `UsageError` if `what` is too short."""
    import torch

    whole = len(ids) // sequence
    count = min(whole, max(tokens // sequence, 1))
    if not count:
        raise UsageError(
            f"{what} has {len(ids)} tokens, and {sequence} are read together: give more, or --sequence less."
        )
    picked = torch.tensor(ids[: whole * sequence]).view(whole, sequence)
    return picked[torch.linspace(0, whole - 1, count).long()]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file.") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start}).") from None
