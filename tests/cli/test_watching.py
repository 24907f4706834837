"""A run is shown as it stands: in plain lines, or as one picture in a terminal."""

import dataclasses

import pytest
from rich.console import Console

from fathom.cli.lines import Lines
from fathom.cli.live import LiveView, load_bars
from fathom.cli.standing import Standing, plan_lines
from fathom.train.observer import Evaluation, RunPlan, Sample, StepMetrics

PLAN = RunPlan(
    run="runs/probe",
    steps=None,
    first_step=0,
    minutes=2.0,
    sequence_length=64,
    batch_sequences=8,
    total_parameters=10_600_000,
    active_parameters=7_100_000,
    training_flop_per_token=4e7,
    matmul_peak=4e11,
    training_tokens=8_300_000,
    validation_groups=("english", "chinese"),
    device="cpu",
    processes=1,
)
STEP = StepMetrics(
    step=10,
    steps=None,
    sequences=80,
    tokens=5120,
    loss=4.0,
    bits_per_byte=1.75,
    mtp_loss=(4.5,),
    balance_loss=1.0,
    grad_norm=1.0,
    learning_rate=1e-3,
    seconds=2.0,
    elapsed=30.0,
    tokens_per_second=256.0,
    matmul_share=0.41,
    max_vio=0.35,
    max_vio_by_layer=(0.3, 0.4),
    max_vio_global=0.2,
    expert_load=((8, 8, 8, 8), (0, 16, 8, 8)),
    memory_bytes=1 << 30,
)
HELD_OUT = Evaluation(10, "english", 2.125, 5.0, 900, 3000, 64, 32, False, 0.3)
SAMPLE = Sample(10, "The sea", " is deep\nand wide")


def after(step: StepMetrics = STEP, **changes) -> Standing:
    standing = Standing(PLAN)
    standing.step(dataclasses.replace(step, **changes))
    return standing


def test_a_wall_clock_run_counts_down_its_budget_until_its_steps_are_known():
    assert after().seconds_left == 90
    assert after().share == 0.25
    assert after(steps=40).seconds_left == 60
    assert after(steps=40).share == 0.25


def test_nothing_is_promised_before_the_first_step():
    assert Standing(PLAN).seconds_left is None
    assert Standing(PLAN).left_words == ""


def test_speed_is_that_of_the_last_steps_together():
    standing = after()
    standing.step(dataclasses.replace(STEP, seconds=1.0, tokens_per_second=512.0))
    assert standing.tokens_per_second == pytest.approx(1024 / 3)


def test_the_plan_says_what_how_long_and_on_what():
    text = "\n".join(plan_lines(PLAN))
    for words in ("10.6M parameters", "7.1M used", "2.0 min", "english, chinese", "400 GFLOP/s"):
        assert words in text
    resumed = plan_lines(dataclasses.replace(PLAN, steps=100, first_step=40))
    assert "Going on after step 40" in resumed
    assert "100 steps" in "\n".join(resumed)


def test_plain_lines_tell_everything_once(capsys):
    lines = Lines(every_seconds=1e9)
    lines.on_start(PLAN)
    for step in range(1, 9):
        lines.on_step(dataclasses.replace(STEP, step=step, steps=8))
    lines.on_evaluation(HELD_OUT)
    lines.on_sample(SAMPLE)
    lines.on_event("going on")
    said = capsys.readouterr()
    assert said.out == ""
    assert [line[:11] for line in said.err.splitlines() if line.startswith("step")] == [
        "step 1 of 8",
        "step 2 of 8",
        "step 3 of 8",
        "step 8 of 8",
    ]
    assert "held out, step 10: english 2.125 bits per byte" in said.err
    assert "sample, step 10: The sea is deep and wide" in said.err
    assert "41% of peak" in said.err
    assert "MaxVio 0.35" in said.err


def test_the_picture_shows_figures_loads_and_samples():
    console = Console(width=100, height=40, record=True, force_terminal=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with LiveView(console, ["2", "MTP"], {"english": 2.5}) as view:
        view.on_start(PLAN)
        view.on_step(dataclasses.replace(STEP, steps=40))
        view.on_evaluation(HELD_OUT)
        view.on_sample(SAMPLE)
        view.on_event("an event")
    text = console.export_text()
    for words in ("step 10 of 40", "1:00 left", "1.750", "2.125", "xz 2.50", "41%", "layer 2", "MTP"):
        assert words in text
    assert "The sea is deep" in text
    assert "an event" in text


def test_the_picture_fits_a_narrow_terminal():
    console = Console(width=40, height=30, record=True, force_terminal=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with LiveView(console, ["2", "MTP"], {}) as view:
        view.on_start(PLAN)
        view.on_step(STEP)
    assert max(map(len, console.export_text().splitlines())) <= 100


@pytest.mark.parametrize(
    ("load", "bars"), [([8, 8, 8, 8], "▄▄▄▄"), ([0, 16, 8, 8], " █▄▄"), ([0, 64, 0, 0], " █  "), ([0, 0], "  ")]
)
def test_bars_are_half_high_at_the_mean(load, bars):
    assert load_bars(load, 80).plain == bars


def test_many_experts_share_bars_rather_than_run_off_the_screen():
    assert len(load_bars([8] * 256, 60).plain) <= 60
