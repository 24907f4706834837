"""A recipe of another kind is refused by the command it belongs to."""

import pytest

from fathom.cli.find import recipe_file
from fathom.config.reason import ReasonRecipe
from fathom.config.recipe import Recipe
from fathom.config.stages import R1Recipe
from fathom.config.tuning import DistillRecipe, SFTRecipe
from fathom.errors import RecipeError

KINDS = {
    "quickstart": (Recipe, "pretrain"),
    "r1-zero-laptop": (ReasonRecipe, "zero"),
    "r1-laptop": (R1Recipe, "r1"),
    "sft-laptop": (SFTRecipe, "sft"),
    "distill-laptop": (DistillRecipe, "distill"),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_refused_by_all_others_and_sent_to_its_command(name: str) -> None:
    path = recipe_file(name)
    for other, (kind, _) in KINDS.items():
        if other == name:
            assert kind.load(path).about
        else:
            with pytest.raises(RecipeError, match=f"is a recipe for `fathom {KINDS[name][1]}`") as refused:
                kind.load(path)
            assert len(str(refused.value)) < 300


def test_a_long_value_is_shown_in_part() -> None:
    with pytest.raises(RecipeError) as refused:
        SFTRecipe.validated({"filez": ["a" * 1000]}, "here")
    assert "filez" in str(refused.value)
    assert len(str(refused.value)) < 400
