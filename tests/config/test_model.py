import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import DeepseekV2Config, DeepseekV3Config

from fathom.config.families import FAMILIES
from fathom.config.model import ModelConfig
from fathom.config.presets import PUBLISHED, laptop, laptop_rules
from fathom.errors import RecipeError
from small import V2, V3, YARN, small_config

# As published beside the weights, keys that matter to nothing here included.
PUBLISHED_V3: dict[str, Any] = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "auto_map": {"AutoConfig": "configuration_deepseek.DeepseekV3Config"},
    "bos_token_id": 0,
    "eos_token_id": 1,
    "ep_size": 1,
    "first_k_dense_replace": 3,
    "hidden_act": "silu",
    "hidden_size": 7168,
    "initializer_range": 0.02,
    "intermediate_size": 18432,
    "kv_lora_rank": 512,
    "max_position_embeddings": 163840,
    "model_type": "deepseek_v3",
    "moe_intermediate_size": 2048,
    "moe_layer_freq": 1,
    "n_group": 8,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_attention_heads": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 61,
    "num_key_value_heads": 128,
    "num_nextn_predict_layers": 1,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "quantization_config": {
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
        "quant_method": "fp8",
        "weight_block_size": [128, 128],
    },
    "rms_norm_eps": 1e-06,
    "rope_scaling": {
        "beta_fast": 32,
        "beta_slow": 1,
        "factor": 40,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
        "original_max_position_embeddings": 4096,
        "type": "yarn",
    },
    "rope_theta": 10000,
    "routed_scaling_factor": 2.5,
    "scoring_func": "sigmoid",
    "tie_word_embeddings": False,
    "topk_group": 4,
    "topk_method": "noaux_tc",
    "torch_dtype": "bfloat16",
    "transformers_version": "4.33.1",
    "use_cache": True,
    "v_head_dim": 128,
    "vocab_size": 129280,
}


def network(config: ModelConfig) -> dict[str, Any]:
    return config.model_dump(exclude={"extra", "initializer_range"})


def test_the_published_v3_configuration_is_the_preset() -> None:
    config = ModelConfig.from_hf(PUBLISHED_V3)
    assert network(config) == network(ModelConfig.preset("deepseek-v3"))
    assert config.extra["quantization_config"]["weight_block_size"] == [128, 128]


@pytest.mark.parametrize("name", [*PUBLISHED, "laptop-5"])
def test_a_configuration_survives_being_written_and_read(name: str, tmp_path: Path) -> None:
    config = ModelConfig.preset(name)
    (tmp_path / "config.json").write_text(json.dumps(config.to_hf()))
    assert ModelConfig.from_hf(tmp_path) == ModelConfig.from_hf(str(tmp_path / "config.json")) == config


@pytest.mark.parametrize(
    ("peer", "base"), [(DeepseekV3Config, V3), (DeepseekV2Config, V2 | {"topk_method": "greedy"})], ids=["v3", "v2"]
)
@pytest.mark.parametrize("scaling", [None, YARN], ids=["plain", "yarn"])
def test_a_configuration_survives_the_way_through_transformers(
    peer: type, base: dict[str, Any], scaling: dict[str, Any] | None
) -> None:
    """transformers renames `rope_scaling` and `num_nextn_predict_layers` and drops what its classes do not know."""
    config = small_config(base, rope_scaling=scaling, q_lora_rank=7)
    returned = ModelConfig.from_hf(json.loads(peer.from_dict(config.to_hf()).to_json_string()))
    assert returned.model_dump(exclude={"extra"}) == config.model_dump(exclude={"extra"})


def test_unknown_keys_are_kept_and_derived_ones_dropped() -> None:
    config = ModelConfig.from_hf(V3 | {"ep_size": 1, "head_dim": 64, "my_note": [1, 2]})
    assert config.extra == {"ep_size": 1, "my_note": [1, 2]}
    assert config.to_hf()["my_note"] == [1, 2]
    assert "head_dim" not in config.to_hf()


