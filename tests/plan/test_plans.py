"""Plans: the published run of V3 comes out of its recipe, and what follows from what is said."""

import pytest

from fathom.cli.find import recipe_file
from fathom.config.recipe import Recipe
from fathom.errors import RecipeError
from fathom.parallel.mesh import ALONE
from fathom.plan.plan import GPUs, plan_for, plan_here
from fathom.train.prepare import build_model
from fathom.train.state import build_state
from tiny_run import tiny_recipe

HOPPER = GPUs(count=2, peak_flops=1e12, share=0.4)


def on_hoppers(*overrides: str, **changes: object):
    return plan_for(tiny_recipe("train.precision=bf16", *overrides), HOPPER.model_copy(update=changes))


def test_v3s_published_gpu_hours_follow_from_its_recipe():
    # Table 1 of the report: 2.664M hours of H800s for 14.8T tokens. Counted without its MTP module and with causal
    # attention its work is 250.5 GFLOP a token, so that a GPU did 386 TFLOP/s.
    recipe = Recipe.load(recipe_file("v3"), ["train.mtp.weight=0"])
    plan = plan_for(recipe, GPUs(count=1536, peak_flops=386e12, share=1.0))
    assert plan.seconds / 3600 * 1536 == pytest.approx(2.664e6, rel=0.005)
    assert plan.tokens == pytest.approx(14.8e12, rel=1e-4)
    assert plan.steps == pytest.approx(241_000, rel=0.01)
    assert plan.checkpoint_bytes > 671e9 * 12


def test_money_and_time_follow_from_work_and_share():
    plan = on_hoppers(dollars_per_hour=2.0)
    assert plan.steps == 12
    assert plan.tokens == 12 * 4 * 32
    assert plan.seconds == pytest.approx(plan.flop / (2 * 1e12 * 0.4))
    assert plan.dollars == pytest.approx(2 * 2.0 * plan.seconds / 3600)
    assert on_hoppers(share=0.2).seconds == pytest.approx(2 * plan.seconds)


def test_a_slow_network_is_waited_for():
    free = on_hoppers()
    slow = on_hoppers(network=free.received_bytes / (10 * free.computing_seconds))
    assert slow.received_seconds == pytest.approx(10 * free.computing_seconds)
    assert slow.tokens_per_second == pytest.approx(free.tokens_per_second / 10)


def test_memory_that_is_too_small_is_seen():
    needed = on_hoppers().most_bytes
    assert on_hoppers().fits is None
    assert on_hoppers(memory_bytes=needed).fits is True
    assert on_hoppers(memory_bytes=needed - 1).fits is False


def test_gradients_summed_after_every_pass_take_less_room_and_more_traffic():
    late, early = (
        on_hoppers("train.micro_batch_sequences=1", *more) for more in ((), ("parallel.sum_every_pass=true",))
    )
    assert late.passes == early.passes == 2
    assert early.states_bytes < late.states_bytes
    assert early.received_bytes > late.received_bytes


def test_a_budget_of_minutes_gives_steps():
    minutes = ("train.minutes=1", "train.measure_share=0.05", "train.evaluate_every=0")
    plan = on_hoppers(*minutes)
    assert plan.seconds == 60
    assert plan.tokens / plan.tokens_per_second == pytest.approx(58.2, rel=0.01)


def test_fp32_is_taken_for_twice_the_activations():
    narrow, wide = (plan_for(tiny_recipe(f"train.precision={name}"), HOPPER) for name in ("bf16", "fp32"))
    assert wide.working_bytes == 2 * narrow.working_bytes


def test_here_it_is_measured():
    plan = plan_here(tiny_recipe())
    assert plan.device == "cpu"
    assert plan.passes == 2
    assert plan.most_bytes > plan.states_bytes > 0
    assert plan.seconds == pytest.approx(plan.tokens / plan.tokens_per_second)
    assert plan.fits is True


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(RecipeError, match="batch_sequences = 4 does not divide among 3"):
        on_hoppers(count=3)


def test_widths_that_gpus_have_no_form_for_are_refused():
    with pytest.raises(RecipeError, match="moe_intermediate_size = 12 is no multiple of 8"):
        on_hoppers("model.moe_intermediate_size=12")


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_checkpoint_is_as_large_as_what_a_run_keeps(kind):
    recipe = tiny_recipe(f"train.optimizer.kind={kind}")
    state = build_state(build_model(recipe, ALONE), recipe.train)
    kept = sum(tensor.nbytes for name, tensor in state.tensors().items() if not name.startswith("random"))
    assert plan_here(recipe).checkpoint_bytes == pytest.approx(kept, rel=0.01)
