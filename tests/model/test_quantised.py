"""A model in 8 or 4 bits: smaller, near the full one, and the same numbers to the modules and to the native plan."""

import copy

import pytest
import torch

from fathom.engine.plan import make_plan
from fathom.kernels.quantise import dequantise
from fathom.model.paged import PagedBatch, PagedStores
from fathom.model.quantised import QuantisedEmbedding, QuantisedExperts, QuantisedLinear, quantise_model
from fathom.model.transformer import Transformer
from ragged import make_ragged
from small import LLAMA, V3, random_tokens, small_config, small_model

SIZES = {"hidden_size": 64, "intermediate_size": 96, "initializer_range": 0.1}
LATENT = V3 | SIZES | {"moe_intermediate_size": 32, "v_head_dim": 8}
GROUPED = LLAMA | SIZES | {"tie_word_embeddings": True}
FORMATS = pytest.mark.parametrize("weights", ["int8", "int4"])
NETWORKS = pytest.mark.parametrize("network", [LATENT, GROUPED], ids=["V3", "Llama"])


def held_bytes(model: Transformer) -> int:
    return sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))


def dequantised(model: Transformer, plain: Transformer) -> Transformer:
    """A bf16 model of plain modules with the numbers that a quantised one holds."""
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, QuantisedLinear | QuantisedEmbedding):
                plain.get_submodule(name).weight.copy_(module.weight)
            elif isinstance(module, QuantisedExperts):
                mine = plain.get_submodule(name)
                for part in ("gate_up_proj", "down_proj"):
                    stacked = getattr(mine, part)
                    stacked.copy_(dequantise(module.held(part)).view_as(stacked))
    return plain


@FORMATS
@NETWORKS
def test_a_quantised_model_is_smaller_and_near(network: dict, weights: str) -> None:
    model = small_model(small_config(network))
    quantised = quantise_model(copy.deepcopy(model), weights)
    assert held_bytes(quantised) < held_bytes(model) * (0.45 if weights == "int8" else 0.35)
    tokens = random_tokens(model)
    with torch.inference_mode():
        full, small = model(tokens).logits.log_softmax(-1), quantised(tokens).logits.float().log_softmax(-1)
    divergence = (full.exp() * (full - small)).sum(-1).mean()
    assert divergence < (0.01 if weights == "int8" else 0.3)


@FORMATS
@NETWORKS
@pytest.mark.parametrize("news", [(9, 1, 17), (1,), (2,), (1, 2), (4,), (2, 3), (6,), (7,)])
def test_the_plan_reads_the_very_numbers_that_are_held(network: dict, weights: str, news: tuple[int, ...]) -> None:
    plain = small_model(small_config(network), dtype=torch.bfloat16)
    quantised = quantise_model(copy.deepcopy(plain), weights)
    plain = dequantised(quantised, plain)
    lengths = [(0, new) for new in news]
    ragged, blocks = make_ragged(lengths, 4)
    tokens, every = random_tokens(plain, 1, sum(news))[0], torch.arange(sum(news))
    positions = torch.cat([torch.arange(new) for _, new in lengths])
    logits = []
    for model in (plain, quantised):
        plan = make_plan(model, 1)
        if plan is None:
            pytest.skip("no C++ compiler on this machine")
        memory = PagedStores(model.config, blocks, 4, torch.bfloat16)
        logits.append(plan(tokens, positions, PagedBatch(memory, ragged), every)[0])
    assert torch.equal(*logits)


@FORMATS
def test_casting_a_quantised_model_leaves_its_numbers_alone(weights: str) -> None:
    model = quantise_model(small_model(small_config(GROUPED)), weights)
    before = model.model.layers[0].mlp.gate_proj.weight
    model.to(torch.float32)
    assert torch.equal(model.model.layers[0].mlp.gate_proj.weight, before)


def test_four_bits_spare_the_head_and_the_latents_up_projection() -> None:
    model = quantise_model(small_model(small_config(LATENT)), "int4")
    assert model.lm_head.held("weight").bits == 8
    assert model.model.layers[1].mlp.experts.held("down_proj").bits == 4
    assert model.model.layers[1].self_attn.kv_b_proj.weight.dtype == torch.bfloat16
    assert model.model.embed_tokens.weight.dtype == torch.bfloat16


@FORMATS
def test_rows_that_are_not_whole_groups_stay_whole(weights: str) -> None:
    model = quantise_model(small_model(), weights)
    assert not any(isinstance(module, QuantisedLinear) for module in model.modules())
    assert model(random_tokens(model)).logits.isfinite().all()
