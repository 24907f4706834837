"""How each kind of module that a native plan knows is said in its nodes."""

import ctypes
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from fathom.kernels.decode.program import ADD, LOGITS, STORE_FLOAT, Matrix, Program, integers
from fathom.kernels.quantise import Quantised
from fathom.model.attention import LatentAttention
from fathom.model.block import Layer
from fathom.model.experts import Experts, MoE
from fathom.model.feed_forward import FeedForward
from fathom.model.grouped_query_attention import GroupedQueryAttention
from fathom.model.linear import Linear, RMSNorm
from fathom.model.mtp import MTPModule
from fathom.model.quantised import QuantisedEmbedding, QuantisedExperts, QuantisedLinear
from fathom.model.residual import Add
from fathom.model.rope import frequencies, table_factor
from fathom.model.router import Router
from fathom.model.transformer import Transformer


class Builder:
    """Adds nodes for modules. Buffers are shared by all layers: a layer's are done with when the next begins."""

    def __init__(self, model: Transformer, program: Program) -> None:
        self.model, self.program = model, program
        self._buffers: dict[tuple[str, int, torch.dtype, int], int] = {}
        self._works: dict[tuple[int, int, int], ctypes.c_void_p] = {}
        config = model.config
        angles = frequencies(config)
        self.width = config.hidden_size
        self.state = self.buffer("state", self.width, torch.float32)
        self.rotation = self.buffer("rotation", 2 * angles.numel(), torch.float32)
        self.x = self.buffer("x", self.width)
        embedding = model.model.embed_tokens.weight
        # Read in the type the plan computes in, or where it is: one row a token needs no copy of the whole table.
        kept = embedding.dtype if embedding.dtype in (torch.float32, torch.bfloat16) else None
        stretch = float(table_factor(config.rope_scaling))
        self._begins = (program.matrix(embedding, kept), program.float_vector(angles), stretch)

    def enter(self) -> None:
        """Embeddings into the state, and the rotary tables."""
        self.program.add("enter", self.state, self.rotation, *self._begins)

    def enter_module(self, module: MTPModule) -> None:
        """What an MTP module makes of the states before it and the tokens after them, and the rotary tables."""
        program = self.program
        joined = self.buffer("joined", 2 * self.width)
        norms = (program.float_vector(module.enorm.weight), program.float_vector(module.hnorm.weight))
        program.add("enter_module", self.state, self.rotation, joined, *self._begins, *norms, float(module.enorm.eps))
        program.linear(joined, (self.weight(module.eh_proj), None, self.state, STORE_FLOAT))

    def buffer(self, name: str, width: int, dtype: torch.dtype | None = None, rows_per_token: int = 1) -> int:
        """The buffer of this name and shape."""
        dtype = dtype or self.program.dtype
        key = (name, width, dtype, rows_per_token)
        if key not in self._buffers:
            self._buffers[key] = self.program.buffer(width, dtype, rows_per_token)
        return self._buffers[key]

    def work(self, groups: int, heads_per_group: int, value_width: int) -> ctypes.c_void_p:
        """What attention layers of this shape share."""
        key = (groups, heads_per_group, value_width)
        if key not in self._works:
            self._works[key] = self.program.attention_work(*key)
        return self._works[key]

    def weight(self, module: nn.Module, name: str = "weight") -> Matrix:
        """A matrix of a module, as it is held."""
        return self.program.matrix(_held(module, name))

    def norm(self, norm: RMSNorm, source: int, target: int) -> None:
        """RMSNorm of one buffer into another."""
        self.program.add("norm", source, target, self.program.float_vector(norm.weight), float(norm.eps))

    def layer(self, layer: Layer, index: int) -> None:
        """A whole layer on the state."""
        self.norm(layer.input_layernorm, self.state, self.x)
        ATTENTION[type(layer.self_attn)](self, cast(Any, layer.self_attn), index)
        self.norm(layer.post_attention_layernorm, self.state, self.x)
        FEED_FORWARD[type(layer.mlp)](self, cast(Any, layer.mlp))

    def leave(self, norm: RMSNorm, vocabulary: int) -> None:
        """The last norm, and the head's first `vocabulary` rows for the wanted tokens."""
        self.program.add("leave", self.state, self.x, self.program.float_vector(norm.weight), float(norm.eps))
        tied = self.model.config.tie_word_embeddings
        head = self.program.matrix(_held(self.model.model.embed_tokens if tied else self.model.lm_head)[:vocabulary])
        self.program.linear(self.x, (head, None, self.x, LOGITS))


def _held(module: nn.Module, name: str = "weight") -> Tensor | Quantised:
    """A module's matrix as it is in memory."""
    if isinstance(module, QuantisedLinear | QuantisedExperts | QuantisedEmbedding):
        return module.held(name)
    return cast(Tensor, getattr(module, name))


