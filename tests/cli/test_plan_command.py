"""`fathom plan` says what a run takes and writes nothing."""

import json

import pytest

from fathom.config.toml import to_toml
from tiny_run import TINY

GPUS = ("--gpus", "2", "--peak", "100")


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(to_toml(TINY))
    return str(path)


def test_here_a_person_reads_memory_speed_and_time(fathom, recipe, tmp_path):
    result = fathom("plan", recipe)
    assert result.exit_code == 0
    for word in ("parameters", "memory", "free here now", "tokens a second", "time"):
        assert word in result.stdout
    assert "GPU" not in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.toml"]


def test_elsewhere_too_with_what_it_rests_on(fathom, recipe):
    result = fathom("plan", recipe, *GPUS, "--memory", "0.0001", "--network", "0.000001", "--price", "2")
    assert result.exit_code == 0
    for word in ("memory a GPU", "GPU hours", "price", "40% of the peak", "does not fit", "network is what this waits"):
        assert word in result.stdout


def test_a_program_reads_every_figure(fathom, recipe):
    plan = json.loads(fathom("plan", recipe, "train.steps=5", *GPUS, "--json").stdout)
    assert plan["steps"] == 5
    assert plan["processes"] == 2
    assert plan["fits"] is None
    assert plan["most_bytes"] == plan["states_bytes"] + plan["gathered_bytes"] + plan["working_bytes"]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--gpus", "2"), "--peak"),
        (("--price", "2"), "--gpus"),
        (("train.stepps=3",), "stepps"),
        (("--gpus", "0"), "equal to 1"),
    ],
)
def test_what_cannot_be_planned_is_a_usage_error(fathom, recipe, options, word):
    result = fathom("plan", recipe, *options)
    assert result.exit_code == 2
    assert word in result.stderr
