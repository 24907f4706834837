"""GGUF files, out and in: the same numbers, the same tokens, and a plain word where that cannot be."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

import foreign
from fathom.corpus.bpe import deepseek_pre_tokenizer, save_tokenizer, train_bpe
from fathom.corpus.tokenizer import Tokenizer
from fathom.errors import WeightsError
from fathom.weights.convert import convert
from fathom.weights.folder import load, save
from fathom.weights.gguf.layout import layout
from fathom.weights.gguf.read import GGUFFile
from fathom.weights.gguf.splits import KNOWN, name_of, pre_tokenizer
from small import LLAMA, LLAMA3, QWEN2, V2, V3, random_tokens, small_config, small_model

VOCABULARY = 420
WIDE = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "moe_intermediate_size": 32}
YARN = {"factor": 4.0, "original_max_position_embeddings": 16, "mscale": 0.707, "mscale_all_dim": 0.707}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "v3": (V3, {"q_lora_rank": 24}),
    "v3 without query compression, with yarn": (V3, {"rope_scaling": YARN}),
    "v3 dense": (V3, {"first_k_dense_replace": 3, "num_nextn_predict_layers": 0}),
    "v2": (V2, {"topk_method": "greedy", "n_group": 1, "topk_group": 1}),
    "llama": (LLAMA, {"tie_word_embeddings": True}),
    "llama 3.1": (LLAMA, {"rope_scaling": LLAMA3 | {"original_max_position_embeddings": 8192}, "rope_theta": 5e5}),
    "llama with biases": (LLAMA, {"attention_bias": True, "mlp_bias": True, "head_dim": 12}),
    "qwen2": (QWEN2, {}),
    "qwen2 with yarn": (QWEN2, {"rope_scaling": {"factor": 4.0, "original_max_position_embeddings": 16}}),
}


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("words")
    save_tokenizer(train_bpe(foreign.TEXTS, VOCABULARY), folder)
    return folder


def saved(folder: Path, words: Path, base: dict[str, Any] = V3, **changes: Any) -> Path:
    return save(small_model(small_config(base | WIDE, **changes)), folder, tokenizer_from=words)


@pytest.mark.parametrize("case", CASES)
def test_there_and_back_nothing_is_lost(tmp_path: Path, words: Path, case: str) -> None:
    base, changes = CASES[case]
    folder = saved(tmp_path / "model", words, base, **changes)
    convert(folder, tmp_path / "model.gguf", "f32")
    convert(tmp_path / "model.gguf", tmp_path / "back")
    before, after = load(folder), load(tmp_path / "back")
    ours = before.state_dict()
    assert ours.keys() == after.state_dict().keys()
    assert all(torch.equal(tensor, ours[name]) for name, tensor in after.state_dict().items())
    tokens = random_tokens(before)
    assert torch.equal(before(tokens).logits, after(tokens).logits)
    text = "The captain 世界 12345\n\n  x 😀 it's"
    assert Tokenizer(tmp_path / "back").encode(text) == Tokenizer(folder).encode(text)
    assert Tokenizer(tmp_path / "back").reserved == Tokenizer(folder).reserved
    assert Tokenizer(tmp_path / "back").settings.chat_template == Tokenizer(folder).settings.chat_template


@pytest.mark.parametrize("case", CASES)
def test_a_file_describes_the_same_network(tmp_path: Path, words: Path, case: str) -> None:
    base, changes = CASES[case]
    folder = saved(tmp_path / "model", words, base, **changes)
    convert(folder, tmp_path / "model.gguf", "bf16")
    before, after = load(folder).config, GGUFFile(tmp_path / "model.gguf").config
    unsaid = {"extra", "initializer_range", "pad_token_id"}
    if not before.is_moe_layer(before.num_hidden_layers):
        unsaid |= {"n_routed_experts", "num_experts_per_tok", "n_group", "topk_group", "norm_topk_prob"}
        unsaid |= {"routed_scaling_factor"}
    elif before.n_group > 1 and before.topk_group == before.n_group:
        unsaid |= {"n_group", "topk_group"}
    assert after.model_dump(exclude=unsaid) == before.model_dump(exclude=unsaid)


def test_mtp_modules_go_along_or_stay_behind(tmp_path: Path, words: Path) -> None:
    folder = saved(tmp_path / "model", words, q_lora_rank=24, num_nextn_predict_layers=2)
    convert(folder, tmp_path / "with.gguf", "f32")
    convert(folder, tmp_path / "without.gguf", "f32", mtp=False)
    convert(tmp_path / "with.gguf", tmp_path / "with")
    convert(tmp_path / "without.gguf", tmp_path / "without")
    before, after = load(folder), load(tmp_path / "with")
    tokens = random_tokens(before)
    theirs, ours = (model(tokens, depths=2).mtp_logits for model in (before, after))
    assert all(torch.equal(*pair) for pair in zip(theirs, ours, strict=True))
    assert load(tmp_path / "without").config.num_nextn_predict_layers == 0


def test_embedding_and_head_repeated_by_an_mtp_layer_are_read(
    tmp_path: Path, words: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved(tmp_path / "model", words, q_lora_rank=24, num_nextn_predict_layers=1)
    monkeypatch.setattr("fathom.weights.gguf.export.layout", partial(layout, ends_repeated=True))
    convert(folder, tmp_path / "model.gguf", "f32")
    convert(tmp_path / "model.gguf", tmp_path / "back")
    assert torch.equal(*(load(place).lm_head.weight for place in (folder, tmp_path / "back")))
    assert load(tmp_path / "back").config.num_nextn_predict_layers == 1


@pytest.mark.parametrize(("kind", "most"), [("bf16", 0.005), ("f16", 0.0006), ("q8_0", 0.008), ("q4_0", 0.13)])
def test_coarser_numbers_are_as_close_as_they_can_be(tmp_path: Path, words: Path, kind: str, most: float) -> None:
    folder = saved(tmp_path / "model", words, q_lora_rank=24)
    report = convert(folder, tmp_path / "model.gguf", kind)
    assert report.bytes == (tmp_path / "model.gguf").stat().st_size
    file, exact = GGUFFile(tmp_path / "model.gguf"), load(folder, mtp=False).state_dict()
    assert file.is_quantised == kind.startswith("q")
    for name in ("model.embed_tokens.weight", "model.layers.0.mlp.down_proj.weight"):
        assert (file.tensor(name) - exact[name]).abs().max() <= most * exact[name].abs().max()
    for name in ("model.norm.weight", "model.layers.1.mlp.gate.weight"):
        assert torch.equal(file.tensor(name), exact[name])


def test_rows_that_no_block_fits_keep_sixteen_bits(tmp_path: Path, words: Path) -> None:
    convert(saved(tmp_path / "model", words), tmp_path / "model.gguf", "q4_0")
    kinds = {t.name: t.tensor_type.name for t in gguf.GGUFReader(tmp_path / "model.gguf").tensors}
    assert kinds["blk.0.attn_kv_a_mqa.weight"] == "Q4_0"
    assert kinds["blk.0.attn_k_b.weight"] == "BF16"
    assert kinds["token_embd.weight"] == kinds["output.weight"] == "Q8_0"


def test_fp8_blocks_are_dequantised_on_the_way_out(tmp_path: Path, words: Path) -> None:
    folder = save(small_model(small_config(V3 | WIDE)), tmp_path / "fp8", words, quantisation="fp8")
    convert(folder, tmp_path / "model.gguf", "f32")
    exact, file = load(folder, dtype=torch.float32).state_dict(), GGUFFile(tmp_path / "model.gguf")
    name = "model.layers.0.self_attn.kv_b_proj.weight"
    assert torch.equal(file.tensor(name), exact[name])


@pytest.mark.parametrize(
    ("base", "changes", "named"),
    [
        (V2, {}, "group_limited_greedy"),
        (V3, {"n_shared_experts": 0}, "n_shared_experts"),
        (V3, {"moe_layer_freq": 2}, "moe_layer_freq"),
        (V3, {"attention_bias": True, "q_lora_rank": 24}, "attention_bias"),
        (V3, {"num_hidden_layers": 26, "q_lora_rank": 24}, "26 layers"),
        (V3, {"rope_scaling": YARN | {"mscale": 1.0}}, "mscale"),
        (QWEN2, {"rope_scaling": YARN}, "mscale"),
    ],
)
def test_what_llama_cpp_would_compute_otherwise_is_refused(
    tmp_path: Path, words: Path, base: dict[str, Any], changes: dict[str, Any], named: str
) -> None:
    folder = saved(tmp_path / "model", words, base, **changes)
    with pytest.raises(WeightsError, match=named):
        convert(folder, tmp_path / "model.gguf")
    assert not list(tmp_path.glob("*.gguf*"))


def test_our_tokenizers_and_deepseeks_cut_text_as_llama_cpp_does_under_a_name() -> None:
    from tokenizers import Tokenizer as Raw
    from tokenizers import models

    ours = Raw(models.BPE())
    ours.pre_tokenizer = deepseek_pre_tokenizer()
    assert name_of(json.loads(ours.to_str())["pre_tokenizer"], "ours") == "deepseek-v3"
    for name in KNOWN:
        assert name_of(pre_tokenizer(name, "here"), "here") == name


@pytest.mark.parametrize("kind", [foreign.smollm, foreign.llama3, foreign.llama2])
def test_foreign_tokenizers_come_back_with_the_same_ids(tmp_path: Path, kind: Any) -> None:
    words = kind(tmp_path / "words", VOCABULARY)
    rows = Tokenizer(words).vocab_size + 5
    folder = save(small_model(small_config(LLAMA | WIDE, vocab_size=rows)), tmp_path / "model", tokenizer_from=words)
    if (words / "generation_config.json").exists():
        (folder / "generation_config.json").write_bytes((words / "generation_config.json").read_bytes())
    convert(folder, tmp_path / "model.gguf", "f32")
    convert(tmp_path / "model.gguf", tmp_path / "back")
    before, after = Tokenizer(folder), Tokenizer(tmp_path / "back")
    assert after.reserved == before.reserved
    assert after.text_start == before.text_start
    assert after.eos_id == before.eos_id
    for text in ("The captain sailed 世界 12345\n\n  x", "it's é 😀", "def add(a, b):", "<s><|im_end|>"):
        assert after.encode(text) == before.encode(text)
        assert after.decode(after.encode(text)) == text


def test_a_tokenizer_that_llama_cpp_has_no_name_for_is_refused(tmp_path: Path, words: Path) -> None:
    folder = saved(tmp_path / "model", words)
    described = json.loads((folder / "tokenizer.json").read_text())
    described["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\d+"
    (folder / "tokenizer.json").write_text(json.dumps(described))
    with pytest.raises(WeightsError, match="no name for"):
        convert(folder, tmp_path / "model.gguf")


def test_a_model_without_a_tokenizer_is_no_gguf_file(tmp_path: Path) -> None:
    folder = save(small_model(), tmp_path / "model")
    with pytest.raises(WeightsError, match=r"tokenizer\.json is missing"):
        convert(folder, tmp_path / "model.gguf")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_named_and_leaves_nothing(tmp_path: Path, words: Path, share: float) -> None:
    path = tmp_path / "model.gguf"
    convert(saved(tmp_path / "model", words), path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(WeightsError, match=r"model\.gguf"):
        convert(path, tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_a_file_that_is_something_else_is_named(tmp_path: Path) -> None:
    (tmp_path / "picture.gguf").write_bytes(b"\x89PNG" + bytes(100))
    with pytest.raises(WeightsError, match="not a readable GGUF file"):
        convert(tmp_path / "picture.gguf", tmp_path / "back")


def write(path: Path, architecture: str, keys: dict[str, Any], tensors: dict[str, tuple[int, ...]]) -> Path:
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in keys.items():
        writer.add_string(key, value) if isinstance(value, str) else writer.add_uint32(key, value)
    for name, shape in tensors.items():
        writer.add_tensor(name, np.zeros(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(
    ("architecture", "keys", "tensors", "named"),
    [
        ("gemma3", {}, {"token_embd.weight": (4, 2)}, "gemma3"),
        ("llama", {}, {"token_embd.weight": (4, 2)}, "embedding_length"),
        ("llama", {}, {"output.weight": (4, 2)}, "not a whole language model"),
        ("llama", {"split.count": 3}, {"token_embd.weight": (4, 2)}, "3 parts"),
    ],
)
def test_a_file_that_is_not_a_whole_model_of_ours_is_named(
    tmp_path: Path, architecture: str, keys: dict[str, Any], tensors: dict[str, tuple[int, ...]], named: str
) -> None:
    path = write(tmp_path / "x.gguf", architecture, keys, tensors)
    with pytest.raises(WeightsError, match=named):
        GGUFFile(path)


def test_tensors_too_many_too_few_and_of_another_shape_are_listed_together(tmp_path: Path, words: Path) -> None:
    path = tmp_path / "model.gguf"
    convert(saved(tmp_path / "model", words, LLAMA), path, "f32")
    reader = gguf.GGUFReader(path)
    writer = gguf.GGUFWriter(tmp_path / "wrong.gguf", "llama")
    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key != "general.architecture":
            inner = field.types[1] if len(field.types) > 1 else None
            writer.add_key_value(key, field.contents(), field.types[0], inner)
    for tensor in reader.tensors:
        if tensor.name == "output_norm.weight":
            writer.add_tensor("surplus.weight", tensor.data)
        else:
            writer.add_tensor(tensor.name, tensor.data[:-1] if "ffn_up" in tensor.name else tensor.data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(WeightsError) as caught:
        GGUFFile(tmp_path / "wrong.gguf")
    for name in ("output_norm", "surplus", "ffn_up"):
        assert name in str(caught.value)
