"""What a process of several holds, beside what one really held."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fathom.cli.find import recipe_file
from fathom.config.recipe import Recipe
from fathom.plan import rehearsal
from fathom.plan.rehearsal import sharded_pass, whole_step
from fathom.plan.shares import shares
from tiny_run import tiny_recipe

BF16 = "train.precision=bf16"
QUICKSTART = recipe_file("quickstart")


def test_shares_of_two_are_halves_and_a_little_more():
    recipe = tiny_recipe(BF16)
    alone, half = whole_step(recipe, 1).states, shares(recipe, 2, 1)
    states = half.parameters + half.gradients + half.moments
    assert alone / 2 * 0.99 < states < alone / 2 * 1.05


def test_experts_are_whole_so_that_more_processes_than_experts_save_nothing_on_them():
    recipe = tiny_recipe(BF16)
    eight, many = shares(recipe, 8, 1), shares(recipe, 64, 1)
    experts = 4 * 2 * 3 * 32 * 16  # two layers, one of them the MTP module's
    assert many.parameters >= experts
    assert eight.parameters - many.parameters < eight.parameters - experts


def test_layers_that_stay_take_more_room_and_less_traffic():
    go, stay = (
        shares(tiny_recipe(BF16, f"parallel.reshard_after_forward={value}", "model.num_hidden_layers=6"), 2, 1)
        for value in ("true", "false")
    )
    assert stay.gathered > go.gathered
    assert stay.received < go.received


@pytest.mark.slow
@pytest.mark.parametrize(("passes", "more"), [(1, ()), (2, ()), (2, ("parallel.sum_every_pass=true",))])
def test_two_processes_hold_what_was_foreseen(monkeypatch, passes, more):
    fields = ("train.optimizer.kind=adamw", "train.batch_sequences=64", *more)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = Path(__file__).with_name("sharded_step.py")
    ran = subprocess.run(
        [*torchrun, str(script), str(QUICKSTART), str(passes), *fields],
        check=True,
        capture_output=True,
        text=True,
        timeout=240,
    )
    found = re.search(r"most (\d+)", ran.stdout)
    assert found is not None
    recipe = Recipe.load(QUICKSTART, fields)
    part = shares(recipe, 2, passes)
    # The forms of a CPU keep less than those of a GPU, so the rehearsal is one on the CPU here.
    processor, build = torch.device("cpu"), rehearsal.build
    monkeypatch.setattr(rehearsal, "META", processor)
    monkeypatch.setattr(rehearsal, "build", lambda recipe: build(recipe, processor))
    one = sharded_pass(recipe)
    foreseen = part.parameters + part.gradients + part.moments + part.gathered + one.most - one.states
    assert int(found[1]) < foreseen < 1.25 * int(found[1])
