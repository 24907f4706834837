"""Which tensors a GGUF file holds, and what each has to do with the published ones.

Names and shapes are those that llama.cpp's loader asks for. Most tensors differ by name alone. Llama's queries and keys
are reordered, because llama.cpp turns neighbouring pairs where the published weights pair the halves of a head; experts
are stacked; and MLA's up-projection is split into its key and value parts, the key part transposed.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from fathom.config.model import ModelConfig
from fathom.config.rope import Llama3Scaling

Shape = tuple[int, ...]
ROPE_FACTORS = "rope_freqs.weight"
"""What Llama 3's scaling divides each rotary frequency by; made from the configuration, not published."""


def same(tensor: Tensor) -> Tensor:
    """The tensor as it is."""
    return tensor


@dataclass(frozen=True)
class Packed:
    """A tensor of a GGUF file. Each published tensor gives a piece; several pieces are stacked on a new first axis."""

    name: str
    shape: Shape
    pieces: tuple[str, ...]
    make: Callable[[Tensor], Tensor] = same


@dataclass(frozen=True)
class Published:
    """A tensor of a model folder, made of one or two of a GGUF file, or of one `slot` of a stack."""

    name: str
    shape: Shape
    sources: tuple[str, ...]
    make: Callable[..., Tensor] = same
    slot: int | None = None


@dataclass
class Layout:
    """Both sides of a model, each in the order it is written."""

    packed: list[Packed] = field(default_factory=list)
    published: list[Published] = field(default_factory=list)

    def same(self, packed: str, published: str, *shape: int) -> None:
        """One tensor under two names."""
        self.packed.append(Packed(packed, shape, (published,)))
        self.published.append(Published(published, shape, (packed,)))

    def turned(self, packed: str, published: str, heads: int, *shape: int) -> None:
        """Rows of `heads` heads whose rotary halves stand in pairs in the GGUF file."""
        self.packed.append(Packed(packed, shape, (published,), lambda tensor: halves_to_pairs(tensor, heads)))
        self.published.append(Published(published, shape, (packed,), lambda tensor: pairs_to_halves(tensor, heads)))

    def stacked(self, packed: str, published: str, count: int, *shape: int) -> None:
        """`count` tensors of experts; `published` has a place for the number."""
        names = tuple(published.format(number) for number in range(count))
        self.packed.append(Packed(packed, (count, *shape), names))
        self.published += [Published(name, shape, (packed,), slot=number) for number, name in enumerate(names)]

    def latent_up(self, block: str, published: str, config: ModelConfig) -> None:
        """MLA's keys and values out of the latent, apart, as absorbed attention reads them."""
        H, R, nope, value = config.num_attention_heads, config.kv_lora_rank, config.qk_nope_head_dim, config.v_head_dim
        names = (f"{block}.attn_k_b.weight", f"{block}.attn_v_b.weight")

        def keys(tensor: Tensor) -> Tensor:
            made: Tensor = tensor.unflatten(0, (H, nope + value))[:, :nope].transpose(1, 2)
            return made

        def values(tensor: Tensor) -> Tensor:
            made: Tensor = tensor.unflatten(0, (H, nope + value))[:, nope:]
            return made

        def joined(k: Tensor, v: Tensor) -> Tensor:
            from torch import cat

            return cat((k.transpose(1, 2), v), 1).flatten(0, 1)

        self.packed.append(Packed(names[0], (H, R, nope), (published,), keys))
        self.packed.append(Packed(names[1], (H, value, R), (published,), values))
        self.published.append(Published(published, (H * (nope + value), R), names, joined))


