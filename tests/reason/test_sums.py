"""Sums in a chat model's own format: strict about which number counts, and held out whatever their order."""

import json
import random

import pytest

import foreign
from fathom.corpus.tokenizer import Tokenizer
from fathom.errors import RecipeError
from fathom.reason.judging import asked_of_all
from fathom.reason.pairs import read_pairs
from fathom.reason.registry import make_task
from fathom.reason.rejection import kept_line
from fathom.reason.rollouts import prompt_tokens
from fathom.reason.task import Problem
from fathom.reason.tasks.sums import Sums
from fathom.serve.encoding import Message, encode, template_of

SEVEN = Problem("What is 3 + 4? Reply with one number.", "7", "sums 3 4", chat=True)


@pytest.mark.parametrize(
    ("text", "accuracy", "form"),
    [
        ("7", 1, 1),
        (" 7.\n", 1, 1),
        ("3 + 4 = 7", 1, 0),
        ("The answer is 7, as 4 + 3 is.", 0, 0),
        ("17", 0, 1),
        ("7.5", 0, 0),
        ("0.7", 0, 0),
        ("7,000", 0, 0),
        ("seven", 0, 0),
        ("", 0, 0),
    ],
)
def test_the_last_number_counts_and_a_part_of_one_does_not(text, accuracy, form):
    score = Sums().score(SEVEN, text)
    assert (score.accuracy, score.format) == (accuracy, form)
    assert Sums().score(SEVEN, text, finished=False).accuracy == 0


def test_both_orders_of_a_sum_fall_on_the_same_side():
    rng, task = random.Random(1), make_task("sums", largest=20)
    keys = {task.sample(rng).key for _ in range(5000)}
    assert len(keys) == 210
    assert all(key.split()[1:] == sorted(key.split()[1:], key=int) for key in keys)


def test_numbers_too_small_to_hold_some_sums_out_are_refused():
    held_out = {p.key for p in asked_of_all(make_task("sums", largest=20), 200)}
    assert len(held_out) >= 15
    with pytest.raises(RecipeError, match="largest = 10"):
        make_task("sums", largest=10)


def test_a_chat_problem_is_read_in_the_models_own_format_and_its_kept_reply_is_learned_in_the_same(tmp_path):
    tokenizer = Tokenizer(foreign.smollm(tmp_path / "chat"))
    read = prompt_tokens(tokenizer, SEVEN)
    assert read == encode([Message("user", SEVEN.prompt)], tokenizer=tokenizer, template=template_of(tokenizer)).tokens
    assert read != tuple(tokenizer.encode(SEVEN.prompt))
    (tmp_path / "kept.jsonl").write_text(json.dumps(kept_line(SEVEN, "7")))
    (pair,) = read_pairs([tmp_path / "kept.jsonl"], tokenizer, 256)
    assert pair.prompt == read
    assert pair.reply == (*tokenizer.encode("7"), tokenizer.eos_id)
