"""The objective: what counts, how parts add up, and multi-token prediction on a share of the sequences."""

import pytest
import torch

from fathom.config.model import ModelConfig
from fathom.model.transformer import Transformer
from fathom.train.objective import Terms, Weights, objective


@pytest.fixture
def model() -> Transformer:
    config = ModelConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=24,
        moe_intermediate_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        kv_lora_rank=8,
        qk_nope_head_dim=4,
        qk_rope_head_dim=4,
        v_head_dim=4,
        n_routed_experts=4,
        num_experts_per_tok=2,
        first_k_dense_replace=1,
        num_nextn_predict_layers=2,
        initializer_range=0.2,
    )
    model = Transformer(config)
    model.init_weights(torch.Generator().manual_seed(0))
    return model


def rows(sequences: int) -> torch.Tensor:
    return torch.randint(0, 50, (sequences, 8 + 1 + 2), generator=torch.Generator().manual_seed(1))


def gradients(model: Transformer, parts: list[torch.Tensor], weights: Weights, batch: int) -> dict[str, torch.Tensor]:
    model.zero_grad()
    for part in parts:
        objective(model, part, weights, batch).loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_parts_of_a_batch_add_up_to_the_whole(model: Transformer, share: float) -> None:
    batch = rows(4)
    weights = Weights(mtp=0.3, mtp_share=share, balance=0.01)
    # Each part trains MTP on its own first sequences: reordered, those are the first of the whole.
    whole = torch.cat([batch[[0, 2]], batch[[1, 3]]]) if share < 1 else batch
    expected = gradients(model, [whole], weights, 4)
    found = gradients(model, [batch[:2], batch[2:]], weights, 4)
    assert expected.keys() == found.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)


def test_a_share_of_the_sequences_gives_the_mtp_loss_of_those_sequences(model: Transformer) -> None:
    batch = rows(4)
    half = objective(model, batch, Weights(mtp=0.3, mtp_share=0.5, balance=0.0), 4)
    alone = objective(model, batch[:2], Weights(mtp=0.3, mtp_share=1.0, balance=0.0), 2)
    assert mtp_means(half, 4) == pytest.approx(mtp_means(alone, 2), rel=1e-5)


def mtp_means(terms: Terms, sequences: int) -> list[float]:
    return [float(value) / (sequences * 8) for value in terms.sums[3:]]


def test_without_mtp_weight_the_modules_do_not_run(model: Transformer) -> None:
    terms = objective(model, rows(2), Weights(mtp=0.0, mtp_share=1.0, balance=0.0), 2)
    terms.loss.backward()
    assert terms.loads.shape[0] == 1
    assert all(p.grad is None for name, p in model.named_parameters() if name.startswith("model.layers.2."))
