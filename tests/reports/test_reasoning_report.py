"""The page of a reinforcement says beside what it stands, and whether it learned or only chose."""

import json

import pytest

from fathom.config.reason import ReasonRecipe
from fathom.reports.beside import verdicts
from fathom.reports.reasoning import write_reasoning_report

RECIPE = ReasonRecipe.validated({"task": {"name": "inverse"}, "base": {"folder": "base"}}, "test")


def judged(right, most, **more):
    return {"accuracy": right, "length": 30.0, "truncated": 0.0, "pass_at": {"1": right, "16": most}} | more


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (judged(0.9, 0.98), "reinforcement sharpened"),
        (judged(0.9, 1.0, accuracy=0.4), "chose a mode"),
        (judged(0.99, 1.0), "more than choosing the mode gives"),
    ],
)
def test_it_says_whether_the_base_could_do_it_already(last, said):
    first = judged(0.2, 0.97, forced=judged(0.9, 1.0))
    assert any(said in sentence for sentence in verdicts(first, last, {}))


def test_problems_that_came_within_reach_are_told():
    (sentence,) = verdicts(judged(0.1, 0.5), judged(0.7, 0.9), {})
    assert "from 0.500 to 0.900" in sentence
    assert "came within reach" in sentence


def test_a_control_that_does_as_well_is_told_and_one_that_does_not_is_not():
    controls = {"random": judged(0.2, 0.9), "sft-own": judged(0.88, 1.0)}
    said = verdicts(judged(0.2, 0.97), judged(0.9, 1.0), controls)
    assert [sentence for sentence in said if "control" in sentence] == [
        "The control sft-own reaches 0.880: reinforcement was not needed for this."
    ]


def test_finished_controls_are_rows_of_the_table_and_others_are_not(tmp_path):
    (tmp_path / "judgements.json").write_text(json.dumps({"0": judged(0.2, 0.9), "4": judged(0.8, 1.0)}))
    for name in ("random", "sft-own"):
        folder = tmp_path / "controls" / name
        folder.mkdir(parents=True)
        (folder / "judgements.json").write_text(json.dumps({"0": judged(0.2, 0.9), "9": judged(0.345, 0.95)}))
    (tmp_path / "controls/random/model").mkdir()
    page = write_reasoning_report(tmp_path, RECIPE).read_text()
    assert "reinforced by lot (random)" in page
    assert "0.345" in page
    assert "(sft-own)" not in page
