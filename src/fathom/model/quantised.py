"""Linear maps, experts and embeddings that hold their weights in 8 or 4 bits, and dequantise them as they are used.

They stand in for the plain ones in a finished model, which then takes a half or a quarter of bf16's memory, decodes as
much faster where memory is what it waits for, and cannot be trained. On a CPU the plain forward pass dequantises whole
matrices at each use, and `fathom.engine.plan` reads the numbers as they are held; so do Triton's kernels on a GPU.
"""

from typing import cast

import torch
from torch import Tensor, nn

from fathom.kernels.quantise import (
    GROUP,
    Bits,
    Quantised,
    dequantise,
    quantise,
    quantised_experts,
    quantised_linear,
)
from fathom.model.attention import LatentAttention
from fathom.model.experts import Experts
from fathom.model.linear import Linear
from fathom.model.outputs import Choice
from fathom.model.transformer import Transformer

FORMATS: dict[str, Bits] = {"int8": 8, "int4": 4}


class _Held(nn.Module):
    """Quantised matrices as buffers. Scales are kept as the bits of bf16 numbers, which `.to(dtype)` leaves alone."""

    def _hold(self, name: str, matrix: Quantised) -> None:
        self.register_buffer(f"{name}_data", matrix.data)
        self.register_buffer(f"{name}_scales", matrix.scales.view(torch.int16))

    def held(self, name: str) -> Quantised:
        """The matrix as it is held; stacked ones lie under each other."""
        data, scales = self.get_buffer(f"{name}_data"), self.get_buffer(f"{name}_scales")
        return Quantised(data, scales.view(torch.bfloat16))


class QuantisedLinear(_Held):
    """x W^T + b with W (out, in) in groups of 32."""

    def __init__(self, like: Linear, bits: Bits) -> None:
        super().__init__()
        self._hold("weight", quantise(like.weight, bits))
        self.bias = like.bias

    @property
    def weight(self) -> Tensor:
        """The matrix (out, in), dequantised to bf16 for this use."""
        return dequantise(self.held("weight"))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        return quantised_linear(x, self.held("weight"), self.bias)


class QuantisedEmbedding(_Held):
    """Rows of an embedding (V, D) in groups of 32, which may also be the output head."""

    def __init__(self, like: nn.Embedding, bits: Bits) -> None:
        super().__init__()
        self._hold("weight", quantise(like.weight, bits))

    @property
    def weight(self) -> Tensor:
        """The matrix (V, D), dequantised to bf16 for this use."""
        return dequantise(self.held("weight"))

    def forward(self, tokens: Tensor) -> Tensor:
        """The rows (..., D) of `tokens` (...)."""
        held, flat = self.held("weight"), tokens.flatten()
        rows = dequantise(Quantised(held.data[flat], held.scales[flat]))
        return rows.view(*tokens.shape, -1)


class QuantisedExperts(_Held):
    """Stacked experts in groups of 32; shapes as in `Experts`."""

    def __init__(self, like: Experts, bits: Bits) -> None:
        super().__init__()
        for name in ("gate_up_proj", "down_proj"):
            stacked = getattr(like, name)
            self._hold(name, quantise(stacked.flatten(0, 1), bits))

    def forward(self, x: Tensor, choice: Choice) -> Tensor:
        """Each of the tokens x (T, D) through its experts, weighted and summed."""
        held = (self.held("gate_up_proj"), self.held("down_proj"))
        return quantised_experts(x, choice.ids, choice.weights, *held)


@torch.no_grad()
def quantise_model(model: Transformer, weights: str) -> Transformer:
    """Bring a model's large matrices to "int8" or "int4", in place, and the rest of it to bf16; returns it.

    Routers keep their type. Up-projections of latents, which decoding reads in both directions, become bf16. With
    "int4" the output head has eight bits, and so has the embedding where it is the head; one that is not becomes bf16.
    Matrices whose rows are not whole groups of 32 become bf16.
    """
    bits = FORMATS[weights]
    for owner in list(model.modules()):
        for name, child in list(owner.named_children()):
            if isinstance(child, Linear) and _fits(child.weight) and not _stays(owner, name):
                setattr(owner, name, QuantisedLinear(child, 8 if owner is model else bits))
            elif type(child) is Experts and _fits(child.gate_up_proj) and _fits(child.down_proj):
                setattr(owner, name, QuantisedExperts(child, bits))
            elif isinstance(child, Linear | nn.Embedding | Experts):
                child.to(torch.bfloat16)
    embedding = model.model.embed_tokens
    if model.config.tie_word_embeddings and _fits(embedding.weight):
        model.model.embed_tokens = cast(nn.Embedding, QuantisedEmbedding(embedding, 8))
    model.compute_dtype = torch.bfloat16
    return model


def _stays(owner: nn.Module, name: str) -> bool:
    return isinstance(owner, LatentAttention) and name == "kv_b_proj"


def _fits(weight: Tensor) -> bool:
    return weight.shape[-1] % GROUP == 0
