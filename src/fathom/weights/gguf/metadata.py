"""What a GGUF file says about the network: our configuration in llama.cpp's keys, and back."""

from collections.abc import Mapping, Set
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fathom.config.model import ModelConfig
from fathom.config.rope import Llama3Scaling, YarnScaling
from fathom.errors import RecipeError, WeightsError
from fathom.model.rope import frequencies

ARCHITECTURES = {"deepseek_v3": "deepseek2", "deepseek_v2": "deepseek2", "llama": "llama", "qwen2": "qwen2"}
SOFTMAX, SIGMOID = 1, 2
"""llama.cpp's numbers for the routers' scoring functions."""
LITE_LAYERS = (26, 27)
"""With so many layers llama.cpp takes a deepseek2 file for one without query compression, and with others for one with
it unless the rank is 0."""
YARN_LOG = 0.1
"""llama.cpp's files hold YaRN's `mscale_all_dim` times this."""
Value = int | float | bool | str


def inexpressible(config: ModelConfig) -> list[str]:
    """What llama.cpp would compute otherwise, each with the field that asks for it."""
    scaling, found = config.rope_scaling, []
    if isinstance(scaling, YarnScaling):
        if config.family.attention == "mla" and not scaling.mscale == scaling.mscale_all_dim != 0:
            found.append(
                f"rope_scaling.mscale {scaling.mscale} and mscale_all_dim {scaling.mscale_all_dim} differ or are 0"
            )
        if config.family.attention == "gqa" and (scaling.mscale, scaling.mscale_all_dim) != (1.0, 0.0):
            found.append("rope_scaling has an mscale or mscale_all_dim")
    if config.family.attention == "gqa":
        return found
    if config.attention_bias:
        found.append("attention_bias is true")
    if config.q_lora_rank is not None and config.num_hidden_layers in LITE_LAYERS:
        found.append(f"q_lora_rank is {config.q_lora_rank} in a model of {config.num_hidden_layers} layers")
    if config.is_moe_layer(config.num_hidden_layers):
        found += _inexpressible_routing(config)
    return found


def _inexpressible_routing(config: ModelConfig) -> list[str]:
    found = []
    if config.moe_layer_freq != 1:
        found.append(f"moe_layer_freq is {config.moe_layer_freq}")
    if not config.n_shared_experts:
        found.append("n_shared_experts is 0")
    if _groups_matter(config):
        if config.topk_method != "noaux_tc":
            found.append(
                f"topk_method is '{config.topk_method}' with {config.n_group} groups, and V3's rule is applied"
            )
        if config.n_routed_experts == config.n_group:
            found.append("n_group equals n_routed_experts, and a group needs two experts")
    return found


def _groups_matter(config: ModelConfig) -> bool:
    return config.topk_method != "greedy" and config.topk_group < config.n_group


def check_expressible(config: ModelConfig) -> None:
    """Refuse a model that llama.cpp would not compute as it is."""
    if problems := inexpressible(config):
        raise WeightsError(
            f"llama.cpp cannot run this model as it is: {'; '.join(problems)}. Keep it as a Hugging Face folder."
        )


def to_metadata(config: ModelConfig) -> dict[str, Value]:
    """The keys that llama.cpp reads, without the architecture's name in front, of an expressible `config`."""
    keys: dict[str, Value] = {
        "vocab_size": config.vocab_size,
        "block_count": config.num_hidden_layers + config.num_nextn_predict_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "rope.freq_base": config.rope_theta,
        "rope.dimension_count": config.qk_rope_head_dim,
    }
    keys |= _latent(config) if config.family.attention == "mla" else _grouped(config)
    if isinstance(config.rope_scaling, YarnScaling):
        keys |= _yarn(config.rope_scaling)
    return keys


def _grouped(config: ModelConfig) -> dict[str, Value]:
    return {
        "attention.head_count_kv": config.num_key_value_heads or config.num_attention_heads,
        "attention.key_length": config.qk_head_dim,
        "attention.value_length": config.v_head_dim,
    }