def _latent_attention(builder: Builder, module: LatentAttention, index: int) -> None:
    program, H = builder.program, module.heads
    head = module.nope + module.rope
    q = builder.buffer("q", H * head, torch.float32)
    latent = builder.buffer("latent", module.rank + module.rope, torch.float32)
    down = module.kv_a_proj_with_mqa
    kept = (builder.weight(down), down.bias, latent, STORE_FLOAT)
    if module.compresses_query:
        query_down = builder.weight(module.q_a_proj)
        wide = builder.buffer("compressed", query_down.rows, torch.float32)
        narrow = builder.buffer("compressed", query_down.rows)
        program.linear(builder.x, (query_down, module.q_a_proj.bias, wide, STORE_FLOAT), kept)
        builder.norm(module.q_a_layernorm, wide, narrow)
        program.linear(narrow, (builder.weight(module.q_b_proj), None, q, STORE_FLOAT))
    else:
        program.linear(builder.x, (builder.weight(module.q_proj), None, q, STORE_FLOAT), kept)
    absorbed = builder.buffer("absorbed", H * (module.rank + module.rope))
    mixed, values = builder.buffer("mixed", H * module.rank), builder.buffer("values", H * module.value)
    norm = module.kv_a_layernorm
    program.add(
        "latent_attention",
        builder.work(1, H, module.rank),
        index,
        q,
        latent,
        builder.rotation,
        absorbed,
        mixed,
        values,
        builder.weight(module.kv_b_proj),
        program.float_vector(norm.weight),
        float(norm.eps),
        integers((H, module.nope, module.rope, module.value, module.rank)),
        float(module.scale),
    )
    program.linear(values, (builder.weight(module.o_proj), module.o_proj.bias, builder.state, ADD))


def _grouped_attention(builder: Builder, module: GroupedQueryAttention, index: int) -> None:
    program, H, kept = builder.program, module.heads, module.kept
    projections = (module.q_proj, module.k_proj, module.v_proj)
    matrices = [builder.weight(projection) for projection in projections]
    width = matrices[0].rows // H
    made = [builder.buffer(name, matrix.rows, torch.float32) for name, matrix in zip("qkv", matrices, strict=True)]
    biases = [projection.bias for projection in projections]
    program.linear(builder.x, *zip(matrices, biases, made, [STORE_FLOAT] * 3, strict=True))
    rotated, values = builder.buffer("rotated", H * width), builder.buffer("values", H * width)
    sizes = (kept, H, width)
    work = builder.work(kept, H // kept, width)
    program.add("grouped_attention", work, index, *made, builder.rotation, rotated, values, *sizes, float(module.scale))
    program.linear(values, (builder.weight(module.o_proj), module.o_proj.bias, builder.state, ADD))


def _feed_forward(builder: Builder, module: FeedForward) -> None:
    gate, up = builder.weight(module.gate_proj), builder.weight(module.up_proj)
    inner = builder.buffer("inner", gate.rows)
    builder.program.add("gated", builder.x, inner, gate, up)
    builder.program.linear(inner, (builder.weight(module.down_proj), None, builder.state, ADD))


def _experts(builder: Builder, module: MoE) -> None:
    program, config = builder.program, module.gate.config
    experts, inner = module.experts, config.moe_intermediate_size
    K, groups = config.num_experts_per_tok, config.n_group
    limited = groups > 1 and config.topk_method != "greedy"
    best = min(2, config.n_routed_experts // groups) if module.gate.biased else 1
    rules = (
        config.n_routed_experts,
        K,
        groups if limited else 1,
        config.topk_group if limited else 1,
        best,
        int(config.scoring_func == "sigmoid"),
        int(config.norm_topk_prob),
    )
    shared: list[Any] = [None, None, None]
    shared_inner = -1
    if module.has_shared:
        parts = module.shared_experts
        shared = [builder.weight(part) for part in (parts.gate_proj, parts.up_proj, parts.down_proj)]
        shared_inner = builder.buffer("shared", shared[0].rows)
    bias = program.float_vector(module.gate.e_score_correction_bias) if module.gate.biased else None
    # The router computes in FP32: with bf16 operands its weights may be read as bf16 only if that is what they are.
    router = module.gate.weight
    precise = program.matrix(router, router.dtype if program.dtype == torch.bfloat16 else None)
    program.add(
        "experts",
        builder.x,
        builder.state,
        builder.buffer("scores", config.n_routed_experts, torch.float32),
        builder.buffer("chosen", inner, rows_per_token=K),
        shared_inner,
        builder.buffer("made", config.hidden_size, torch.float32, rows_per_token=K),
        precise,
        integers(rules),
        float(config.routed_scaling_factor),
        bias,
        inner,
        builder.weight(experts, "gate_up_proj"),
        builder.weight(experts, "down_proj"),
        *shared,
    )


ATTENTION: dict[type, Callable[[Builder, Any, int], None]] = {
    LatentAttention: _latent_attention,
    GroupedQueryAttention: _grouped_attention,
}
FEED_FORWARD: dict[type, Callable[[Builder, Any], None]] = {FeedForward: _feed_forward, MoE: _experts}
QUANTISED = {QuantisedLinear, QuantisedExperts, QuantisedEmbedding}
KNOWN = {*ATTENTION, *FEED_FORWARD, *QUANTISED, Add, Linear, RMSNorm, Router, Experts, nn.Embedding}
