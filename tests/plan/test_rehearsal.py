"""A rehearsal holds what a step holds, on a real device and on paper, and depth is a straight line."""

import pytest
import torch

from fathom.model.transformer import Transformer
from fathom.plan import rehearsal
from fathom.plan.rehearsal import META, sharded_pass, whole_step
from tiny_run import tiny_recipe

CPU = torch.device("cpu")


def numbers(*overrides: str) -> int:
    with META:
        model = Transformer(tiny_recipe(*overrides).model)
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(("kind", "bytes_each"), [("adamw", 16), ("muon", 12)])
def test_states_are_parameters_gradients_and_moments(kind, bytes_each):
    optimizer = f"train.optimizer.kind={kind}"
    held = whole_step(tiny_recipe(optimizer), passes=1)
    # Norms, embedding, head and router have two moments under Muon too; AdamW counts its steps in a scalar each.
    least = bytes_each * numbers()
    assert least <= held.states <= 16 * numbers() + 2_000
    assert held.most > held.states


@pytest.mark.parametrize("passes", [1, 3])
def test_paper_and_processor_agree_on_what_stays(passes):
    on_paper, here = (whole_step(tiny_recipe("train.precision=bf16"), passes, device) for device in (META, CPU))
    assert on_paper.states == pytest.approx(here.states, abs=64)  # a scalar or two
    assert here.pass_seconds > 0
    assert here.update_seconds > 0
    assert on_paper.pass_seconds == 0


def test_accumulated_gradients_are_there_while_the_next_pass_runs():
    one, several = (whole_step(tiny_recipe("train.precision=bf16"), passes) for passes in (1, 4))
    assert several.states == pytest.approx(one.states, abs=64)
    assert several.most > one.most


@pytest.mark.parametrize("rehearse", [lambda recipe: whole_step(recipe, 2), sharded_pass])
@pytest.mark.parametrize("more", [(), ("model.moe_layer_freq=2",), ("train.recompute=layer",)])
def test_a_deep_model_is_foreseen_from_two_shallow_ones(monkeypatch, rehearse, more):
    recipe = tiny_recipe("model.num_hidden_layers=9", *more)
    foreseen = rehearse(recipe)
    monkeypatch.setattr(rehearsal, "_by_depth", lambda recipe, whole: whole(recipe))
    real = rehearse(recipe)
    assert foreseen.states == pytest.approx(real.states, abs=64)
    assert foreseen.most == pytest.approx(real.most, rel=0.01)


def test_recomputing_saves_memory_and_more_of_it_saves_more():
    kept = [
        sharded_pass(tiny_recipe("model.num_hidden_layers=6", f"train.recompute={how}")).most
        for how in ("none", "norms_and_up_projections", "layer")
    ]
    assert kept[0] > kept[1] > kept[2]


def test_only_what_learns_has_gradients_and_moments():
    some, every = (whole_step(tiny_recipe(*more), 1).states for more in (('train.only=[".experts."]',), ()))
    assert 4 * numbers() < some < every
