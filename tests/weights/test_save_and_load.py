import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fathom.errors import WeightsError
from fathom.weights import fill, shards
from fathom.weights.folder import load, save
from fathom.weights.names import places, published
from small import LLAMA, LLAMA3, QWEN2, V2, V3, YARN, random_tokens, small_config, small_model

CONFIGS = {
    "v3": small_config(V3),
    "v3 with everything": small_config(
        V3, q_lora_rank=7, rope_scaling=YARN, attention_bias=True, num_nextn_predict_layers=2
    ),
    "v3 tied": small_config(V3, tie_word_embeddings=True),
    "v2": small_config(V2),
    "dense": small_config(V3, first_k_dense_replace=3),
    "llama": small_config(LLAMA, rope_scaling=LLAMA3, attention_bias=True, mlp_bias=True),
    "qwen2 tied": small_config(QWEN2, tie_word_embeddings=True),
}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("shard_bytes", [10**9, 20_000], ids=["one file", "shards"])
def test_a_model_comes_back_bit_by_bit(name: str, shard_bytes: int, tmp_path: Path) -> None:
    model = small_model(CONFIGS[name])
    save(model, tmp_path / "model", shard_bytes=shard_bytes)
    loaded = load(tmp_path / "model")
    assert loaded.config == model.config
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for key, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[key]), key
    tokens = random_tokens(model)
    assert torch.equal(loaded(tokens).logits, model(tokens).logits)


def test_bf16_halves_the_folder_and_keeps_the_routing_bias_fp32(tmp_path: Path) -> None:
    model = small_model()
    save(model, tmp_path / "model", dtype=torch.bfloat16)
    stored = load_file(tmp_path / "model" / "model.safetensors")
    bias = {name for name in stored if name.endswith("e_score_correction_bias")}
    assert len(bias) == 3
    assert all(tensor.dtype == (torch.float32 if name in bias else torch.bfloat16) for name, tensor in stored.items())
    loaded = load(tmp_path / "model")
    assert loaded.compute_dtype == torch.bfloat16
    assert loaded(random_tokens(model)).logits.dtype == torch.bfloat16
    assert json.loads((tmp_path / "model" / "config.json").read_text())["torch_dtype"] == "bfloat16"


def test_loading_in_another_dtype_converts_parameters_and_computation(tmp_path: Path) -> None:
    model = small_model()
    save(model, tmp_path / "model", dtype=torch.bfloat16)
    loaded = load(tmp_path / "model", dtype=torch.float64)
    assert loaded(random_tokens(model)).logits.dtype == torch.float64


def test_the_routing_bias_is_fp32_whatever_the_model_is_loaded_in(tmp_path: Path) -> None:
    model = small_model()
    name = "model.layers.1.mlp.gate.e_score_correction_bias"
    model.get_buffer(name).uniform_(-1, 1)
    loaded = load(save(model, tmp_path / "model"), dtype=torch.bfloat16)
    assert loaded.model.embed_tokens.weight.dtype == torch.bfloat16
    assert torch.equal(loaded.state_dict()[name], model.state_dict()[name])


def test_experts_are_published_one_by_one_under_deepseeks_names(tmp_path: Path) -> None:
    model = small_model()
    save(model, tmp_path / "model")
    stored = load_file(tmp_path / "model" / "model.safetensors")
    stacked = model.model.layers[1].mlp.experts
    prefix = "model.layers.1.mlp.experts.5"
    assert torch.equal(stored[f"{prefix}.gate_proj.weight"], stacked.gate_up_proj[5, :16])
    assert torch.equal(stored[f"{prefix}.up_proj.weight"], stacked.gate_up_proj[5, 16:])
    assert torch.equal(stored[f"{prefix}.down_proj.weight"], stacked.down_proj[5])
    assert not any(name.endswith("gate_up_proj") for name in stored)


