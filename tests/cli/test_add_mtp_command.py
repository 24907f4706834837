"""`fathom convert add-mtp`, as typed."""

import json

import pytest

from fathom.weights.folder import load, save
from small import V3, small_config, small_model


@pytest.fixture
def here(sea):
    config = small_config(V3, vocab_size=420, num_nextn_predict_layers=0)
    save(small_model(config), sea / "without", tokenizer_from=sea / "words")
    return sea


def test_a_module_is_added_and_guesses(fathom, here):
    done = fathom("convert", "add-mtp", "without", "with", "--text", "text.txt", "--sequence", "16", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["module"] == "model.layers.3."
    assert 0 <= found["agreement"] <= 1
    made = load(here / "with")
    assert made.config.num_nextn_predict_layers == 1
    assert found["parameters"] == sum(p.numel() for p in made.model.layers[3].parameters())
    asked = ("generate", "the sea", "--model", "with", "-n", "8", "--temperature", "0", "--json")
    guesses = ("--speculation", "mtp", "--draft-vocabulary", "300")
    plain, guessed = (json.loads(fathom(*asked, *options).stdout) for options in ((), guesses))
    assert plain["text"] == guessed["text"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("without", "with", "--text", "nowhere.txt"), "nowhere.txt: there is no such file"),
        (("without", "words", "--text", "text.txt"), "--force"),
        (("nobody", "with", "--text", "text.txt"), "nobody"),
    ],
)
def test_what_cannot_be_done_is_said(arguments, named, fathom, here):
    refused = fathom("convert", "add-mtp", *arguments)
    assert refused.exit_code == 2
    assert named in refused.stderr
    assert not (here / "with").exists()