def _latent(config: ModelConfig) -> dict[str, Value]:
    """MLA as llama.cpp sees it: one key-value head of the latent's width, from which all heads read."""
    keys: dict[str, Value] = {
        "attention.head_count_kv": 1,
        "attention.q_lora_rank": config.q_lora_rank or 0,
        "attention.kv_lora_rank": config.kv_lora_rank,
        "attention.key_length": config.kv_lora_rank + config.qk_rope_head_dim,
        "attention.value_length": config.kv_lora_rank,
        "attention.key_length_mla": config.qk_head_dim,
        "attention.value_length_mla": config.v_head_dim,
        "leading_dense_block_count": min(config.first_k_dense_replace, config.num_hidden_layers),
        "expert_feed_forward_length": config.moe_intermediate_size,
        "expert_shared_count": config.n_shared_experts,
    }
    if config.num_nextn_predict_layers:
        keys["nextn_predict_layers"] = config.num_nextn_predict_layers
    if config.is_moe_layer(config.num_hidden_layers):
        keys |= {
            "expert_count": config.n_routed_experts,
            "expert_used_count": config.num_experts_per_tok,
            "expert_weights_scale": config.routed_scaling_factor,
            "expert_weights_norm": config.norm_topk_prob,
            "expert_gating_func": SIGMOID if config.scoring_func == "sigmoid" else SOFTMAX,
        }
        if _groups_matter(config):
            keys |= {"expert_group_count": config.n_group, "expert_group_used_count": config.topk_group}
    return keys


def _yarn(scaling: YarnScaling) -> dict[str, Value]:
    keys: dict[str, Value] = {
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": scaling.factor,
        "rope.scaling.original_context_length": scaling.original_max_position_embeddings,
        "rope.scaling.yarn_beta_fast": scaling.beta_fast,
        "rope.scaling.yarn_beta_slow": scaling.beta_slow,
    }
    return keys | (
        {"rope.scaling.yarn_log_multiplier": YARN_LOG * scaling.mscale_all_dim} if scaling.mscale_all_dim else {}
    )


def rope_factors(config: ModelConfig) -> Tensor:
    """What Llama 3's scaling divides each rotary frequency by, (head_dim / 2,) FP32."""
    return frequencies(config.model_copy(update={"rope_scaling": None})) / frequencies(config)


def from_metadata(
    fields: Mapping[str, Any], names: Set[str], vocab_size: int, factors: Tensor | None, where: str
) -> ModelConfig:
    """The configuration behind a GGUF file's `fields` and tensor `names`; `factors` are Llama 3's, if it has them."""
    architecture = str(fields.get("general.architecture"))
    if architecture not in ARCHITECTURES.values():
        known = ", ".join(sorted(set(ARCHITECTURES.values())))
        raise WeightsError(f"{where}: its architecture is {architecture!r}, and Fathom reads {known}.")
    prefix = f"{architecture}."
    keys = {key.removeprefix(prefix): _rounded(value) for key, value in fields.items() if key.startswith(prefix)}
    try:
        values = {
            "vocab_size": vocab_size,
            "hidden_size": keys["embedding_length"],
            "intermediate_size": keys["feed_forward_length"],
            "num_hidden_layers": keys["block_count"] - keys.get("nextn_predict_layers", 0),
            "num_attention_heads": keys["attention.head_count"],
            "rms_norm_eps": keys["attention.layer_norm_rms_epsilon"],
            "rope_theta": keys.get("rope.freq_base", 10000.0),
            "max_position_embeddings": keys["context_length"],
            "tie_word_embeddings": "output.weight" not in names,
            "bos_token_id": fields.get("tokenizer.ggml.bos_token_id"),
            "eos_token_id": _ends(fields),
            "pad_token_id": fields.get("tokenizer.ggml.padding_token_id"),
            "initializer_range": 0.02,
        }
        values |= _read_latent(keys, names) if architecture == "deepseek2" else _read_grouped(architecture, keys, names)
    except KeyError as error:
        raise WeightsError(f"{where}: the key {prefix}{error.args[0]} is missing; the file is incomplete.") from None
    try:
        config = ModelConfig.validated(values | {"rope_scaling": _read_scaling(keys, architecture, where)}, where)
        return config if factors is None else _with_llama3(config, factors, where)
    except RecipeError as error:
        raise WeightsError(str(error)) from None


def _ends(fields: Mapping[str, Any]) -> int | list[int] | None:
    ids = [fields.get(f"tokenizer.ggml.{kind}_token_id") for kind in ("eos", "eot", "eom")]
    given = list(dict.fromkeys(int(each) for each in ids if each is not None))
    return given[0] if len(given) == 1 else given or None


