"""From one position's logits to the distribution its token is drawn from: the plain form of what `sampler` does."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from fathom.engine.sampling import SamplingParams


def log_probabilities(logits: "Tensor", params: "SamplingParams") -> "Tensor":
    """Turn logits (V,) into the log-probabilities (V,) to draw from: temperature, then min_p, top_k and top_p."""
    logprobs = ((logits - logits.max()) / params.temperature).log_softmax(-1)
    if params.min_p > 0:
        logprobs = logprobs.masked_fill(logprobs < logprobs.max() + math.log(params.min_p), -math.inf)
    if params.top_k or params.top_p < 1:
        logprobs = _among_the_likeliest(logprobs, params.top_k, params.top_p)
    return logprobs.log_softmax(-1)


def penalised(logits: "Tensor", params: "SamplingParams", prompt: set[int], counts: Mapping[int, int]) -> "Tensor":
    """Lower the logits (V,) of tokens in the prompt or, `counts` times, in the text; then add the bias.

    The repetition penalty divides positive logits and multiplies negative ones; frequency and presence penalties, with
    OpenAI's meaning, are subtracted and look at the text alone.
    """
    logits = logits.clone()
    for token in prompt | counts.keys():
        value, penalty = logits[token], params.repetition_penalty
        logits[token] = value / penalty if value > 0 else value * penalty
    for token, count in counts.items():
        logits[token] -= params.frequency_penalty * count + params.presence_penalty
    for token, bias in params.logit_bias.items():
        logits[token] += bias
    return logits


def _among_the_likeliest(logprobs: "Tensor", top_k: int, top_p: float) -> "Tensor":
    ordered, order = logprobs.sort(descending=True, stable=True)
    keep = ordered > -math.inf
    if top_k:
        keep[top_k:] = False
    if top_p < 1:
        probabilities = ordered.masked_fill(~keep, -math.inf).double().softmax(-1)
        before = probabilities.cumsum(-1) - probabilities
        keep &= before < top_p
    keep[0] = True
    return logprobs.masked_fill(~keep.scatter(0, order, keep), -math.inf)
