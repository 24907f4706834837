"""NaN and spikes are named, left out, and never reach the weights."""

import json
from pathlib import Path

import pytest
import torch

from fathom.config.train import GuardConfig
from fathom.errors import TrainingError
from fathom.train import step
from fathom.train.guard import Batch, Guard, Verdict, first_after
from fathom.train.loop import train
from fathom.train.objective import Terms, objective
from tiny_run import losses, tiny_recipe


def judge(guard: Guard, *values: float) -> list[Verdict]:
    return [guard.judge(Batch(i, 4 * i, 4), value, 1.0) for i, value in enumerate(values)]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_caught_at_once(value: float) -> None:
    assert Guard(GuardConfig()).judge(Batch(0, 0, 4), value, 1.0) is Verdict.NON_FINITE
    assert Guard(GuardConfig()).judge(Batch(0, 0, 4), 1.0, value) is Verdict.NON_FINITE


def test_a_loss_that_stays_high_is_a_spike_and_one_that_heals_is_not() -> None:
    guard = Guard(GuardConfig(spike_window=8, spike_patience=3))
    assert set(judge(guard, *[2.0] * 8, 3.0, 3.0, 2.0)) == {Verdict.GOOD, Verdict.HIGH}
    assert judge(guard, 3.0, 3.0, 3.0)[-1] is Verdict.SPIKE


def test_a_falling_loss_is_never_a_spike() -> None:
    assert set(judge(Guard(GuardConfig()), *(10.0 / (1 + i / 10) for i in range(200)))) == {Verdict.GOOD}


def test_skipped_places_are_jumped_over() -> None:
    skipped = [(8, 12), (12, 20), (40, 44)]
    assert [first_after(place, skipped) for place in (0, 8, 12, 20, 40)] == [0, 20, 20, 20, 44]


def poison(monkeypatch: pytest.MonkeyPatch, calls: set[int], change: float) -> None:
    """Make the objective wrong at the micro-batches numbered `calls`; a rollback does not count them again."""
    count = iter(range(10**6))

    def poisoned(*arguments: object) -> Terms:
        terms = objective(*arguments)
        wrong = change if next(count) in calls else 0.0
        return Terms(terms.loss + wrong, terms.sums + wrong * 64 * torch.tensor([1.0, 0.0, 0.0, 0.0]), terms.loads)

    monkeypatch.setattr(step, "objective", poisoned)


def test_a_nan_batch_is_left_out_after_going_back(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, {13}, float("nan"))
    result = train(tiny_recipe(), tmp_path / "run", corpus=corpus)
    incidents = json.loads((tmp_path / "run" / "incidents.json").read_text())["incidents"]
    assert result.finished
    assert [(i["step"], i["first"], i["end"]) for i in incidents] == [(6, 24, 28)]
    served = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in served] == list(range(1, 13))
    assert [line["sequences"] for line in served] == [4, 8, 12, 16, 20, 24, 32, 36, 40, 44, 48, 52]
    assert all(torch.isfinite(torch.tensor(losses(tmp_path / "run"))))


def test_a_nan_before_any_checkpoint_goes_back_to_the_first_weights(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tiny_recipe(), tmp_path / "clean", corpus=corpus)
    poison(monkeypatch, {5}, float("nan"))
    train(tiny_recipe(), tmp_path / "run", corpus=corpus)
    assert losses(tmp_path / "run")[:2] == losses(tmp_path / "clean")[:2]
    assert len(losses(tmp_path / "run")) == 12


def test_a_run_that_must_stop_names_the_batch_and_keeps_its_state(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, {12}, float("nan"))
    recipe = tiny_recipe("train.guard.non_finite=stop")
    with pytest.raises(TrainingError, match=r"loss nan.* at step 6 \(sequences 24 to 27"):
        train(recipe, tmp_path / "run", corpus=corpus)
    monkeypatch.undo()
    train(recipe, tmp_path / "run", corpus=corpus)
    train(recipe, tmp_path / "clean", corpus=corpus)
    assert losses(tmp_path / "run") == losses(tmp_path / "clean")


def test_a_run_that_keeps_failing_stops(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, set(range(4, 1000)), float("nan"))
    with pytest.raises(TrainingError, match="after 3 rollbacks"):
        train(tiny_recipe(), tmp_path / "run", corpus=corpus)


SHORT_MEMORY = ("train.steps=20", "train.guard.spike_window=8", "train.guard.spike_patience=2")


@pytest.mark.parametrize("policy", ["rollback", "warn"])
def test_a_spike_is_left_out_or_only_told(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    poison(monkeypatch, {22, 23, 24, 25}, 9.0)
    result = train(tiny_recipe(f"train.guard.spike={policy}", *SHORT_MEMORY), tmp_path / "run", corpus=corpus)
    events = (tmp_path / "run" / "events.jsonl").read_text()
    assert result.finished
    assert "high since" in events
    assert (tmp_path / "run" / "incidents.json").exists() == (policy == "rollback")
    assert len(losses(tmp_path / "run")) == 20
