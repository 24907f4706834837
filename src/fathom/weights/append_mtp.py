"""An MTP module for a model that was published without one: fitted to a text, ready to be trained (V3 section 2.2).

The module's layer begins as a copy of the last one, which turns its input at token i + 1 into a prediction of token
i + 2. The module knows the model's state at token i and the token i + 1; `eh_proj` becomes the linear map that makes of
both what comes nearest to that input, by least squares over a text.
"""

from collections.abc import Iterator
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fathom.errors import UsageError
from fathom.model.block import Block
from fathom.model.transformer import Transformer
from fathom.progress import track

AT_ONCE = 4
"""Sequences that are read together."""
RIDGE = 1e-4
"""Added to the regression's diagonal, as a share of its mean."""


@torch.no_grad()
def append_mtp(model: Transformer, tokens: Tensor, quiet: bool = False) -> Transformer:
    """`model` with one MTP module behind it, fitted to `tokens` (B, S); it shares the model's tensors.

    The model's own predictions stay what they are, and the module's have to be trained: `recipes/mtp-module.toml`.
    `UsageError` where the family knows no MTP or the model has a module.
    """
    config = model.config
    if not config.family.has_experts:
        raise UsageError(
            f"{config.family.title} knows no MTP modules: make the model one of DeepSeek-V3's first, "
            "with `fathom convert upcycle`."
        )
    if config.num_nextn_predict_layers:
        raise UsageError("the model has an MTP module already: `fathom pretrain mtp-module` trains it.")
    with torch.device("meta"):
        made = Transformer(config.model_copy(update={"num_nextn_predict_layers": 1}))
    made.compute_dtype = model.compute_dtype
    own = model.state_dict()
    last, module = (f"model.layers.{config.num_hidden_layers + place}." for place in (-1, 0))
    tensors = {module + name.removeprefix(last): own[name].clone() for name in own if name.startswith(last)}
    norm = own["model.norm.weight"]
    tensors |= {
        module + "enorm.weight": torch.ones_like(norm),
        module + "hnorm.weight": torch.ones_like(norm),
        module + "eh_proj.weight": _fitted(model, tokens, quiet).to(norm),
        module + "shared_head.norm.weight": norm.clone(),
    }
    made.load_state_dict(own | tensors, assign=True)
    return made.train(model.training)


@torch.no_grad()
def agreement(model: Transformer, tokens: Tensor) -> float:
    """Share of `tokens` (B, S) whose successor the MTP module guesses as the model itself would, both greedily."""
    same, of = 0, 0
    for part in tokens.split(AT_ONCE):
        trunk = model.trunk(part, depths=1)
        guessed, said = model.head(trunk.mtp_hidden[0]).argmax(-1), model.head(trunk.hidden[:, 1:]).argmax(-1)
        same, of = same + int((guessed == said).sum()), of + said.numel()
    return same / of


def _fitted(model: Transformer, tokens: Tensor, quiet: bool) -> Tensor:
    """`eh_proj` (D, 2 D), FP64."""
    D, eps = model.config.hidden_size, model.config.rms_norm_eps
    squares = torch.zeros(2 * D, 2 * D, dtype=torch.float64, device=tokens.device)
    products = torch.zeros(2 * D, D, dtype=torch.float64, device=tokens.device)
    for part, hidden, wanted in _seen(model, tokens, quiet):
        # A sequence's first state is an outlier in every model looked at, and no place where anything is guessed.
        embedded = model.model.embed_tokens(part[:, 2:]).double()
        before, target = hidden[:, 1:-1].double(), wanted[:, 2:].double()
        inputs = torch.cat([F.rms_norm(x, (D,), eps=eps) for x in (embedded, before)], -1).flatten(0, 1)
        # The layer norms its input: what counts is a deviation as a share of its length.
        weights = target.square().mean(-1).rsqrt().view(-1, 1)
        inputs, target = inputs * weights, target.flatten(0, 1) * weights
        squares += inputs.T @ inputs
        products += inputs.T @ target
    squares.diagonal().add_(RIDGE * squares.diagonal().mean())
    fitted: Tensor = torch.linalg.solve(squares, products)
    return fitted.T.contiguous()


def _seen(model: Transformer, tokens: Tensor, quiet: bool) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Parts of `tokens`, with the states ready for the head and the last layer's input, (b, S, D) each."""
    block = cast(Block, model.model.layers[model.config.num_hidden_layers - 1])
    inputs: list[Tensor] = []

    def note(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        inputs.append(given[0])

    handle = block.input_layernorm.register_forward_pre_hook(note)
    try:
        with track("Reading the text", len(tokens), quiet=quiet) as progress:
            for part in tokens.split(AT_ONCE):
                hidden = model.trunk(part).hidden
                yield part, hidden, inputs.pop()
                progress.advance(len(part))
    finally:
        handle.remove()