def test_a_recipe_refuses_the_unknown_field_that_a_published_file_may_have() -> None:
    with pytest.raises(RecipeError, match=r"recipe\.toml: unknown field 'hiden_size'"):
        ModelConfig.validated(V3 | {"hiden_size": 3}, "recipe.toml")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_experts_per_tok": 9}, "num_experts_per_tok 9 exceeds n_routed_experts 8"),
        ({"n_group": 3, "topk_group": 1}, "n_group 3 does not divide n_routed_experts 8"),
        ({"topk_group": 5}, "topk_group 5 exceeds n_group 4"),
        ({"num_experts_per_tok": 5}, "exceeds the 4 experts in topk_group 2 groups of 2"),
        ({"qk_rope_head_dim": 5}, "qk_rope_head_dim 5 is odd"),
        ({"num_key_value_heads": 2}, "num_key_value_heads 2 differs from num_attention_heads 4"),
        ({"first_k_dense_replace": 4}, "first_k_dense_replace 4 exceeds num_hidden_layers 3"),
        ({"scoring_func": "softmax"}, "'softmax' with topk_method 'noaux_tc' is not deepseek_v3"),
        ({"topk_method": "greedy"}, "chooses by noaux_tc"),
        ({"hidden_size": 0}, "field 'hidden_size' is 0"),
        ({"hidden_act": "gelu"}, "field 'hidden_act' is 'gelu'"),
        ({"rope_scaling": YARN | {"factor": 0.5}}, "rope_scaling.yarn.factor"),
        ({"rope_scaling": YARN | {"beta_fast": 1.0}}, "beta_fast 1.0 must be greater than beta_slow 1.0"),
    ],
)
def test_an_impossible_value_is_named_with_its_reason(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        small_config(**changes)


def test_fields_that_do_not_go_together_are_named_without_a_field_of_their_own() -> None:
    with pytest.raises(RecipeError, match=r"^here: n_group 3 does not divide n_routed_experts 8"):
        ModelConfig.validated(V3 | {"n_group": 3, "topk_group": 1}, "here")


def test_every_impossible_value_is_named_at_once() -> None:
    with pytest.raises(RecipeError, match=r"odd.*exceeds n_routed_experts"):
        small_config(qk_rope_head_dim=5, num_experts_per_tok=9)


def test_a_dense_twin_may_keep_routing_numbers_that_fit_no_router() -> None:
    assert not small_config(first_k_dense_replace=3, num_experts_per_tok=99).is_moe_layer(2)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"model_type": "gpt2"}, "model_type is 'gpt2'; Fathom reads deepseek_v3, deepseek_v2, llama and qwen2"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope scaling of type 'linear'"),
        ({"rope_scaling": {"type": "yarn", "rope_type": "dynamic", "factor": 2.0}}, "dynamic/yarn"),
        ({"rope_parameters": YARN | {"rope_type": "yarn", "attention_factor": 2.0}}, "attention_factor"),
        ({"rope_interleave": False}, "rope_interleave"),
        ({"mlp_bias": True}, "mlp_bias is true"),
        ({"num_hidden_layers": "many"}, "num_hidden_layers"),
    ],
)
def test_a_foreign_configuration_is_refused_by_name(values: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        ModelConfig.from_hf(V3 | values)


def test_a_missing_model_type_is_refused() -> None:
    with pytest.raises(RecipeError, match="model_type is None"):
        ModelConfig.from_hf({key: value for key, value in V3.items() if key != "model_type"})


@pytest.mark.parametrize(("peer", "family"), [(DeepseekV3Config, "deepseek_v3"), (DeepseekV2Config, "deepseek_v2")])
def test_what_a_file_leaves_out_is_what_transformers_takes(peer: type, family: str) -> None:
    routing = ("n_routed_experts", "num_experts_per_tok", "moe_intermediate_size")
    sizes = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    heads = ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
    bare = {"model_type": family, **{name: V3[name] for name in routing + sizes + heads}, "n_routed_experts": 32}
    ours, theirs = ModelConfig.from_hf(bare), peer.from_dict(bare)
    for name in FAMILIES[family].defaults:
        assert getattr(ours, name) == getattr(theirs, name, getattr(ours, name)), name


def test_null_ends_no_text_and_compresses_no_query() -> None:
    config = ModelConfig.from_hf(V3 | {"eos_token_id": None, "q_lora_rank": None, "n_shared_experts": None})
    assert (config.eos_token_id, config.q_lora_rank, config.n_shared_experts) == (None, None, 1)


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such file"):
        ModelConfig.from_hf(tmp_path / "none.json")
    (tmp_path / "config.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(RecipeError, match=r"config\.json: not a readable config\.json"):
        ModelConfig.from_hf(tmp_path)
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(RecipeError, match="holds a list"):
        ModelConfig.from_hf(tmp_path)


def test_an_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(RecipeError, match="deepseek-v3, deepseek-v2, deepseek-v2-lite, moonlight-16b-a3b"):
        ModelConfig.preset("deepseek-v9")
    with pytest.raises(RecipeError, match="No model is called 'laptop-0'"):
        ModelConfig.preset("laptop-0")


@given(st.integers(1, 40), st.integers(256, 200_000))
def test_every_depth_of_the_laptop_family_is_possible_and_explained(depth: int, vocab_size: int) -> None:
    config = laptop(depth, vocab_size)
    rules = {name: value for name, value, _ in laptop_rules(depth, vocab_size)}
    assert config.num_hidden_layers == depth
    assert config.vocab_size == vocab_size
    assert all(getattr(config, name) == value for name, value in rules.items())
    assert all(reason for _, _, reason in laptop_rules(depth, vocab_size))
