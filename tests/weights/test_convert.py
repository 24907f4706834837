"""Folders in another number format: the weights follow, the texts stay, and nothing is ever half there."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import foreign
from fathom.corpus.bpe import save_tokenizer, train_bpe
from fathom.errors import UsageError, WeightsError
from fathom.weights import convert as module
from fathom.weights.convert import convert
from fathom.weights.folder import load, save
from small import LLAMA, V3, small_config, small_model

WIDE = {"vocab_size": 420, "hidden_size": 160, "intermediate_size": 288, "moe_intermediate_size": 136}


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("words")
    save_tokenizer(train_bpe(foreign.TEXTS, 420), folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path, words: Path) -> Path:
    return save(small_model(small_config(V3 | WIDE, q_lora_rank=24)), tmp_path / "model", words, card="# A model\n")


@pytest.mark.parametrize(("kind", "dtype"), [("bf16", torch.bfloat16), ("f16", torch.float16), ("f32", torch.float32)])
def test_every_number_is_in_the_format_asked_for_but_the_routers_biases(
    tmp_path: Path, folder: Path, kind: str, dtype: torch.dtype
) -> None:
    report = convert(folder, tmp_path / "out", kind)
    before, after = load_file(folder / "model.safetensors"), load_file(tmp_path / "out" / "model.safetensors")
    assert after.keys() == before.keys()
    for name, tensor in after.items():
        wanted = torch.float32 if name.endswith("e_score_correction_bias") else dtype
        assert tensor.dtype == wanted
        assert torch.equal(tensor, before[name].to(wanted))
    assert json.loads((tmp_path / "out" / "config.json").read_text())["torch_dtype"] == str(dtype).removeprefix(
        "torch."
    )
    assert report.bytes == sum(path.stat().st_size for path in (tmp_path / "out").iterdir())


def test_the_texts_go_along_and_the_card_says_what_was_done(tmp_path: Path, folder: Path) -> None:
    settings = json.loads((folder / "generation_config.json").read_text()) | {"temperature": 0.6}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    described = json.loads((folder / "config.json").read_text()) | {"my_own_key": [1, 2]}
    (folder / "config.json").write_text(json.dumps(described))
    (folder / "LICENSE").write_text("MIT")
    convert(folder, tmp_path / "out", "bf16")
    assert json.loads((tmp_path / "out" / "generation_config.json").read_text()) == settings
    assert json.loads((tmp_path / "out" / "config.json").read_text()) == described | {"torch_dtype": "bfloat16"}
    for name in ("tokenizer.json", "tokenizer_config.json", "LICENSE"):
        assert (tmp_path / "out" / name).read_bytes() == (folder / name).read_bytes()
    card = (tmp_path / "out" / "README.md").read_text()
    assert card.startswith("# A model\n")
    assert "Converted by Fathom from model, its numbers to bf16." in card


def test_without_a_format_a_folder_is_copied_number_by_number(tmp_path: Path, folder: Path) -> None:
    convert(folder, tmp_path / "fp8", "fp8")
    for source in (folder, tmp_path / "fp8"):
        convert(source, tmp_path / "copy")
        before, after = (load_file(each / "model.safetensors") for each in (source, tmp_path / "copy"))
        assert before.keys() == after.keys()
        assert all(torch.equal(tensor.float(), after[name].float()) for name, tensor in before.items())
        assert all(tensor.dtype == after[name].dtype for name, tensor in before.items())


@pytest.mark.parametrize("kind", ["fp8", "fp8-ue8m0"])
def test_fp8_blocks_are_those_that_saving_the_model_writes(tmp_path: Path, folder: Path, kind: str) -> None:
    convert(folder, tmp_path / "bf16", "bf16")
    convert(tmp_path / "bf16", tmp_path / "out", kind)
    model = load(tmp_path / "bf16")
    save(model, tmp_path / "saved", quantisation=kind)
    ours, theirs = (load_file(tmp_path / each / "model.safetensors") for each in ("out", "saved"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(tensor.float(), theirs[name].float()) for name, tensor in ours.items())
    configs = [json.loads((tmp_path / each / "config.json").read_text()) for each in ("out", "saved")]
    assert configs[0]["quantization_config"] == configs[1]["quantization_config"]


def test_fp8_goes_back_to_bf16_and_to_the_other_kind_of_factors(tmp_path: Path, folder: Path) -> None:
    convert(folder, tmp_path / "fp8", "fp8")
    convert(tmp_path / "fp8", tmp_path / "bf16", "bf16")
    assert "quantization_config" not in json.loads((tmp_path / "bf16" / "config.json").read_text())
    ours, theirs = load(tmp_path / "bf16"), load(tmp_path / "fp8", dtype=torch.bfloat16)
    assert all(torch.equal(tensor, theirs.state_dict()[name]) for name, tensor in ours.state_dict().items())
    convert(tmp_path / "fp8", tmp_path / "powers", "fp8-ue8m0")
    scale = load_file(tmp_path / "powers" / "model.safetensors")["model.layers.0.mlp.up_proj.weight_scale_inv"]
    assert torch.equal(scale.log2(), scale.log2().round())


def test_mtp_modules_stay_in_a_folder(tmp_path: Path, folder: Path) -> None:
    convert(folder, tmp_path / "out", "f32")
    assert load(tmp_path / "out").config.num_nextn_predict_layers == 1


def test_one_gguf_file_becomes_another(tmp_path: Path, folder: Path) -> None:
    convert(folder, tmp_path / "a.gguf", "f32")
    convert(tmp_path / "a.gguf", tmp_path / "b.gguf", "q8_0")
    convert(folder, tmp_path / "direct.gguf", "q8_0")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gguf", "b.gguf", "direct.gguf", "model"]
    assert (tmp_path / "b.gguf").stat().st_size == pytest.approx((tmp_path / "direct.gguf").stat().st_size, abs=200)


@pytest.mark.parametrize(
    ("target", "kind", "named"),
    [
        ("model", "bf16", "the model itself"),
        ("model/inner", "bf16", "inside the model's own folder"),
        ("out", "q4_0", "a model folder is written in f32"),
        ("out.gguf", "fp8", "a GGUF file is written in f32"),
    ],
)
def test_a_conversion_that_makes_no_sense_is_refused(
    tmp_path: Path, folder: Path, target: str, kind: str, named: str
) -> None:
    with pytest.raises(UsageError, match=named):
        convert(folder, tmp_path / target, kind)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_fp8_blocks_are_for_deepseeks_models(tmp_path: Path) -> None:
    folder = save(small_model(small_config(LLAMA)), tmp_path / "model")
    with pytest.raises(UsageError, match="llama"):
        convert(folder, tmp_path / "out", "fp8")


def test_weights_that_are_not_the_models_are_listed(tmp_path: Path, folder: Path) -> None:
    described = json.loads((folder / "config.json").read_text()) | {"num_hidden_layers": 2}
    (folder / "config.json").write_text(json.dumps(described))
    for target in ("out", "out.gguf"):
        with pytest.raises(WeightsError, match="do not belong together"):
            convert(folder, tmp_path / target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_what_is_no_model_is_never_replaced(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(WeightsError, match=r"thesis\.tex"):
        convert(folder, tmp_path / "out", "bf16")


def test_an_interrupted_conversion_leaves_what_was_there(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert(folder, tmp_path / "out", "bf16")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_shards", interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert(folder, tmp_path / "out", "f32")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "out"]


def test_a_gguf_file_without_room_is_an_error_and_no_file(tmp_path: Path, folder: Path) -> None:
    target = tmp_path / "nowhere"
    target.write_text("a file, no folder")
    with pytest.raises(WeightsError, match="could not be written"):
        convert(folder, target / "model.gguf")


@pytest.mark.parametrize("target", ["out.gguf", "out"])
def test_numbers_that_are_none_are_not_passed_on(tmp_path: Path, folder: Path, target: str) -> None:
    change(folder, "model.norm.weight", float("nan"))
    with pytest.raises(WeightsError, match=r"model\.norm\.weight holds NaN or infinity"):
        convert(folder, tmp_path / target)
    assert not (tmp_path / target).exists()


@pytest.mark.parametrize("target", ["out.gguf", "out"])
def test_numbers_too_large_for_sixteen_bits_do_not_become_infinite(tmp_path: Path, folder: Path, target: str) -> None:
    change(folder, "model.layers.0.mlp.down_proj.weight", 1e5)
    with pytest.raises(WeightsError, match=r"down_proj\.weight holds numbers beyond 65504.*bf16"):
        convert(folder, tmp_path / target, "f16")
    convert(folder, tmp_path / target, "bf16")


def test_a_gguf_file_with_nan_becomes_no_folder(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change(folder, "model.norm.weight", float("nan"))
    with monkeypatch.context() as patch:
        patch.setattr("fathom.weights.gguf.export.finite", lambda tensor, *_: tensor)
        convert(folder, tmp_path / "model.gguf", "f32")
    with pytest.raises(WeightsError, match=r"model\.norm\.weight holds NaN or infinity"):
        convert(tmp_path / "model.gguf", tmp_path / "out")


def change(folder: Path, name: str, number: float) -> None:
    """Put a number into a tensor of the folder."""
    tensors = load_file(folder / "model.safetensors")
    tensors[name].view(-1)[0] = number
    save_file(tensors, folder / "model.safetensors")
