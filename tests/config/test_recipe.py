"""A recipe file is read strictly, changed by overrides, and written back."""

from pathlib import Path

import pytest

from fathom.config.recipe import Recipe
from fathom.errors import RecipeError

SMALL = """
about = "A small run"

[model]
preset = "laptop-2"
n_routed_experts = 8

[corpus]
vocab_size = 1024
sources = [{kind = "folder", path = "texts"}]

[train]
steps = 10
batch_sequences = 4
"""


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


def test_a_preset_is_changed_by_the_fields_beside_it(recipe_file: Path) -> None:
    recipe = Recipe.load(recipe_file)
    assert recipe.model.num_hidden_layers == 2
    assert recipe.model.n_routed_experts == 8


def test_a_model_takes_the_vocabulary_of_its_corpus(recipe_file: Path) -> None:
    assert Recipe.load(recipe_file).model.vocab_size == 1024
    assert Recipe.load(recipe_file, ["corpus.vocab_size=2048"]).model.vocab_size == 2048


def test_overrides_are_applied_and_remembered(recipe_file: Path) -> None:
    recipe = Recipe.load(recipe_file, ["train.optimizer.kind=muon", "train.steps=20"])
    assert recipe.train.optimizer.kind == "muon"
    assert recipe.train.steps == 20
    assert recipe.overrides == ("train.optimizer.kind=muon", "train.steps=20")


def test_overriding_one_length_replaces_the_other(recipe_file: Path) -> None:
    recipe = Recipe.load(recipe_file, ["train.minutes=2.5"])
    assert recipe.train.minutes == 2.5
    assert recipe.train.steps is None


def test_overriding_the_preset_leaves_the_changes_beside_it(recipe_file: Path) -> None:
    recipe = Recipe.load(recipe_file, ["model.preset=laptop-3"])
    assert (recipe.model.num_hidden_layers, recipe.model.n_routed_experts) == (3, 8)


def test_a_preset_can_change_its_number_of_heads(recipe_file: Path) -> None:
    assert Recipe.load(recipe_file, ["model.num_attention_heads=4"]).model.num_key_value_heads == 4


def test_a_saved_recipe_reads_back_the_same(recipe_file: Path, tmp_path: Path) -> None:
    recipe = Recipe.load(recipe_file, ["train.steps=20"])
    recipe.save(tmp_path / "saved.toml")
    assert Recipe.load(tmp_path / "saved.toml").model_dump() == recipe.model_dump()
    assert "# Changed: train.steps=20" in (tmp_path / "saved.toml").read_text()


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("train.stepz=5", "unknown field 'train.stepz'; did you mean 'steps'?"),
        ("model.hiden_size=5", "did you mean 'hidden_size'?"),
        ("train.optimizer.lerning_rate=1", "did you mean 'learning_rate'?"),
        ("tran.steps=1", "did you mean 'train'?"),
        ('corpus.sources=[{kind = "folder", path = "x", licens = "MIT"}]', "did you mean 'licence'?"),
        ("train.batch_sequences=-1", "train.batch_sequences"),
        ("train.precision=fp16", "train.precision"),
        ("model.num_experts_per_tok=9", "num_experts_per_tok 9 exceeds n_routed_experts 8"),
        ("train.optimizer.betas=[0.9, 1.5]", "betas must lie in [0, 1)"),
        ("train.schedule.constant_until=0.99", "constant_until <= decay_until"),
        ("train.steps", "write it as field=value"),
        ("about.what=1", "is a value, not a table"),
        ("model.folder=x", "no such file"),
    ],
)
def test_a_bad_field_is_named(recipe_file: Path, override: str, named: str) -> None:
    with pytest.raises(RecipeError) as raised:
        Recipe.load(recipe_file, [override])
    assert named in str(raised.value)


def test_the_file_is_named_with_its_bad_field(recipe_file: Path) -> None:
    recipe_file.write_text(SMALL + "stepz = 1\n")
    with pytest.raises(RecipeError, match=r"small\.toml: unknown field 'train\.stepz'"):
        Recipe.load(recipe_file)


@pytest.mark.parametrize("text", ["[train\nsteps = 1", "\xff\xfe"])
def test_a_file_that_is_not_toml_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(RecipeError, match=r"bad\.toml"):
        Recipe.load(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"nowhere\.toml: no such recipe"):
        Recipe.load(tmp_path / "nowhere.toml")


def test_a_run_needs_exactly_one_length(recipe_file: Path) -> None:
    recipe_file.write_text(SMALL + "minutes = 3\n")
    with pytest.raises(RecipeError, match="exactly one of steps, tokens, minutes; found steps and minutes"):
        Recipe.load(recipe_file)


def test_a_decay_before_the_speed_is_known_is_refused(recipe_file: Path) -> None:
    with pytest.raises(RecipeError, match=r"schedule\.constant_until = 0\.05 must be at least twice measure_share"):
        Recipe.load(recipe_file, ["train.minutes=5", "train.schedule.constant_until=0.05"])


def test_recipes_are_the_same_but_for_what_is_learned(recipe_file: Path) -> None:
    recipe = Recipe.load(recipe_file)
    calmer = Recipe.load(recipe_file, ["train.keep_last=9", "parallel.device=cpu", "about=x"])
    faster = Recipe.load(recipe_file, ["train.optimizer.learning_rate=0.1"])
    assert recipe.differing_fields(calmer.identity()) == []
    assert recipe.choices() == calmer.choices() != faster.choices()
    assert recipe.differing_fields(faster.identity()) == ["train.optimizer.learning_rate (0.1 there, 0.00022 here)"]


def test_a_field_that_came_later_had_its_default_before(recipe_file: Path) -> None:
    older = Recipe.load(recipe_file).identity()
    assert older.pop("train.mtp.sequence_share") == 1.0
    assert Recipe.load(recipe_file).differing_fields(older) == []
    assert Recipe.load(recipe_file, ["train.mtp.sequence_share=0.5"]).differing_fields(older) == [
        "train.mtp.sequence_share (None there, 0.5 here)"
    ]
