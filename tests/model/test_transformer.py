import pytest
import torch

from fathom.config.model import ModelConfig
from fathom.model.transformer import Transformer
from small import random_tokens, small_config, small_model


def test_initial_weights_follow_the_configured_deviation_and_the_seed() -> None:
    config = small_config(hidden_size=64, initializer_range=0.05)
    first, second = (Transformer(config) for _ in range(2))
    for model in (first, second):
        model.init_weights(torch.Generator().manual_seed(7))
    state = second.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in first.state_dict().items())
    assert first.model.embed_tokens.weight.std().item() == pytest.approx(0.05, rel=0.05)
    assert first.model.layers[1].mlp.experts.gate_up_proj.std().item() == pytest.approx(0.05, rel=0.05)
    assert (first.model.norm.weight == 1).all()


def test_a_fresh_model_is_near_uniform_over_the_vocabulary() -> None:
    model = Transformer(small_config(initializer_range=0.006))
    model.init_weights(torch.Generator().manual_seed(0))
    assert model(random_tokens(model)).logits.abs().max() < 0.2


def test_bf16_computation_keeps_fp32_masters_and_gives_them_fp32_gradients() -> None:
    model = small_model()
    model.compute_dtype = torch.bfloat16
    trunk = model.trunk(random_tokens(model), depths=1)
    logits = model.head(trunk.hidden)
    assert logits.dtype == trunk.hidden.dtype == trunk.mtp_hidden[0].dtype == torch.bfloat16
    (logits.float().square().mean() + model.head(trunk.mtp_hidden[0]).float().square().mean()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.dtype == torch.float32, name
        assert parameter.grad is not None, name
        assert parameter.grad.dtype == torch.float32, name


def test_bf16_is_close_to_fp32() -> None:
    """Given the same experts: without routing, where a rounded score may choose another expert."""
    model = small_model(small_config(num_experts_per_tok=8, topk_group=4))
    tokens = random_tokens(model)
    exact = model(tokens).logits
    model.compute_dtype = torch.bfloat16
    rough = model(tokens).logits.float()
    assert (rough - exact).norm() / exact.norm() < 0.05


def test_a_tied_head_is_the_embedding() -> None:
    model = small_model(tie_word_embeddings=True)
    assert model.head_weight is model.model.embed_tokens.weight
    assert "lm_head.weight" not in model.state_dict()


def test_logits_are_the_head_of_the_trunk() -> None:
    model = small_model()
    tokens = random_tokens(model)
    assert torch.equal(model(tokens).logits, model.head(model.trunk(tokens).hidden))


def test_no_token_sees_a_later_one() -> None:
    model = small_model(dtype=torch.float64)
    tokens = random_tokens(model, batch=1)
    changed = tokens.clone()
    changed[0, 6] = (tokens[0, 6] + 1) % 61
    same = (model(tokens).logits == model(changed).logits).all(-1)[0]
    assert same.tolist() == [True] * 6 + [False] * 5


@pytest.mark.parametrize("name", ["deepseek-v3", "deepseek-v2", "deepseek-v2-lite", "moonlight-16b-a3b", "laptop-4"])
def test_presets_build_on_the_meta_device(name: str) -> None:
    with torch.device("meta"):
        model = Transformer(ModelConfig.preset(name))
    assert all(parameter.is_meta for parameter in model.parameters())


def test_a_model_without_shared_experts_or_dense_layers_runs() -> None:
    model = small_model(small_config(n_shared_experts=0, first_k_dense_replace=0))
    assert model(random_tokens(model)).logits.isfinite().all()
    assert not any("shared_experts" in name for name in model.state_dict())


def test_parameters_have_the_published_names() -> None:
    names = set(small_model(small_config(q_lora_rank=10)).state_dict())
    assert {
        "model.embed_tokens.weight",
        "model.layers.0.mlp.gate_proj.weight",
        "model.layers.0.self_attn.q_a_proj.weight",
        "model.layers.0.self_attn.q_a_layernorm.weight",
        "model.layers.0.self_attn.q_b_proj.weight",
        "model.layers.0.self_attn.kv_a_proj_with_mqa.weight",
        "model.layers.0.self_attn.kv_a_layernorm.weight",
        "model.layers.0.self_attn.kv_b_proj.weight",
        "model.layers.0.self_attn.o_proj.weight",
        "model.layers.0.input_layernorm.weight",
        "model.layers.0.post_attention_layernorm.weight",
        "model.layers.1.mlp.gate.weight",
        "model.layers.1.mlp.gate.e_score_correction_bias",
        "model.layers.1.mlp.experts.gate_up_proj",
        "model.layers.1.mlp.experts.down_proj",
        "model.layers.1.mlp.shared_experts.up_proj.weight",
        "model.layers.3.enorm.weight",
        "model.layers.3.hnorm.weight",
        "model.layers.3.eh_proj.weight",
        "model.layers.3.shared_head.norm.weight",
        "model.norm.weight",
        "lm_head.weight",
    } <= names
