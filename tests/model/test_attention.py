import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fathom.errors import GenerationError
from fathom.model.attention import LatentAttention
from fathom.model.cache import LatentCache
from fathom.model.masks import causal_mask, document_mask, padding_mask, padding_positions
from small import V2, V3, YARN, random_tokens, small_config, small_model

CONFIGS = {
    "v3": small_config(V3),
    "v3 compressed": small_config(V3, q_lora_rank=7, rope_scaling=YARN),
    "v2": small_config(V2),
}


@pytest.mark.parametrize("name", CONFIGS)
@given(parts=st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_reading_in_parts_with_a_cache_equals_reading_at_once(name: str, parts: list[int]) -> None:
    model = small_model(CONFIGS[name], dtype=torch.float64)
    tokens = random_tokens(model, length=sum(parts))
    cache = LatentCache(model.config, 2, sum(parts), torch.float64)
    with torch.no_grad():
        pieces = [model(part, cache=cache).logits for part in tokens.split(parts, dim=1)]
        torch.testing.assert_close(torch.cat(pieces, 1), model(tokens).logits)
    assert cache.length == sum(parts)


def test_absorbed_and_expanded_attention_agree() -> None:
    model = small_model(dtype=torch.float64)
    module = model.model.layers[0].self_attn
    assert isinstance(module, LatentAttention)
    x = torch.randn(2, 6, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rotation = model.rotary(torch.arange(6)[None])
    parts = (*module.query(x, rotation), *module.latent(x, rotation))
    for mask in (None, padding_mask(torch.tensor([[False, True, True, True, True, True]] * 2))):
        torch.testing.assert_close(module.absorbed(*parts, mask), module.expanded(*parts, mask))


def test_one_query_over_many_keys_absorbs_and_a_whole_prompt_expands() -> None:
    with torch.device("meta"):
        attention = LatentAttention(CONFIGS["v3"].preset("deepseek-v3"))
    assert attention.absorbing_pays(queries=1, keys=1000)
    assert not attention.absorbing_pays(queries=1000, keys=1000)


def test_the_cache_holds_only_latent_and_shared_key() -> None:
    config = CONFIGS["v3"]
    cache = LatentCache(config, 1, 10)
    per_token = (cache.latent.numel() + cache.key.numel()) / 10
    assert per_token == config.num_hidden_layers * (config.kv_lora_rank + config.qk_rope_head_dim)


def test_a_full_cache_refuses_more_and_says_how_much_it_holds() -> None:
    model = small_model()
    cache = LatentCache(model.config, 2, 12)
    model(random_tokens(model), cache=cache)
    with pytest.raises(GenerationError, match="room for 12 tokens and holds 11; 2 more do not fit"):
        model(random_tokens(model, length=2), cache=cache)
    assert cache.length == 11


def test_a_cropped_cache_continues_from_there() -> None:
    model = small_model(dtype=torch.float64)
    tokens = random_tokens(model, length=9)
    cache = LatentCache(model.config, 2, 12, torch.float64)
    with torch.no_grad():
        model(tokens, cache=cache)
        cache.crop(4)
        again = model(tokens[:, 4:], cache=cache).logits
        torch.testing.assert_close(again, model(tokens).logits[:, 4:])


def test_packed_documents_do_not_see_each_other_under_their_mask() -> None:
    model = small_model(dtype=torch.float64)
    tokens = random_tokens(model, batch=1, length=10)
    document = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 2, 2, 2]])
    positions = torch.tensor([[0, 1, 2, 0, 1, 2, 3, 0, 1, 2]])
    packed = model(tokens, mask=document_mask(document), positions=positions).logits
    alone = torch.cat([model(part).logits for part in tokens.split([3, 4, 3], dim=1)], 1)
    torch.testing.assert_close(packed, alone)


def test_padding_with_a_cache_is_hidden_from_later_tokens() -> None:
    model = small_model(dtype=torch.float64)
    tokens = random_tokens(model, batch=1, length=8)
    is_token = torch.tensor([[False, False, *[True] * 6]])
    positions = padding_positions(is_token)
    cache = LatentCache(model.config, 1, 8, torch.float64)
    with torch.no_grad():
        model(tokens[:, :6], cache=cache, positions=positions[:, :6], mask=padding_mask(is_token[:, :6]))
        last = model(tokens[:, 6:], cache=cache, positions=positions[:, 6:], mask=padding_mask(is_token, queries=2))
        torch.testing.assert_close(last.logits, model(tokens[:, 2:]).logits[:, -2:])


def test_a_row_of_padding_alone_gives_no_nan() -> None:
    model = small_model()
    mask = padding_mask(torch.tensor([[False] * 11, [True] * 11]))
    assert model(random_tokens(model), mask=mask).logits.isfinite().all()


def test_masks_have_the_last_query_at_the_last_key() -> None:
    assert causal_mask(2, 3)[0, 0].tolist() == [[True, True, False], [True, True, True]]
