import pytest
import torch

from fathom.config.model import ModelConfig
from fathom.corpus.bpe import save_tokenizer, train_bpe
from fathom.corpus.tokenizer import Tokenizer
from fathom.model.transformer import Transformer

VOCABULARY = 512
TEXT = ["the sea is deep and the line is long", "测量大海的深浅", "def depth(line):\n    return len(line)\n"]


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(train_bpe(TEXT * 20, VOCABULARY), folder)
    return Tokenizer(folder)


@pytest.fixture(scope="session")
def model(tokenizer):
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=32,
        intermediate_size=64,
        moe_intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        kv_lora_rank=16,
        qk_nope_head_dim=16,
        qk_rope_head_dim=8,
        v_head_dim=16,
        n_routed_experts=4,
        n_shared_experts=1,
        num_experts_per_tok=2,
        first_k_dense_replace=1,
        max_position_embeddings=48,
        num_nextn_predict_layers=1,
        initializer_range=0.3,
    )
    model = Transformer(config)
    model.init_weights(torch.Generator().manual_seed(7))
    return model.eval()
