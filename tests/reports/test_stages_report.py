"""The page of R1's stages: as far as they are, escaped, and the table as text beside it."""

from fathom.config.stages import R1Recipe
from fathom.reports.stages import table_rows, write_stages_report

RL = {"steps": 1}
RECIPE = R1Recipe.validated(
    {
        "about": "About <this>",
        "task": {"name": "inverse_in_words"},
        "general": {"name": "instructions"},
        "base": {"folder": "somewhere"},
        "zero": RL,
        "dev1": {"texts": {}},
        "dev2": RL,
        "dev3": {"texts": {}},
        "r1": RL,
    },
    "test",
)


def stage(accuracy, length, text):
    shown = {"prompt": "User: 2 < 3?", "text": text, "score": {"accuracy": accuracy}}
    return {"inverse_in_words zh": {"accuracy": accuracy, "length": length, "transcripts": [shown]}}


def test_the_page_has_a_column_and_a_text_for_each_stage_that_is_there(tmp_path):
    found = {"base": stage(0.0, 20.0, "<b>试</b>"), "zero": stage(1.0, 80.5, "try")}
    assert table_rows(found) == [
        ["", "base", "Zero"],
        ["inverse in words zh: right", "0.000", "1.000"],
        ["inverse in words zh: tokens", "20.0", "80.5"],
    ]
    page = write_stages_report(tmp_path, RECIPE, found).read_text()
    assert "About &lt;this&gt;" in page
    assert "0% → 100%" in page
    assert page.index("&lt;b&gt;试&lt;/b&gt;") < page.index(">try<")


def test_stopped_before_the_base_is_there_it_has_a_page_too(tmp_path):
    assert "Nothing was recorded" in write_stages_report(tmp_path, RECIPE, {}).read_text()
