"""The network's configuration, spelled exactly as in Hugging Face's config.json for DeepSeek-V2 and DeepSeek-V3."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from fathom.config.base import Section
from fathom.errors import RecipeError

Positive = Annotated[int, Field(gt=0)]
NotNegative = Annotated[int, Field(ge=0)]


class RopeScaling(Section):
    """YaRN (Peng et al. 2023): a longer context by slowing the rotary angles. V2 and V3 differ in `mscale` alone."""

    rope_type: Literal["yarn"] = "yarn"
    """The only kind DeepSeek's models use."""
    factor: Annotated[float, Field(ge=1)]
    """How many times longer the context becomes (s; 40 in V2 and V3)."""
    original_max_position_embeddings: Positive
    """Context length of the pre-training (4096 in V2 and V3)."""
    beta_fast: Annotated[float, Field(gt=0)] = 32.0
    """Dimensions that turn more often than this over the original context keep their angle."""
    beta_slow: Annotated[float, Field(gt=0)] = 1.0
    """Dimensions that turn less often than this over the original context are slowed by the whole factor."""
    mscale: float = 1.0
    """Scales cosine and sine by (0.1 mscale ln s + 1) / (0.1 mscale_all_dim ln s + 1): V3 1.0, V2 0.707 or 1.0."""
    mscale_all_dim: float = 0.0
    """Scales the softmax by (0.1 mscale_all_dim ln s + 1) squared: V3 1.0, V2 0.707 or 1.0; 0 leaves it alone."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.beta_fast <= self.beta_slow:
            raise ValueError(f"beta_fast {self.beta_fast} must be greater than beta_slow {self.beta_slow}")
        return self


class ModelConfig(Section):
    """Shape and rules of a DeepSeek network. A dense twin is `first_k_dense_replace == num_hidden_layers`."""

    model_type: Literal["deepseek_v3", "deepseek_v2"] = "deepseek_v3"
    """V3 routes by sigmoid and balancing bias, V2 by softmax; it also names the class other software loads."""
    vocab_size: Positive
    """Rows of the embedding and of the output head (V)."""
    hidden_size: Positive
    """Model width (D)."""
    intermediate_size: Positive
    """Inner width of the dense feed-forward layers (I)."""
    moe_intermediate_size: Positive = 1
    """Inner width of one expert."""
    num_hidden_layers: Positive
    """Layers of the main model (L), MTP modules not counted."""
    num_attention_heads: Positive
    """Attention heads (H)."""
    num_key_value_heads: Positive | None = None
    """Always the number of attention heads in MLA; kept because config.json has it."""
    q_lora_rank: Positive | None = None
    """Rank of the compressed query; none means one full query matrix, as in V2-Lite."""
    kv_lora_rank: Positive
    """Rank of the compressed keys and values, what the cache holds for a token (R)."""
    qk_nope_head_dim: Positive
    """Width of a head's key without position."""
    qk_rope_head_dim: Positive
    """Width of the rotary key that all heads share."""
    v_head_dim: Positive
    """Width of a head's value."""
    n_routed_experts: Positive = 1
    """Routed experts in a layer (E)."""
    n_shared_experts: NotNegative = 0
    """Experts that see every token, merged into one wide feed-forward."""
    num_experts_per_tok: Positive = 1
    """Routed experts that see a token (K)."""
    n_group: Positive = 1
    """Groups the routed experts fall into."""
    topk_group: Positive = 1
    """Groups a token may choose its experts from."""
    topk_method: Literal["noaux_tc", "greedy", "group_limited_greedy"] = "noaux_tc"
    """V3 chooses by score plus balancing bias, in the groups whose two best are best; V2 by score, in groups or not."""
    scoring_func: Literal["sigmoid", "softmax"] = "sigmoid"
    """How router logits become scores."""
    norm_topk_prob: bool = True
    """Whether a token's chosen scores are made to sum to one."""
    routed_scaling_factor: Annotated[float, Field(gt=0)] = 1.0
    """What the routed experts' weights are multiplied by at the end."""
    first_k_dense_replace: NotNegative = 0
    """Leading layers with a dense feed-forward in the place of experts."""
    moe_layer_freq: Positive = 1
    """Every how many layers one has experts, after the leading dense ones."""
    rope_theta: Annotated[float, Field(gt=0)] = 10000.0
    """Base of the rotary frequencies."""
    rope_scaling: RopeScaling | None = None
    """YaRN, or none."""
    max_position_embeddings: Positive = 4096
    """Longest context the model is meant for."""
    rms_norm_eps: Annotated[float, Field(gt=0)] = 1e-6
    """Added to the mean square in the norms of width D."""
    num_nextn_predict_layers: NotNegative = 0
    """Multi-token prediction (MTP) modules, each predicting one token further."""
    bos_token_id: int | None = 0
    """Token that begins a text."""
    eos_token_id: int | list[int] | None = 1
    """Token, or tokens, that end a text."""
    pad_token_id: int | None = None
    """Token that fills short rows of a batch."""
    initializer_range: Annotated[float, Field(gt=0)] = 0.006
    """Standard deviation of the initial weights (V3 trained with 0.006, though its config.json says 0.02)."""
    tie_word_embeddings: bool = False
    """Whether the output head is the embedding."""
    attention_bias: bool = False
    """Whether the attention's down-projections and its output have a bias."""
    hidden_act: Literal["silu"] = "silu"
    """The only activation of this family (SwiGLU)."""
    rope_interleave: Literal[True] = True
    """Rotary pairs are neighbours in the weights, as DeepSeek published them."""
    extra: dict[str, Any] = Field(default_factory=dict)
    """Keys of a config.json that change nothing in the network; kept to be written back."""

    @model_validator(mode="before")
    @classmethod
    def _fill_key_value_heads(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("num_key_value_heads") is None:
            return values | {"num_key_value_heads": values.get("num_attention_heads")}
        return values

    @model_validator(mode="after")
    def _possible(self) -> Self:
        complaints = _attention_complaints(self) + _routing_complaints(self)
        if complaints:
            raise ValueError("; ".join(complaints))
        return self

    @property
    def qk_head_dim(self) -> int:
        """Width of a head's query: the part without position and the rotary part."""
        return self.qk_nope_head_dim + self.qk_rope_head_dim

    def is_moe_layer(self, index: int) -> bool:
        """Whether layer `index` has experts. MTP modules (index L and beyond) do if any main layer does."""
        if index >= self.num_hidden_layers:
            return any(self.is_moe_layer(i) for i in range(self.num_hidden_layers))
        return index >= self.first_k_dense_replace and index % self.moe_layer_freq == 0

    @classmethod
    def from_hf(cls, source: str | Path | dict[str, Any]) -> Self:
        """Read a config.json, the folder that holds one, or its contents; `RecipeError` if it is not of this family."""
        values, where = _read(source)
        model_type = values.get("model_type")
        if model_type not in DEFAULTS:
            known = " and ".join(DEFAULTS)
            raise RecipeError(f"{where}: model_type is {model_type!r}; Fathom reads {known}.")
        given = {key: value for key, value in values.items() if value is not None or key in NULLABLE}
        values = DEFAULTS[model_type] | given
        for alias, name in ALIASES.items():
            if alias in values:
                values[name] = values.pop(alias)
        _read_rope(values, where)
        if values.pop("mlp_bias", False):
            raise RecipeError(f"{where}: mlp_bias is true; feed-forward layers with a bias are not of this family.")
        fields = {key: values.pop(key) for key in list(values) if key in cls.model_fields and key != "extra"}
        extra = {key: value for key, value in values.items() if key not in DERIVED}
        return cls.validated(fields | {"extra": extra}, where)

    def to_hf(self) -> dict[str, Any]:
        """The contents of a config.json that transformers, vLLM and `from_hf` read."""
        values = self.model_dump(exclude={"extra", "rope_scaling"})
        scaling = None
        if self.rope_scaling is not None:
            scaling = self.rope_scaling.model_dump()
            # Software older than transformers 4.45 looks for the first spelling, newer for the second.
            scaling["type"] = scaling["rope_type"]
        return self.extra | {"architectures": [ARCHITECTURES[self.model_type]]} | values | {"rope_scaling": scaling}

    @classmethod
    def preset(cls, name: str) -> "ModelConfig":
        """A configuration by its name, such as "deepseek-v3" or "laptop-4"; see `fathom.config.presets`."""
        from fathom.config.presets import preset

        return preset(name)


ARCHITECTURES = {"deepseek_v3": "DeepseekV3ForCausalLM", "deepseek_v2": "DeepseekV2ForCausalLM"}

# What a config.json may leave out, by family; as in transformers, whose saved files drop `topk_method` of V3.
DEFAULTS: dict[str, dict[str, Any]] = {
    "deepseek_v3": {
        "topk_method": "noaux_tc",
        "scoring_func": "sigmoid",
        "norm_topk_prob": True,
        "n_group": 8,
        "topk_group": 4,
        "n_shared_experts": 1,
        "first_k_dense_replace": 3,
        "routed_scaling_factor": 2.5,
        "q_lora_rank": 1536,
        "initializer_range": 0.02,
    },
    "deepseek_v2": {
        "topk_method": "greedy",
        "scoring_func": "softmax",
        "norm_topk_prob": False,
        "n_shared_experts": 2,
        "q_lora_rank": 1536,
        "initializer_range": 0.02,
        "bos_token_id": 1,
        "eos_token_id": 2,
    },
}
# Where null says something; anywhere else it stands for a key that is not there.
NULLABLE = {"q_lora_rank", "rope_scaling", "bos_token_id", "eos_token_id"}
# Other names of the same thing in transformers 5.
ALIASES = {
    "num_mtp_layers": "num_nextn_predict_layers",
    "num_local_experts": "n_routed_experts",
    "num_experts": "n_routed_experts",
}
# Computed by transformers from other keys, or about the software that wrote the file: never written back.
DERIVED = {"architectures", "head_dim", "qk_head_dim", "dtype", "torch_dtype", "transformers_version", "auto_map"}


def _read(source: str | Path | dict[str, Any]) -> tuple[dict[str, Any], str]:
    if isinstance(source, dict):
        return source, "model configuration"
    path = Path(source)
    path = path / "config.json" if path.is_dir() else path
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such file; name a model folder or its config.json.") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RecipeError(f"{path}: not a readable config.json ({error}).") from None
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: holds a {type(values).__name__}, where a config.json holds an object.")
    return values, str(path)


def _read_rope(values: dict[str, Any], where: str) -> None:
    """Bring `rope_scaling` (published) or `rope_parameters` (transformers 5) to one spelling, in place."""
    rope = dict(values.pop("rope_scaling", None) or {}) | dict(values.pop("rope_parameters", None) or {})
    if "rope_theta" in rope:
        values["rope_theta"] = rope.pop("rope_theta")
    kinds = {rope.pop(key) for key in ("type", "rope_type") if rope.get(key) is not None}
    if kinds == {"yarn"}:
        unset = {"attention_factor": None, "truncate": True}
        values["rope_scaling"] = {
            key: value for key, value in rope.items() if not (key in unset and value in (None, unset[key]))
        }
    elif kinds - {"default"}:
        found = "/".join(sorted(kinds))
        raise RecipeError(f"{where}: rope scaling of type {found!r}; Fathom reads 'yarn' and 'default'.")


def _attention_complaints(config: ModelConfig) -> list[str]:
    complaints = []
    if config.qk_rope_head_dim % 2:
        complaints.append(f"qk_rope_head_dim {config.qk_rope_head_dim} is odd; rotary dimensions turn in pairs")
    if config.num_key_value_heads != config.num_attention_heads:
        complaints.append(
            f"num_key_value_heads {config.num_key_value_heads} differs from num_attention_heads "
            f"{config.num_attention_heads}; latent attention expands one key for each head"
        )
    if config.first_k_dense_replace > config.num_hidden_layers:
        complaints.append(
            f"first_k_dense_replace {config.first_k_dense_replace} exceeds num_hidden_layers "
            f"{config.num_hidden_layers}; equal numbers give a dense model"
        )
    return complaints


def _routing_complaints(config: ModelConfig) -> list[str]:
    E, K, groups, kept = config.n_routed_experts, config.num_experts_per_tok, config.n_group, config.topk_group
    family = {"deepseek_v3": ("sigmoid", ("noaux_tc",)), "deepseek_v2": ("softmax", ("greedy", "group_limited_greedy"))}
    scoring, methods = family[config.model_type]
    complaints = []
    if config.scoring_func != scoring or config.topk_method not in methods:
        complaints.append(
            f"scoring_func '{config.scoring_func}' with topk_method '{config.topk_method}' is not "
            f"{config.model_type}, which scores by {scoring} and chooses by {' or '.join(methods)}; "
            "software that reads the folder would compute something else"
        )
    if not config.is_moe_layer(config.num_hidden_layers):
        return complaints
    if K > E:
        complaints.append(f"num_experts_per_tok {K} exceeds n_routed_experts {E}")
    if E % groups:
        complaints.append(f"n_group {groups} does not divide n_routed_experts {E}")
    if kept > groups:
        complaints.append(f"topk_group {kept} exceeds n_group {groups}")
    elif config.topk_method != "greedy" and kept * (E // groups) < K:
        complaints.append(
            f"num_experts_per_tok {K} exceeds the {kept * (E // groups)} experts in topk_group {kept} "
            f"groups of {E // groups}"
        )
    return complaints