def test_mtp_layers_repeat_embedding_and_head_as_deepseeks_do(tmp_path: Path) -> None:
    model = small_model()
    save(model, tmp_path / "model")
    stored = load_file(tmp_path / "model" / "model.safetensors")
    assert torch.equal(stored["model.layers.3.embed_tokens.weight"], stored["model.embed_tokens.weight"])
    assert torch.equal(stored["model.layers.3.shared_head.head.weight"], stored["lm_head.weight"])


def test_names_go_both_ways_without_loss() -> None:
    model = small_model(CONFIGS["v3 with everything"])
    state = model.state_dict()
    there = dict(published(state, model.config))
    back = {name: torch.empty_like(tensor) for name, tensor in state.items()}
    for name, place in places(state).items():
        back[place.name][place.part] = there[name]
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())


def test_the_index_names_every_shard_and_the_whole_size(tmp_path: Path) -> None:
    model = small_model()
    save(model, tmp_path / "model", shard_bytes=20_000)
    index = json.loads((tmp_path / "model" / "model.safetensors.index.json").read_text())
    files = sorted(path.name for path in (tmp_path / "model").glob("*.safetensors"))
    assert sorted(set(index["weight_map"].values())) == files
    assert len(files) > 2
    assert files[0] == f"model-00001-of-{len(files):05d}.safetensors"
    total = 0
    for file in files:
        with safe_open(tmp_path / "model" / file, framework="pt") as opened:
            total += sum(opened.get_tensor(name).nbytes for name in opened.keys())  # noqa: SIM118
    assert index["metadata"]["total_size"] == total


