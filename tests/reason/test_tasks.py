"""What every task owes: its own answer is right, no other text is by accident, and the same number asks the same."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fathom.errors import RecipeError
from fathom.reason.answers import number_of
from fathom.reason.documents import Teachable
from fathom.reason.registry import TASKS, make_task
from fathom.reason.response import response_of
from fathom.reason.task import draw, is_held_out

BOTH = {"languages": ("en", "zh")}
GENERATED = [
    make_task("inverse", **BOTH),
    make_task("countdown", **BOTH),
    make_task("countdown", numbers=5, largest=50, largest_target=999),
    make_task("multiplication", **BOTH),
    make_task("multiplication", digits=4, other_digits=1),
    make_task("parity", **BOTH),
    make_task("parity", digits=20, modulus=7),
    make_task("sorting", **BOTH),
    make_task("grid", **BOTH),
    make_task("words"),
]
TEACHABLE = [task for task in GENERATED if isinstance(task, Teachable)]
tasks = pytest.mark.parametrize("task", GENERATED, ids=lambda task: task.name)
seeds = st.integers(0, 10**6)


@tasks
@given(seeds)
@settings(max_examples=50, deadline=None)
def test_its_own_answer_is_right_and_the_same_number_asks_the_same(task, seed):
    made, again = (task.sample(random.Random(seed)) for _ in range(2))
    assert made == again
    score = task.score(made, response_of("hm\n", made.answer))
    assert (score.accuracy, score.format) == (1, 1)
    assert task.score(made, response_of("hm\n", made.answer), finished=False).accuracy == 0


@tasks
@pytest.mark.parametrize(
    "text",
    [
        "{a}",
        "</think>{a}",
        "</think><answer>{a}",
        "</think><answer>{a}</answer> or so",
        "</think><answer>{a}</answer><answer>{a}</answer>",
        "</think></think><answer>{a}</answer>",
        "</think><answer>{a} {a}</answer>",
        "</think><answer>it is {a}</answer>",
        "</think><answer>{a}=</answer>",
        "</think><answer>-{a}</answer>",
        "<answer>{a}</answer></think>",
        "</think><answer></answer>",
        "",
    ],
)
def test_there_is_no_credit_for_nearly(task, text):
    for seed in range(20):
        made = task.sample(random.Random(seed))
        assert task.score(made, text.format(a=made.answer)).accuracy == 0


@tasks
@given(seeds, st.data())
@settings(max_examples=100, deadline=None)
def test_a_damaged_text_never_raises_and_is_right_only_if_its_answer_still_is(task, seed, data):
    rng = random.Random(seed)
    made = task.sample(rng)
    text = task.searching(made, rng) if isinstance(task, Teachable) else response_of("1<2 3>4\n", made.answer)
    at = data.draw(st.integers(0, len(text)))
    width = data.draw(st.integers(0, 3))
    put = data.draw(st.text(max_size=3) | st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", "٣", "²"]))
    damaged = text[:at] + put + text[at + width :]
    score = task.score(made, damaged)
    assert all(isinstance(value, int) and value >= 0 for value in score.counts.values())
    if score.accuracy:
        inside = damaged.partition("</think>")[2].strip().removeprefix("<answer>").removesuffix("</answer>").strip()
        if task.name == "words":  # A number may be written otherwise.
            assert number_of(inside) == int(made.answer)
        elif task.name == "grid":  # Rows may stand under one another.
            assert inside.split() == made.answer.split()
        elif task.name != "countdown":  # Another expression may be right as well, and is asked about elsewhere.
            assert inside.replace(" ", "") == made.answer


@tasks
@given(st.text(max_size=200))
@settings(max_examples=60, deadline=None)
def test_any_text_is_worth_a_number(task, text):
    made = task.sample(random.Random(1))
    for each in (text, response_of(text, text), response_of("", text)):
        assert task.score(made, each).accuracy in (0, 1)


@tasks
def test_held_out_problems_never_meet_training_ones(task):
    rng = random.Random(1)
    held = {draw(task, rng, held_out=True).key for _ in range(60)}
    trained = {draw(task, rng, held_out=False).key for _ in range(600)}
    assert not held & trained
    assert 0.02 < sum(is_held_out(task.sample(rng)) for _ in range(1000)) / 1000 < 0.25


@pytest.mark.parametrize("task", [task for task in GENERATED if "zh" in task.languages], ids=lambda task: task.name)
def test_problems_come_in_both_languages(task):
    made = [task.sample(random.Random(seed)) for seed in range(60)]
    assert {each.language for each in made} == {"en", "zh"}
    for each in made:
        assert any("\u4e00" <= sign <= "\u9fff" for sign in each.prompt) == (each.language == "zh")


@pytest.mark.parametrize("task", TEACHABLE, ids=lambda task: task.name)
@given(seed=seeds)
@settings(max_examples=40, deadline=None)
def test_a_search_is_right_and_every_step_and_check_of_a_faithful_one(task, seed):
    rng = random.Random(seed)
    made = task.sample(rng)
    score = task.score(made, task.searching(made, rng))
    assert (score.accuracy, score.format) == (1, 1)
    assert score.counts["checks"] == score.counts["checks_right"] == score.counts["attempts"] >= 1
    assert score.counts["steps"] >= score.counts["steps_right"] > 0


@pytest.mark.parametrize("task", TEACHABLE, ids=lambda task: task.name)
def test_a_direct_reply_has_one_attempt_no_check_and_is_often_wrong(task):
    rng = random.Random(3)
    scores = [task.score(made := task.sample(rng), task.direct(made, rng)) for _ in range(800)]
    assert all(score.format == 1 and score.counts["attempts"] == 1 and not score.counts["checks"] for score in scores)
    assert 0 < sum(score.accuracy for score in scores) / 800 < 0.5


@pytest.mark.parametrize("task", TEACHABLE, ids=lambda task: task.name)
def test_facts_are_lines_and_the_same_number_writes_the_same(task):
    first, again = (task.facts(random.Random(4)) for _ in range(2))
    assert first == again
    assert first.count("\n") == 8


@pytest.mark.parametrize("name", ["countdown", "multiplication", "parity", "sorting", "words"])
def test_a_task_that_cannot_be_asked_is_refused(name):
    dials = {"multiplication": "digits", "parity": "modulus", "words": "largest"}
    with pytest.raises(RecipeError, match=name):
        make_task(name, **{dials.get(name, "numbers"): 0})
    with pytest.raises(RecipeError, match="colour"):
        make_task(name, colour=1)
    assert name in TASKS


@tasks
def test_digits_of_other_scripts_are_not_the_answer(task):
    made = task.sample(random.Random(5))
    foreign = made.answer.translate({ord("0") + digit: 0x0660 + digit for digit in range(10)})
    assert task.score(made, response_of("", foreign)).accuracy == 0