def _rounded(value: Any) -> Any:
    """A number stored as FP32 as the shortest decimal that gives it: 1e-05 rather than 9.99999974e-06."""
    return float(str(np.float32(value))) if isinstance(value, float) else value


def _read_grouped(architecture: str, keys: Mapping[str, Any], names: Set[str]) -> dict[str, Any]:
    heads, width = keys["attention.head_count"], keys["embedding_length"]
    values: dict[str, Any] = {
        "model_type": architecture,
        "num_key_value_heads": keys.get("attention.head_count_kv", heads),
        "head_dim": keys.get("attention.key_length", keys.get("rope.dimension_count", width // heads)),
    }
    if architecture == "llama":
        values |= {
            "attention_bias": "blk.0.attn_output.bias" in names or "blk.0.attn_q.bias" in names,
            "mlp_bias": "blk.0.ffn_gate.bias" in names,
        }
    return values


def _read_latent(keys: Mapping[str, Any], names: Set[str]) -> dict[str, Any]:
    later = keys.get("nextn_predict_layers", 0)
    layers, dense = keys["block_count"] - later, keys.get("leading_dense_block_count", 0)
    rope = keys["rope.dimension_count"]
    values: dict[str, Any] = {
        "q_lora_rank": keys.get("attention.q_lora_rank") or None,
        "kv_lora_rank": keys["attention.kv_lora_rank"],
        "qk_rope_head_dim": rope,
        "qk_nope_head_dim": keys.get("attention.key_length_mla", keys.get("attention.key_length", 0)) - rope,
        "v_head_dim": keys.get("attention.value_length_mla", keys.get("attention.value_length", 0)),
        "first_k_dense_replace": dense,
        "moe_intermediate_size": keys["expert_feed_forward_length"],
        "n_shared_experts": keys.get("expert_shared_count", 0),
        "routed_scaling_factor": keys.get("expert_weights_scale", 1.0),
        "norm_topk_prob": keys.get("expert_weights_norm", False),
        "num_nextn_predict_layers": later,
    }
    groups, kept = keys.get("expert_group_count", 1), keys.get("expert_group_used_count", 1)
    if dense < layers:
        values |= {"n_routed_experts": keys["expert_count"], "num_experts_per_tok": keys["expert_used_count"]}
        values |= {"n_group": max(groups, 1), "topk_group": max(kept, 1)}
    if dense >= layers or keys.get("expert_gating_func", SOFTMAX) == SIGMOID:
        return values | {"model_type": "deepseek_v3", "topk_method": "noaux_tc", "scoring_func": "sigmoid"}
    method = "group_limited_greedy" if groups > 1 else "greedy"
    return values | {"model_type": "deepseek_v2", "topk_method": method, "scoring_func": "softmax"}


def _read_scaling(keys: Mapping[str, Any], architecture: str, where: str) -> dict[str, Any] | None:
    kind = keys.get("rope.scaling.type", "none")
    factor = keys.get("rope.scaling.factor", 1.0)
    if kind == "none" or (kind == "linear" and factor == 1.0):
        return None
    if kind != "yarn":
        raise WeightsError(f"{where}: its rotary scaling is of type '{kind}'; Fathom reads 'yarn' and Llama 3's.")
    log = _rounded(keys.get("rope.scaling.yarn_log_multiplier", 0.0) / YARN_LOG)
    return {
        "rope_type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": keys["rope.scaling.original_context_length"],
        "beta_fast": keys.get("rope.scaling.yarn_beta_fast", 32.0),
        "beta_slow": keys.get("rope.scaling.yarn_beta_slow", 1.0),
        "mscale": log if architecture == "deepseek2" else 1.0,
        "mscale_all_dim": log if architecture == "deepseek2" else 0.0,
    }


def _with_llama3(config: ModelConfig, factors: Tensor, where: str) -> ModelConfig:
    """Llama 3.1's and 3.2's scaling, of which a file keeps only the factors; they must follow the published rule."""
    scaling = Llama3Scaling(factor=_rounded(float(factors.max())), original_max_position_embeddings=8192)
    scaled = config.model_copy(update={"rope_scaling": scaling})
    if not torch.allclose(rope_factors(scaled), factors.float(), rtol=1e-3):
        raise WeightsError(
            f"{where}: its rotary factors ({factors.min():.3g} to {factors.max():.3g}) are not those of Llama 3.1's "
            "rule with an original context of 8192. Convert the model from its Hugging Face folder instead."
        )
    return scaled
