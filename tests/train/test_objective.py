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


def kl_from_the_model(model: Transformer, batch: torch.Tensor) -> torch.Tensor:
    """Mean over depths of the summed KL between what the model says of a token and what the modules do."""
    S = batch.shape[1] - 3
    told = model(batch[:, : S + 2])
    distances = []
    for depth, said in enumerate(model(batch[:, : S + 2], depths=2).mtp_logits, start=1):
        own = told.logits[:, depth : depth + S].detach().log_softmax(-1)
        distances.append((own.exp() * (own - said[:, :S].log_softmax(-1))).sum())
    return torch.stack(distances).mean()


def test_modules_may_learn_from_the_models_own_predictions(model: Transformer) -> None:
    batch = rows(4)
    plain, taught = (Weights(mtp=0.5, mtp_share=1.0, balance=0.0, self_distillation=share) for share in (0.0, 1.0))
    alone = gradients(model, [batch], Weights(mtp=0.0, mtp_share=1.0, balance=0.0), 4)
    model.zero_grad()
    (0.5 / (4 * 8) * kl_from_the_model(model, batch)).backward()
    of_kl = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    found = gradients(model, [batch], taught, 4)
    for name, gradient in found.items():
        expected = of_kl.get(name, torch.zeros(())) + alone.get(name, torch.zeros(()))
        torch.testing.assert_close(gradient, expected.expand_as(gradient), rtol=1e-4, atol=1e-6)
    half = gradients(model, [batch], Weights(0.5, 1.0, 0.0, 0.5), 4)
    text = gradients(model, [batch], plain, 4)
    for name, gradient in half.items():
        torch.testing.assert_close(gradient, (found[name] + text[name]) / 2, rtol=1e-4, atol=1e-6)


def test_the_text_s_losses_are_told_whatever_is_learned(model: Transformer) -> None:
    batch = rows(2)
    plain, taught = (objective(model, batch, Weights(0.3, 1.0, 0.0, share), 2) for share in (0.0, 1.0))
    torch.testing.assert_close(taught.sums[[0, 3, 4]], plain.sums[[0, 3, 4]])


def test_a_share_of_the_sequences_is_taught_alone(model: Transformer) -> None:
    batch = rows(4)
    half = objective(model, batch, Weights(0.3, 0.5, 0.0, 1.0), 4)
    first = objective(model, batch[:2], Weights(0.3, 1.0, 0.0, 1.0), 2)
    torch.testing.assert_close(half.sums[3:] / 4, first.sums[3:] / 2)
