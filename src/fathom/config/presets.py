"""Named configurations: four published models, exact, and a laptop family driven by one dial."""

from math import sqrt
from typing import Any

from fathom.config.model import ModelConfig
from fathom.errors import RecipeError

_HEADS: dict[str, Any] = {"kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128}
_V2_ROUTING: dict[str, Any] = {"model_type": "deepseek_v2", "scoring_func": "softmax", "norm_topk_prob": False}


def _yarn(mscale: float) -> dict[str, Any]:
    context = {"rope_type": "yarn", "factor": 40.0, "original_max_position_embeddings": 4096}
    return context | {"beta_fast": 32.0, "beta_slow": 1.0, "mscale": mscale, "mscale_all_dim": mscale}


PUBLISHED: dict[str, dict[str, Any]] = {
    "deepseek-v3": _HEADS
    | {
        "vocab_size": 129280,
        "hidden_size": 7168,
        "intermediate_size": 18432,
        "moe_intermediate_size": 2048,
        "num_hidden_layers": 61,
        "num_attention_heads": 128,
        "q_lora_rank": 1536,
        "n_routed_experts": 256,
        "n_shared_experts": 1,
        "num_experts_per_tok": 8,
        "n_group": 8,
        "topk_group": 4,
        "routed_scaling_factor": 2.5,
        "first_k_dense_replace": 3,
        "rope_scaling": _yarn(1.0),
        "max_position_embeddings": 163840,
        "num_nextn_predict_layers": 1,
        "initializer_range": 0.006,
    },
    "deepseek-v2": _HEADS
    | _V2_ROUTING
    | {
        "vocab_size": 102400,
        "hidden_size": 5120,
        "intermediate_size": 12288,
        "moe_intermediate_size": 1536,
        "num_hidden_layers": 60,
        "num_attention_heads": 128,
        "q_lora_rank": 1536,
        "n_routed_experts": 160,
        "n_shared_experts": 2,
        "num_experts_per_tok": 6,
        "n_group": 8,
        "topk_group": 3,
        "topk_method": "group_limited_greedy",
        "routed_scaling_factor": 16.0,
        "first_k_dense_replace": 1,
        "rope_scaling": _yarn(1.0),
        "max_position_embeddings": 163840,
        "bos_token_id": 100000,
        "eos_token_id": 100001,
        "initializer_range": 0.006,
    },
    "deepseek-v2-lite": _HEADS
    | _V2_ROUTING
    | {
        "vocab_size": 102400,
        "hidden_size": 2048,
        "intermediate_size": 10944,
        "moe_intermediate_size": 1408,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "n_routed_experts": 64,
        "n_shared_experts": 2,
        "num_experts_per_tok": 6,
        "topk_method": "greedy",
        "first_k_dense_replace": 1,
        "rope_scaling": _yarn(0.707),
        "max_position_embeddings": 163840,
        "bos_token_id": 100000,
        "eos_token_id": 100001,
        "initializer_range": 0.006,
    },
    "moonlight-16b-a3b": _HEADS
    | {
        "vocab_size": 163840,
        "hidden_size": 2048,
        "intermediate_size": 11264,
        "moe_intermediate_size": 1408,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "n_routed_experts": 64,
        "n_shared_experts": 2,
        "num_experts_per_tok": 6,
        "routed_scaling_factor": 2.446,
        "first_k_dense_replace": 1,
        "rope_theta": 50000.0,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
        "bos_token_id": 163584,
        "eos_token_id": 163585,
        "initializer_range": 0.02,
    },
}

LAPTOP_VOCABULARY = 4096


def preset(name: str) -> ModelConfig:
    """The configuration called `name`: a key of `PUBLISHED`, or "laptop-" and a depth."""
    if name in PUBLISHED:
        return ModelConfig.validated(PUBLISHED[name], f"preset {name}")
    depth = name.removeprefix("laptop-")
    if depth != name and depth.isdecimal() and int(depth) > 0:
        return laptop(int(depth))
    raise RecipeError(f"No model is called {name!r}; there are {', '.join(PUBLISHED)}, and laptop-N for a depth N.")


def laptop(depth: int, vocab_size: int = LAPTOP_VOCABULARY) -> ModelConfig:
    """A V3 network for a small machine: `depth` layers, everything else derived; `laptop_rules` says how."""
    if depth < 1:
        raise RecipeError(f"depth {depth}: a network has at least one layer.")
    return ModelConfig.validated(
        {name: value for name, value, _ in laptop_rules(depth, vocab_size)}, f"laptop model of depth {depth}"
    )


def laptop_rules(depth: int, vocab_size: int) -> list[tuple[str, Any, str]]:
    """Each number of the laptop family: its field, its value and the rule it follows, for printing."""
    width = 32 * depth
    heads = (depth + 1) // 2
    chosen = max(2, width // 64)
    routed, shared, inner = 8 * chosen, 1, max(32, 2 * width // chosen)
    return [
        ("num_hidden_layers", depth, "the dial"),
        ("vocab_size", vocab_size, "the tokenizer's"),
        ("hidden_size", width, "32 for each layer: width and depth grow together"),
        ("num_attention_heads", heads, "width / 64"),
        ("qk_nope_head_dim", 48, "with the rotary part as wide as a value"),
        ("qk_rope_head_dim", 16, "a third of the part without position; V3 has a half"),
        ("v_head_dim", 64, "heads x 64 = width, as in V2-Lite"),
        ("kv_lora_rank", max(32, width // 4), "a quarter of the width, as in V2-Lite"),
        ("q_lora_rank", None, "no query compression under 16B, as in V2-Lite and Moonlight"),
        ("n_routed_experts", routed, "eight times what a token sees"),
        ("num_experts_per_tok", chosen, "width / 64, at least 2: finer experts as width allows; V3 sees 8 of 256"),
        ("n_shared_experts", shared, "one, as in V3"),
        ("moe_intermediate_size", inner, "2 widths / K, which is 128: products of narrower experts run at half speed"),
        ("intermediate_size", shared * inner + chosen * inner, "what a token sees in an expert layer"),
        ("first_k_dense_replace", min(1, depth - 1), "one leading dense layer, as in V2-Lite"),
        ("routed_scaling_factor", sqrt(chosen), "sqrt(K): K mixed experts then weigh as much as one (V3: 2.5 for 8)"),
        ("initializer_range", round(0.5 / sqrt(width), 6), "0.5 / sqrt(width), V3's 0.006 at its width 7168"),
        ("num_nextn_predict_layers", 1, "one MTP module, as in V3"),
        ("max_position_embeddings", 2048, "longest context"),
    ]
