"""`fathom params` counts published models exactly and refuses what it does not know."""

import json

import pytest

from fathom.config.model import ModelConfig

PUBLISHED = {
    "deepseek-v3": 671_026_404_352,
    "deepseek-v2": 235_741_434_880,
    "deepseek-v2-lite": 15_706_484_224,
    "moonlight-16b-a3b": 15_960_108_544,
}


@pytest.mark.parametrize(("name", "total"), PUBLISHED.items())
def test_published_models_have_their_published_size(fathom, name, total):
    assert json.loads(fathom("params", name, "--json").stdout)["total"] == total


def test_v3s_cache_and_training_work_are_the_papers(fathom):
    report = json.loads(fathom("params", "deepseek-v3", "--json").stdout)
    assert report["kv_cache_bytes_per_token"] == 70_272
    assert report["training_flop_per_token"] / 1e9 == pytest.approx(250.5, abs=0.1)


def test_people_read_the_same_numbers(fathom):
    assert "671,026,404,352" in fathom("params", "deepseek-v3").stdout


def test_the_laptop_family_says_how_it_follows_from_the_depth(fathom):
    output = fathom("params", "laptop-6").stdout
    assert "the dial" in output
    assert str(ModelConfig.preset("laptop-6").hidden_size) in output


def test_a_config_json_and_a_recipe_are_read_too(fathom, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(ModelConfig.preset("deepseek-v2-lite").to_hf()))
    report = json.loads(fathom("params", "config.json", "--json").stdout)
    assert report["total"] == PUBLISHED["deepseek-v2-lite"]
    (tmp_path / "recipe.toml").write_text('[model]\npreset = "laptop-2"\n[train]\nsteps = 1\n')
    assert fathom("params", "recipe.toml").exit_code == 0


@pytest.mark.parametrize("name", ["deepseek-v9", "nowhere/config.json", "laptop-0"])
def test_what_is_not_there_is_a_usage_error_that_names_it(fathom, name):
    result = fathom("params", name)
    assert result.exit_code == 2
    assert name in result.stderr
