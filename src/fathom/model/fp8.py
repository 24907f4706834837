"""Linear maps and experts that hold DeepSeek's FP8 weights as published, and dequantise them as they are used.

They stand in for `Linear` and `Experts` in a finished model: half of bf16's memory, nothing to train. Their tensors
have the published names, `weight` and `weight_scale_inv`.
"""

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from fathom.kernels.fp8 import E4M3, Block, dequantise, experts, linear
from fathom.model.experts import Experts
from fathom.model.linear import Linear
from fathom.model.outputs import Choice


class _Holder(nn.Module):
    """Keeps what it holds in its dtype under `.to(dtype)`: without their factors, FP8 values mean nothing."""

    def _hold(self, name: str, tensor: Tensor) -> None:
        # Not `register_parameter`, which would ask for the attribute `weight` before there is one.
        self._parameters[name] = nn.Parameter(tensor, requires_grad=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        held = ((name, tensor) for name, tensor in self._parameters.items() if tensor is not None)
        before = {name: tensor.detach() for name, tensor in held if not tensor.requires_grad}
        super()._apply(fn, recurse)
        for name, tensor in before.items():
            after = self._parameters[name]
            if after is not None and after.dtype != tensor.dtype:
                self._hold(name, tensor.to(after.device))
        return self


class FP8Linear(_Holder):
    """x W^T + b with W (out, in) in FP8 blocks."""

    def __init__(self, like: Linear, block: Block) -> None:
        super().__init__()
        shape = like.weight.shape
        self.block = block
        self.dtype = torch.bfloat16
        """What `weight` is dequantised to for those who read it themselves."""
        self._hold("weight", torch.empty(shape, dtype=E4M3, device=like.weight.device))
        self._hold("weight_scale_inv", torch.empty(blocks_of(shape, block), device=like.weight.device))
        self.bias = like.bias

    @property
    def weight(self) -> Tensor:
        """The matrix (out, in), dequantised for this use; `state_dict` has it as it is held."""
        return dequantise(self._tensor("weight"), self._tensor("weight_scale_inv"), self.block, self.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        return linear(x, self._tensor("weight"), self._tensor("weight_scale_inv"), self.block, self.bias)

    def _tensor(self, name: str) -> Tensor:
        held = self._parameters[name]
        assert held is not None
        return held


class FP8Experts(_Holder):
    """Stacked experts in FP8 blocks; see `fathom.kernels.fp8.experts_reference` for the shapes."""

    gate_up_proj: Tensor
    gate_up_proj_scale_inv: Tensor
    down_proj: Tensor
    down_proj_scale_inv: Tensor

    def __init__(self, like: Experts, block: Block) -> None:
        super().__init__()
        gate_up, down = like.gate_up_proj, like.down_proj
        E, both, D = gate_up.shape
        self.block = block
        self._hold("gate_up_proj", torch.empty(gate_up.shape, dtype=E4M3, device=gate_up.device))
        scale = torch.empty(E, 2, *blocks_of((both // 2, D), block), device=gate_up.device)
        self._hold("gate_up_proj_scale_inv", scale)
        self._hold("down_proj", torch.empty(down.shape, dtype=E4M3, device=down.device))
        self._hold("down_proj_scale_inv", torch.empty(E, *blocks_of(down.shape[1:], block), device=down.device))

    def forward(self, x: Tensor, choice: Choice) -> Tensor:
        """Each of the tokens x (T, D) through its experts, weighted and summed."""
        gate_up, down = (self.gate_up_proj, self.gate_up_proj_scale_inv), (self.down_proj, self.down_proj_scale_inv)
        return experts(x, choice.ids, choice.weights, *gate_up, *down, self.block)


def blocks_of(shape: tuple[int, ...], block: Block) -> tuple[int, int]:
    """How many blocks a matrix of that shape has in each direction."""
    return -(-shape[0] // block[0]), -(-shape[1] // block[1])


def hold_fp8(model: nn.Module, names: set[str], block: Block, dtype: torch.dtype) -> None:
    """Put FP8 forms in the place of those parts of `model` whose published tensors `names` says are FP8.

    Experts of a layer are held together, so all of them must be. What reads a matrix itself gets it in `dtype`.
    """
    for prefix, module in list(model.named_modules()):
        form: FP8Linear | FP8Experts | None = None
        if isinstance(module, Linear) and f"{prefix}.weight" in names:
            form = FP8Linear(module, block)
            form.dtype = dtype
        elif isinstance(module, Experts) and _all_experts(prefix, module) <= names:
            form = FP8Experts(module, block)
        if form is not None:
            owner, _, name = prefix.rpartition(".")
            setattr(model.get_submodule(owner), name, form)


def _all_experts(prefix: str, experts: Experts) -> set[str]:
    parts = ("gate_proj", "up_proj", "down_proj")
    return {f"{prefix}.{e}.{part}.weight" for e in range(experts.gate_up_proj.shape[0]) for part in parts}
