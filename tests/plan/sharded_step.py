"""One of two processes: takes the passes of a step under FSDP2 and prints the most bytes that were alive."""

import sys
import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from fathom.config.recipe import Recipe
from fathom.parallel.fsdp import local, synchronise_gradients
from fathom.parallel.mesh import processes
from fathom.train.objective import Weights, objective
from fathom.train.optimizer import Optimizer
from fathom.train.prepare import build_model


class ResizedToo(TorchDispatchMode):
    """FSDP empties and fills storages in place, so that each must be asked for its size again and again."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        self.most = 0

    def enter(self, tensors: Any) -> None:
        for tensor in tensors:
            # A DTensor says the size of the whole, and holds nothing.
            if type(tensor) in (torch.Tensor, torch.nn.Parameter):
                storage = tensor.untyped_storage()
                self.known[storage._cdata] = weakref.ref(storage)
        alive = [storage.nbytes() for held in self.known.values() if (storage := held()) is not None]
        self.most = max(self.most, sum(alive))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.enter(tree_iter((args, kwargs, made)))
        return made


def main(recipe: Recipe, passes: int) -> None:
    train, modules = recipe.train, recipe.model.num_nextn_predict_layers
    with processes(recipe.parallel) as world:
        model = build_model(recipe, world)
        optimizer = Optimizer(train.optimizer, model.named_parameters(), fp32=False)
        moments = [local(tensor) for tensor in optimizer.state_tensors().values()]
        weights = Weights(train.mtp.weight, train.mtp.sequence_share, 1e-4)
        with ResizedToo() as counted:
            counted.enter([local(parameter) for parameter in model.parameters()] + moments)
            for number in range(passes):
                synchronise_gradients(model, world.sums_every_pass or number == passes - 1)
                shape = (train.micro_batch_sequences, train.sequence_length + 1 + modules)
                rows = torch.randint(recipe.model.vocab_size, shape)
                objective(model, rows, weights, train.batch_sequences).loss.backward()
        if world.is_main:
            print(f"most {counted.most}")


if __name__ == "__main__":
    main(Recipe.load(sys.argv[1], sys.argv[3:]), int(sys.argv[2]))
