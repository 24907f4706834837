"""What is exported runs in llama.cpp: the same tokens for a text, and the same continuations."""

from pathlib import Path
from typing import Any

import pytest
import torch
from llama_cpp import ask

import foreign
from fathom.corpus.bpe import save_tokenizer, train_bpe
from fathom.corpus.tokenizer import Tokenizer
from fathom.model.transformer import Transformer
from fathom.weights.convert import convert
from fathom.weights.folder import load, save
from small import LLAMA, LLAMA3, QWEN2, V2, V3, small_config, small_model

pytest.importorskip(
    "xllamacpp", reason="llama.cpp (xllamacpp) is not installed: exported files are not compared with it"
)

VOCABULARY = 512
PROMPTS, TOKENS = 20, 24
MLA = {"kv_lora_rank": 32, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16, "moe_intermediate_size": 32}
WIDE = {"vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 96, "max_position_embeddings": 256}
YARN = {"factor": 4.0, "original_max_position_embeddings": 64, "mscale": 1.0, "mscale_all_dim": 1.0}
V2_YARN = YARN | {"mscale": 0.707, "mscale_all_dim": 0.707}
PLAIN_V2 = {"topk_method": "greedy", "n_group": 1, "topk_group": 1}
LLAMA_31 = {"rope_scaling": LLAMA3 | {"original_max_position_embeddings": 8192}, "rope_theta": 5e5}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "deepseek v3": (V3 | MLA, {"q_lora_rank": 24}),
    "deepseek v3 without groups or query compression": (V3 | MLA, {"n_group": 1, "topk_group": 1}),
    "deepseek v3 with yarn": (V3 | MLA, {"q_lora_rank": 24, "rope_scaling": YARN}),
    "deepseek v3 dense": (V3 | MLA, {"first_k_dense_replace": 3, "num_nextn_predict_layers": 0}),
    "deepseek v2 with yarn": (V2 | MLA, PLAIN_V2 | {"rope_scaling": V2_YARN}),
    "llama 3.1, tied": (LLAMA, LLAMA_31 | {"tie_word_embeddings": True}),
    "llama with biases and wide heads": (LLAMA, {"attention_bias": True, "mlp_bias": True, "head_dim": 24}),
    "qwen2": (QWEN2, {}),
    "qwen2 with yarn": (QWEN2, {"rope_scaling": {"factor": 4.0, "original_max_position_embeddings": 64}}),
}
TEXTS = [
    "The captain sailed at 12345 dawn.\n\n  x",
    "春眠不觉晓，处处闻啼鸟。",
    "def add(a):\n\treturn a",
    "é à 😀 it's ﬁ\r\n",
]


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("words")
    save_tokenizer(train_bpe(foreign.TEXTS * 4, VOCABULARY), folder)
    return folder


@torch.inference_mode()
def choices(model: Transformer, prompt: list[int], continuation: list[int]) -> list[int]:
    """Our likeliest token at each place of a continuation: the continuation itself if and only if ours is the same."""
    logits = model(torch.tensor([prompt + continuation[:-1]])).logits[0, len(prompt) - 1 :]
    return list(logits.argmax(-1).tolist())


def prompts(seed: int = 3) -> list[list[int]]:
    chance = torch.Generator().manual_seed(seed)
    lengths = torch.randint(4, 60, (PROMPTS,), generator=chance).tolist()
    return [torch.randint(3, VOCABULARY, (length,), generator=chance).tolist() for length in lengths]


@pytest.mark.parametrize("case", CASES)
def test_llama_cpp_continues_as_we_do_in_fp32(tmp_path: Path, words: Path, case: str) -> None:
    base, changes = CASES[case]
    folder = save(small_model(small_config(base | WIDE, **changes)), tmp_path / "model", tokenizer_from=words)
    convert(folder, tmp_path / "model.gguf", "f32")
    answer = ask(tmp_path / "model.gguf", prompts(), TOKENS, TEXTS)
    model, tokenizer = load(folder, mtp=False), Tokenizer(folder)
    for prompt, theirs in zip(prompts(), answer.continuations, strict=True):
        assert choices(model, prompt, theirs) == theirs
        assert len(theirs) == TOKENS or theirs[-1] == tokenizer.eos_id
    assert answer.ids == [tokenizer.encode(text) for text in TEXTS]


@torch.inference_mode()
def test_llama_cpp_drafts_with_our_mtp_module(tmp_path: Path, words: Path) -> None:
    model = small_model(small_config(V3 | MLA | WIDE, q_lora_rank=24, num_nextn_predict_layers=1))
    # Where the last token decides almost everything, main model and module often say the same.
    for name, parameter in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight", "down_proj")):
            parameter *= 0.02
    model.model.embed_tokens.weight *= 50
    width = model.config.hidden_size
    model.model.layers[model.config.num_hidden_layers].eh_proj.weight[:, :width] += 1.5 * torch.eye(width)
    folder = save(model, tmp_path / "model", tokenizer_from=words)
    convert(folder, tmp_path / "model.gguf", "f32")
    answer = ask(tmp_path / "model.gguf", prompts()[:6], 32, draft=True)
    for prompt, theirs in zip(prompts(), answer.continuations, strict=False):
        assert choices(model, prompt, theirs) == theirs
    assert answer.accepted == [
        kept(model, prompt, text) for prompt, text in zip(prompts(), answer.continuations, strict=False)
    ]
    assert sum(answer.accepted)


def kept(model: Transformer, prompt: list[int], text: list[int]) -> int:
    """Tokens of `text` that the MTP module foretells, one at most after each token that the main model chose."""
    drafts = model(torch.tensor([prompt + text]), depths=1).mtp_logits[0][0].argmax(-1)[len(prompt) - 1 :]
    place = found = 0
    while place < len(text) - 1:
        right = int(drafts[place]) == text[place + 1]
        found, place = found + right, place + 1 + right
    return found


@pytest.mark.parametrize("kind", ["bf16", "f16", "q8_0", "q4_0"])
@pytest.mark.parametrize("case", ["deepseek v3", "llama 3.1, tied"])
def test_coarser_files_open_and_begin_as_what_they_hold(tmp_path: Path, words: Path, case: str, kind: str) -> None:
    base, changes = CASES[case]
    folder = save(small_model(small_config(base | WIDE, **changes)), tmp_path / "model", tokenizer_from=words)
    convert(folder, tmp_path / "model.gguf", kind)
    convert(tmp_path / "model.gguf", tmp_path / "read", "f32")
    answer = ask(tmp_path / "model.gguf", prompts(), 1)
    model = load(tmp_path / "read")
    pairs = zip(prompts(), answer.continuations, strict=True)
    same = [choices(model, prompt, theirs) == theirs for prompt, theirs in pairs]
    # llama.cpp rounds what it multiplies such weights with, and with random weights a few choices are close.
    assert sum(same) >= PROMPTS * 0.7


@pytest.mark.parametrize("kind", [foreign.smollm, foreign.llama3, foreign.llama2])
def test_llama_cpp_reads_foreign_tokenizers_as_we_do(tmp_path: Path, kind: Any) -> None:
    words = kind(tmp_path / "words", VOCABULARY)
    config = small_config(LLAMA | WIDE, vocab_size=Tokenizer(words).vocab_size + 3)
    folder = save(small_model(config), tmp_path / "model", tokenizer_from=words)
    convert(folder, tmp_path / "model.gguf", "f32")
    assert ask(tmp_path / "model.gguf", texts=TEXTS).ids == [Tokenizer(folder).encode(text) for text in TEXTS]
