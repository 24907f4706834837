import pytest
import torch
from torch import Tensor, nn

from fathom.config.model import ModelConfig
from fathom.model import block, registry
from fathom.model.registry import LayerKinds
from small import random_tokens, small_config, small_model


class Half(nn.Module):
    """A residual rule with a weight of its own: x + scale * f(x)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([0.5]))

    def enter(self, x: Tensor) -> Tensor:
        return x

    def read(self, state: Tensor) -> Tensor:
        return state

    def write(self, state: Tensor, y: Tensor) -> Tensor:
        return state + self.scale * y

    def leave(self, state: Tensor) -> Tensor:
        return state


def test_a_new_residual_rule_needs_no_change_to_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.RESIDUAL, "half", Half)
    monkeypatch.setattr(block, "layer_kinds", lambda config, index: LayerKinds("mla", "dense", "half"))
    model = small_model(small_config())
    assert "model.layers.0.attention_residual.scale" in model.state_dict()
    loss = model(random_tokens(model)).logits.square().mean()
    loss.backward()
    assert model.model.layers[0].attention_residual.scale.grad is not None


def test_layers_are_put_together_as_the_configuration_says() -> None:
    config = small_config(first_k_dense_replace=1, num_hidden_layers=5, moe_layer_freq=2, num_nextn_predict_layers=1)
    kinds = [registry.layer_kinds(config, index).feed_forward for index in range(6)]
    assert kinds == ["dense", "dense", "moe", "dense", "moe", "moe"]
