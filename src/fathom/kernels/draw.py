"""Draws a token from each row of scores in one native call; `fathom.engine.sampler` is the plain form."""

import ctypes
from array import array

import torch
from torch import Tensor

from fathom.kernels import native


def usable(scores: Tensor) -> bool:
    """Whether there is a native form for these scores."""
    return scores.dtype == torch.float32 and native.usable(scores)


def draw(scores: Tensor, wholes: "array[int]", reals: "array[float]") -> tuple[list[int], list[float]]:
    """n tokens, -1 where nothing can be drawn, and their log-probabilities, from scores (n, V) FP32.

    For each row `wholes` (n, 2) int64 holds the key of its random numbers and its top_k, `reals` (n, 3) FP64 its
    temperature, min_p and top_p.

    Measured on one Zen 5 thread, 16 rows of 8,192 at temperature 1: the plain form takes 5.6 ms, this one 0.09 ms.
    """
    loaded = native.library()
    assert loaded is not None
    n, V = scores.shape
    scores = scores.contiguous()
    tokens, logprobs = array("q", bytes(8 * n)), array("f", bytes(4 * n))
    places = [values.buffer_info()[0] for values in (wholes, reals, tokens, logprobs)]
    addresses = (scores.data_ptr(), *places)
    loaded.draw_f32(*map(ctypes.c_void_p, addresses), ctypes.c_int64(n), ctypes.c_int64(V))
    return tokens.tolist(), logprobs.tolist()
