"""The page of recipe fields says what the code says."""

from pathlib import Path

from fathom.config.base import Section
from fathom.config.fields import inner_sections
from fathom.config.recipe import Recipe
from fathom.config.reference import recipe_reference

PAGE = Path(__file__).parents[2] / "docs" / "recipe.md"


def sections(section: type[Section]) -> list[type[Section]]:
    found = [section]
    for field in section.model_fields.values():
        for inner in inner_sections(field.annotation):
            found += sections(inner)
    return found


def test_the_page_is_in_step_with_the_code() -> None:
    assert PAGE.read_text(encoding="utf-8") == recipe_reference(), (
        "run `python -m fathom.config.reference > docs/recipe.md`"
    )


def test_every_field_is_documented() -> None:
    bare = [
        f"{section.__name__}.{name}"
        for section in sections(Recipe)
        for name, field in section.model_fields.items()
        if not field.description and name != "kind"
    ]
    assert bare == []


def test_every_field_is_on_the_page() -> None:
    page = recipe_reference()
    missing = [
        name
        for section in sections(Recipe)
        for name, field in section.model_fields.items()
        if not inner_sections(field.annotation) and f"| `{name}` |" not in page
    ]
    assert missing == []
