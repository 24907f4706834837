"""A model without an MTP module is given one that begins as well as a linear map can make it."""

import pytest
import torch
import torch.nn.functional as F

from fathom.config.model import ModelConfig
from fathom.errors import UsageError
from fathom.model.transformer import Transformer
from fathom.weights.append_mtp import agreement, append_mtp
from fathom.weights.folder import load, save
from small import LLAMA, V2, V3, small_config, small_model


def alone(**changes: object) -> ModelConfig:
    return small_config(V3, num_nextn_predict_layers=0, **changes)


def texts(config: ModelConfig, count: int = 64) -> torch.Tensor:
    return torch.randint(0, config.vocab_size, (count, 24), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("family", [V3, V2])
def test_the_models_own_predictions_stay(family: dict[str, object]) -> None:
    model = small_model(small_config(family, num_nextn_predict_layers=0)).eval()
    made = append_mtp(model, texts(model.config), quiet=True)
    batch = texts(model.config, 2)
    found = made(batch, depths=1)
    torch.testing.assert_close(found.logits, model(batch).logits, rtol=0, atol=0)
    assert found.mtp_logits[0].shape == (2, 23, model.config.vocab_size)
    assert not made.training


def test_it_is_saved_and_read_as_any_module(tmp_path) -> None:
    made = append_mtp(small_model(alone()), texts(alone()), quiet=True)
    again = load(save(made, tmp_path / "model"))
    assert again.config.num_nextn_predict_layers == 1
    batch = texts(made.config, 2)
    torch.testing.assert_close(again(batch, depths=1).mtp_logits[0], made(batch, depths=1).mtp_logits[0])


def test_an_input_that_is_a_linear_map_is_found() -> None:
    """A network's only layer reads embeddings; of equal length, they are what their norm leaves, times a number."""
    config = alone(num_hidden_layers=1, first_k_dense_replace=1)
    model = small_model(config)
    with torch.no_grad():
        embeddings = model.model.embed_tokens.weight
        embeddings.copy_(3.0 * F.rms_norm(embeddings, (config.hidden_size,)))
    made = append_mtp(model, texts(config), quiet=True)
    fitted = made.model.layers[1].eh_proj.weight
    expected = torch.cat((3.0 * torch.eye(config.hidden_size), torch.zeros(config.hidden_size, config.hidden_size)), 1)
    torch.testing.assert_close(fitted, expected, rtol=0, atol=0.01)


def test_fitted_it_guesses_better_than_it_would_by_chance() -> None:
    """On a cycle of tokens, which a network that was trained on it continues."""
    config = alone(num_hidden_layers=2, max_position_embeddings=64)
    model = small_model(config).train()
    batch = (torch.arange(24)[None] + torch.arange(64)[:, None]) % config.vocab_size
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        F.cross_entropy(model(batch[:, :-1]).logits.flatten(0, 1), batch[:, 1:].flatten()).backward()
        optimizer.step()
    made = append_mtp(model.eval(), batch, quiet=True)
    random = small_model(config.model_copy(update={"num_nextn_predict_layers": 1}))
    random.load_state_dict(model.state_dict(), strict=False)
    assert agreement(made, batch) > 0.5 > 0.2 > agreement(random, batch)


@pytest.mark.parametrize(
    ("config", "named"),
    [(small_config(LLAMA), "Llama knows no MTP modules.*upcycle"), (small_config(V3), "has an MTP module already")],
)
def test_a_model_that_cannot_have_one_is_refused(config: ModelConfig, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        append_mtp(Transformer(config), texts(config), quiet=True)
