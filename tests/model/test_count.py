import pytest
import torch

from fathom.config.model import ModelConfig
from fathom.model.count import count
from fathom.model.transformer import Transformer
from small import small_config

TOTALS = {
    "deepseek-v3": (671_026_404_352, 37_552_282_624),
    "deepseek-v2": (235_741_434_880, 21_375_800_320),
    "deepseek-v2-lite": (15_706_484_224, 2_661_150_208),
    "moonlight-16b-a3b": (15_960_108_544, 2_914_774_528),
}


@pytest.mark.parametrize("name", TOTALS)
def test_published_models_have_their_published_number_of_parameters(name: str) -> None:
    report = count(ModelConfig.preset(name))
    assert (report.total, report.active) == TOTALS[name]


def test_v3_is_counted_down_to_its_mtp_module_cache_and_training_work() -> None:
    report = count(ModelConfig.preset("deepseek-v3"))
    assert report.mtp == 11_610_068_224
    assert report.routing_biases == 14_848
    assert report.attention == 61 * 187_107_328
    assert report.routed_experts == 58 * 256 * 44_040_192
    assert report.kv_cache_bytes_per_token == 70_272
    assert report.training_flop_per_token / 1e9 == pytest.approx(250.5, abs=0.05)


def test_training_work_grows_with_the_context() -> None:
    config = ModelConfig.preset("deepseek-v3")
    short, long = count(config, context=4096), count(config, context=8192)
    attention = 61 * 3 * 128 * (192 + 128) * 4096
    assert long.training_flop_per_token - short.training_flop_per_token == pytest.approx(attention)


@pytest.mark.parametrize("tied", [False, True])
def test_the_count_is_what_the_built_model_holds(tied: bool) -> None:
    config = small_config(tie_word_embeddings=tied, attention_bias=True, q_lora_rank=8, num_nextn_predict_layers=2)
    report = count(config)
    held = sum(tensor.numel() for tensor in Transformer(config).state_dict().values())
    assert report.total + report.routing_biases + report.mtp == held


def test_a_dense_model_uses_all_it_has() -> None:
    report = count(small_config(first_k_dense_replace=3))
    assert report.active == report.total
    assert report.routed_experts == report.routing_biases == 0


def test_counting_leaves_no_weights_in_memory() -> None:
    with torch.device("meta"):
        model = Transformer(ModelConfig.preset("deepseek-v3"))
    assert all(parameter.is_meta for parameter in model.parameters())
