"""Whole runs: they learn, end with a model that others can open, and go on exactly after any interruption."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fathom.corpus.tokenizer import Tokenizer
from fathom.errors import CheckpointError, RecipeError, TrainingError
from fathom.train.loop import train
from fathom.train.observer import Evaluation, Sample, Silent, StepMetrics
from fathom.train.result import TrainResult
from fathom.weights.folder import load
from tiny_run import losses, start, tiny_recipe, weights


class Watcher(Silent):
    """Remembers what it was told, and asks to stop after some steps."""

    def __init__(self, stop_after: int = 10**9) -> None:
        self.steps: list[StepMetrics] = []
        self.evaluations: list[Evaluation] = []
        self.samples: list[Sample] = []
        self.events: list[str] = []
        self.stop_after = stop_after

    def on_step(self, metrics: StepMetrics) -> None:
        self.steps.append(metrics)

    def on_evaluation(self, evaluation: Evaluation) -> None:
        self.evaluations.append(evaluation)

    def on_sample(self, sample: Sample) -> None:
        self.samples.append(sample)

    def on_event(self, text: str) -> None:
        self.events.append(text)

    def stop(self) -> bool:
        return len(self.steps) >= self.stop_after


def run(corpus: Path, folder: Path, *overrides: str, stop_after: int = 10**9) -> tuple[TrainResult, Watcher]:
    watcher = Watcher(stop_after)
    result = train(tiny_recipe(*overrides), folder, corpus=corpus, observer=watcher, stop=watcher.stop)
    return result, watcher


def same_model(one: Path, other: Path) -> bool:
    mine, theirs = weights(one), weights(other)
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_a_run_learns_and_ends_with_a_model_folder(corpus: Path, tmp_path: Path) -> None:
    result, watcher = run(corpus, tmp_path)
    assert result.finished
    assert watcher.steps[-1].loss < watcher.steps[0].loss - 1.0
    assert load(tmp_path / "model").config == tiny_recipe().model
    assert Tokenizer(tmp_path / "model").encode("the cat") == Tokenizer(corpus).encode("the cat")


def test_all_held_out_text_is_judged_at_the_end(corpus: Path, tmp_path: Path) -> None:
    result, watcher = run(corpus, tmp_path, "train.evaluate_every=5")
    along, final = watcher.evaluations[:-2], watcher.evaluations[-2:]
    assert [(e.step, e.group, e.complete) for e in along] == [
        (5, "english", False), (5, "code", False), (10, "english", False), (10, "code", False),
    ]  # fmt: skip
    assert all(e.complete and e.text_bytes == (corpus / f"validation-{e.group}.txt").stat().st_size for e in final)
    assert result.bits_per_byte == {e.group: e.bits_per_byte for e in final}


def test_looking_at_a_model_does_not_change_it(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "plain")
    _, watcher = run(corpus, tmp_path / "watched", "train.evaluate_every=1", "train.samples.every=3")
    assert losses(tmp_path / "plain") == losses(tmp_path / "watched")
    assert len(watcher.samples) == 12


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_stopped_run_goes_on_to_the_very_same_losses(corpus: Path, tmp_path: Path, kind: str) -> None:
    chosen = f"train.optimizer.kind={kind}"
    run(corpus, tmp_path / "whole", chosen)
    first, _ = run(corpus, tmp_path / "halves", chosen, stop_after=5)
    second, watcher = run(corpus, tmp_path / "halves", chosen)
    assert (first.finished, first.steps, second.finished) == (False, 5, True)
    assert watcher.steps[0].step == 6
    assert losses(tmp_path / "halves") == losses(tmp_path / "whole")
    assert same_model(tmp_path / "halves", tmp_path / "whole")


def wait_for(condition: Callable[[], bool], process: "subprocess.Popen[bytes]") -> None:
    while not condition():
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.002)


def kill_at_step(corpus: Path, folder: Path, step: int, *overrides: str) -> None:
    (process,) = start(corpus, folder, *overrides)
    metrics = folder / "metrics.jsonl"
    wait_for(lambda: metrics.exists() and metrics.read_text().count("\n") >= step, process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


LONG = ("train.steps=40", "train.checkpoint_every=8")


def test_a_killed_run_goes_on_to_the_very_same_losses(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "whole", *LONG)
    kill_at_step(corpus, tmp_path / "killed", 19, *LONG)
    run(corpus, tmp_path / "killed", *LONG)
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    assert same_model(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.slow
def test_a_run_killed_again_and_again_goes_on_to_the_very_same_losses(corpus: Path, tmp_path: Path) -> None:
    chosen = (*LONG, "train.optimizer.kind=muon", "train.evaluate_every=10", "train.precision=bf16")
    run(corpus, tmp_path / "whole", *chosen)
    for step in (1, 5, 15, 16, 17, 33, 39):
        kill_at_step(corpus, tmp_path / "killed", step, *chosen)
    run(corpus, tmp_path / "killed", *chosen)
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    assert same_model(tmp_path / "killed", tmp_path / "whole")


def test_a_finished_run_is_not_done_again(corpus: Path, tmp_path: Path) -> None:
    first, _ = run(corpus, tmp_path)
    again, watcher = run(corpus, tmp_path)
    assert again == first
    assert watcher.steps == []


def test_a_run_killed_while_it_wrote_its_model_writes_it_again(corpus: Path, tmp_path: Path) -> None:
    first, _ = run(corpus, tmp_path)
    (tmp_path / "result.json").unlink()
    again, watcher = run(corpus, tmp_path)
    assert again.bits_per_byte == first.bits_per_byte
    assert watcher.steps == []


def test_the_last_checkpoints_are_kept(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path, "train.checkpoint_every=2", "train.keep_last=2")
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-00000010", "step-00000012"]


def test_a_checkpoint_of_another_recipe_is_refused_by_field(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path, stop_after=2)
    with pytest.raises(CheckpointError, match=r"train\.optimizer\.learning_rate \(0\.003 there, 0\.5 here\)"):
        run(corpus, tmp_path, "train.optimizer.learning_rate=0.5")
    assert run(corpus, tmp_path, "train.keep_last=9")[0].finished


def test_a_half_written_checkpoint_never_counts(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path, stop_after=6)
    half = tmp_path / "checkpoints" / "step-00000008.partial"
    half.mkdir()
    (half / "state.json").write_text("{")
    _, watcher = run(corpus, tmp_path)
    assert watcher.steps[0].step == 7
    assert not half.exists()


def test_a_damaged_checkpoint_is_named(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path, stop_after=6)
    (tmp_path / "checkpoints" / "step-00000006" / "__0_0.distcp").write_bytes(b"noise")
    with pytest.raises(CheckpointError, match=r"step-00000006 is damaged .*remove this folder"):
        run(corpus, tmp_path)


def test_a_full_disk_stops_the_run_and_harms_no_earlier_checkpoint(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path, stop_after=5)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(TrainingError, match=r"step-00000008 could not be written .*Earlier checkpoints are intact"):
            run(corpus, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-00000004", "step-00000005"]
    assert run(corpus, tmp_path)[0].finished


def test_two_runs_never_share_a_folder(corpus: Path, tmp_path: Path) -> None:
    class Second(Silent):
        def on_step(self, metrics: StepMetrics) -> None:
            with pytest.raises(TrainingError, match="is in use by another"):
                train(tiny_recipe(), tmp_path, corpus=corpus)

    train(tiny_recipe("train.steps=1"), tmp_path, corpus=corpus, observer=Second())


def test_a_wall_clock_run_fixes_its_steps_for_good(corpus: Path, tmp_path: Path) -> None:
    budget = tiny_recipe("train.minutes=0.02", "train.measure_share=0.2")
    length = tmp_path / "length.json"
    first = train(budget, tmp_path, corpus=corpus, stop=length.exists)
    fixed = json.loads(length.read_text())["steps"]
    watcher = Watcher()
    second = train(budget, tmp_path, corpus=corpus, observer=watcher)
    assert not first.finished
    assert second.steps == fixed == len(losses(tmp_path))
    assert {metrics.steps for metrics in watcher.steps} == {fixed}


def test_a_length_measured_for_another_recipe_is_forgotten(corpus: Path, tmp_path: Path) -> None:
    fixed = tmp_path / "length.json"
    train(tiny_recipe("train.minutes=0.02"), tmp_path, corpus=corpus, stop=fixed.exists)
    shutil.rmtree(tmp_path / "checkpoints")
    _, watcher = run(corpus, tmp_path, "train.minutes=50", stop_after=1)
    assert watcher.steps[0].steps is None


def test_accumulated_parts_make_the_gradient_of_the_whole(corpus: Path, tmp_path: Path) -> None:
    for size in (1, 4):
        run(corpus, tmp_path / str(size), f"train.micro_batch_sequences={size}")
    assert losses(tmp_path / "1") == pytest.approx(losses(tmp_path / "4"), abs=1e-5)


def test_recomputing_changes_no_loss_and_no_load(corpus: Path, tmp_path: Path) -> None:
    seen = [run(corpus, tmp_path / how, f"train.recompute={how}", "train.expert_load_every=1")[1].steps
            for how in ("none", "norms_and_up_projections", "layer")]  # fmt: skip
    for other in seen[1:]:
        assert [m.loss for m in other] == pytest.approx([m.loss for m in seen[0]], abs=1e-6)
        assert [m.expert_load for m in other] == [m.expert_load for m in seen[0]]


@pytest.mark.parametrize(("method", "moves"), [("bias", True), ("auxiliary", False), ("none", False)])
def test_only_the_bias_method_moves_biases(corpus: Path, tmp_path: Path, method: str, moves: bool) -> None:
    run(corpus, tmp_path, f"train.balance.method={method}", "train.steps=3")
    biases = [tensor for name, tensor in weights(tmp_path).items() if name.endswith("e_score_correction_bias")]
    assert len(biases) == 2
    assert all(bool(bias.any()) == moves for bias in biases)
    assert all(bias.abs().max() <= 0.0031 for bias in biases)


def test_the_average_can_be_exported(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "last")
    run(corpus, tmp_path / "average", "train.ema.export=true")
    assert not same_model(tmp_path / "last", tmp_path / "average")


def test_the_run_folder_says_what_was_run(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path, "train.steps=2", stop_after=1)
    run(corpus, tmp_path, "train.steps=2")
    starts = json.loads((tmp_path / "provenance.json").read_text())
    assert [entry["overrides"] for entry in starts] == [["train.steps=2"]] * 2
    assert "# Changed: train.steps=2" in (tmp_path / "recipe.toml").read_text()


@pytest.mark.parametrize(
    "model",
    [
        ("model.first_k_dense_replace=2",),
        ("model.num_nextn_predict_layers=0",),
        ("model.num_nextn_predict_layers=2", "train.mtp.final_weight=0", "train.optimizer.kind=muon"),
        ("model.tie_word_embeddings=true",),
        ("model.model_type=deepseek_v2", "model.topk_method=greedy", "model.scoring_func=softmax"),
        ("train.balance.sequence_balance_alpha=0", "train.precision=bf16"),
    ],
    ids=["dense", "no MTP", "two MTP depths", "tied", "V2", "bf16"],
)
def test_every_kind_of_model_trains(corpus: Path, tmp_path: Path, model: tuple[str, ...]) -> None:
    result, watcher = run(corpus, tmp_path, "train.steps=6", *model)
    assert watcher.steps[-1].loss < watcher.steps[0].loss
    assert result.bits_per_byte.keys() == {"english", "code"}


def test_an_interrupted_save_is_not_lost(corpus: Path, tmp_path: Path) -> None:
    class Impatient(Silent):
        def on_step(self, metrics: StepMetrics) -> None:
            if metrics.step == 5:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tiny_recipe(), tmp_path, corpus=corpus, observer=Impatient())
    assert run(corpus, tmp_path)[1].steps[0].step == 5


def test_tensorboard_that_is_not_there_is_named(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard.writer", None)
    with pytest.raises(RecipeError, match="TensorBoard is not installed"):
        run(corpus, tmp_path, "train.tensorboard=true")


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("model.vocab_size=256", "the tokenizer of .* has 512 tokens"),
        ("model.eos_token_id=7", "documents in .* end with token 1"),
        ("train.sequence_length=128", "exceeds model.max_position_embeddings = 64"),
        ("parallel.data=2", "parallel.data = 2, and 1 process runs"),
    ],
)
def test_what_does_not_fit_the_text_or_the_machine_is_refused(
    corpus: Path, tmp_path: Path, override: str, complaint: str
) -> None:
    with pytest.raises(RecipeError, match=complaint):
        run(corpus, tmp_path, override)


def test_another_corpus_is_refused(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "run", stop_after=1)
    other = tmp_path / "other"
    other.mkdir()
    for path in corpus.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["splits"]["train"]["files"][0]["sha256"] = "0" * 64
    (other / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(Exception, match=r"train-00000\.bin has changed"):
        run(other, tmp_path / "run")
