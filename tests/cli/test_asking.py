"""Commands that need a model or a run refuse bad requests in words."""

import pytest


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["generate", ""], "prompt is empty"),
        (["generate", "sea", "--model", "nobody"], "no model 'nobody'"),
        (["chat", "nobody"], "no model 'nobody'"),
        (["evaluate"], "fathom quickstart"),
        (["report", "nothing"], "is not a run"),
        (["pretrain", "nothing.toml"], "no such recipe"),
        (["pretrain", "quickstop"], "no recipe 'quickstop'"),
        (["pretrain", "quickstart", "train.stps=4"], "did you mean 'steps'"),
        (["pretrain", "quickstart", "--set", "model.num_experts_per_tok=99"], "exceeds n_routed_experts"),
        (["quickstart", "--set", "train.minutes=-1"], "train.minutes"),
    ],
)
def test_what_cannot_be_done_is_a_usage_error_that_says_why(fathom, arguments, words):
    result = fathom(*arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_a_sampling_value_out_of_range_is_refused_before_the_model_is_loaded(fathom, tmp_path):
    (tmp_path / "config.json").touch()
    result = fathom("generate", "sea", "--model", ".", "--top-p", "1.5")
    assert result.exit_code == 2
    assert "top_p is 1.5" in result.stderr


def test_models_lists_nothing_yet_and_how_to_make_the_first(fathom):
    result = fathom("models")
    assert result.exit_code == 0
    assert "fathom quickstart" in result.stdout
    assert "deepseek-v3" in result.stdout


def test_known_packages_are_listed_with_their_licences(fathom):
    result = fathom("corpus", "--list")
    assert result.exit_code == 0
    assert "public domain" in result.stdout.lower()
