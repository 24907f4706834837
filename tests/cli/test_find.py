"""Names on the command line mean what a person expects."""

import pytest

from fathom.cli.find import model_folder, recipe_file, run_folders, set_aside, shipped_recipes
from fathom.config.reason import ReasonRecipe
from fathom.config.recipe import Recipe
from fathom.config.stages import R1Recipe
from fathom.config.tuning import DistillRecipe, SFTRecipe
from fathom.errors import TrainingError, UsageError
from fathom.train.run import claimed


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for run, finished in (("old", True), ("new", True), ("half", False)):
        folder = tmp_path / "runs" / run
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "recipe.toml").touch()
        if finished:
            (folder / "model").mkdir()
            (folder / "model" / "config.json").touch()
    return tmp_path


@pytest.mark.parametrize("name", ["old", "runs/old", "runs/old/model"])
def test_a_run_is_found_by_name_by_folder_and_by_its_model(name):
    assert str(model_folder(name)) == "runs/old/model"


def test_without_a_name_it_is_the_newest_finished_run(here):
    import os

    os.utime(here / "runs" / "old", (1, 1))
    assert str(model_folder(None)) == "runs/new/model"


def test_an_unfinished_run_says_so():
    with pytest.raises(UsageError, match="not finished"):
        model_folder("half")


def test_a_folder_without_a_model_says_so(here):
    (here / "empty").mkdir()
    with pytest.raises(UsageError, match=r"no config\.json"):
        model_folder("empty")


def test_an_unknown_name_points_to_the_list():
    with pytest.raises(UsageError, match="fathom models"):
        model_folder("nobody")


def test_without_any_run_it_points_to_the_quickstart(here):
    with pytest.raises(UsageError, match="fathom quickstart"):
        model_folder(None, here / "elsewhere")


def test_runs_are_listed_whether_finished_or_not():
    assert {folder.name for folder in run_folders()} == {"old", "new", "half"}


def test_every_shipped_recipe_loads():
    assert "quickstart" in shipped_recipes()
    for name, path in shipped_recipes().items():
        if "[task]" in path.read_text(encoding="utf-8"):
            if name == "r1-laptop":
                assert R1Recipe.load(path).about
                continue
            kind = {"sft": SFTRecipe, "distill": DistillRecipe}.get(name.partition("-")[0], ReasonRecipe)
            assert kind.load(path).about
            continue
        # Its model is a folder that the reader makes first.
        changed = ["model.preset=laptop-4"] if name in ("upcycled-healing", "mtp-module") else []
        assert Recipe.load(path, changed).about


def test_a_recipe_is_found_by_name_or_as_a_file():
    assert recipe_file("quickstart").name == "quickstart.toml"
    assert str(recipe_file("mine.toml")) == "mine.toml"
    with pytest.raises(UsageError, match=r"one of .*quickstart"):
        recipe_file("quickstop")


def test_a_run_set_aside_is_kept_and_never_over_another(here):
    first = set_aside(here / "runs" / "old")
    (here / "runs" / "old").mkdir()
    second = set_aside(here / "runs" / "old")
    assert first != second
    assert (first / "recipe.toml").exists()
    assert set_aside(here / "runs" / "old") is None


def test_a_run_that_is_being_trained_is_not_moved(here):
    with claimed(here / "runs" / "old"), pytest.raises(TrainingError, match="in use"):
        set_aside(here / "runs" / "old")
    assert (here / "runs" / "old" / "recipe.toml").exists()
