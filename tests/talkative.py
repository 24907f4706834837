"""A tokenizer of a few words, and a network of random weights that says anything at all."""

import torch

from fathom.config.model import ModelConfig
from fathom.corpus.bpe import save_tokenizer, train_bpe
from fathom.corpus.tokenizer import Tokenizer
from fathom.model.transformer import Transformer

TEXT = ["the sea is deep and the line is long", "测量大海的深浅", "def depth(line):\n    return len(line)\n"]


def few_words(folder, text=TEXT):
    """A tokenizer with a vocabulary of 512."""
    save_tokenizer(train_bpe(text * 20, 512), folder)
    return Tokenizer(folder)


def anything(tokenizer, **changes):
    """A network for a tokenizer, of two layers, one of them with experts."""
    config = ModelConfig(
        **{
            "vocab_size": tokenizer.vocab_size,
            "hidden_size": 32,
            "intermediate_size": 64,
            "moe_intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "kv_lora_rank": 16,
            "qk_nope_head_dim": 16,
            "qk_rope_head_dim": 8,
            "v_head_dim": 16,
            "n_routed_experts": 4,
            "n_shared_experts": 1,
            "num_experts_per_tok": 2,
            "first_k_dense_replace": 1,
            "max_position_embeddings": 1024,
            # Far from the tiny initial weights of training, so that no two tokens are equally likely.
            "initializer_range": 0.3,
        }
        | changes
    )
    model = Transformer(config)
    model.init_weights(torch.Generator().manual_seed(7))
    return model.eval()
