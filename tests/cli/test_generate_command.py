"""`fathom generate` with a model folder, option by option."""

import json
import re

import pytest
import torch

from fathom.config.model import ModelConfig
from fathom.corpus.bpe import save_tokenizer, train_bpe
from fathom.corpus.tokenizer import Tokenizer
from fathom.model.transformer import Transformer
from fathom.weights.folder import save


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(train_bpe(["the sea is deep", '{"a": 1}'] * 20, 512), place)
    config = ModelConfig(
        model_type="llama",
        vocab_size=Tokenizer(place).vocab_size,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=128,
        initializer_range=0.3,
        eos_token_id=Tokenizer(place).eos_id,
    )
    model = Transformer(config)
    model.init_weights(torch.Generator().manual_seed(7))
    save(model, place / "model", tokenizer_from=place)
    return str(place / "model")


@pytest.fixture
def generate(fathom, folder):
    def run(*options, status=0):
        result = fathom("generate", "the sea", "--model", folder, "-n", "8", "--seed", "1", *options)
        assert result.exit_code == status, result.output
        return json.loads(result.stdout) if "--json" in options else result.stdout if not status else result.stderr

    return run


def test_a_text_and_its_json_are_the_same(generate):
    answer = generate("--json")
    assert generate() == f"the sea{answer['text']}\n"
    assert len(answer["tokens"]) == len(answer["logprobs"])
    assert answer["prompt_tokens"] >= 2


def test_a_message_is_put_into_the_models_own_format_and_its_answer_stands_alone(generate):
    plain, answer = generate("--json"), generate("--message", "--json")
    assert answer["prompt_tokens"] > plain["prompt_tokens"]
    assert generate("--message") == f"{answer['text']}\n"


def test_a_chat_model_that_has_nothing_to_go_on_with_says_how_it_is_asked(fathom, folder):
    ending = str(Tokenizer(folder).eos_id)
    result = fathom("generate", "the sea", "--model", folder, "--logit-bias", f"{ending}=100")
    assert result.stdout == "the sea\n"
    assert "with --message it answers" in result.stderr


def test_several_completions_come_in_order(generate):
    answer = generate("--count", "3", "--json", "--logprobs", "2", "--ignore-eos")
    assert len(answer["completions"]) == 3
    assert answer["text"] == answer["completions"][0]["text"]
    assert all(len(top) == 2 for top in answer["top_logprobs"])
    assert re.findall(r"^--- (\d): length$", generate("--count", "3", "--ignore-eos"), re.MULTILINE) == ["1", "2", "3"]
    assert len(generate("--count", "2", "--best-of", "4", "--json")["completions"]) == 2


@pytest.mark.parametrize("how", ["itself", "file"])
def test_a_structure_is_obeyed_whether_written_out_or_in_a_file(generate, tmp_path, how):
    schema = '{"type": "integer", "minimum": 0, "maximum": 9}'
    (tmp_path / "schema.json").write_text(schema)
    assert generate("--json-schema", schema if how == "itself" else "schema.json", "--json")["text"] in "0123456789"
    assert re.fullmatch("(ab)+", generate("--regex", "(ab){1,3}", "--json")["text"])


def test_a_biased_token_and_a_stop_token(generate):
    assert generate("--logit-bias", "70=100", "--ignore-eos", "--json")["tokens"] == [70] * 8
    stopped = generate("--logit-bias", "70=100", "--stop-token", "70", "--json")
    assert (stopped["tokens"], stopped["finish_reason"]) == ([70], "stop")


def test_what_was_read_is_kept_in_a_folder(generate, tmp_path):
    long = ("--cache-folder", str(tmp_path / "kept"), "--json", "--ignore-eos", "-n", "40")
    first, second = generate(*long), generate(*long)
    assert first["tokens"] == second["tokens"]
    assert [path for path in (tmp_path / "kept").rglob("*") if path.is_file()]


@pytest.mark.parametrize("weights", ["fp32", "bf16", "int8", "int4"])
def test_the_weights_may_be_held_in_fewer_bits(generate, weights):
    assert len(generate("--weights", weights, "--ignore-eos", "--json")["tokens"]) == 8


def test_guessing_ahead_changes_no_token(generate):
    assert generate("--speculation", "lookup", "--json") == generate("--json")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--logit-bias", "x=1"], "write a token id"),
        (["--speculation", "psychic"], "must be one of"),
        (["--speculation", "mtp"], "no MTP module"),
        (["--best-of", "1", "--count", "2"], "best_of is 1"),
        (["--json-object", "--regex", "a"], "give one of"),
        (["--weights", "int3"], "no weight format 'int3'"),
        (["--json-schema", '{"type": "nothing"}'], "structured"),
        (["--cache-folder", "/proc/nowhere"], "cannot be written"),
    ],
)
def test_impossible_wishes_are_refused_in_words(generate, options, complaint):
    error = generate(*options, status=2)
    assert complaint in error
    assert "Traceback" not in error
