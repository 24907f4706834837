import weakref

import pytest
import torch
from torch import Tensor

from fathom.kernels.heads import make_heads
from fathom.kernels.norm import rms_norm
from fathom.model.recompute import Recompute
from fathom.model.transformer import Transformer
from small import random_tokens, small_config, small_model


def gradients(model: Transformer, tokens: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    trunk = model.trunk(tokens, depths=1, balance_loss=True)
    loss = model.head(trunk.hidden).logsumexp(-1).mean() + model.head(trunk.mtp_hidden[0]).square().mean()
    (loss + trunk.balance_loss).backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[Tensor]]:
    """Every norm's output and every head's queries, keys and values, held weakly."""
    made: list[weakref.ref[Tensor]] = []

    def watched_norm(*inputs: object) -> Tensor:
        made.append(weakref.ref(out := rms_norm(*inputs)))
        return out

    def watched_heads(*inputs: object) -> tuple[Tensor, ...]:
        heads = make_heads(*inputs)
        made.extend(weakref.ref(tensor) for tensor in heads)
        return heads

    monkeypatch.setattr("fathom.model.linear.rms_norm", watched_norm)
    monkeypatch.setattr("fathom.model.attention.make_heads", watched_heads)
    return made


@pytest.mark.parametrize(("what", "kept"), [("none", True), ("norms_and_up_projections", False)])
def test_norms_and_heads_are_let_go_after_the_forward_pass(
    what: Recompute, kept: bool, made: list[weakref.ref[Tensor]]
) -> None:
    model = small_model(small_config(q_lora_rank=10))
    model.recompute = what
    trunk = model.trunk(random_tokens(model))
    inside = [tensor for tensor in made if tensor() is not None and tensor() is not trunk.hidden]
    assert bool(inside) == kept


@pytest.mark.parametrize("what", ["norms_and_up_projections", "layer"])
@pytest.mark.parametrize("query_rank", [None, 10])
def test_recomputing_changes_no_gradient(what: Recompute, query_rank: int | None) -> None:
    model = small_model(small_config(q_lora_rank=query_rank))
    tokens = random_tokens(model)
    plain = gradients(model, tokens)
    model.recompute = what
    for name, gradient in gradients(model, tokens).items():
        assert torch.equal(gradient, plain[name]), name


def test_recomputing_counts_each_token_once() -> None:
    model = small_model()
    model.recompute = "layer"
    tokens = random_tokens(model)
    trunk = model.trunk(tokens, depths=1)
    before = trunk.loads.clone()
    trunk.hidden.sum().backward()
    assert torch.equal(trunk.loads, before)
    assert before.sum(1).tolist() == [22 * 3, 22 * 3, 20 * 3]


def test_recomputing_can_be_turned_off_again() -> None:
    model = small_model()
    tokens = random_tokens(model)
    plain = gradients(model, tokens)
    model.recompute = "norms_and_up_projections"
    model.recompute = "none"
    for name, gradient in gradients(model, tokens).items():
        assert torch.equal(gradient, plain[name]), name
