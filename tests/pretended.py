"""A CUDA device that is pretended: real numbers on the CPU, in tensors that say they are on `cuda:0`.

What would fail on a GPU fails here: tensors of two devices in one operation, a generator of the wrong one, `.numpy()`,
and a pointer handed to the CPU's kernels. PyTorch's own code below Python takes the tensors for those of a device that
it knows and does not have (`lazy`), so that gradients flow.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

SAID, MEANT = torch.device("cuda", 0), torch.device("lazy", 0)
CROSSING = ("_to_copy.default", "copy_.default", "to.device", "to.dtype_layout", "to.other")


class Pretended(torch.Tensor):
    """A tensor that says it is on the GPU."""

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "Pretended":
        return torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=MEANT,
        )

    def __init__(self, inner: torch.Tensor) -> None:
        self.inner = inner

    @property
    def device(self) -> torch.device:
        return SAID

    @property
    def is_cuda(self) -> bool:
        return True

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.inner.untyped_storage()

    def tolist(self) -> object:
        return self.inner.tolist()

    def numpy(self) -> None:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Copy it to host memory first.")

    def __repr__(self) -> str:
        return f"Pretended({self.inner})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


def _on_the_gpu(device: object) -> bool:
    return device is not None and torch.device(device).type in (SAID.type, MEANT.type)


def _run(func, args, kwargs):
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    ours = [isinstance(tensor, Pretended) for tensor in tensors]
    name = func.__name__
    numbers = [not own and tensor.dim() == 0 for own, tensor in zip(ours, tensors, strict=True)]
    if any(ours) and name not in CROSSING and not all(a or b for a, b in zip(ours, numbers, strict=True)):
        indexes = name.startswith(("index.", "index_put", "_index_put"))
        # PyTorch takes indices from the host, slowly; everything else of two devices is an error.
        if not (indexes and ours[0]):
            raise RuntimeError(f"{name}: tensors on two devices, at least cuda:0 and cpu")
    generator = kwargs.get("generator")
    if any(ours) and generator is not None and generator.device.type == "cpu":
        raise RuntimeError(f"{name}: expected a 'cuda' device type for generator but found 'cpu'")
    positions = {argument.name: place for place, argument in enumerate(func._schema.arguments)}
    if len(args) > positions.get("device", len(args)):
        args, kwargs = list(args), dict(kwargs)
        asked, args[positions["device"]] = args[positions["device"]], torch.device("cpu")
    else:
        asked = kwargs.get("device")
    placed = _on_the_gpu(asked) if asked is not None else any(ours)

    def bare(leaf):
        return leaf.inner if isinstance(leaf, Pretended) else leaf

    given = {key: tree_map(bare, value) for key, value in kwargs.items()}
    if kwargs.get("device") is not None:
        given["device"] = torch.device("cpu")
    if name == "copy_.default":
        bare(args[0]).copy_(bare(args[1]))
        return args[0]
    made = func(*tree_map(bare, args), **given)
    known = {id(tensor.inner): tensor for tensor in tensors if isinstance(tensor, Pretended)}
    plain = {id(tensor) for tensor in tensors if not isinstance(tensor, Pretended)}

    def dressed(leaf):
        if not isinstance(leaf, torch.Tensor) or isinstance(leaf, Pretended):
            return leaf
        if id(leaf) in known and placed:
            return known[id(leaf)]
        if id(leaf) in plain:
            return Pretended(leaf.clone()) if asked is not None and placed else leaf
        return Pretended(leaf) if placed else leaf

    return tree_map(dressed, made)


class _Below(TorchDispatchMode):
    """Operations that make tensors of nothing."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


class _Above(TorchFunctionMode):
    """Calls that name the device."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        def meant(leaf):
            return MEANT if isinstance(leaf, torch.device) and leaf.type == "cuda" else leaf

        given = {key: tree_map(meant, value) for key, value in (kwargs or {}).items()}
        if isinstance(given.get("device"), str) and _on_the_gpu(given["device"]):
            given["device"] = MEANT
        placed = [MEANT if isinstance(arg, str) and arg.startswith("cuda") else meant(arg) for arg in args]
        # These make a tensor of numbers below any mode, on a device that there is none of; copying one there does.
        if func is torch.tensor and given.get("device") == MEANT:
            return func(*placed, **given | {"device": "cpu"}).to(MEANT)
        if func is torch.where and len(placed) == 3:
            placed[1:] = [torch.tensor(arg) if isinstance(arg, int | float) else arg for arg in placed[1:]]
        if func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__):
            placed[1] = torch.tensor(placed[1]) if isinstance(placed[1], list) else placed[1]
        return func(*placed, **given)


@contextmanager
def pretended_gpu() -> Iterator[torch.device]:
    """The device, for as long as it is pretended."""
    # Tensors of inference mode are made below any mode; `.data = ...` would leave the numbers inside as they were.
    overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with patch.object(torch, "inference_mode", torch.no_grad), _Above(), _Below():
            yield SAID
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(overwrite)
