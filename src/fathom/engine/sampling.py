"""What may be asked of a generation, and how the next token is drawn from the model's logits."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fathom.errors import GenerationError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class SamplingParams:
    """How to continue a prompt. The names and meanings are those of the field's serving engines."""

    max_tokens: int = 256
    """Stop after so many new tokens; the model's context may end the text sooner."""
    temperature: float = 1.0
    """Divides the logits; 0 always takes the most likely token."""
    top_k: int = 0
    """Draw among the k most likely tokens only; 0 for all."""
    top_p: float = 1.0
    """Draw among the fewest most likely tokens whose probabilities add up to at least this."""
    min_p: float = 0.0
    """Leave out tokens less likely than this share of the most likely one's probability."""
    repetition_penalty: float = 1.0
    """Above 1, makes tokens that the prompt or the text already holds less likely (arXiv:1909.05858)."""
    seed: int | None = None
    """The same seed gives the same text; None draws anew each time."""
    stop: tuple[str, ...] = ()
    """Strings that end the text when they appear in it, across token borders too; they are not part of the text."""
    stop_token_ids: tuple[int, ...] = ()
    """Tokens that end the text, beside the model's own end-of-sequence token."""
    ignore_eos: bool = False
    """Go on after the model's end-of-sequence token."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "stop", (self.stop,) if isinstance(self.stop, str) else tuple(self.stop))
        object.__setattr__(self, "stop_token_ids", tuple(self.stop_token_ids))
        self._require("max_tokens", self.max_tokens >= 1, "a whole number of at least 1")
        self._require("temperature", 0 <= self.temperature < math.inf, "0 (always the likeliest token) or more")
        self._require("top_k", self.top_k >= 0, "0 (no limit) or more")
        self._require("top_p", 0 < self.top_p <= 1, "above 0 and at most 1")
        self._require("min_p", 0 <= self.min_p <= 1, "between 0 and 1")
        self._require("repetition_penalty", 0 < self.repetition_penalty < math.inf, "above 0 (1 changes nothing)")
        self._require("seed", self.seed is None or 0 <= self.seed < 2**63, "a whole number from 0, or nothing")
        self._require("stop", all(self.stop), "strings of at least one character")

    def _require(self, field: str, holds: bool, expected: str) -> None:
        if not holds:
            raise GenerationError(f"{field} is {getattr(self, field)!r}: it must be {expected}.")


class Sampler:
    """Draws one sequence's tokens, with its own random numbers, so that neighbours in a batch do not change them."""

    def __init__(self, params: SamplingParams, prompt_ids: Iterable[int] = ()) -> None:
        import torch

        self.params = params
        self._generator = torch.Generator()
        if params.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(params.seed)
        self._seen = set(prompt_ids) if params.repetition_penalty != 1 else None

    def draw(self, logits: "torch.Tensor") -> tuple[int, float]:
        """Choose a token from logits (V,), with its log-probability in the distribution that was sampled from.

        A greedy choice is certain in that sense, which says nothing; its log-probability is the model's own, at
        temperature 1.
        """
        import torch

        scores = logits.detach().to("cpu", torch.float32)
        if not torch.isfinite(scores).any() or torch.isnan(scores).any():
            raise GenerationError("The model's logits are not numbers (NaN or all infinite): its weights are damaged.")
        if self._seen:
            scores = penalised(scores, self._seen, self.params.repetition_penalty)
        if self.params.temperature == 0:
            token = int(scores.argmax())
            logprob = float(scores.log_softmax(-1)[token])
        else:
            logprobs = log_probabilities(scores, self.params)
            token = int(torch.multinomial(logprobs.exp(), 1, generator=self._generator))
            logprob = float(logprobs[token])
        if self._seen is not None:
            self._seen.add(token)
        return token, logprob


def log_probabilities(logits: "torch.Tensor", params: SamplingParams) -> "torch.Tensor":
    """Turn logits (V,) into the log-probabilities (V,) to draw from: temperature, then min_p, top_k and top_p."""
    logprobs = (logits / params.temperature).log_softmax(-1)
    if params.min_p > 0:
        logprobs = logprobs.masked_fill(logprobs < logprobs.max() + math.log(params.min_p), -math.inf)
    if params.top_k or params.top_p < 1:
        logprobs = _among_the_likeliest(logprobs, params.top_k, params.top_p)
    return logprobs.log_softmax(-1)


def _among_the_likeliest(logprobs: "torch.Tensor", top_k: int, top_p: float) -> "torch.Tensor":
    ordered, order = logprobs.sort(descending=True, stable=True)
    keep = ordered > -math.inf
    if top_k:
        keep[top_k:] = False
    if top_p < 1:
        probabilities = ordered.masked_fill(~keep, -math.inf).softmax(-1)
        before = probabilities.cumsum(-1) - probabilities
        keep &= before < top_p
    keep[0] = True
    return logprobs.masked_fill(~keep.scatter(0, order, keep), -math.inf)


def penalised(logits: "torch.Tensor", seen: set[int], penalty: float) -> "torch.Tensor":
    """Lower the logits (V,) of tokens already `seen`: positive ones are divided, negative ones multiplied."""
    import torch

    ids = torch.tensor(sorted(seen))
    values = logits[ids]
    return logits.scatter(0, ids, torch.where(values > 0, values / penalty, values * penalty))
