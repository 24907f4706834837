"""A run over two processes is the run of one: the same losses, the same weights, the same checkpoints."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import tiny_run
from fathom.train.loop import train
from tiny_run import losses, start, tiny_recipe, weights

# Seven experts do not divide among two processes, and a group of four parts accumulates in each.
UNEVEN = ("model.n_routed_experts=7", "train.batch_sequences=8", "train.steps=6")


def over_two_processes(corpus: Path, run: Path, *overrides: str) -> None:
    assert [process.wait(120) for process in start(corpus, run, *overrides, processes=2)] == [0, 0]


def distance(one: Path, other: Path) -> float:
    mine, theirs = weights(one), weights(other)
    assert mine.keys() == theirs.keys()
    return max((mine[name].float() - theirs[name].float()).abs().max().item() for name in mine)


def compare(corpus: Path, folder: Path, *overrides: str) -> None:
    train(tiny_recipe(*UNEVEN, *overrides), folder / "one", corpus=corpus)
    over_two_processes(corpus, folder / "two", *UNEVEN, *overrides)
    assert losses(folder / "two") == pytest.approx(losses(folder / "one"), abs=1e-5)
    assert distance(folder / "one", folder / "two") < 1e-5


def test_two_processes_train_as_one_with_muon(corpus: Path, tmp_path: Path) -> None:
    compare(corpus, tmp_path, "train.optimizer.kind=muon", "train.evaluate_every=4", "train.ema.export=true")


@pytest.mark.slow
def test_two_processes_train_as_one_with_adamw(corpus: Path, tmp_path: Path) -> None:
    compare(corpus, tmp_path, "parallel.reshard_after_forward=false")


@pytest.mark.slow
def test_two_processes_train_as_one_with_gradients_summed_after_every_pass(corpus: Path, tmp_path: Path) -> None:
    compare(corpus, tmp_path, "parallel.sum_every_pass=true")


@pytest.mark.slow
def test_bf16_over_two_processes_differs_by_rounding_alone(corpus: Path, tmp_path: Path) -> None:
    bf16 = (*UNEVEN, "train.precision=bf16")
    train(tiny_recipe(*bf16), tmp_path / "one", corpus=corpus)
    over_two_processes(corpus, tmp_path / "two", *bf16)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=0.02)


@pytest.mark.slow
def test_a_run_goes_on_over_another_number_of_processes(corpus: Path, tmp_path: Path) -> None:
    train(tiny_recipe(*UNEVEN), tmp_path / "whole", corpus=corpus)
    stop = iter([False] * 4 + [True])
    train(tiny_recipe(*UNEVEN), tmp_path / "moved", corpus=corpus, stop=lambda: next(stop))
    over_two_processes(corpus, tmp_path / "moved", *UNEVEN)
    assert losses(tmp_path / "moved") == pytest.approx(losses(tmp_path / "whole"), abs=1e-5)
    assert torch.isfinite(torch.tensor(losses(tmp_path / "moved"))).all()


@pytest.mark.slow
def test_torchrun_starts_a_run(corpus: Path, tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--"]
    subprocess.run([*torchrun, tiny_run.__file__, str(corpus), str(tmp_path / "run")], check=True, timeout=240)
    assert len(losses(tmp_path / "run")) == 12


@pytest.mark.slow
def test_a_batch_that_does_not_divide_is_refused(corpus: Path, tmp_path: Path) -> None:
    started = start(corpus, tmp_path, "train.batch_sequences=3", processes=2)
    assert [process.wait(120) for process in started] == [1, 1]
