"""The network as a native decode program: read off the modules once, then run without Python between the layers.

There is one definition of the model, its modules. Each kind of module that the program knows has one function here,
which says the module's forward pass in nodes of `fathom.kernels.decode`. A model with a part that is unknown here has
no plan, and the engine calls the model itself.

A token's results are the same bits whatever stands beside it in a step, however its prompt was cut, and however many
threads there are: every sum's order depends on the network's sizes alone.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from fathom.engine.plan_builder import KNOWN, QUANTISED, Builder
from fathom.kernels.decode.program import Drafting, Packed, Program, Step, library
from fathom.model.block import Block, Layer
from fathom.model.linear import RMSNorm
from fathom.model.mtp import MTPModule
from fathom.model.paged import PagedBatch, PagedStores
from fathom.model.transformer import Transformer


class Plan:
    """A model's program. It reads the model's weights where they are; call `refresh` after changing them."""

    def __init__(self, model: Transformer, program: Program, vocabulary: int) -> None:
        self._program = program
        self._vocabulary, self._width = vocabulary, model.config.hidden_size
        self.dtype = program.dtype
        self.refresh = program.refresh

    def __call__(
        self,
        tokens: Tensor,
        positions: Tensor,
        cache: PagedBatch,
        wanted: Tensor,
        *,
        with_hidden: bool = False,
        inputs: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Read a step's tokens (T,) at `positions` (T,) into the cache.

        Returns logits (m, V) of the tokens `wanted` (m,), FP32, and with `with_hidden` what is ready for the head of
        all of them, (T, D) FP32. An MTP module's plan reads the states `inputs` (T, D) FP32 beside the tokens that
        follow them. The cache must be of the plan's `dtype`.
        """
        ragged = cache.ragged
        hidden = torch.empty(tokens.shape[0], self._width) if with_hidden else None
        step = Step(tokens, positions, ragged.starts, ragged.lengths, ragged.tables, cache.memory.stores, wanted)
        return self._program.run(step, self._vocabulary, hidden, inputs), hidden

    def read(
        self,
        packed: Packed,
        memory: PagedStores,
        *,
        with_hidden: bool = False,
        inputs: Tensor | None = None,
        drafting: Drafting | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """The same of a packed step. With `drafting`, an MTP module's plan goes on from its own guesses."""
        hidden = torch.empty(packed.tokens, self._width) if with_hidden else None
        if drafting is not None:
            drafting.vocabulary, drafting.width = self._vocabulary, self._width
        logits = self._program.run_packed(packed, memory.stores, self._vocabulary, hidden, inputs, drafting)
        return logits, hidden


def make_plan(model: Transformer, threads: int | None = None) -> Plan | None:
    """The plan of a model on the CPU; None where there is no compiler, or some part has no native form."""
    layers = [cast(Block, layer) for layer in model.model.layers][: model.config.num_hidden_layers]
    return _make_plan(model, layers, 0, model.model.norm, threads)


def make_mtp_plan(model: Transformer, threads: int | None = None, vocabulary: int | None = None) -> Plan | None:
    """The plan of the first MTP module, whose `inputs` are the states behind the main model's last norm, or its own.

    With `vocabulary` (V'), its logits are those of the first V' tokens.
    """
    index = model.config.num_hidden_layers
    module = cast(MTPModule, model.model.layers[index])
    return _make_plan(model, [module], index, module.shared_head.norm, threads, vocabulary)


def _make_plan(
    model: Transformer,
    layers: Sequence[Layer],
    first: int,
    norm: RMSNorm,
    threads: int | None,
    vocabulary: int | None = None,
) -> Plan | None:
    """Some layers, whose rows in the cache begin at layer `first`, and the head behind `norm`."""
    parts = [part for layer in layers for child in _parts(layer) for part in child.modules()]
    parts += [layer.eh_proj for layer in layers if isinstance(layer, MTPModule)]
    on_cpu = all(tensor.device.type == "cpu" for tensor in (*model.parameters(), *model.buffers()))
    if not on_cpu or not all(type(part) in KNOWN for part in (*parts, model.model.embed_tokens)) or library() is None:
        return None
    if model.compute_dtype not in (torch.float32, torch.bfloat16) or (
        model.compute_dtype == torch.float32 and any(type(part) in QUANTISED for part in model.modules())
    ):
        return None
    builder = Builder(model, Program(model.compute_dtype, threads or torch.get_num_threads()))
    if isinstance(layers[0], MTPModule):
        builder.enter_module(layers[0])
    else:
        builder.enter()
    for index, layer in enumerate(layers, start=first):
        builder.layer(layer, index)
    said = min(vocabulary or model.config.vocab_size, model.config.vocab_size)
    builder.leave(norm, said)
    return Plan(model, builder.program, said)


def _parts(layer: Layer) -> tuple[nn.Module, ...]:
    """What a layer runs once it has its input."""
    norms = (layer.input_layernorm, layer.post_attention_layernorm)
    kinds = (layer.self_attn, layer.mlp, layer.attention_residual, layer.feed_forward_residual)
    return (*norms, *cast(tuple[nn.Module, ...], kinds))
