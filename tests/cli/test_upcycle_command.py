"""`fathom convert upcycle` and `fathom convert check`, as typed."""

import json

import pytest

from fathom.corpus.bpe import save_tokenizer, train_bpe
from fathom.weights.folder import load, save
from small import LLAMA, small_config, small_model


@pytest.fixture
def here(sea):
    save(small_model(small_config(LLAMA, vocab_size=420)), sea / "dense", tokenizer_from=sea / "words")
    return sea


SMALL = ("--text", "text.txt", "--sequence", "16", "--tokens", "512", "--held-out-tokens", "512")


def test_a_dense_model_becomes_one_of_deepseeks_and_is_measured(fathom, here):
    options = ("--kv-lora-rank", "16", "--kv-lora-rank", "4", "--experts", "4", "--experts-per-token", "2")
    done = fathom("convert", "upcycle", "dense", "new", *SMALL, *options, "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    rows = [(row["what"], row["kv_lora_rank"], row["experts_per_token"]) for row in report["rows"]]
    halves = [("attention", 16, None), ("attention", 4, None), ("feed-forward", None, 2)]
    assert rows == [("dense model", None, None), *halves, ("saved", 16, 2)]
    distances = [row["kl"] for row in report["rows"]]
    assert distances[0] == 0 < distances[1] < distances[2]
    made = load(here / "new").config
    assert (made.model_type, made.kv_lora_rank, made.num_experts_per_tok) == ("deepseek_v3", 16, 2)
    assert (here / "new" / "tokenizer.json").is_file()
    assert json.loads(fathom("generate", "the sea", "--model", "new", "-n", "3", "--json").stdout)["tokens"]


def test_the_table_names_every_setting(fathom, here):
    done = fathom("convert", "upcycle", "dense", "new", *SMALL)
    assert done.exit_code == 0, done.output
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["latents", "dense", "saved", "new:"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("dense", "new", "--text", "nowhere.txt"), "nowhere.txt: there is no such file"),
        (("dense", "new", "--text", "text.txt", "--sequence", "4096"), "--sequence less"),
        (("dense", "new", *SMALL, "--experts-per-token", "2"), "there are 0 routed experts"),
        (("dense", "new", *SMALL, "--qk-rope-head-dim", "64"), "qk-rope-head-dim 64"),
        (("dense", "words", *SMALL), "--force"),
        (("nobody", "new", *SMALL), "nobody"),
    ],
)
def test_what_cannot_be_done_is_said_before_any_work(arguments, named, fathom, here):
    refused = fathom("convert", "upcycle", *arguments)
    assert refused.exit_code == 2
    assert named in refused.output
    assert not (here / "new").exists()


def test_the_distance_between_models_is_measured_on_any_text(fathom, here):
    fathom("convert", "upcycle", "dense", "new", *SMALL, "--kv-lora-rank", "4")
    options = ("--text", "text.txt", "--sequence", "16", "--tokens", "512")
    done = fathom("convert", "distance", "dense", "dense", "new", *options, "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    original, same, other = report["rows"]
    assert [original["kl"], same["kl"]] == pytest.approx([0, 0], abs=1e-6)
    assert original["bits_per_byte"] == pytest.approx(same["bits_per_byte"]) != other["bits_per_byte"]
    assert other["kl"] > 0.001
    shown = fathom("convert", "distance", "dense", "new", *options).stdout
    assert [line.split()[0] for line in shown.splitlines()] == ["model", "dense", "new", "measured"]


def test_models_of_other_tokenizers_are_not_compared(fathom, here):
    other = here / "other"
    other.mkdir()
    save_tokenizer(train_bpe(["quite another text for quite other tokens"] * 50, 400), other)
    save(small_model(small_config(LLAMA, vocab_size=420)), here / "foreign", tokenizer_from=other)
    refused = fathom("convert", "distance", "dense", "foreign", "--text", "text.txt")
    assert refused.exit_code == 2
    assert "its tokenizer splits the text otherwise" in refused.output


def test_deepseek_v3_is_covered_to_the_last_tensor(fathom):
    report = json.loads(fathom("convert", "check", "deepseek-v3", "--json").stdout)
    assert report["as_published"]
    assert report["totals"]["tensors"] == 91_991