def layout(config: ModelConfig, *, up_is_split: bool = True, ends_repeated: bool = False) -> Layout:
    """Both sides of a model.

    Files of before April 2025 hold MLA's up-projection whole; `up_is_split` is false for those. `ends_repeated` is true
    for files whose MTP layers hold the embedding and the head again, as DeepSeek's folders do.
    """
    V, D = config.vocab_size, config.hidden_size
    both = Layout()
    both.same("token_embd.weight", "model.embed_tokens.weight", V, D)
    for index in range(config.num_hidden_layers + config.num_nextn_predict_layers):
        _layer(both, config, index, up_is_split)
    for index in range(config.num_hidden_layers, config.num_hidden_layers + config.num_nextn_predict_layers):
        _mtp(both, config, f"blk.{index}.nextn", f"model.layers.{index}", ends_repeated)
    both.same("output_norm.weight", "model.norm.weight", D)
    if not config.tie_word_embeddings:
        both.same("output.weight", "lm_head.weight", V, D)
    if isinstance(config.rope_scaling, Llama3Scaling):
        both.packed.append(Packed(ROPE_FACTORS, (config.qk_rope_head_dim // 2,), ()))
    return both


def _layer(both: Layout, config: ModelConfig, index: int, up_is_split: bool) -> None:
    D, block, layer = config.hidden_size, f"blk.{index}", f"model.layers.{index}"
    both.same(f"{block}.attn_norm.weight", f"{layer}.input_layernorm.weight", D)
    if config.family.attention == "mla":
        _latent_attention(both, config, block, f"{layer}.self_attn", up_is_split)
    else:
        _grouped_attention(both, config, block, f"{layer}.self_attn")
    both.same(f"{block}.ffn_norm.weight", f"{layer}.post_attention_layernorm.weight", D)
    if config.is_moe_layer(index):
        _experts(both, config, block, f"{layer}.mlp")
    else:
        _feed_forward(both, f"{block}.ffn", "", f"{layer}.mlp", D, config.intermediate_size, config.mlp_bias)


def _mtp(both: Layout, config: ModelConfig, block: str, layer: str, ends_repeated: bool) -> None:
    """What an MTP module has beside its layer."""
    V, D = config.vocab_size, config.hidden_size
    both.same(f"{block}.eh_proj.weight", f"{layer}.eh_proj.weight", D, 2 * D)
    for packed, published in (("enorm", "enorm"), ("hnorm", "hnorm"), ("shared_head_norm", "shared_head.norm")):
        both.same(f"{block}.{packed}.weight", f"{layer}.{published}.weight", D)
    if ends_repeated:
        both.same(f"{block}.embed_tokens.weight", f"{layer}.embed_tokens.weight", V, D)
        both.same(f"{block}.shared_head_head.weight", f"{layer}.shared_head.head.weight", V, D)


def _latent_attention(both: Layout, config: ModelConfig, block: str, layer: str, up_is_split: bool) -> None:
    D, H, R, rank = config.hidden_size, config.num_attention_heads, config.kv_lora_rank, config.q_lora_rank
    if rank is None:
        both.same(f"{block}.attn_q.weight", f"{layer}.q_proj.weight", H * config.qk_head_dim, D)
    else:
        both.same(f"{block}.attn_q_a.weight", f"{layer}.q_a_proj.weight", rank, D)
        both.same(f"{block}.attn_q_a_norm.weight", f"{layer}.q_a_layernorm.weight", rank)
        both.same(f"{block}.attn_q_b.weight", f"{layer}.q_b_proj.weight", H * config.qk_head_dim, rank)
    both.same(f"{block}.attn_kv_a_mqa.weight", f"{layer}.kv_a_proj_with_mqa.weight", R + config.qk_rope_head_dim, D)
    both.same(f"{block}.attn_kv_a_norm.weight", f"{layer}.kv_a_layernorm.weight", R)
    up = f"{layer}.kv_b_proj.weight"
    if up_is_split:
        both.latent_up(block, up, config)
    else:
        both.same(f"{block}.attn_kv_b.weight", up, H * (config.qk_nope_head_dim + config.v_head_dim), R)
    both.same(f"{block}.attn_output.weight", f"{layer}.o_proj.weight", D, H * config.v_head_dim)


def _grouped_attention(both: Layout, config: ModelConfig, block: str, layer: str) -> None:
    D, H, C = config.hidden_size, config.num_attention_heads, config.qk_head_dim
    kept, is_llama = config.num_key_value_heads or H, config.model_type == "llama"
    inward, outward = config.attention_bias or not is_llama, config.attention_bias and is_llama
    for short, heads in (("q", H), ("k", kept), ("v", kept)):
        for kind, *shape in (("weight", heads * C, D), ("bias", heads * C)):
            names = f"{block}.attn_{short}.{kind}", f"{layer}.{short}_proj.{kind}"
            if kind == "bias" and not inward:
                continue
            if is_llama and short != "v":
                both.turned(*names, heads, *shape)
            else:
                both.same(*names, *shape)
    both.same(f"{block}.attn_output.weight", f"{layer}.o_proj.weight", D, H * C)
    if outward:
        both.same(f"{block}.attn_output.bias", f"{layer}.o_proj.bias", D)


def _feed_forward(both: Layout, block: str, kind: str, layer: str, D: int, inner: int, bias: bool = False) -> None:
    for short, shape in (("gate", (inner, D)), ("up", (inner, D)), ("down", (D, inner))):
        both.same(f"{block}_{short}{kind}.weight", f"{layer}.{short}_proj.weight", *shape)
        if bias:
            both.same(f"{block}_{short}{kind}.bias", f"{layer}.{short}_proj.bias", shape[0])


def _experts(both: Layout, config: ModelConfig, block: str, layer: str) -> None:
    D, E, inner = config.hidden_size, config.n_routed_experts, config.moe_intermediate_size
    both.same(f"{block}.ffn_gate_inp.weight", f"{layer}.gate.weight", E, D)
    if config.topk_method == "noaux_tc":
        both.same(f"{block}.exp_probs_b.bias", f"{layer}.gate.e_score_correction_bias", E)
    for short, shape in (("gate", (inner, D)), ("up", (inner, D)), ("down", (D, inner))):
        both.stacked(f"{block}.ffn_{short}_exps.weight", f"{layer}.experts.{{}}.{short}_proj.weight", E, *shape)
    if config.n_shared_experts:
        _feed_forward(both, f"{block}.ffn", "_shexp", f"{layer}.shared_experts", D, config.n_shared_experts * inner)


def halves_to_pairs(tensor: Tensor, heads: int) -> Tensor:
    """Rows (heads C, ...) with the two of each rotary pair brought together: 0, C/2, 1, C/2 + 1, ..."""
    made: Tensor = tensor.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)
    return made


def pairs_to_halves(tensor: Tensor, heads: int) -> Tensor:
    """The way back."""
    made: Tensor = tensor.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)
    return made
