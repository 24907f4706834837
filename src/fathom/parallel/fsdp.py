"""FSDP2 laid over a model: every process holds a shard of each layer and gathers it only while it computes."""

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from fathom.model.transformer import Transformer, moe_layers
from fathom.parallel.mesh import World


def shard(model: Transformer, world: World, *, reshard_after_forward: bool = True) -> None:
    """Cut the parameters of `model` over the processes, layer by layer, in place.

    Layers travel in the model's compute dtype and gradients are summed in FP32; routers travel in FP32, because they
    compute in it. Expert stacks (E, ...) are cut between experts.
    """
    if world.mesh is None:
        return
    whole = MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)
    narrow = model.compute_dtype if model.compute_dtype != torch.float32 else None
    policy = MixedPrecisionPolicy(param_dtype=narrow, reduce_dtype=torch.float32, cast_forward_inputs=False)
    if narrow is not None:
        for _, moe in moe_layers(model):
            fully_shard(moe.gate, mesh=world.mesh, mp_policy=whole, reshard_after_forward=reshard_after_forward)
    for layer in model.model.layers:
        fully_shard(layer, mesh=world.mesh, mp_policy=policy, reshard_after_forward=reshard_after_forward)
    fully_shard(model, mesh=world.mesh, mp_policy=policy, reshard_after_forward=False)
    register_fsdp_forward_method(model, "trunk")


def synchronise_gradients(model: nn.Module, wanted: bool) -> None:
    """Whether the next backward pass adds gradients up over processes, or keeps them until a later one does."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(wanted)


def release(model: nn.Module) -> None:
    """Let go of gathered parameters, so that those seen from outside are the shards."""
    if isinstance(model, FSDPModule):
        model.reshard()


def local(tensor: Tensor) -> Tensor:
    """The part of `tensor` this process holds: all of it, unless it is sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole_tensor(tensor: Tensor) -> Tensor:
    """All of `tensor`, gathered where it is sharded; every process must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
