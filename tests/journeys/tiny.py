"""A text and a network small enough for a test."""

PROSE = "the sea captain looked at deep water and said that every line was long enough to measure"
CHARACTERS = "春风秋月何时了往事知多少小楼昨夜又东风故国不堪回首中雕栏玉砌应犹在"
RECIPE = """
about = "A tiny run"

[model]
preset = "laptop-1"
num_hidden_layers = 2
first_k_dense_replace = 1
n_routed_experts = 8
num_experts_per_tok = 2
max_position_embeddings = 128

[corpus]
vocab_size = 600
validation_bytes = 3000
validation_share = 0.2
sources = [{kind = "folder", path = "texts"}]

[train]
steps = 8
sequence_length = 64
batch_sequences = 4
micro_batch_sequences = 4
evaluate_every = 4
evaluate_tokens = 256
checkpoint_every = 2
expert_load_every = 1

[train.optimizer]
learning_rate = 3e-3

[train.schedule]
warmup_steps = 2

[train.samples]
every = 4
tokens = 8
prompts = ["The sea", "春风"]
"""
QUICKSTART = [
    f"--set={override}"
    for override in (
        "model.preset=laptop-1",
        "model.n_routed_experts=8",
        "model.num_experts_per_tok=2",
        "corpus.vocab_size=600",
        'corpus.sources=[{kind="folder",path="texts"}]',
        "corpus.validation_bytes=3000",
        "corpus.validation_share=0.2",
        "train.sequence_length=64",
        "train.batch_sequences=4",
        "train.micro_batch_sequences=4",
        "train.checkpoint_every=2",
        "train.samples.every=0",
    )
]
"""The quickstart on such a text and network."""
