"""A training step in rehearsal: the real objective, backward pass and update, over random tokens or over mere shapes.

On this machine's own device a rehearsal is a real step, held and timed. On the meta device nothing is computed, and
what is held at most is what a GPU will hold, but for what operations allocate within themselves and what the allocator
loses between its blocks. Layers of a kind are alike, so a deep model is rehearsed at two small depths.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fathom.config.recipe import Recipe
from fathom.model.router import Router
from fathom.model.transformer import Transformer
from fathom.plan.ledger import Ledger
from fathom.train.objective import Weights, objective
from fathom.train.optimizer import Optimizer
from fathom.train.prepare import DTYPES, freeze_all_but
from fathom.train.schedule import balance_alpha

META = torch.device("meta")
REPEATS = 3
"""How often each part is timed on a real device; the first time still finds its memory and does not count."""


@dataclass(frozen=True)
class Rehearsal:
    """What a model and its step hold on one device, and how long they take there."""

    states: float
    """Bytes that stay: parameters, gradients, moments, where they are on the device."""
    most: float
    """Bytes alive at the fullest moment of the passes and the update, `states` included."""
    pass_seconds: float = 0.0
    """A pass forward and backward; 0 on the meta device."""
    update_seconds: float = 0.0
    """The optimiser's part; 0 on the meta device."""

    def along(self, deeper: "Rehearsal", steps: float) -> "Rehearsal":
        """So many times as far from here as `deeper` is: the line through both."""
        there = vars(deeper)
        return Rehearsal(**{name: value + steps * (there[name] - value) for name, value in vars(self).items()})


def whole_step(recipe: Recipe, passes: int, device: torch.device = META) -> Rehearsal:
    """A step of one process that holds the whole model and makes its batch in `passes` passes."""
    return _by_depth(recipe, lambda part: _whole_step(part, passes, device))


def sharded_pass(recipe: Recipe) -> Rehearsal:
    """A pass of one of several processes, on the meta device: parameters travel in the compute dtype, and gradients
    leave as they are made. `states` are the travelling parameters, as if the whole model stood there at once."""
    return _by_depth(recipe, _sharded_pass)


def build(recipe: Recipe, device: torch.device = META) -> Transformer:
    """The recipe's model, ready to train."""
    with device:
        model = Transformer(recipe.model)
    if device != META:
        model.init_weights()
    freeze_all_but(model, recipe.train.only)
    model.recompute = recipe.train.recompute
    # On paper all is bf16, for which GPUs have their forms of products.
    model.compute_dtype = torch.bfloat16 if device == META else DTYPES[recipe.train.precision]
    return model.train()


def _by_depth(recipe: Recipe, rehearse: Callable[[Recipe], Rehearsal]) -> Rehearsal:
    config = recipe.model
    depth, period = config.num_hidden_layers, config.moe_layer_freq
    # The least depth with two expert layers from which whole periods lead to the full one.
    least = config.first_k_dense_replace + period + 1
    shallow = least + (depth - least) % period
    if depth <= shallow + period:
        return rehearse(recipe)
    low, high = rehearse(_with_layers(recipe, shallow)), rehearse(_with_layers(recipe, shallow + period))
    return low.along(high, (depth - shallow) / period)


def _with_layers(recipe: Recipe, layers: int) -> Recipe:
    model = type(recipe.model).validated(recipe.model.model_dump() | {"num_hidden_layers": layers}, recipe.source)
    return recipe.model_copy(update={"model": model})


def _whole_step(recipe: Recipe, passes: int, device: torch.device) -> Rehearsal:
    model = build(recipe, device)
    optimizer = Optimizer(recipe.train.optimizer, model.named_parameters(), fp32=recipe.train.precision == "fp32")
    rows = _rows(recipe, device)
    with Ledger(device) as ledger:
        ledger.enter([*model.parameters(), *model.buffers(), *optimizer.state_tensors().values(), rows])
        for _ in range(min(passes, 2)):
            _pass(model, recipe, rows)
        states = ledger.alive
        optimizer.step(1.0)
    if device == META:
        return Rehearsal(states, ledger.most)
    pass_seconds = _seconds(recipe, device, lambda: _pass(model, recipe, rows))
    return Rehearsal(states, ledger.most, pass_seconds, _seconds(recipe, device, lambda: optimizer.step(1.0)))


def _sharded_pass(recipe: Recipe) -> Rehearsal:
    model, rows = build(recipe), _rows(recipe, META)
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            if not isinstance(module, Router):
                parameter.data = parameter.data.bfloat16()
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(_let_go)
    with Ledger(META) as ledger:
        ledger.enter([*model.parameters(), *model.buffers(), rows])
        states = ledger.alive
        _pass(model, recipe, rows)
    return Rehearsal(states, ledger.most)


def _rows(recipe: Recipe, device: torch.device) -> Tensor:
    train = recipe.train
    shape = (train.micro_batch_sequences, train.sequence_length + 1 + recipe.model.num_nextn_predict_layers)
    return torch.randint(recipe.model.vocab_size, shape, device=device)


def _pass(model: Transformer, recipe: Recipe, rows: Tensor) -> None:
    train = recipe.train
    mtp = train.mtp
    weights = Weights(mtp.weight, mtp.sequence_share, balance_alpha(train), mtp.self_distillation)
    objective(model, rows, weights, train.batch_sequences).loss.backward()


def _let_go(parameter: Tensor) -> None:
    parameter.grad = None


def _seconds(recipe: Recipe, device: torch.device, work: Callable[[], object]) -> float:
    """What `work` takes on all threads or on one, whichever is faster beside what else the machine does: a run finds
    that out too."""
    most = torch.get_num_threads()
    adapts = device.type == "cpu" and recipe.parallel.adapt_threads
    best = float("inf")
    for threads in {most, 1} if adapts else {most}:
        torch.set_num_threads(threads)
        for number in range(REPEATS):
            start = time.perf_counter()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if number:
                best = min(best, time.perf_counter() - start)
    torch.set_num_threads(most)
    return best