def test_tokenizer_card_and_generation_settings_come_along(tmp_path: Path) -> None:
    source = tmp_path / "corpus"
    source.mkdir()
    (source / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"a": 0, "b": 60}}, "added_tokens": []}))
    (source / "tokenizer_config.json").write_text("{}")
    (source / "train-00000.bin").write_text("no part of a model")
    save(small_model(pad_token_id=2), tmp_path / "model", tokenizer_from=source, card="# A model\n")
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert names == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "README.md",
    }
    assert (tmp_path / "model" / "README.md").read_text() == "# A model\n"
    settings = json.loads((tmp_path / "model" / "generation_config.json").read_text())
    assert settings == {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    load(tmp_path / "model")


def test_a_new_model_takes_the_place_of_an_old_one_and_leaves_nothing_behind(tmp_path: Path) -> None:
    save(small_model(seed=1), tmp_path / "model", shard_bytes=20_000)
    model = small_model(seed=2)
    save(model, tmp_path / "model")
    tokens = random_tokens(model)
    assert torch.equal(load(tmp_path / "model")(tokens).logits, model(tokens).logits)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_gathered_state_is_saved_in_the_place_of_the_models_own(tmp_path: Path) -> None:
    empty, whole = small_model(seed=1), small_model(seed=2)
    save(empty, tmp_path / "model", state=whole.state_dict())
    tokens = random_tokens(whole)
    assert torch.equal(load(tmp_path / "model")(tokens).logits, whole(tokens).logits)


@pytest.mark.parametrize(
    ("failure", "seen"),
    [(OSError(28, "No space left on device"), WeightsError), (KeyboardInterrupt(), KeyboardInterrupt)],
    ids=["a full disk", "Ctrl-C"],
)
def test_a_failure_while_writing_leaves_the_old_model_as_it_was(
    failure: BaseException, seen: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = small_model(seed=1)
    save(old, tmp_path / "model")
    written: list[str] = []

    def fail_at_the_third(path: Path, *others: Any) -> None:
        written.append(path.name)
        if len(written) == 3:
            raise failure
        write(path, *others)

    write = shards._write
    monkeypatch.setattr(shards, "_write", fail_at_the_third)
    with pytest.raises(seen, match=r"No space left on device.*before is unchanged" if seen is WeightsError else None):
        save(small_model(seed=2), tmp_path / "model", shard_bytes=20_000)
    tokens = random_tokens(old)
    assert torch.equal(load(tmp_path / "model")(tokens).logits, old(tokens).logits)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_each_tensor_keeps_the_dtype_it_is_stored_in(tmp_path: Path) -> None:
    """As in folders whose norms are FP32 among matrices in bf16."""
    model = small_model()
    save(model, tmp_path / "model", dtype=torch.bfloat16)
    stored = load_file(tmp_path / "model" / "model.safetensors")
    mixed = {name: tensor.float() if "norm" in name else tensor for name, tensor in stored.items()}
    save_file(mixed, tmp_path / "model" / "model.safetensors", {"format": "pt"})
    loaded = load(tmp_path / "model")
    assert loaded.compute_dtype == torch.bfloat16
    assert loaded(random_tokens(model)).logits.dtype == torch.bfloat16
    save(loaded, tmp_path / "again")
    again = load_file(tmp_path / "again" / "model.safetensors")
    assert again.keys() == mixed.keys()
    for name, tensor in mixed.items():
        assert again[name].dtype == tensor.dtype, name
        assert torch.equal(again[name], tensor), name


def test_fp16_is_kept_as_stored_and_computed_in_fp32(tmp_path: Path) -> None:
    model = small_model(small_config(LLAMA))
    save(model, tmp_path / "model", dtype=torch.float16)
    loaded = load(tmp_path / "model")
    assert loaded.compute_dtype == torch.float32
    assert loaded.model.norm.weight.dtype == torch.float16
    save(loaded, tmp_path / "again")
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (
        tmp_path / "model" / "model.safetensors"
    ).read_bytes()
    tokens = random_tokens(model)
    exact = load(tmp_path / "model", dtype=torch.float32)
    torch.testing.assert_close(loaded(tokens).logits, exact(tokens).logits)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_load_and_save_give_the_same_files_again(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    save(small_model(CONFIGS[name]), tmp_path / "once", dtype=dtype, shard_bytes=30_000)
    save(load(tmp_path / "once"), tmp_path / "twice", shard_bytes=30_000)
    once, twice = ({path.name: path.read_bytes() for path in (tmp_path / n).iterdir()} for n in ("once", "twice"))
    assert once == twice


def test_files_are_what_the_safetensors_library_writes(tmp_path: Path) -> None:
    """Its reader checks offsets and sizes; every tensor begins at a multiple of its numbers' width."""
    save(small_model(), tmp_path / "model", dtype=torch.bfloat16)
    path = tmp_path / "model" / "model.safetensors"
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    assert header.pop("__metadata__") == {"format": "pt"}
    widths = {"F32": 4, "BF16": 2}
    assert all((8 + length + entry["data_offsets"][0]) % widths[entry["dtype"]] == 0 for entry in header.values())
    with safe_open(path, framework="pt") as opened:
        assert set(opened.keys()) == set(header)
        assert opened.metadata() == {"format": "pt"}


def test_long_work_shows_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in (fill, shards):
        monkeypatch.setattr(module, "SHOW_PROGRESS_FROM_BYTES", 0)
    monkeypatch.setattr("fathom.progress.time.monotonic", iter(range(0, 10**6, 10)).__next__)
    save(small_model(), tmp_path / "model")
    load(tmp_path / "model")
    shown = capsys.readouterr()
    assert "Saving" in shown.err
    assert "Loading model: 100%" in shown.err
    assert shown.out == ""


def test_settings_of_a_quantisation_that_the_weights_do_not_have_are_not_written(tmp_path: Path) -> None:
    """A recipe may start from the config.json of an FP8 folder."""
    config = small_config()
    settings = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    config = config.model_copy(update={"extra": {"quantization_config": settings, "note": 1}})
    save(small_model(config), tmp_path / "model")
    assert load(tmp_path / "model").config.extra == {"note": 1}


def test_every_token_that_ends_an_answer_is_known_and_kept(tmp_path):
    folder = save(small_model(), tmp_path / "model")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 7]}))
    assert load(folder).config.eos_token_id == [1, 7]
    save(load(folder), tmp_path / "again")
    assert json.loads((tmp_path / "again" / "generation_config.json").read_text())["eos_token_id"] == [1, 7]
