"""How many bytes of tensors are alive, and were at most, while some code runs: on any device, the meta device too."""

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class Ledger(TorchDispatchMode):
    """Within it, counts each storage from the operation that makes it until nobody holds it.

    What an operation allocates within itself and lets go of again is not seen.
    """

    def __init__(self, device: torch.device) -> None:
        """Count storages on `device` alone."""
        super().__init__()
        self._device = device
        self._known: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        self.alive = 0
        """Bytes of tensors that somebody holds now."""
        self.most = 0
        """The largest that `alive` has been."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation, and count what it made."""
        made = func(*args, **(kwargs or {}))
        self.enter(leaf for leaf in tree_iter(made) if isinstance(leaf, Tensor))
        return made

    def enter(self, tensors: Iterable[Tensor]) -> None:
        """Count tensors, if they were not yet."""
        for tensor in tensors:
            if tensor.device.type == self._device.type:
                self._enter(tensor.untyped_storage())

    def _enter(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known or not size:
            return

        def forget(_: object) -> None:
            del self._known[key]
            self.alive -= size

        self._known[key] = weakref.ref(storage, forget)
        self.alive += size
        self.most = max(self.most, self.alive)
